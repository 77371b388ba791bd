"""Generations of log files: each a file by its content, whatever it is called and wherever it lies.

Enters: positions of the store. Leaves: which generations begin like some bytes, and what tells those
apart that begin alike. What is remembered is bounded; the store knows the rest. Opens nothing.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from scalple.ingest.errors import InputError
from scalple.ingest.heldfile import HeldFile
from scalple.ingest.lognames import family
from scalple.ingest.sourcefile import Anchors, Parse, Piece

RUNGS_MAX = 64
"""So many places of one generation are kept, to find where a file was cut."""
Head = tuple[int, str]
Inode = tuple[int, int]


class Unfinished(NamedTuple):
    """What is remembered of a generation that isn't finished."""

    head: Head
    incarnation: int
    inode: int
    """The number of its inode; 0: not known."""


@dataclass(frozen=True, slots=True)
class Known:
    """One position of the store: how far some commit read a generation, and where it lay then."""

    path: Path
    anchors: Anchors
    incarnation: int = 0


@dataclass(slots=True, eq=False)
class Generation:
    """One file by its content; the same object as long as the follower remembers it."""

    path: Path
    """Where it is now, or was last."""
    home: Path
    """The name under which it was found, or read by the last commit before."""
    file: HeldFile | None = None
    """Open or not; None once nothing is to be read of it."""
    head: Head | None = None
    """Length and hash of its first bytes; None until some of them were read."""
    incarnation: int = 0
    """Tells apart those with the same head; fixed with it."""
    rungs: list[Anchors] = field(default_factory=list)
    """Places up to which it was committed, in order."""
    inode: Inode | None = None
    """(device, number) of the file that holds it; device 0: not known."""
    stamp: tuple[int, int, int] | None = None
    """Size and times of that file when it was looked at last."""
    names: tuple[Path, ...] = ()
    """Those that it has now."""
    is_finished: bool = False
    """All of it is committed and nothing will follow, or what is missing has been said."""
    is_cut: bool = False
    """The file that held it was cut, and no copy has been found yet."""
    is_damaged: bool = False
    """It was finished because nothing behind some damage can be read."""
    is_set_aside: bool = False
    """Its reader can't use it as it is: nothing is read of it for now."""
    grown_at: float = 0.0
    """When it last changed, on the follower's clock."""
    quiet_scans: int = 0
    """How often in a row nothing had changed, and all had been read."""
    missing_since: float | None = None
    """Since when no file holds it."""
    handed: tuple[int, bool, bool, bool] | None = None
    """What was given to be read last, and read until nothing more came."""
    rank: tuple[int, int, int] | None = None
    """At which scan its text was seen first, when that was written (in microseconds), and when the file
    was, last."""
    numbers: "Generations | None" = None

    @property
    def family(self) -> tuple[str, str]:
        """Of the names that its log has."""
        return family(self.home)

    @property
    def is_open(self) -> bool:
        """Its file can be read, whatever became of its names."""
        return self.file is not None and self.file.is_open

    @property
    def is_loose(self) -> bool:
        """No file holds it for now."""
        return not self.names and not self.is_open

    @property
    def anchors(self) -> Anchors | None:
        """What recognises the place up to which it was read."""
        here = self.file.anchors if self.file is not None else None
        return here or (self.rungs[-1] if self.rungs else None)

    @property
    def committed(self) -> int:
        """Up to here it is in the store, in bytes."""
        return self.rungs[-1].end if self.rungs else 0

    @property
    def end(self) -> int:
        """How far it was read, committed or not."""
        return self.file.end if self.file is not None else self.committed

    @property
    def size(self) -> int:
        """As it was noted, in bytes; of a compressed file only once its end was met."""
        return self.file.size if self.file is not None else self.committed

    @property
    def has_news(self) -> bool:
        """Whether reading on may give something."""
        if self.file is None or self.is_set_aside:
            return False
        return self.end < self.size and self.handed != self.offered

    @property
    def offered(self) -> tuple[int, bool, bool, bool]:
        """What reading on depends on."""
        assert self.file is not None
        file = self.file
        return (file.size, file.is_settled, file.is_left, file.is_over)

    def pieces(self, parse: Parse, block_bytes: int | None = None) -> Iterator[Piece]:
        """What can be read now, block by block; as `SourceFile.pieces`.

        A position of the store is made of a piece, its anchors, and this generation's incarnation. Once
        it is committed, `commit` must be told.
        """
        assert self.file is not None
        offered = self.offered
        for piece in self.file.pieces(parse, block_bytes):
            if self.head is None:
                assert self.numbers is not None
                self.numbers.name(self, (piece.anchors.head_bytes, piece.anchors.head_sha256))
            yield piece
        self.handed = offered

    def commit(self, anchors: Anchors) -> None:
        """The store has all up to there."""
        self.rungs.append(anchors)
        del self.rungs[:-RUNGS_MAX]

    def set_aside(self) -> None:
        """What was read and isn't committed is given back, and nothing more is read until `take_up`.

        Raises:
            OSError, InputError: it can't be read any more.
        """
        assert self.file is not None
        if self.rungs:
            self.file.is_whole &= self.file.holds(self.rungs[-1])
            self.file.go_on(self.rungs[-1])
        else:
            self.file.begin_anew()
            if self.head is not None and self.numbers is not None:
                self.numbers.unname(self)
        self.handed, self.is_set_aside = self.offered, True

    def take_up(self) -> None:
        """It is read again, from where it was committed."""
        self.handed, self.is_set_aside = None, False


