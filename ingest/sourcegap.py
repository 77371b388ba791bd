"""A loss in a log file, as far as the file itself shows it: what a row of `gaps` is made of.

Doesn't say which records are missing: holes in the numbering of sessions do.
"""

from dataclasses import dataclass
from pathlib import Path

TRUNCATED = "source-truncated"
"""The file was cut while its name stayed: what followed the position, if anything, is gone."""
REPLACED = "source-replaced"
"""Another file has its name now, and no file holds what was read of it."""
MISSING = "source-missing"
"""There is no such file any more, and no file holds what was read of it."""
DAMAGED = "source-damaged"
"""A compressed file is cut short or damaged: what follows that place can't be read."""


@dataclass(frozen=True, slots=True)
class SourceGap:
    """What isn't in the store of one generation of a log, or may be missing."""

    reason: str
    path: Path
    """Where it was last seen."""
    after: int
    """Up to here, in bytes, it was read: what may be missing comes after it."""
    bytes_min: int
    """So many bytes were seen there and can't be read any more; 0: perhaps none."""
    bytes_max: int | None
    """At most so many; None: how many isn't known."""
    detail: str
    """For people: how it was noticed."""
    since_ns: int | None
    """When it was last written before, as far as was seen; nanoseconds since 1970."""
