"""Compressed files, read as streams: gzip, zstd, bzip2, xz.

Enters: a path, or an open file. Leaves: bytes of what was compressed, at any offset, at the cost of a stream: forward
is cheap, backward begins anew. Memory is bounded by what one read asks for. A stream that ends too
early or is damaged ends where it can't be read any further, and says so in `damage`. An error of the disk
is raised (OSError).
"""

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
KEPT_BYTES = 8192
"""Of what was read before, so much stays at hand."""
_STEP = 1 << 20
_ZSTD_STEP = 1 << 16
_DAMAGED = (OSError, EOFError, lzma.LZMAError, zlib.error, pa.ArrowException)


def compression(head: bytes) -> str | None:
    """The name of the compression that a file's first bytes tell of."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def may_be_compressed(begins: bytes) -> bool:
    """Whether a file that begins so is compressed, or would be if the right bytes followed."""
    return any(begins[: len(magic)] == magic[: len(begins)] for magic in MAGIC)


class Decompressed:
    """What a compressed file holds.

    Args:
        source: the file, or its path.
        kind: one of the values of MAGIC.
    """

    def __init__(self, source: Path | BinaryIO, kind: str) -> None:
        self._source, self._kind = source, kind
        self.damage: str | None = None
        """Why the stream ends where it does, if it isn't at its end."""
        self.length: int | None = None
        """In bytes; None until the end was met."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._stream: Any = _opened(self._source, self._kind)
        self._window = b""
        self._window_begin = 0
        self._zstd_at, self._zstd_step = 0, _ZSTD_STEP

    def read(self, begin: int, length: int, keep: int | None = None) -> bytes:
        """Bytes [begin, begin + length), fewer only at the end.

        Args:
            begin: offset in what was compressed.
            length: how many.
            keep: what follows from here on will be asked for again; `begin` if not given.
        """
        if begin < self._window_begin:
            self._begin_anew()
        wanted = begin + length
        kept = (begin if keep is None else keep) - KEPT_BYTES
        parts, at = [self._window], self._window_begin + len(self._window)
        while at < wanted and (more := self._more()):
            parts.append(more)
            at += len(more)
            # What lies far behind isn't asked for again.
            if at <= kept:
                self._window_begin, parts = at, []
        if self._stream is None:
            self.length = at
        whole = b"".join(parts)
        drop = max(0, min(len(whole), kept - self._window_begin))
        self._window, self._window_begin = whole[drop:], self._window_begin + drop
        offset = begin - self._window_begin
        return self._window[offset : offset + length]

    def _more(self) -> bytes:
        """What comes next, in steps that don't depend on what is asked for.

        A read that fails takes with it what it had before: so each is one step of decompression,
        and the same bytes come out of a damaged file however it is read.
        """
        if self._stream is None:
            return b""
        try:
            if self._kind == "zstd":
                data: bytes = self._stream.read(self._zstd_step)
                self._zstd_at += len(data)
            else:
                data = self._stream.read1(_STEP)
        except _DAMAGED as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's fault, not the file's: another time it may give it
            if self._kind == "zstd" and self._zstd_step == _ZSTD_STEP:
                return self._more_slowly()
            self.damage = " ".join(str(error).split())[:200] or type(error).__name__
            data = b""
        if not data:
            self._stream.close()
            self._stream = None
        return data

    def _more_slowly(self) -> bytes:
        """Once more up to the damage, and there byte by byte."""
        self._stream = _opened(self._source, self._kind)
        for _ in range(self._zstd_at // _ZSTD_STEP):
            self._stream.read(_ZSTD_STEP)
        self._zstd_step = 1
        return self._more()

    def measure(self) -> int:
        """How many bytes there are: reads to the end."""
        at = self._window_begin + len(self._window)
        while self.length is None:
            at += len(self.read(at, _STEP))
        return self.length


def _opened(source: Path | BinaryIO | io.FileIO, kind: str) -> Any:
    if not isinstance(source, Path):
        source = io.FileIO(source.fileno(), "rb", closefd=False)  # which streams may close
        source.seek(0)
    if kind == "gzip":
        return gzip.open(source, "rb")
    if kind == "bzip2":
        return bz2.open(source, "rb")
    if kind == "xz":
        return lzma.open(source, "rb")
    return pa.input_stream(str(source) if isinstance(source, Path) else source, compression="zstd")
