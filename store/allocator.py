"""Keeps the memory that a batch gives back for the next one.

Batches allocate and free tens of megabytes many times a second. By default both the C library and
Arrow's allocator hand such memory back to the system at once, which then clears every page anew: a
tenth of the whole run. Call `keep_memory` before pyarrow is imported. The peak doesn't grow: what
is kept is what the batches need again.
"""

import ctypes
import os

_M_TRIM_THRESHOLD = -1  # malloc.h
_M_MMAP_THRESHOLD = -3
_BYTES = 32 << 20  # the most that glibc takes


def keep_memory() -> None:
    """Does nothing where the C library isn't GNU's, and respects what the operator has set."""
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", "-1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, _BYTES)
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)
