"""One log file: where its reading begins, its bytes in blocks, and anchors that recognise it.

Enters: a path and the positions known from the store. Leaves: blocks of bytes that begin at record
boundaries, and the position reached. A file is recognised by its content (the hash of its head
and of the bytes before the position), not by its name: log files are renamed when they rotate.

A compressed file is read as what it holds: offsets, hashes and anchors are those of the bytes that
were compressed, so that a log is recognised whether it was compressed since or not.

Doesn't parse, follow a growing file or look for rotated siblings.
"""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scalple.ingest.compressed import Decompressed, compression
from scalple.ingest.errors import InputError
from scalple.ingest.rejects import Block

HEAD_BYTES = 4096
HEAD_READ_BYTES = 1 << 20
TAIL_BYTES = 256
BLOCK_BYTES = 16 << 20
SETTLED_SECONDS = 1.0
"""A file that wasn't written for so long holds no half of a record that is being written."""
_AHEAD_BYTES = 1 << 20
_UNKNOWN_SIZE = 2**62


@dataclass(frozen=True, slots=True)
class Anchors:
    """How far a file was read, and what it looked like there."""

    head_bytes: int
    head_sha256: str
    end: int
    """Offset up to which its records are in the store, in bytes."""
    tail_sha256: str
    """Of the last (at most 256) bytes before `end`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One block of a file, and the position that its commit makes."""

    data: bytes
    block: Block
    begin: int
    """Where the block begins in the file, in bytes; it ends at `anchors.end`."""
    sha256: str
    """Of the bytes that were consumed."""
    anchors: Anchors


