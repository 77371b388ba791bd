"""A reader of followed logs: what a daemon would store, with crashes between reading and committing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from scalple.ingest.errors import InputError
from scalple.ingest.follower import Follower
from scalple.ingest.generations import Generation, Known
from scalple.ingest.sourcefile import Parse, Piece
from scalple.ingest.sourcegap import SourceGap
from scalple.store.chain import Chain
from scalple.store.manifest import Manifest, Position
from tests.logkinds import LogKind


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Store:
    """What was committed: rows in the order of their commits, positions, gaps, and the state."""

    numbers: list[int] = field(default_factory=list)
    rejects: list[bytes] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    gaps: list[SourceGap] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)
    state: bytes | None = None
    chain: Chain = field(default_factory=lambda: Chain("db1"))
    writer: object = None
    """Who opened it last: nobody else can commit."""


class Fenced(Exception):
    """Another one writes to the store by now."""


@dataclass
class Reader:
    """Reads what a follower gives, and commits it piece by piece."""

    kind: LogKind
    patterns: list[str | Path]
    store: Store = field(default_factory=Store)
    clock: Clock = field(default_factory=Clock)
    open_max: int = 128
    with_state: bool = True
    scans: int = 0
    on_crash: Callable[[], None] = lambda: None
    follower: Follower = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start anew, from what was committed."""
        self.parsers: dict[int, tuple[Generation, Parse]] = {}
        self.store.writer = self
        self.follower = Follower(
            self.patterns,
            self.store.known,
            state=self.store.state if self.with_state else None,
            clock=self.clock,
            open_max=self.open_max,
        )

    def crash(self) -> None:
        """Nothing of what wasn't committed is left."""
        self.follower.close()
        self.on_crash()
        self.start()

    def scan(
        self,
        commits: int | None = None,
        pieces: int | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """One scan: reads all, or so many pieces; commits all, or so many, and crashes.

        What can't be read, and a store that another one has opened, end it like a crash. `meanwhile` is
        called after the look at the files, and again after each piece.
        """
        self.scans += 1
        try:
            self._scan(commits, pieces, meanwhile)
        except (InputError, Fenced):
            self.crash()

    def _scan(self, commits: int | None, pieces: int | None, meanwhile: Callable[[], None]) -> None:
        done = 0
        ready = self.follower.scan()
        meanwhile()
        for generation in ready:
            for piece in generation.pieces(self.parser(generation)):
                if done == commits:
                    self.crash()
                    return
                self.commit(generation, piece)
                done += 1
                meanwhile()
                if done == pieces:
                    return
        gaps = self.follower.take_gaps()
        if gaps and done == commits:
            self.crash()
            return
        self._check_writer()
        self.store.gaps += gaps
        self.store.state = self.follower.state()

    def _check_writer(self) -> None:
        if self.store.writer is not self:
            raise Fenced

    def parser(self, generation: Generation) -> Parse:
        """One for each generation."""
        if id(generation) not in self.parsers:
            self.parsers[id(generation)] = (generation, self.kind.parse())
        return self.parsers[id(generation)][1]

    def commit(self, generation: Generation, piece: Piece) -> None:
        """One piece, with its position and the state, all or nothing."""
        self._check_writer()
        store, anchors = self.store, piece.anchors
        position = Position(
            source="postgres",
            path=str(generation.path),
            head_sha256=anchors.head_sha256,
            head_bytes=anchors.head_bytes,
            incarnation=generation.incarnation,
            begin=piece.begin,
            end=anchors.end,
            sha256=piece.sha256,
            tail_sha256=anchors.tail_sha256,
        )
        gaps = self.follower.take_gaps()
        self._chain(position)
        store.numbers += self.kind.numbers(piece.block)
        store.rejects += [one.raw for one in piece.block.rejects]
        store.reasons += [one.reason for one in piece.block.rejects]
        store.known.append(Known(generation.path, anchors, generation.incarnation))
        store.gaps += gaps
        store.state = self.follower.state()
        generation.commit(anchors)

    def _chain(self, position: Position) -> None:
        """The store's own rule: positions begin where the last ended."""
        chain = self.store.chain
        manifest = Manifest(
            origin="db1",
            n=chain.tree.size,
            previous=chain.last_sha256,
            segments=(),
            positions=(position,),
            objects={},
            committed_at="",
            nonce="",
            software="",
        )
        chain.append(manifest, manifest.to_bytes(), (position,))

    def settle(self, scans: int = 6, seconds: float = 3.0) -> None:
        """Scan until nothing can be outstanding."""
        for _ in range(scans):
            self.scan()
            self.clock.now += seconds

    @property
    def open_files(self) -> int:
        """Descriptors that are held."""
        return sum(one.file is not None and one.file.is_open for one in self.follower.following)
