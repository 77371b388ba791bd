"""The manifests of one origin as one unbroken chain, and its signed head.

The files enter; a Chain leaves whose every link was checked: numbers without a hole, each naming
the hash of the one before, rows dense, positions that begin where the last ended. The writer,
the reader and `verify` all start from here. Segments are named, not opened.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scalple.correlate.record import KINDS
from scalple.ingest.errors import VerificationError
from scalple.store.checkpoint import Checkpoint, open_checkpoint
from scalple.store.layout import OriginLayout, manifest_number, segment_parts
from scalple.store.manifest import (
    Manifest,
    Position,
    positions_from_bytes,
    sha256_hex,
)
from scalple.store.manifests import Continued, Manifests
from scalple.store.merkle import CompactRange, leaf_hash
from scalple.store.note import VerifierKey

Generation = tuple[str, str, int, int]

SETTLE_TRIES = 40
SETTLE_SECONDS = 0.05


@dataclass(slots=True)
class Chain:
    """What an origin's manifests say together; `append` is the only way to extend it."""

    origin: str
    manifests: Manifests = field(default_factory=Manifests)
    leaf_hashes: Continued[bytes] = field(default_factory=Continued)
    tree: CompactRange = field(default_factory=CompactRange)
    last_sha256: str | None = None
    next_seq: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    positions: dict[Generation, Position] = field(default_factory=dict)

    @property
    def head(self) -> Checkpoint:
        """The checkpoint that these manifests deserve."""
        return Checkpoint(self.origin, self.tree.size, self.tree.root())

    def append(self, manifest: Manifest, data: bytes, positions: Iterable[Position]) -> None:
        """Takes the next manifest, its bytes and the positions it commits.

        Raises:
            VerificationError: it doesn't continue the chain; the chain is then unusable.
        """
        self._expect("origin", self.origin, manifest.origin)
        self._expect("number", self.tree.size, manifest.n)
        self._expect("previous", self.last_sha256, manifest.previous)
        for segment in manifest.segments:
            parts = segment_parts(segment.file)
            self._expect("segment's file", (manifest.n, segment.kind, segment.sha256), parts)
            self._expect(f"seq of {segment.kind}", self.next_seq[segment.kind], segment.first_seq)
            self.next_seq[segment.kind] += segment.rows
        for position in positions:
            before = self.positions.get(position.generation)
            self._expect(f"begin in {position.path}", before.end if before else 0, position.begin)
            if position.end <= position.begin:
                raise VerificationError(f"position in {position.path} doesn't advance")
            self.positions[position.generation] = position
        leaf = leaf_hash(data)
        self.manifests.append(manifest)
        self.leaf_hashes.append(leaf)
        self.tree = self.tree.append(leaf)
        self.last_sha256 = sha256_hex(data)

    def _expect(self, what: str, expected: object, found: object) -> None:
        if expected != found:
            raise VerificationError(
                f"{what} breaks the chain: expected {expected}, found {found}",
                place=f"{self.origin} manifest {self.tree.size}",
            )

    def root_at(self, size: int) -> bytes:
        """The root of the first `size` manifests."""
        tree = CompactRange()
        for leaf in self.leaf_hashes[:size]:
            tree = tree.append(leaf)
        return tree.root()


def read_chain(layout: OriginLayout, count: int, past: Chain | None = None) -> Chain:
    """The chain of the manifests 0 … count-1; `past`: its beginning, which is continued.

    Raises:
        VerificationError: one is missing, isn't a manifest, or doesn't continue the chain.
    """
    chain = past or Chain(layout.origin)
    for n in range(chain.tree.size, count):
        path = layout.manifest(n)
        with placed(path):
            data = read_bytes(path)
            manifest = Manifest.from_bytes(data)
            chain.append(manifest, data, read_positions(layout, manifest))
    return chain


def read_positions(layout: OriginLayout, manifest: Manifest) -> tuple[Position, ...]:
    """The positions of a manifest, from the object that holds them when they were many."""
    if manifest.positions_object is None:
        return manifest.positions
    return positions_from_bytes(read_object(layout, manifest.positions_object))


