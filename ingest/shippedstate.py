"""What a sender's follower remembers, small enough to travel with batches of thousands of files.

Enters: which generations aren't read to their ends. Leaves: 16 bytes for each, and back. The daemon, which
keeps them, knows the heads of all files that it has, so that eight bytes of a hash tell one from another.

Doesn't say what is remembered for what: see `generations`.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache

from scalple.ingest.errors import InputError
from scalple.ingest.generations import Unfinished
from scalple.ingest.shipment import STATE_MAX, Position

_VERSION = b"\x02"
_JSON = b"{"
"""An earlier version kept what the follower itself gives."""
_ID_BYTES, _INODE_BYTES = 8, 8
_ENTRY_BYTES = _ID_BYTES + _INODE_BYTES
ENTRIES_MAX = (STATE_MAX * 3 // 4 - 3) // _ENTRY_BYTES


def packed(unfinished: Iterable[Unfinished]) -> bytes:
    """Those generations; nothing at all, which means that it isn't known, if they are too many."""
    entries = sorted(
        _id(one.head, one.incarnation) + one.inode.to_bytes(_INODE_BYTES, "big")
        for one in unfinished
    )
    return _VERSION + b"".join(entries) if len(entries) <= ENTRIES_MAX else b""


def unpacked(data: bytes, has: Iterable[Position]) -> bytes | None:
    """What `Follower` takes as `state`; None: not known.

    Args:
        data: what `packed` gave, or an earlier version.
        has: the files that there can be entries of.

    Raises:
        InputError: it isn't what was packed.
    """
    if not data or data.startswith(_JSON):
        return data or None
    if not data.startswith(_VERSION) or len(data) % _ENTRY_BYTES != len(_VERSION):
        raise InputError("isn't what a sender remembered")
    inodes = {
        data[at : at + _ID_BYTES]: int.from_bytes(data[at + _ID_BYTES : at + _ENTRY_BYTES], "big")
        for at in range(len(_VERSION), len(data), _ENTRY_BYTES)
    }
    found = []
    for one in has:
        inode = inodes.get(_id((one.head_bytes, one.head_sha256), one.incarnation))
        if inode is not None:
            found.append([one.head_bytes, one.head_sha256, one.incarnation, inode])
    return json.dumps({"v": 1, "unfinished": found}).encode()


@lru_cache(maxsize=1 << 14)
def _id(head: tuple[int, str], incarnation: int) -> bytes:
    return hashlib.sha256(f"{head[0]} {head[1]} {incarnation}".encode()).digest()[:_ID_BYTES]
