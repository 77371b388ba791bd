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
UNKNOWN_SIZE = 2**62


Parse = Callable[[bytes, int, bool], Block]
"""(bytes, offset, whether the file ends there) -> what they hold."""


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
    _tail: bytes | None = None
    """The last bytes before `end`, as they were when they were read."""
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
            self._packed, self.size = Decompressed(self.path, kind), UNKNOWN_SIZE
            self.read(0, 1)

    @property
    def is_compressed(self) -> bool:
        """Its size isn't known before it was read."""
        return self._packed is not None

    @property
    def damage(self) -> str | None:
        """Why what was compressed can't be read to its end."""
        return self._packed.damage if self._packed else None

    @property
    def measured(self) -> int | None:
        """The size, if it is known already."""
        return None if self.size == UNKNOWN_SIZE else self.size

    def measure(self) -> int:
        """The size, whatever it takes."""
        if self._packed is not None and self.size == UNKNOWN_SIZE:
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
            data = pread_all(file.fileno(), self.size - begin + _AHEAD_BYTES, begin)
        self.size = begin + record_end(data, self.size - begin)

    def read(self, begin: int, length: int) -> bytes:
        """Bytes [begin, begin + length) of what was there when the file was opened."""
        if self._packed is not None:
            data = self._packed.read(begin, max(0, min(length, self.size - begin)))
            self._note_size()
            return data
        return self._pread(begin, max(0, min(length, self.size - begin)))

    def _pread(self, begin: int, length: int) -> bytes:
        with self.path.open("rb") as file:
            return pread_all(file.fileno(), length, begin)

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
                heads[anchors.head_bytes] = sha256(self.read(0, anchors.head_bytes))
            if heads[anchors.head_bytes] != anchors.head_sha256:
                continue
            like = like or anchors
            if self.holds(anchors):
                self.go_on(anchors)
                return True
        if like is not None:
            raise InputError(_unlike(like, self.size), place=str(self.path), hint=_UNCHANGED)
        return False

    def holds(self, anchors: Anchors) -> bool:
        """Whether what stands before that place is what stood there."""
        tail = self.read(max(0, anchors.end - TAIL_BYTES), min(TAIL_BYTES, anchors.end))
        return self.size >= anchors.end and sha256(tail) == anchors.tail_sha256

    def go_on(self, anchors: Anchors) -> None:
        """Begin there, in a file that `holds` them."""
        self.end = anchors.end
        self._tail = self.read(max(0, self.end - TAIL_BYTES), min(TAIL_BYTES, self.end))
        self._head = (anchors.head_bytes, anchors.head_sha256)
        self._ends_at(self.end)

    def begin_anew(self) -> None:
        """Forget what was read of it."""
        self.end, self._head, self._tail = 0, None, None

    def pieces(self, parse: Parse, block_bytes: int | None = None) -> Iterator[Piece]:
        """Parse the file from `end` on, block by block.

        Args:
            parse: what reads a block.
            block_bytes: how much is read at once, if records aren't longer; BLOCK_BYTES by default.

        Raises:
            InputError: it was cut while it was read.
        """
        usual = length = min(block_bytes or BLOCK_BYTES, BLOCK_BYTES)
        while self.end < self.size:
            begin = self.end
            data = self.read(begin, length)
            final = self._ends_at(begin + len(data))
            if len(data) < min(length, self.size - begin) and not (final or self.is_compressed):
                self._was_cut()
                return
            block = self._parse(parse, data, begin, final=final)
            if block is None:
                return
            if block.consumed:
                yield self._taken(data, block)
                length = usual
            elif final:
                return
            else:
                length *= 2  # one record is longer than the block

    def _parse(self, parse: Parse, data: bytes, begin: int, *, final: bool) -> Block | None:
        """What a block holds; None: nothing more is to be read for now."""
        if not data and not final:
            self._was_cut()
        # What breaks off may break off anywhere: its last record waits for the rest.
        return parse(data, begin, final and self.damage is None)

    def _was_cut(self) -> None:
        """It is shorter than it was; raises InputError."""
        raise InputError("was cut while it was read", place=str(self.path), hint=_UNCHANGED)

    def _taken(self, data: bytes, block: Block) -> Piece:
        """The block's bytes are read; what anchors the place is taken from them, not read again."""
        begin, taken = self.end, memoryview(data)[: block.consumed]
        if self._head is None:  # stays what it was when the file was first read
            head = self.read(0, min(HEAD_BYTES, begin)) + bytes(taken[: max(0, HEAD_BYTES - begin)])
            self._head = (len(head), sha256(head))
        if self._tail is None:
            self._tail = self.read(max(0, begin - TAIL_BYTES), min(TAIL_BYTES, begin))
        self._tail = (self._tail + bytes(taken[-TAIL_BYTES:]))[-TAIL_BYTES:]
        self.end += block.consumed
        anchors = Anchors(*self._head, self.end, sha256(self._tail))
        return Piece(data, block, begin, sha256(taken), anchors)

    def rest(self, length_max: int) -> bytes:
        """The bytes behind the last complete record: half a record, or nothing."""
        return self.read(self.end, min(length_max, self.size - self.end))


def pread_all(descriptor: int, length: int, begin: int) -> bytes:
    """So many bytes, fewer only where the file ends: one read may give less (network, signals)."""
    data = os.pread(descriptor, length, begin)
    while 0 < len(data) < length and (
        more := os.pread(descriptor, length - len(data), begin + len(data))
    ):
        data += more
    return data


def sha256(data: bytes | memoryview) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


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