@dataclass(slots=True, eq=False)
class SourceFile:
    """A log file whose size was noted when it was opened; what is written later isn't read.

    Raises:
        InputError: the file is missing, unreadable or no regular file.
    """

    path: Path
    size: int = 0
    """In bytes; of a compressed file only once its end was met."""
    end: int = 0
    """How far it was read, in bytes."""
    _head: tuple[int, str] | None = None
    _packed: Decompressed | None = None

    def __post_init__(self) -> None:
        try:
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
                raise InputError("is not a regular file", place=str(self.path))
            with self.path.open("rb") as file:  # a pipe would wait here for a writer
                self.size = found.st_size
                kind = compression(file.read(8))
        except OSError as error:
            why, hint = _WHY.get(error.errno or 0, (f"can't be read: {error.strerror}", None))
            raise InputError(why, place=str(self.path), hint=hint) from error
        if kind is not None:
            self._packed, self.size = Decompressed(self.path, kind), _UNKNOWN_SIZE
            self.read(0, 1)

    @property
    def is_compressed(self) -> bool:
        """Its size isn't known before it was read."""
        return self._packed is not None

    @property
    def damage(self) -> str | None:
        """Why what was compressed can't be read to its end."""
        return self._packed.damage if self._packed else None

    def measure(self) -> int:
        """The size, whatever it takes."""
        if self._packed is not None and self.size == _UNKNOWN_SIZE:
            self._packed.measure()
            self._note_size()
        return self.size

    def settle(self, record_end: Callable[[bytes, int], int]) -> None:
        """Wait until nobody is writing, and take in the rest of the record at the noted size.

        Args:
            record_end: (bytes, place) -> where the record that reaches over that place ends.
        """
        if self.is_compressed or not self.size:
            return
        for _ in range(3):
            quiet = time.time() - self.path.stat().st_mtime
            if not 0 <= quiet < SETTLED_SECONDS:
                break
            time.sleep(SETTLED_SECONDS - quiet)
        begin = max(self.end, self.size - _AHEAD_BYTES)
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), self.size - begin + _AHEAD_BYTES, begin)
        self.size = begin + record_end(data, self.size - begin)

    def read(self, begin: int, length: int) -> bytes:
        """Bytes [begin, begin + length) of what was there when the file was opened."""
        if self._packed is not None:
            data = self._packed.read(begin, max(0, min(length, self.size - begin)))
            self._note_size()
            return data
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), max(0, min(length, self.size - begin)), begin)

    def _note_size(self) -> None:
        if self._packed is not None and self._packed.length is not None:
            self.size = min(self.size, self._packed.length)

    def _ends_at(self, at: int) -> bool:
        """Whether nothing follows; what was read before that stays at hand."""
        if self._packed is not None and at < self.size:
            self._packed.read(at, 1, keep=self.end)
            self._note_size()
        return at >= self.size

    def head(self) -> bytes:
        """The first bytes, by which the container is recognised."""
        return self.read(0, HEAD_READ_BYTES)

    def resume(self, known: Iterable[Anchors]) -> bool:
        """Begin where the store's reading of this very file ended; False if it never was read.

        Raises:
            InputError: it begins like a file that was read, but isn't that file any more.
        """
        heads: dict[int, str] = {}
        like: Anchors | None = None
        for anchors in sorted(known, key=lambda one: one.end, reverse=True):
            if not 0 < anchors.head_bytes <= self.size:
                continue
            if anchors.head_bytes not in heads:
                heads[anchors.head_bytes] = self._sha256(0, anchors.head_bytes)
            if heads[anchors.head_bytes] != anchors.head_sha256:
                continue
            like = like or anchors
            tail = min(TAIL_BYTES, anchors.end)
            if (
                self.size >= anchors.end
                and self._sha256(anchors.end - tail, tail) == anchors.tail_sha256
            ):
                self.end = anchors.end
                self._ends_at(self.end)
                self._head = (anchors.head_bytes, anchors.head_sha256)
                return True
        if like is not None:
            raise InputError(_unlike(like, self.size), place=str(self.path), hint=_UNCHANGED)
        return False

    def _sha256(self, begin: int, length: int) -> str:
        return hashlib.sha256(self.read(begin, length)).hexdigest()

    def pieces(self, parse: Callable[[bytes, int, bool], Block]) -> Iterator[Piece]:
        """Parse the file from `end` on, block by block.

        Args:
            parse: (bytes, offset, whether the file ends here) -> Block.
        """
        length = BLOCK_BYTES
        while self.end < self.size:
            begin = self.end
            data = self.read(begin, length)
            final = self._ends_at(begin + len(data))
            # What breaks off may break off anywhere: its last record waits for the rest.
            block = parse(data, begin, final and self.damage is None)
            if block.consumed:
                self.end += block.consumed
                sha256 = hashlib.sha256(memoryview(data)[: block.consumed]).hexdigest()
                yield Piece(data, block, begin, sha256, self._anchors())
                length = BLOCK_BYTES
            elif final:
                return
            else:
                length *= 2  # one record is longer than the block

    def _anchors(self) -> Anchors:
        """What the next reading will recognise the file by."""
        if self._head is None:  # stays what it was when the file was first read
            length = min(HEAD_BYTES, self.end)
            self._head = (length, self._sha256(0, length))
        tail = min(TAIL_BYTES, self.end)
        return Anchors(*self._head, self.end, self._sha256(self.end - tail, tail))

    def rest(self, length_max: int) -> bytes:
        """The bytes behind the last complete record: half a record, or nothing."""
        return self.read(self.end, min(length_max, self.size - self.end))


def _unlike(known: Anchors, size: int) -> str:
    begins = f"begins like a file of which {known.end:,} bytes are in the store, but "
    if size < known.end:
        return begins + f"is shorter now: {size:,} bytes"
    return begins + "what follows isn't what was read then"


_UNCHANGED = "give the whole, unchanged file (a log that was mended since needs a new store); what the store holds is unharmed"
_WHY: dict[int, tuple[str, str | None]] = {
    errno.ENOENT: ("there is no such file", "check the path"),
    errno.ENOTDIR: ("there is no such file", "check the path"),
    errno.EACCES: ("can't be read: permission denied", "run as a user who may read it"),
    errno.EPERM: ("can't be read: permission denied", "run as a user who may read it"),
    errno.EISDIR: ("is a directory", "give the files in it, or a pattern such as 'DIR/*.csv'"),
}
