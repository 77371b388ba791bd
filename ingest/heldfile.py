"""A log file that goes on growing, read through a descriptor that stays open.

Enters: a path. Leaves: the same blocks as of any `SourceFile`, whatever becomes of the name: what is
left of a file that was renamed or deleted is still read. Each block is held against the bytes before
it, so that nothing of a file that was cut and grew again passes for its continuation. Bytes that were
known before are passed over, zero bytes and a torn end become rejects.

Doesn't look for files or decide when one has ended: see `follower`.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pyarrow as pa

from scalple.ingest.compressed import Decompressed, compression
from scalple.ingest.errors import InputError
from scalple.ingest.rejects import Block, Reject
from scalple.ingest.sourcefile import (
    BLOCK_BYTES,
    HEAD_BYTES,
    SETTLED_SECONDS,
    TAIL_BYTES,
    UNKNOWN_SIZE,
    Anchors,
    Parse,
    Piece,
    SourceFile,
    pread_all,
    sha256,
)

UNTERMINATED = "broken off: the file ends here, and nothing more came"
BROKEN_BY_ZEROS = "broken off: zero bytes follow"
WEAK_BYTES = 64
"""Fewer don't tell one file from another."""
_ZEROS_KEPT = 16
_RUN = re.compile(rb"\0+")
_COMPARED_BYTES = 1 << 20
_ZEROS_SEARCHED = 1 << 20


