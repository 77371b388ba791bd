"""Anchors in a bucket: created once, and read with all their versions.

A bucket's prefix and checkpoints enter; anchors leave. With Object Lock nobody can take one away
before its time; a deletion only hides it, and what is hidden is read all the same.
"""

from scalple.ingest.errors import InputError, VerificationError
from scalple.store import anchors
from scalple.store.anchors import Anchor
from scalple.store.bucket import SMALL_BYTES, Bucket
from scalple.store.checkpoint import Checkpoint
from scalple.store.probe import is_beside


def found(bucket: Bucket) -> list[Anchor]:
    """Every anchor below the prefix, those that were deleted or replaced too.

    Raises:
        InputError: something there is no checkpoint.
        StoreError: it can't be read.
    """
    keys: list[tuple[str, str | None]] = [(key, None) for key, _ in bucket.names()]
    said = bucket.ask("get_bucket_versioning")
    if said is not None and "Status" in said:
        keys = [(one.key, one.version) for one in bucket.versions() if not one.deletion]
    anchored = []
    for key, version in keys:
        if is_beside(key):
            continue
        data = bucket.get(key, version=version, at_most=SMALL_BYTES)
        if data is None:
            raise InputError("vanished while it was read", place=bucket.place(key))
        anchored += anchors.in_text(data, bucket.place(key))
    return anchored


def publish(bucket: Bucket, head: Checkpoint, note: bytes) -> bool:
    """Puts a checkpoint into the bucket; False if it is there already.

    Raises:
        VerificationError: another text is there under its name.
        StoreError, CommitError: it can't be written.
    """
    key = anchors.name(head)
    if bucket.get(key, at_most=SMALL_BYTES) == note:
        return False
    try:
        bucket.create(key, note)
    except FileExistsError as error:
        raise VerificationError("holds another checkpoint", place=bucket.place(key)) from error
    return True
