"""Rows -> a segment's bytes and the root over its rows, here or in a process of its own.

A table and a salt key enter; Parquet bytes and the RFC 6962 root leave. Encoding, hashing and
compressing a large segment takes as long as parsing and attributing its rows, and the hashing
holds the interpreter's lock. So a large one is sealed by a second process: the table goes there
through memory shared by file descriptor, in Arrow's own format, and the bytes come back the same
way. Run as a program, this module is the other side. Writes no file of the store.
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from scalple.store import merkle
from scalple.store.allocator import keep_memory
from scalple.store.rowtree import SALT_KEY_BYTES, row_hashes
from scalple.store.segments import Segment, to_parquet

PROCESS_ROWS_MIN = 30_000
"""From so many rows on, the other process is worth its start."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a manifest records of a segment, and the segment."""

    data: bytes
    rows_root: bytes


class Sealer:
    """Seals a writer's segments; keeps the other process once it has been started."""

    def __init__(self) -> None:
        self._other: _OtherProcess | None = None
        self._alone = False

    def start(self) -> None:
        """Start the other process now: large segments will come, and it takes a moment."""
        if self._other is None and not self._alone:
            try:
                self._other = _OtherProcess()
            except OSError:
                self._alone = True

    def seal(self, kind: str, table: pa.Table) -> Sealed:
        """One segment of a kind, under a new salt key."""
        segment = Segment(kind, table, secrets.token_bytes(SALT_KEY_BYTES))
        if table.num_rows >= PROCESS_ROWS_MIN:
            self.start()
            try:
                if self._other is not None:
                    return self._other.seal(segment)
            except OSError:  # it was ended: do without from now on
                self.close()
                self._alone = True
        return _seal(segment)

    def close(self) -> None:
        """End the other process if there is one."""
        if self._other is not None:
            self._other.close()
            self._other = None


def _seal(segment: Segment) -> Sealed:
    """The rows are hashed while they are compressed."""
    with ThreadPoolExecutor(1, "scalple-parquet") as pool:
        parquet = pool.submit(to_parquet, segment)
        root = merkle.root(row_hashes(segment.table, segment.salt_key))
        return Sealed(parquet.result(), root)


class _OtherProcess:
    """The other side, and the two pieces of memory shared with it.

    Raises:
        OSError: it can't be started, or it is gone.
    """

    def __init__(self) -> None:
        self._given, self._returned = _shared_file(), _shared_file()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._given), str(self._returned)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._given, self._returned],
        )

    def seal(self, segment: Segment) -> Sealed:
        assert self._process.stdin is not None and self._process.stdout is not None
        length = _put(self._given, _to_arrow(segment.table))
        line = f"{segment.kind} {segment.salt_key.hex()} {length}\n"
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        answer = self._process.stdout.readline().split()
        if len(answer) != 2:
            raise OSError("the process that seals segments is gone")
        root, size = answer
        return Sealed(_get(self._returned, int(size)), bytes.fromhex(root.decode()))

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()
        os.close(self._given)
        os.close(self._returned)


def _to_arrow(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    whole = table.combine_chunks().unify_dictionaries()
    with pa.ipc.new_stream(sink, whole.schema) as stream:
        stream.write_table(whole)
    return sink.getvalue()


def _shared_file() -> int:
    """A file without a name: in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("scalple-segment")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _put(file: int, data: pa.Buffer | bytes) -> int:
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        done += os.pwrite(file, view[done:], done)
    return len(view)


def _get(file: int, length: int) -> bytes:
    parts = []
    done = 0
    while done < length:
        part = os.pread(file, length - done, done)
        if not part:
            raise OSError("shared memory is shorter than was said")
        parts.append(part)
        done += len(part)
    return b"".join(parts)


def _serve(given: int, returned: int) -> None:
    """The other side: until its standard input ends, seal what it is given."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was called
    for line in sys.stdin.buffer:
        kind, salt_key, length = line.decode().split()
        table = pa.ipc.open_stream(pa.py_buffer(_get(given, int(length)))).read_all()
        sealed = _seal(Segment(kind, table, bytes.fromhex(salt_key)))
        size = _put(returned, sealed.data)
        sys.stdout.write(f"{sealed.rows_root.hex()} {size}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    keep_memory()
    _serve(int(sys.argv[1]), int(sys.argv[2]))