def referenced_objects(chain: Chain) -> set[str]:
    """The hashes of all objects that the chain's manifests name."""
    named = {sha256 for manifest in chain.manifests for sha256 in manifest.objects.values()}
    return named | {m.positions_object for m in chain.manifests if m.positions_object}


def read_object(layout: OriginLayout, sha256: str) -> bytes:
    """An object whose bytes were checked against its name.

    Raises:
        VerificationError: missing, or other bytes.
    """
    path = layout.object(sha256)
    data = read_bytes(path)
    if sha256_hex(data) != sha256:
        raise VerificationError(
            f"object differs: expected {sha256}, found {sha256_hex(data)}", place=str(path)
        )
    return data


@contextmanager
def placed(place: Path | str) -> Iterator[None]:
    """Says where, in a VerificationError that doesn't know."""
    try:
        yield
    except VerificationError as error:
        raise VerificationError(
            error.what, place=error.place or str(place), hint=error.hint
        ) from error


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        VerificationError: it is missing or can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise VerificationError(f"can't read: {error.strerror}", place=str(path)) from error


def manifest_count(layout: OriginLayout) -> int:
    """How many manifests the directory lists, holes or not."""
    if not layout.manifests.is_dir():
        return 0
    numbers = (manifest_number(entry.name) for entry in layout.manifests.iterdir())
    return max((n + 1 for n in numbers if n is not None), default=0)


def read_checkpoint(layout: OriginLayout, key: VerifierKey) -> Checkpoint:
    """The origin's signed head, with exactly the one signature that our writer makes.

    Raises:
        VerificationError: missing, malformed, or not signed by the key.
    """
    data = read_bytes(layout.checkpoint)
    with placed(layout.checkpoint):
        checkpoint = open_checkpoint(data, key)
        if data.count(b"\n") != 5:
            raise VerificationError("checkpoint carries signatures that can't be checked")
    return checkpoint


def count_beyond(layout: OriginLayout, size: int) -> int:
    """How many manifests there are, if the first `size` are: looks at the next two names only."""
    if size and not layout.manifest(size - 1).exists():
        return size - 1
    beyond = [layout.manifest(n).exists() for n in (size, size + 1)]
    return size + 2 if beyond[1] else size + beyond[0]


def read_settled(
    layout: OriginLayout,
    key: VerifierKey,
    sleep: Callable[[float], None] = time.sleep,
    past: Chain | None = None,
) -> tuple[Chain, int]:
    """The chain up to the signed head, and how many manifests lie beyond it.

    A writer at work creates a manifest and then signs it: the head may be one behind for a
    moment, so that is waited for. More than one behind is never the writer's doing. With `past`,
    the chain's beginning as an index tells it, only what follows is read, and only the names at
    the end are looked at; the root shows that it is the beginning of this log.

    Raises:
        VerificationError: the head isn't that of the manifests.
    """

    def counted() -> int:
        if past is None:
            return manifest_count(layout)
        return count_beyond(layout, read_checkpoint(layout, key).size)

    for _ in range(SETTLE_TRIES):
        count = counted()
        checkpoint = read_checkpoint(layout, key)
        if count == checkpoint.size or count > checkpoint.size + 1:
            break
        if count < checkpoint.size and counted() < checkpoint.size:
            break
        sleep(SETTLE_SECONDS)
    if not checkpoint.size <= count <= checkpoint.size + 1:
        raise VerificationError(
            f"head is signed for {checkpoint.size} manifests, found {count}",
            place=str(layout.checkpoint),
        )
    if past is not None and past.tree.size > checkpoint.size:
        raise VerificationError(
            f"index has {past.tree.size} manifests, the signed head {checkpoint.size}",
            place=str(layout.index_head),
        )
    chain = read_chain(layout, checkpoint.size, past)
    if chain.head != checkpoint:
        raise VerificationError(
            f"root differs: expected {checkpoint.root.hex()}, found {chain.head.root.hex()}",
            place=str(layout.checkpoint),
        )
    return chain, count - checkpoint.size
