"""An origin of a store in a bucket as the bucket shows it at one moment.

A bucket and an origin's name enter; its head leaves, signed by one of the keys that stand beside it,
with the numbers of the manifests that are there. Which of the keys must have signed it, and what the
manifests say, isn't looked at here.
"""

import time
from dataclasses import dataclass

from scalple.ingest.errors import VerificationError
from scalple.store.bucket import SMALL_BYTES, Bucket
from scalple.store.chain import placed
from scalple.store.checkpoint import Checkpoint, open_checkpoint
from scalple.store.keys import keys_in
from scalple.store.layout import OriginLayout, manifest_number
from scalple.store.merkle import CompactRange, leaf_hash
from scalple.store.note import VerifierKey

SETTLE_TRIES = 10
SETTLE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class RemoteHead:
    """What was there, and what it says."""

    public_key: bytes
    keys: tuple[VerifierKey, ...]
    checkpoint: bytes
    head: Checkpoint
    manifests: tuple[int, ...]


def settled(bucket: Bucket, origin: str, whole: bool) -> RemoteHead | None:
    """The origin once head and manifests agree, or as it stays; None before it was made.

    Args:
        bucket: the store's prefix.
        origin: its name.
        whole: wait for manifests beyond the head to be signed.

    Raises:
        VerificationError: it isn't signed, or manifests are missing.
        StoreError: the bucket can't be read.
    """
    for tried in range(SETTLE_TRIES):
        state = _look(bucket, origin)
        if state is None or not whole or len(state.manifests) <= state.head.size:
            return state
        if tried + 1 < SETTLE_TRIES:
            time.sleep(SETTLE_SECONDS)
    return state


def _look(bucket: Bucket, origin: str) -> RemoteHead | None:
    place = bucket.place(f"{origin}/checkpoint")
    # In this order: a writer that changes its key publishes the key before the head that it signs.
    checkpoint = bucket.get(f"{origin}/checkpoint", at_most=SMALL_BYTES)
    public_key = bucket.get(f"{origin}/public-key", at_most=SMALL_BYTES)
    if checkpoint is None or public_key is None:
        # The first writer makes the key, then the head.
        if checkpoint is not None or next(bucket.names(f"{origin}/manifests/"), None):
            raise VerificationError("checkpoint or public key is missing", place=place)
        return None
    with placed(bucket.place(f"{origin}/public-key")):
        keys = tuple(keys_in(public_key))
    with placed(place):
        head, _ = open_checkpoint(checkpoint, keys)
    names = bucket.names(f"{origin}/manifests/")
    numbers = (manifest_number(name.rpartition("/")[2]) for name, _ in names)
    found = tuple(sorted(n for n in numbers if n is not None))
    if found[: head.size] != tuple(range(head.size)):
        raise VerificationError(
            f"head is signed for {head.size} manifests, and some of them aren't there", place=place
        )
    return RemoteHead(public_key, keys, checkpoint, head, found)


def root_here(here: OriginLayout, size: int) -> bytes | None:
    """The root of the manifests that are here; None when some of them aren't."""
    tree = CompactRange()
    for n in range(size):
        try:
            tree = tree.append(leaf_hash(here.manifest(n).read_bytes()))
        except OSError:
            return None
    return tree.root()
