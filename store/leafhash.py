"""SHA-256 of many leaves at once, here or in a process of its own.

Bytes and their bounds enter, concatenated hashes leave. Each call to SHA-256 is short and holds
the interpreter's lock, which would keep the threads that parse and attribute waiting; a process
of its own doesn't. It is given the bytes through shared memory, and imports nothing heavy.
"""

import hashlib
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import pairwise
from multiprocessing.shared_memory import SharedMemory

SLOT_BYTES = 24 << 20
"""Room for the leaves of one call; a larger call is hashed here."""
SLOTS = 2


def hash_each(bounds: Sequence[int], data: bytes) -> bytes:
    """SHA-256 of data[bounds[i]:bounds[i + 1]] for each i, concatenated."""
    sha256 = hashlib.sha256
    return b"".join([sha256(data[a:b]).digest() for a, b in pairwise(bounds)])


class LeafHasher:
    """The other process, and the memory shared with it.

    Raises:
        OSError: there is no shared memory on this machine.
    """

    def __init__(self) -> None:
        self._slots = [SharedMemory(create=True, size=SLOT_BYTES) for _ in range(SLOTS)]
        self._busy: list[Future[bytes] | None] = [None] * SLOTS
        self._turn = 0
        self._pool = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_ignore_interrupt
        )

    def submit(self, bounds: memoryview, data: memoryview) -> Callable[[], bytes]:
        """Hash the leaves that 32-bit `bounds` cut from `data`; call the result to have it."""
        length = bounds[-1]
        if length > SLOT_BYTES:
            hashes = hash_each(bounds.tolist(), bytes(data[:length]))
            return lambda: hashes
        self._turn = (self._turn + 1) % SLOTS
        if (before := self._busy[self._turn]) is not None:
            before.result()  # what lay in this slot has been hashed
        slot = self._slots[self._turn]
        _bytes_of(slot)[:length] = data[:length]
        future = self._pool.submit(_hash_slot, slot.name, bounds.tobytes())
        self._busy[self._turn] = future
        return future.result

    def call(self, function: Callable[[bytes], bytes], leaves: bytes) -> bytes:
        """Any function of bytes, in the other process."""
        return self._pool.submit(function, leaves).result()

    def close(self) -> None:
        """End the process and free the memory."""
        self._pool.shutdown()
        for slot in self._slots:
            slot.close()
            slot.unlink()


def _ignore_interrupt() -> None:
    """Ctrl-C is for the process that was called; that one ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _bytes_of(slot: SharedMemory) -> memoryview:
    assert slot.buf is not None  # only after close()
    return slot.buf


_attached: dict[str, SharedMemory] = {}


def _hash_slot(name: str, bounds: bytes) -> bytes:
    if name not in _attached:
        _attached[name] = SharedMemory(name)
    cuts = memoryview(bounds).cast("i").tolist()
    return hash_each(cuts, bytes(_bytes_of(_attached[name])[: cuts[-1]]))
