"""Memory that was freed goes back to the system: what a daemon needs beside a database.

Enters nothing. Leaves a process that holds little more than it uses. Where the C library isn't glibc, only
Arrow's part is done. Frees nothing that is in use.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import pyarrow as pa

_ARENA_MAX = -8
"""M_ARENA_MAX of malloc.h."""
_ARENAS = 2


def keep_little() -> None:
    """From now on: few arenas, and no pool of Arrow's own, which would keep what was freed."""
    pa.set_memory_pool(pa.system_memory_pool())
    _of_glibc("mallopt")(_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """What is free now."""
    _of_glibc("malloc_trim")(0)


def _of_glibc(name: str) -> Callable[..., Any]:
    found = getattr(ctypes.CDLL(None), name, None)
    return found if found is not None else lambda *_: 0
