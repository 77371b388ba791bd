"""One prefix of an S3 bucket, and the only module that speaks to boto3.

Keys and bytes enter, bytes leave. What an answer doesn't settle is settled by reading back: a
request that timed out or came back as 5xx may have been carried out, a 409 or 412 may be the echo
of one's own. boto3's retries are off, because they hide exactly that. Nothing is ever deleted but
what the probe of the bucket has made. It knows no store; credentials are AWS's environment and
files.
"""

import base64
import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache, partial
from typing import Any

from scalple.ingest.errors import CommitError, ConfigError, StoreError
from scalple.store.bucketsettings import BucketSettings, check_installed, place_of

PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds between one try and the next."""
SMALL_BYTES = 64 << 10
OBJECT_BYTES_MAX = 1 << 30
CONNECTIONS = 32

_UNSETTLED = {"RequestTimeout", "SlowDown", "InternalError", "OperationAborted"}


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a key; `deletion` marks that the key was deleted."""

    key: str
    version: str
    deletion: bool


class Answer(Enum):
    """What an attempt to write came to."""

    DONE = "done"
    REFUSED = "refused"
    """A condition didn't hold, as the server says."""
    UNKNOWN = "unknown"


class Bucket:
    """Reads and writes below one prefix; safe to use from several threads."""

    def __init__(
        self,
        url: str,
        settings: BucketSettings = BucketSettings(),  # noqa: B008 (immutable)
        pauses: tuple[float, ...] | None = None,
    ) -> None:
        """Opens a prefix; nothing is sent yet.

        Raises:
            ConfigError: the URL is none, boto3 isn't installed, or it has no region or credentials.
        """
        self.name, prefix = place_of(url)
        self.settings = settings
        self._prefix = f"{prefix}/" if prefix else ""
        self.pauses = PAUSES if pauses is None else pauses
        self._errors, self.client = _client(settings.endpoint, settings.region)

    @property
    def url(self) -> str:
        """The prefix, without a slash at its end."""
        return f"s3://{self.name}/{self._prefix}".rstrip("/")

    def place(self, key: str) -> str:
        """A key as messages show it."""
        return f"s3://{self.name}/{self._prefix}{key}"

    def get(
        self, key: str, *, version: str | None = None, at_most: int = OBJECT_BYTES_MAX
    ) -> bytes | None:
        """The bytes of an object, or None when there is none.

        Raises:
            StoreError: it can't be reached or read, or is larger than `at_most`.
        """
        found = self._get(key, version, at_most)
        return found[0] if found else None

    def tagged(self, key: str, at_most: int = SMALL_BYTES) -> tuple[bytes, str] | None:
        """The bytes of an object and its ETag; otherwise as `get`."""
        return self._get(key, None, at_most)

    def _get(self, key: str, version: str | None, at_most: int) -> tuple[bytes, str] | None:
        more = {"VersionId": version} if version else {}

        def read() -> tuple[bytes, str]:
            answer = self.client.get_object(Bucket=self.name, Key=self._prefix + key, **more)
            with contextlib.closing(answer["Body"]) as body:
                if answer["ContentLength"] > at_most:
                    raise StoreError(f"larger than {at_most} bytes", place=self.place(key))
                return body.read(), answer["ETag"]

        found: tuple[bytes, str] | None = self._reading(key, read)
        return found

    def create(self, key: str, data: bytes, *, conditional: bool = True) -> None:
        """Creates an object that must not exist yet; one with the same bytes counts as made now.

        Args:
            key: below the prefix.
            data: all its bytes.
            conditional: False where the server can't refuse to overwrite: then it is looked at
                before, which is safe with one writer only.

        Raises:
            FileExistsError: other bytes are there.
            StoreError: it wasn't created.
            CommitError: it may or may not have been.
        """
        if not conditional and self._compare(key, data) is not None:
            if self._compare(key, data):
                return
            raise FileExistsError(self.place(key))
        more = {"IfNoneMatch": "*"} if conditional else {}
        if not self._write(key, data, more):
            raise FileExistsError(self.place(key))

    def replace(self, key: str, data: bytes, before: bytes) -> None:
        """Puts an object in place of the one with the bytes `before`.

        Where the server refuses every If-Match, it is looked at just before.

        Raises:
            FileExistsError: other bytes are there by now.
            StoreError, CommitError: as `create`.
        """
        condition: dict[str, str] = {}
        for last in (False, True):
            found = self.tagged(key)
            if found is not None and found[0] == data:
                return
            if found is None or found[0] != before:
                raise FileExistsError(self.place(key))
            condition = {} if last else {"IfMatch": found[1]}
            if self._write(key, data, condition, before=before):
                return
        raise FileExistsError(self.place(key))

    def _write(
        self, key: str, data: bytes, condition: dict[str, str], before: bytes | None = None
    ) -> bool:
        """Whether the object is there with these bytes, or there with others.

        `before`: bytes that are to be replaced, so that they say nothing after an unsettled answer.
        """
        unsettled = False
        for pause in (*self.pauses, None):
            try:
                answer = self.put(key, data, condition)
                unsettled = unsettled or answer is not Answer.REFUSED
                same = self._compare(key, data)
                waits = same is False and before is not None and self._compare(key, before)
            except StoreError as error:
                if unsettled:
                    raise self._unknown(key) from error
                raise
            if same:
                return True
            if same is False and not (waits and answer is Answer.UNKNOWN):
                return False
            if pause is not None:
                time.sleep(pause)
        raise self._unknown(key)

    def put(
        self, key: str, data: bytes, condition: Mapping[str, str], *, retain: bool = True
    ) -> Answer:
        """One attempt, and what the server says of it.

        `condition`: IfNoneMatch or IfMatch.
        `retain`: under Object Lock, if the settings say so.

        Raises:
            StoreError, ConfigError: it definitely wasn't carried out, and won't be.
        """
        try:
            self.client.put_object(
                Bucket=self.name,
                Key=self._prefix + key,
                Body=data,
                ContentMD5=_base64(hashlib.md5(data, usedforsecurity=False).digest()),
                ChecksumSHA256=_base64(hashlib.sha256(data).digest()),
                **condition,
                **(self._retention() if retain else {}),
            )
        except self._errors.ClientError as error:
            status, code = _status(error)
            if status in (409, 412):
                return Answer.REFUSED
            if status >= 500 or status == 429 or code in _UNSETTLED:
                return Answer.UNKNOWN
            if status == 404 and code != "NoSuchBucket":  # If-Match on what isn't there
                return Answer.REFUSED
            raise self._definite(key, error) from error
        except self._errors.BotoCoreError as error:
            if not self._is_unsettled(error):
                raise self._misconfigured(error) from error
            return Answer.UNKNOWN
        return Answer.DONE

    def _retention(self) -> dict[str, Any]:
        if not self.settings.retain_days:
            return {}
        until = datetime.now(UTC) + timedelta(days=self.settings.retain_days)
        return {
            "ObjectLockMode": self.settings.retain_mode.upper(),
            "ObjectLockRetainUntilDate": until,
        }

    def _compare(self, key: str, data: bytes) -> bool | None:
        """Whether the object has these bytes; None when there is none."""
        if len(data) > SMALL_BYTES:
            head = self._reading(key, lambda: self._head(key))
            if head is None:
                return None
            if head["ContentLength"] != len(data):
                return False
            # Only a checksum of the whole object that the server itself keeps spares the reading.
            if head.get("ChecksumType") == "FULL_OBJECT" and "ChecksumSHA256" in head:
                return bool(head["ChecksumSHA256"] == _base64(hashlib.sha256(data).digest()))
        found = self.get(key)
        return None if found is None else found == data

    def _head(self, key: str) -> Any:
        return self.client.head_object(
            Bucket=self.name, Key=self._prefix + key, ChecksumMode="ENABLED"
        )

    def names(self, below: str = "") -> Iterator[tuple[str, int]]:
        """Keys that begin with `below`, in order, each with its size in bytes."""
        for page in self._pages("list_objects_v2", below, {}):
            for one in page.get("Contents", ()):
                yield one["Key"].removeprefix(self._prefix), one["Size"]

    def folders(self) -> list[str]:
        """The first parts of the keys that have several."""
        pages = self._pages("list_objects_v2", "", {"Delimiter": "/"})
        found = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", ())]
        return [one.removeprefix(self._prefix).rstrip("/") for one in found]

    def versions(self, below: str = "") -> Iterator[Version]:
        """Every version of every key that begins with `below`, those that were deleted too."""
        for page in self._pages("list_object_versions", below, {}):
            for kind in ("Versions", "DeleteMarkers"):
                for one in page.get(kind, ()):
                    key = one["Key"].removeprefix(self._prefix)
                    yield Version(key, one["VersionId"], kind == "DeleteMarkers")

    def _pages(self, operation: str, below: str, more: dict[str, str]) -> Iterator[Any]:
        arguments = {"Bucket": self.name, "Prefix": self._prefix + below, **more}
        call = getattr(self.client, operation)
        while True:
            page = self._reading(below, partial(call, **arguments)) or {}
            yield page
            if not page.get("IsTruncated"):
                return
            arguments |= {name: page[said] for name, said in _GOING_ON.items() if said in page}

    def delete(self, key: str) -> bool:
        """Takes away what the probe has made, or what has expired; False where that isn't allowed."""
        try:
            self.client.delete_object(Bucket=self.name, Key=self._prefix + key)
        except (self._errors.ClientError, self._errors.BotoCoreError):
            return False
        return True

    def ask(self, operation: str) -> dict[str, Any] | None:
        """What the bucket says of itself; None when it says nothing, or not to us."""
        try:
            answer: dict[str, Any] = getattr(self.client, operation)(Bucket=self.name)
        except (self._errors.ClientError, self._errors.BotoCoreError):
            return None
        return answer

    def _reading(self, key: str, call: Callable[[], Any]) -> Any:
        """What a call that changes nothing returns; None when there is no such object."""
        for pause in (*self.pauses, None):
            try:
                return call()
            except self._errors.ClientError as error:
                status, code = _status(error)
                if status == 404 and code != "NoSuchBucket":
                    return None
                if not (status >= 500 or status == 429 or code in _UNSETTLED):
                    raise self._definite(key, error) from error
                last: Exception = error
            except self._errors.BotoCoreError as error:
                if not self._is_unsettled(error):
                    raise self._misconfigured(error) from error
                last = error
            if pause is not None:
                time.sleep(pause)
        raise StoreError(
            f"can't be reached: {last}", place=self.place(key), hint="check the endpoint; try again"
        )

    def _is_unsettled(self, error: Exception) -> bool:
        names = ("ConnectionError", "HTTPClientError", "IncompleteReadError", "ChecksumError")
        kinds = tuple(getattr(self._errors, name) for name in names if hasattr(self._errors, name))
        return isinstance(error, kinds) or type(error).__name__ == "ResponseParserError"

    def _definite(self, key: str, error: Exception) -> StoreError | ConfigError:
        status, code = _status(error)
        if code == "NoSuchBucket":
            return ConfigError("no such bucket", place=f"s3://{self.name}", hint="make it first")
        what = getattr(error, "operation_name", "the request")
        if status == 403:
            return StoreError(
                f"{what} isn't allowed ({code})",
                place=self.place(key),
                hint="the rights that are needed stand in docs/S3.md; credentials are those of AWS_* "
                "and ~/.aws",
            )
        return StoreError(f"{what} was refused: {error}", place=self.place(key))

    def _misconfigured(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"{error}", place=self.url, hint="credentials come from AWS_* and ~/.aws (docs/S3.md)"
        )

    def _unknown(self, key: str) -> CommitError:
        return CommitError(
            "can't tell whether it was written",
            place=self.place(key),
            hint="run again once the bucket can be reached: it looks, and goes on from there",
        )


_GOING_ON = {
    "ContinuationToken": "NextContinuationToken",
    "KeyMarker": "NextKeyMarker",
    "VersionIdMarker": "NextVersionIdMarker",
}


@cache
def _client(endpoint: str | None, region: str | None) -> tuple[Any, Any]:
    """botocore's exceptions, and a client that tries once."""
    check_installed()
    import boto3
    import botocore.config
    import botocore.exceptions

    config = botocore.config.Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=CONNECTIONS,
        # The checksums are ours, and so is the comparison of what is read.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        client = boto3.session.Session().client(
            "s3", endpoint_url=endpoint, region_name=region, config=config
        )
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise ConfigError(f"{error}", place="S3", hint="check [s3] and AWS_*") from error
    return botocore.exceptions, client


def _status(error: Any) -> tuple[int, str]:
    said = error.response
    return (
        int(said.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)),
        str(said.get("Error", {}).get("Code", "")),
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
