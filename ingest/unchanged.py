"""Since when files are as they are: what may be a copy in the making is waited for.

Enters: files that there are. Leaves: times on the follower's clock. Opens nothing.
"""

import time
from collections.abc import Container

from scalple.ingest.generations import Inode
from scalple.ingest.heldfile import stamp_of
from scalple.ingest.present import Found


class Unchanged:
    """Files that are looked at, until it is known what they are.

    Args:
        known_s: what was written longer ago than that, when it is seen first, counts as written then.
    """

    def __init__(self, known_s: float) -> None:
        self._known_s = known_s
        self._seen: dict[Inode, tuple[tuple[int, int, int], float]] = {}

    def since(self, found: Found, now: float) -> float:
        """Since when it is as it is, on the follower's clock."""
        stamp = stamp_of(found.stat)
        if found.inode not in self._seen:
            age = time.time() - max(found.stat.st_mtime, found.stat.st_ctime)
            self._seen[found.inode] = (stamp, now - max(0.0, min(age, self._known_s)))
        elif self._seen[found.inode][0] != stamp:
            self._seen[found.inode] = (stamp, now)
        return self._seen[found.inode][1]

    def forget(self, inode: Inode) -> None:
        """It is known what it is."""
        self._seen.pop(inode, None)

    def forget_others(self, present: Container[Inode]) -> None:
        """Those that aren't there any more."""
        self._seen = {inode: seen for inode, seen in self._seen.items() if inode in present}