class Generations:
    """Those of one kind of source that are remembered.

    Args:
        known: positions of the store, the newest of each generation and as many older ones as are at
            hand: they show where a file was cut.
        state: what `state` gave with the newest of them; None: unknown.
        finished_max: so many that are finished are remembered.

    Raises:
        InputError: `state` isn't one.
    """

    def __init__(self, known: Iterable[Known], state: bytes | None, finished_max: int) -> None:
        self._finished_max = finished_max
        self._by_head: dict[Head, list[Generation]] = {}
        self._lengths: Counter[int] = Counter()
        self._incarnations: dict[Head, int] = {}
        opened = None if state is None else _opened(state)
        grouped: dict[tuple[Head, int], list[Known]] = {}
        for one in known:
            head = (one.anchors.head_bytes, one.anchors.head_sha256)
            grouped.setdefault((head, one.incarnation), []).append(one)
        for (head, incarnation), ones in grouped.items():
            ones.sort(key=lambda one: one.anchors.end)
            newest = ones[-1]
            generation = Generation(newest.path, newest.path, head=head, incarnation=incarnation)
            generation.rungs = [one.anchors for one in ones][-RUNGS_MAX:]
            if opened is not None:
                generation.is_finished = (head, incarnation) not in opened
                number = opened.get((head, incarnation))
                generation.inode = None if number is None else (0, number)
            self._add(generation)

    def __iter__(self) -> Iterator[Generation]:
        for ones in self._by_head.values():
            yield from ones

    def __len__(self) -> int:
        return sum(map(len, self._by_head.values()))

    def name(self, generation: Generation, head: Head) -> None:
        """Its head is fixed from now on, and the number that tells it from others with the same."""
        generation.head = head
        generation.incarnation = self._incarnations.get(head, -1) + 1
        self._add(generation)

    def _add(self, generation: Generation) -> None:
        assert generation.head is not None
        if generation.head not in self._by_head:
            self._lengths[generation.head[0]] += 1
        self._by_head.setdefault(generation.head, []).append(generation)
        last = self._incarnations.get(generation.head, -1)
        self._incarnations[generation.head] = max(last, generation.incarnation)

    def beginning_like(self, begins: bytes) -> list[Generation]:
        """Those whose head these bytes begin with."""
        found: list[Generation] = []
        hashed, at = hashlib.sha256(), 0
        for length in sorted(self._lengths):
            if length > len(begins):
                break
            hashed.update(begins[at:length])
            at = length
            found += self._by_head.get((length, hashed.hexdigest()), [])
        return found

    def forget(self) -> None:
        """Lets go of those finished long ago whose files are gone, if they are too many."""
        gone = [one for one in self if one.is_finished and not one.names]
        for one in gone[: max(0, len(gone) - self._finished_max)]:
            self._remove(one)

    def unname(self, generation: Generation) -> None:
        """Nothing of it was kept: what its head is will be seen when it is read again."""
        head = generation.head
        assert head is not None
        self._remove(generation)
        if self._incarnations.get(head) == generation.incarnation:
            self._incarnations[head] -= 1
        generation.head = None

    def _remove(self, one: Generation) -> None:
        assert one.head is not None
        alike = self._by_head[one.head]
        alike.remove(one)
        if not alike:
            del self._by_head[one.head], self._incarnations[one.head]
            self._lengths[one.head[0]] -= 1
            self._lengths += Counter()

    def unfinished(self) -> Iterator[Unfinished]:
        """Those of which more may be read, and the numbers of their inodes."""
        for one in self:
            if one.head is not None and not one.is_finished:
                yield Unfinished(one.head, one.incarnation, one.inode[1] if one.inode else 0)

    def state(self) -> bytes:
        """Which of them aren't finished, to be kept with positions."""
        found = sorted([*one.head, one.incarnation, one.inode] for one in self.unfinished())
        return json.dumps({"v": 1, "unfinished": found}, separators=(",", ":")).encode()


def _opened(state: bytes) -> dict[tuple[Head, int], int]:
    try:
        said = json.loads(state)
        if said["v"] != 1:
            raise ValueError("of another version")
        return {
            ((int(length), str(sha256)), int(incarnation)): int(inode)
            for length, sha256, incarnation, inode in said["unfinished"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"isn't what a follower remembered: {error}") from error
