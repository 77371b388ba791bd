"""What a bucket can be trusted with, found out by trying it.

A bucket enters, Capabilities leave. S3-compatible servers accept conditions that they then ignore,
and some only on versioned buckets, so that neither a version number nor documentation decides. What
it writes lies below `.probe/`, which is no part of a store, and is deleted where that is allowed.
"""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from scalple.ingest.errors import ConfigError, StoreError
from scalple.store.bucket import Answer, Bucket

RACERS = 16
TRIES = 3
FOLDER = ".probe"
_TAKEN = f"{FOLDER}/taken"
MIRROR = ".mirror"
"""A key that says that `mirror` writes here, and nothing else may."""


def is_beside(key: str) -> bool:
    """Whether a key below a store's prefix is no part of the store."""
    return key == MIRROR or key.startswith(f"{FOLDER}/")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was found. None: the bucket doesn't say, or not to these credentials.

    Attributes:
        creates_once: of several that create one key, exactly one succeeds.
        winners: how many did, out of `RACERS`; None after the short probe.
        replaces_if_match: an object is replaced only while it is the one that was seen; None after
            the short probe.
        versioning: old versions are kept.
        object_lock: versions can be locked against deletion.
        default_retention: what the bucket locks by itself, in words.
    """

    creates_once: bool
    winners: int | None
    replaces_if_match: bool | None
    versioning: bool | None
    object_lock: bool | None
    default_retention: str | None


def probe(bucket: Bucket) -> Capabilities:
    """The whole probe: a race for one key, and everything that the short one does.

    Raises:
        ConfigError: objects are to be retained, and the bucket has no Object Lock.
        StoreError: it can't be written at all.
    """
    found = _look(bucket, _winners(bucket))
    return replace(found, replaces_if_match=_replaces_if_match(bucket))


def quick_probe(bucket: Bucket) -> Capabilities:
    """One request, for every opening: a bucket may have become versioned since the whole probe.

    What is not looked at is None; Object Lock is, if objects are to be retained.
    """
    unlooked = Capabilities(_refuses_taken(bucket), None, None, None, None, None)
    if not bucket.settings.retain_days:
        return unlooked
    lock, retention = _lock(bucket)
    return replace(unlooked, object_lock=lock, default_retention=retention)


def _look(bucket: Bucket, winners: int) -> Capabilities:
    taken = _refuses_taken(bucket)
    versioning = bucket.ask("get_bucket_versioning")
    lock, retention = _lock(bucket)
    return Capabilities(
        creates_once=taken and winners == 1,
        winners=winners,
        replaces_if_match=None,
        versioning=None if versioning is None else versioning.get("Status") == "Enabled",
        object_lock=lock,
        default_retention=retention,
    )


def _lock(bucket: Bucket) -> tuple[bool | None, str | None]:
    """Whether Object Lock is on, and what it does by itself."""
    said = bucket.ask("get_object_lock_configuration")
    rule = (said or {}).get("ObjectLockConfiguration", {})
    lock = rule.get("ObjectLockEnabled") == "Enabled" if said is not None else None
    if bucket.settings.retain_days and not lock:
        raise ConfigError(
            "retain_days is set, and the bucket doesn't say that Object Lock is on",
            place=bucket.url,
            hint="make a bucket with Object Lock, or grant s3:GetBucketObjectLockConfiguration",
        )
    return lock, _retention(rule.get("Rule", {}).get("DefaultRetention", {}))


def _winners(bucket: Bucket) -> int:
    """How many racers the server tells that they made the key; once more if it didn't tell each."""
    for _ in range(TRIES):
        key = f"{FOLDER}/{secrets.token_hex(8)}"
        answers = _race(bucket, key)
        bucket.delete(key)
        if Answer.UNKNOWN not in answers:
            return answers.count(Answer.DONE)
    raise _unreachable(bucket)


def _race(bucket: Bucket, key: str) -> list[Answer]:
    start = threading.Barrier(RACERS)

    def create(racer: int) -> Answer:
        start.wait()
        return bucket.put(key, b"%d" % racer, {"IfNoneMatch": "*"}, retain=False)

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(create, range(RACERS)))


def _refuses_taken(bucket: Bucket) -> bool:
    """One key stays there, so that nothing has to be deleted after each opening."""
    if _put(bucket, b"taken", {"IfNoneMatch": "*"}) is Answer.REFUSED:
        return True
    return _put(bucket, b"taken again", {"IfNoneMatch": "*"}) is Answer.REFUSED


def _put(bucket: Bucket, data: bytes, condition: dict[str, str]) -> Answer:
    """Tried until the server tells."""
    for _ in range(TRIES):
        answer = bucket.put(_TAKEN, data, condition, retain=False)
        if answer is not Answer.UNKNOWN:
            return answer
    raise _unreachable(bucket)


def _unreachable(bucket: Bucket) -> StoreError:
    return StoreError(
        "the bucket gives no clear answers", place=bucket.url, hint="check the endpoint; try again"
    )


def _replaces_if_match(bucket: Bucket) -> bool:
    """It must work with the right ETag and fail with another."""
    found = bucket.tagged(_TAKEN)
    if found is None:
        return False
    wrong = _put(bucket, b"taken", {"IfMatch": f'"{"0" * 32}"'})
    right = _put(bucket, b"taken", {"IfMatch": found[1]})
    return (wrong, right) == (Answer.REFUSED, Answer.DONE)


def _retention(rule: dict[str, object]) -> str | None:
    if not rule:
        return None
    length = f"{rule['Days']} days" if "Days" in rule else f"{rule.get('Years')} years"
    return f"{str(rule.get('Mode', '')).lower()}, {length}"
