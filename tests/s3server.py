"""An S3 server (moto in this process, or a real one), and faults between it and the client.

Enters: a plan of what happens to which request. Leaves: buckets, and what was asked of them. A fault
sits where the network is: a swallowed answer is one that the server has given, and nobody got.
"""

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import botocore.exceptions
import botocore.httpsession
import pytest
from botocore.awsrequest import AWSPreparedRequest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import ThreadedMotoServer

from scalple.store import chain, remotehead, source
from scalple.store.bucket import Bucket
from scalple.store.bucketsettings import BucketSettings
from scalple.store.cache import Cache
from scalple.store.probe import quick_probe
from scalple.store.remote import RemoteStore
from scalple.store.verified import VerifiedFiles
from tests.radosgw import radosgw

Fault = Callable[[int, AWSPreparedRequest], str | None]
"""From a request's number and the request to `lost` (never arrives), `swallowed` (carried out, the
answer is lost), `error` (carried out, and answered by 503), or None."""

_send = botocore.httpsession.URLLib3Session.send
SECRETS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def serving() -> Iterator[str]:
    """The endpoint of moto, or of the real server that S3_SERVER names (`make test-s3`)."""
    with mock.patch.dict(os.environ, SECRETS):
        if "S3_SERVER" not in os.environ:
            with _moto() as url:
                yield url
            return
        with radosgw(Path(os.environ["S3_SERVER"])) as server:
            os.environ["AWS_ACCESS_KEY_ID"] = server.access_key
            os.environ["AWS_SECRET_ACCESS_KEY"] = server.secret_key
            yield server.endpoint


@contextmanager
def _moto() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # It looks whether a key exists, and writes it then: on a busy machine two could create one.
    one_at_a_time = threading.Lock()
    answer = DomainDispatcherApplication.__call__

    def answered(self: DomainDispatcherApplication, *request: Any) -> Any:
        with one_at_a_time:
            return answer(self, *request)

    with mock.patch.object(DomainDispatcherApplication, "__call__", answered):
        yield from _running()


def _running() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """One server for all; every test has a bucket of its own."""
    with serving() as url:
        yield url


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a module that imports it: nobody waits long for other writers, and no store stays mounted."""
    for module in (remotehead, chain):
        monkeypatch.setattr(module, "SETTLE_SECONDS", 0.001)
        monkeypatch.setattr(module, "SETTLE_TRIES", 2)
    yield
    source.unmount()


@contextmanager
def faults(fault: Fault) -> Iterator[list[str]]:
    """Requests meet the fault; yields what was asked, as `METHOD key`."""
    asked: list[str] = []

    def send(session: Any, request: AWSPreparedRequest) -> Any:
        number = len(asked)
        key = re.sub(r"^https?://[^/]+/", "", str(request.url))
        asked.append(f"{request.method} {key}")
        what = fault(number, request)
        if what == "lost":
            raise botocore.exceptions.EndpointConnectionError(endpoint_url=request.url)
        answer = _send(session, request)
        if what:
            assert answer.content is not None  # all of it has come before it is lost
            answer.raw.close()
        if what == "swallowed":
            raise botocore.exceptions.ReadTimeoutError(endpoint_url=request.url)
        if what == "error":
            answer.status_code = 503
            answer._content = b"<Error><Code>SlowDown</Code></Error>"
        return answer

    with mock.patch.object(botocore.httpsession.URLLib3Session, "send", send):
        yield asked


def ignores_conditions(_: int, request: AWSPreparedRequest) -> None:
    """A server that accepts If-None-Match and takes no notice of it."""
    for name in ("If-None-Match", "If-Match"):
        if name in request.headers:
            del request.headers[name]


class Place:
    """A prefix of its own in a bucket of its own, and directories to see it through."""

    def __init__(self, endpoint: str, bucket: str, directory: Path, **more: Any) -> None:
        self.url = f"s3://{bucket}/store"
        self.directory = directory
        self.settings = BucketSettings(endpoint=endpoint, **more)
        self._seen = 0
        self.bucket = Bucket(self.url, self.settings, pauses=(0.0, 0.0))
        make = {"ObjectLockEnabledForBucket": True} if more.get("retain_days") else {}
        self.bucket.client.create_bucket(Bucket=bucket, **make)

    def version(self) -> None:
        """Keep versions from now on."""
        self.bucket.client.put_bucket_versioning(
            Bucket=self.bucket.name, VersioningConfiguration={"Status": "Enabled"}
        )
        self.require_conditions()

    def require_conditions(self) -> None:
        """Skip what can't be done where versioned buckets ignore conditions."""
        if not quick_probe(self.bucket).creates_once:
            pytest.skip("the server ignores If-None-Match in buckets with versions")

    def key(self, name: str) -> dict[str, str]:
        """Bucket and whole key, for the client."""
        return {"Bucket": self.bucket.name, "Key": f"store/{name}"}

    def see(self, name: str = "", *, bytes_max: int = 10**9, **more: Any) -> Path:
        """The store, as a machine of that name (by default a new one) sees it."""
        self._seen += 1
        cached = Cache(
            self.directory / (name or str(self._seen)), bytes_max, keeps=not more.get("whole")
        )
        remote = RemoteStore(
            self.bucket, cached, may_write=True, verified=VerifiedFiles(None), **more
        )
        source.mount(remote.directory, remote)
        remote.open()
        return remote.directory
