"""SHA-256 of many leaves at once, here or in a process of its own.

Bytes and their bounds enter, concatenated hashes leave. Each call to SHA-256 is short and holds
the interpreter's lock, which would keep the threads that parse and attribute waiting; a process
of its own doesn't. The two share one piece of memory in two slots, and tell each other in lines
of text which slot is ready; run as a program, this module is the other side.
"""

import hashlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise

from scalple.store import merkle

SLOT_BYTES = 32 << 20
"""Room for the bounds, bytes and hashes of one call; a larger call is hashed here."""
SLOTS = 2
_HASH_BYTES = 32

Leaves = tuple[memoryview, memoryview]
"""32-bit bounds, and the bytes that they cut."""


def hash_each(bounds: Sequence[int], data: bytes) -> bytes:
    """SHA-256 of data[bounds[i]:bounds[i + 1]] for each i, concatenated."""
    sha256 = hashlib.sha256
    return b"".join([sha256(data[a:b]).digest() for a, b in pairwise(bounds)])


def hash_leaves(leaves: Leaves) -> bytes:
    """The same, in this process."""
    bounds, data = leaves
    return hash_each(bounds.tolist(), bytes(data[: bounds[-1]]))


class LeafHasher:
    """The other process, and the memory shared with it.

    Raises:
        OSError: it can't be started, or it is gone; nothing that it said before is wrong.
    """

    def __init__(self) -> None:
        file = _shared_file()
        os.ftruncate(file, SLOTS * SLOT_BYTES)
        self._memory = mmap.mmap(file, SLOTS * SLOT_BYTES)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[file],
        )
        os.close(file)

    def root(self, leaves: Iterable[Leaves]) -> bytes:
        """The RFC 6962 root over all leaves in order."""
        hashes: list[bytes] = []
        waiting: deque[tuple[int, int]] = deque()
        for turn, (bounds, data) in enumerate(leaves):
            count, length = len(bounds) - 1, int(bounds[-1])
            fits = bounds.nbytes + length + count * _HASH_BYTES <= SLOT_BYTES
            while waiting and (len(waiting) == SLOTS or not fits):
                hashes.append(self._hashes(*waiting.popleft()))
            if not fits:
                hashes.append(hash_leaves((bounds, data)))
                continue
            slot = turn % SLOTS
            at = slot * SLOT_BYTES
            self._memory[at : at + bounds.nbytes] = bounds.tobytes()
            self._memory[at + bounds.nbytes : at + bounds.nbytes + length] = data[:length]
            self._say(f"leaves {slot} {count} {length}")
            waiting.append((slot, count))
        hashes += [self._hashes(*one) for one in waiting]
        return self._root(b"".join(hashes))

    def _root(self, hashes: bytes) -> bytes:
        if len(hashes) > SLOT_BYTES:
            return merkle.root(hashes)
        self._memory[: len(hashes)] = hashes
        self._say(f"root 0 0 {len(hashes)}")
        return self._hashes(0, 1)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _hashes(self, slot: int, count: int) -> bytes:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"done\n":
            raise OSError("the process that hashes rows is gone")
        end = (slot + 1) * SLOT_BYTES
        return self._memory[end - count * _HASH_BYTES : end]

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()
        self._memory.close()


def _shared_file() -> int:
    """A file without a name: in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("scalple-leaves")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _serve(file: int) -> None:
    """The other side: until its standard input ends, hash what it is told is ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was called
    memory = mmap.mmap(file, SLOTS * SLOT_BYTES)
    for line in sys.stdin.buffer:
        task, *numbers = line.split()
        slot, count, length = (int(number) for number in numbers)
        at, end = slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES
        if task == b"root":
            result = merkle.root(memory[at : at + length])
        else:
            data = at + 4 * (count + 1)
            bounds = memoryview(memory[at:data]).cast("i").tolist()
            result = hash_each(bounds, memory[data : data + length])
        memory[end - len(result) : end] = result
        sys.stdout.buffer.write(b"done\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
