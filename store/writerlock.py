"""Whether a writer is at work on an origin: it holds a lock on the directory while it is.

A layout enters, yes or no leaves. The lock is taken in `recovery`.
"""

import fcntl
import os

from scalple.store.layout import OriginLayout


def is_locked(layout: OriginLayout) -> bool:
    """Whether a writer is at work on the origin right now."""
    descriptor = os.open(layout.directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