def stamp_of(found: os.stat_result) -> tuple[int, int, int]:
    """What changes with a file: size, and when it was written and touched, in nanoseconds."""
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(slots=True, eq=False)
class HeldFile(SourceFile):
    """A `SourceFile` whose size is noted anew at each scan.

    Raises:
        OSError: it can't be opened, or is no regular file.
    """

    known_until: int = 0
    """Up to here its bytes are in the store as another generation's, and make no records."""
    is_settled: bool = False
    """Nobody is writing now: what ends with the file is whole."""
    is_left: bool = False
    """Its writer has gone on to a newer file: only the rest of a torn record could follow."""
    is_over: bool = False
    """Nothing will follow: a last record without its end is torn, and is given up."""
    is_whole: bool = True
    """What was read before stands before what comes next; otherwise reading has stopped."""
    now: float = 0.0
    """When its size was noted, on the follower's clock."""
    _descriptor: int = -1
    _inode: tuple[int, int] | None = None
    seen: bytes = b""
    """Its first bytes, as they were until some were read."""
    _zeros: dict[int, float] = field(default_factory=dict)
    """Where zero bytes stand that haven't been read, and since when that has been seen."""

    def __post_init__(self) -> None:
        self._open()
        self.seen = self.begins

    def _open(self) -> None:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        self._descriptor = os.open(self.path, flags)
        try:
            found = self.stat()
            if not stat.S_ISREG(found.st_mode):
                raise OSError("is not a regular file")
            inode = (found.st_dev, found.st_ino)
            if self._inode not in (None, inode):
                raise OSError("is another file by now")
            self._inode, self.size = inode, found.st_size
            kind = compression(pread_all(self._descriptor, 8, 0))
            if kind is not None:
                stream = os.fdopen(self._descriptor, "rb", buffering=0, closefd=False)
                self._packed, self.size = Decompressed(stream, kind), UNKNOWN_SIZE
        except BaseException:
            self.close()
            raise

    def reopen(self, path: Path) -> None:
        """Open it anew, where it is now; what was read stays known.

        Raises:
            OSError: it isn't there.
        """
        self.close()
        self.path, self._packed = path, None
        self._open()

    @contextmanager
    def at_hand(self) -> Iterator[Self]:
        """Open it for a look, if it isn't open."""
        was_open = self.is_open
        if not was_open:
            self.reopen(self.path)
        try:
            yield self
        finally:
            if not was_open:
                self.close()

    def take_over(self, other: "HeldFile") -> None:
        """Go on where another file was read, which this one holds a copy of."""
        self.end, self._head, self._tail = other.end, other._head, other._tail
        self.known_until = other.known_until

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the descriptor; what was read stays known."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def stat(self) -> os.stat_result:
        """Of the open file, whatever its name is now."""
        return os.fstat(self._descriptor)

    def _pread(self, begin: int, length: int) -> bytes:
        try:
            return pread_all(self._descriptor, length, begin)
        except OSError as error:
            raise InputError(f"can't be read: {error.strerror}", place=str(self.path)) from error

    def note(self, now: float) -> None:
        """From now on what is there now can be read, if it still is what was read or seen."""
        self.now = now
        self.is_whole = self.is_whole and self.is_continued()
        if self.is_whole and not self.is_compressed:
            self.size = self.stat().st_size
            if not self.end:
                self.seen = self.begins

    @property
    def inode(self) -> tuple[int, int] | None:
        """(device, number), as it was when it was opened first."""
        return self._inode

    @property
    def is_open(self) -> bool:
        """Whether it can be read now."""
        return self._descriptor >= 0

    @property
    def anchors(self) -> Anchors | None:
        """What recognises the place up to which it was read; None before anything was."""
        if self._head is None or self._tail is None:
            return None
        return Anchors(*self._head, self.end, sha256(self._tail))

    @property
    def begins(self) -> bytes:
        """Its first bytes, at most HEAD_BYTES, as they are now."""
        return self.read(0, HEAD_BYTES)

    @property
    def written(self) -> bytes:
        """Its first bytes, runs of zeros as the end of a line: at most HEAD_BYTES, and no further than in the
        first MiB. What stands before zeros and what stands behind them isn't one text."""
        data = _RUN.sub(b"\n", self.seen)
        at = len(self.seen)
        while at < min(self.size, _ZEROS_SEARCHED) and len(data) < HEAD_BYTES // 2:
            data += _RUN.sub(b"\n", self.read(at, _ZEROS_SEARCHED // 8))
            at += _ZEROS_SEARCHED // 8
        return data[:HEAD_BYTES]

    def is_continued(self) -> bool:
        """Whether what was read, or seen of it, still stands there."""
        if self.is_compressed:
            return True
        if self.end:
            assert self._tail is not None
            before = self._pread(max(0, self.end - TAIL_BYTES), min(TAIL_BYTES, self.end))
            return before == self._tail and (before.strip(b"\0") != b"" or self._begins_as_before())
        return self._pread(0, len(self.seen)) == self.seen

    def _begins_as_before(self) -> bool:
        """Asked where zero bytes stand before the position: those may be any file's."""
        assert self._head is not None
        length, digest = self._head
        return sha256(self._pread(0, length)) == digest

    def agrees(self, other: "HeldFile", begin: int = 0) -> int:
        """Up to where both hold the same bytes, from `begin` on; looks no further than the shorter."""
        at = begin
        while True:
            mine, theirs = self.read(at, _COMPARED_BYTES), other.read(at, _COMPARED_BYTES)
            length = min(len(mine), len(theirs))
            if mine[:length] != theirs[:length]:
                return at + next(n for n in range(length) if mine[n] != theirs[n])
            at += length
            if not length:
                return at

    def pieces(self, parse: Parse, block_bytes: int | None = None) -> Iterator[Piece]:
        """As of any file, up to the size that was noted; ends early if the file was cut meanwhile."""
        while self.end < min(self.known_until, self.size):
            data = self.read(self.end, min(BLOCK_BYTES, self.known_until - self.end))
            if not data or not self._still_whole():
                return
            yield self._taken(data, Block(parse(b"", self.end, False).table, [], len(data)))
        yield from SourceFile.pieces(self, parse, block_bytes)

    def _still_whole(self) -> bool:
        """Asked when the bytes that follow have been read: what was cut before that shows here."""
        self.is_whole = self.is_whole and self.is_continued()
        return self.is_whole

    def _parse(self, parse: Parse, data: bytes, begin: int, *, final: bool) -> Block | None:
        if not self._still_whole() or (not data and not final):
            return None
        block = self._block(parse, data, begin, final=final)
        while block and not begin and not self.is_over and is_weak(data[: block.consumed]):
            # What is read first recognises the file later: a few bytes wouldn't, nor would zeros.
            taken = block.consumed
            more = self._block(parse, data[taken:], taken, final=final)
            if more is None:
                return None
            if not more.consumed:  # more bytes may complete it
                return Block(more.table, [], 0)
            table = pa.concat_tables([block.table, more.table]).unify_dictionaries()
            block = Block(table, block.rejects + more.rejects, taken + more.consumed)
        return block

    def _was_cut(self) -> None:
        """The next look at it says what became of it."""

    def _block(self, parse: Parse, data: bytes, begin: int, *, final: bool) -> Block | None:
        zeros = data.find(b"\0")
        if zeros == 0:
            return self._given_up_zeros(parse, data, begin, final=final)
        if zeros > 0:
            is_last = final and not data[zeros:].strip(b"\0")
            return self._before_zeros(parse, data[:zeros], begin, is_last=is_last)
        if not data:
            return Block(parse(b"", begin, False).table, [], 0)
        closed = final and self.is_over
        settled = self.is_left or (self.is_settled and data.endswith(b"\n"))
        block = parse(data, begin, final and (self.is_over or settled))
        return _torn(block, data, begin, UNTERMINATED) if closed else block

    def _before_zeros(
        self, parse: Parse, data: bytes, begin: int, *, is_last: bool
    ) -> Block | None:
        """What stands before zero bytes, which no log record holds."""
        block = parse(data, begin, self.is_left or self.is_over)
        if block.consumed:
            return block
        if (is_last and not self.is_over) or not self._have_settled(begin + len(data)):
            return None
        return _torn(parse(data, begin, True), data, begin, BROKEN_BY_ZEROS)

    def _given_up_zeros(
        self, parse: Parse, data: bytes, begin: int, *, final: bool
    ) -> Block | None:
        """A run of zero bytes as one reject, once it is sure that they are to stay."""
        run = len(data) - len(data.lstrip(b"\0"))
        if run == len(data) and final and not self.is_over:
            return None  # they may be written yet
        if run < len(data) and not self._have_settled(begin):
            return None
        reason = f"{run:,} zero bytes: what was to stand there never reached the disk"
        reject = Reject(begin, data[: min(run, _ZEROS_KEPT)], reason)
        return Block(parse(b"", begin, False).table, [reject], run)

    def _have_settled(self, at: int) -> bool:
        """Whether zero bytes have stood there for some time: over NFS data may come after its size."""
        if self.is_over or self.is_left or self.is_settled:
            return True
        self._zeros = {place: since for place, since in self._zeros.items() if place >= self.end}
        return self.now - self._zeros.setdefault(at, self.now) >= SETTLED_SECONDS


def is_weak(data: bytes) -> bool:
    """Whether these bytes, if any, may be any file's."""
    return bool(data) and len(data) - data.count(b"\0") < WEAK_BYTES


def _torn(block: Block, data: bytes, begin: int, reason: str) -> Block:
    """The same block, and what it leaves as a reject."""
    rest = data[block.consumed :]
    if not rest:
        return block
    rejects = list(block.rejects)
    if rest.strip():
        rejects.append(Reject(begin + block.consumed, rest, reason))
    return Block(block.table, rejects, len(data))
