"""One log file: where its reading begins, its bytes in blocks, and anchors that recognise it.

Enters: a path and the positions known from the store. Leaves: blocks of bytes that begin at record
boundaries, and the position reached. A file is recognised by its content (the hash of its head
and of the bytes before the position), not by its name: log files are renamed when they rotate.

Doesn't parse, follow a growing file or look for rotated siblings.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scalple.ingest.errors import InputError
from scalple.ingest.rejects import Block

HEAD_BYTES = 4096
TAIL_BYTES = 256
BLOCK_BYTES = 16 << 20


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
    end: int = 0
    """How far it was read, in bytes."""
    _head: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        try:
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
                raise InputError("is not a regular file", place=str(self.path))
            with self.path.open("rb"):  # a pipe would wait here for a writer
                self.size = found.st_size
        except OSError as error:
            why, hint = _WHY.get(error.errno or 0, (f"can't be read: {error.strerror}", None))
            raise InputError(why, place=str(self.path), hint=hint) from error

    def read(self, begin: int, length: int) -> bytes:
        """Bytes [begin, begin + length) of what was there when the file was opened."""
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), max(0, min(length, self.size - begin)), begin)

    def head(self) -> bytes:
        """The first bytes, by which the container is recognised."""
        return self.read(0, 1 << 20)

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
            final = begin + len(data) >= self.size
            block = parse(data, begin, final)
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


_UNCHANGED = "give the whole, unchanged file; what the store holds is unharmed"
_WHY: dict[int, tuple[str, str | None]] = {
    errno.ENOENT: ("there is no such file", "check the path"),
    errno.ENOTDIR: ("there is no such file", "check the path"),
    errno.EACCES: ("can't be read: permission denied", "run as a user who may read it"),
    errno.EPERM: ("can't be read: permission denied", "run as a user who may read it"),
    errno.EISDIR: ("is a directory", "give the files in it, or a pattern such as 'DIR/*.csv'"),
}
