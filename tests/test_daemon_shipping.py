"""The copy in S3 that a daemon keeps: whatever becomes of the server or the daemon, it ends as the store is.

A moto server stands behind a network that can be taken away, be slow, keep silent or refuse; the daemon is a
process that is killed.
"""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalple.store.bucket import Bucket
from scalple.store.bucketsettings import BucketSettings
from tests.commandline import scalple
from tests.daemons import DaemonProcess
from tests.s3server import serving
from tests.test_daemon import Writer, configuration
from tests.troubledserver import TroubledServer

SHIPPING = """
mirror            = "s3://{name}/db1"
mirror_interval_s = 0.2
mirror_drain_s    = {drain_s}
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server."""
    with serving() as url:
        yield url


@pytest.fixture
def server(endpoint: str) -> Iterator[TroubledServer]:
    """The same, seen through a network."""
    with TroubledServer(endpoint) as network:
        yield network


@pytest.fixture
def bucket(endpoint: str, request: pytest.FixtureRequest) -> Bucket:
    """An empty one, seen directly."""
    name = request.node.name.replace("_", "-")[5:60].strip("-")
    made = Bucket(f"s3://{name}/db1", BucketSettings(endpoint=endpoint))
    made.client.create_bucket(Bucket=name)
    return made


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """Nothing is written yet."""
    (tmp_path / "logs").mkdir()
    return Writer(tmp_path / "logs")


class Shipping(DaemonProcess):
    """A daemon that copies its store."""

    def __init__(self, directory: Path, server: TroubledServer, name: str, drain_s: float) -> None:
        self.own = SHIPPING.format(name=name, drain_s=drain_s)
        super().__init__(directory, f'{configuration(directory)}\n[s3]\nendpoint = "{server.endpoint}"')

    def write(self, text: str) -> None:
        """With what it copies to."""
        super().write(text)
        self.config.write_text(self.config.read_text() + self.own)

    @property
    def waiting(self) -> float:
        """Commits that aren't in the bucket; -1 if that isn't known."""
        try:
            lines = self.page("metrics").splitlines()
        except OSError:
            return -1
        found = [line for line in lines if line.startswith("scalple_s3_queue_commits{")]
        return sum(float(line.split()[-1]) for line in found) if found else -1

    def caught_up(self) -> bool:
        """Everything that is committed is in the bucket."""
        return self.waiting == 0


def shipping(
    directory: Path, server: TroubledServer, bucket: Bucket, drain_s: float = 20
) -> Shipping:
    """A daemon that copies to the bucket."""
    return Shipping(directory, server, bucket.name, drain_s)


def same(store: Path, bucket: Bucket) -> None:
    """The bucket holds what the store holds, byte for byte, and verifies by itself."""
    here = {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and "index" not in path.parts
    }
    there = {name: bucket.get(name) for name, _ in bucket.names() if not name.startswith(".")}
    assert there == here
    config = store.parent / "verify.toml"
    settings = f'[s3]\nendpoint = "{bucket.settings.endpoint}"\ncache_dir = "{store.parent}/cache"\n'
    config.write_text(settings)
    said = scalple("verify", "--store", bucket.url, "--config", config)
    assert said.code == 0, said.err


def test_away_for_long(
    tmp_path: Path, writer: Writer, server: TroubledServer, bucket: Bucket
) -> None:
    moments = writer.moments(8)
    with shipping(tmp_path, server, bucket) as daemon:
        writer.write(moments[0])
        daemon.drain()
        daemon.wait_until(daemon.caught_up)
        server.down()
        for moment in moments[1:4]:
            writer.write(moment)
            daemon.drain()
        daemon.wait_until(lambda: daemon.metric("s3_failures_total") > 0)
        assert daemon.metric("ready") == 1  # nothing of it touches what the daemon is for
        assert (daemon.metric("s3_up"), daemon.waiting > 0) == (0, True)
        daemon.kill()
        daemon.start()
        writer.write(moments[4])
        daemon.drain()
        assert daemon.waiting == -1  # nobody knows before the bucket was asked
        server.up()
        daemon.wait_until(daemon.caught_up)
        assert daemon.metric("s3_up") == 1
        writer.write(moments[-1])
        daemon.drain()
        assert daemon.stop() == 0  # what is left is copied first
    same(tmp_path / "store", bucket)


def test_refused_credentials(
    tmp_path: Path, writer: Writer, server: TroubledServer, bucket: Bucket
) -> None:
    server.refuses = True
    first, last = writer.moments(2)
    with shipping(tmp_path, server, bucket) as daemon:
        writer.write(first)
        daemon.wait_until(lambda: daemon.metric("s3_failures_total") > 0)
        assert "isn't allowed (InvalidAccessKeyId)" in daemon.log.read_text()
        assert not any(daemon.log.read_text().count(secret) for secret in ('"secret"', "Traceback"))
        server.refuses = False
        writer.write(last)
        daemon.wait_until(lambda: daemon.metric("s3_up") == 1)
        daemon.drain()
        assert daemon.stop() == 0
    same(tmp_path / "store", bucket)


def test_killed_while_a_slow_server_is_written_to(
    tmp_path: Path, writer: Writer, server: TroubledServer, bucket: Bucket
) -> None:
    server.delay_s = 0.03
    with shipping(tmp_path, server, bucket) as daemon:
        for turn, moment in enumerate(writer.moments(5)):
            writer.write(moment)
            daemon.drain()
            asked = server.requests
            daemon.wait_until(lambda asked=asked, turn=turn: server.requests > asked + 7 * turn)  # type: ignore[misc]
            daemon.kill()
            no_child_is_left(tmp_path)
            daemon.start()
        server.delay_s = 0
        daemon.wait_until(daemon.caught_up)
        assert daemon.stop() == 0
    same(tmp_path / "store", bucket)


def no_child_is_left(directory: Path) -> None:
    """Who copied for a daemon that was killed ends by itself."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = subprocess.run(
            ["pgrep", "-f", "scalple.cli.shipper"], capture_output=True, text=True, check=False
        ).stdout.split()
        ours = [one for one in found if str(directory) in environment(int(one))]
        if not ours:
            return
        time.sleep(0.05)
    raise AssertionError("a process goes on copying")


def environment(pid: int) -> str:
    """Of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def test_a_silent_server_delays_the_end_by_no_more_than_was_said(
    tmp_path: Path, writer: Writer, server: TroubledServer, bucket: Bucket
) -> None:
    with shipping(tmp_path, server, bucket, drain_s=0.5) as daemon:
        daemon.wait_until(daemon.caught_up)
        server.is_silent = True
        writer.write(writer.moments(2)[0])
        daemon.drain()
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < 10
        server.down()
        server.is_silent = False
        server.up()
        daemon.start()
        daemon.wait_until(daemon.caught_up)
    same(tmp_path / "store", bucket)


def test_a_bucket_that_holds_another_log_is_never_written_to(
    tmp_path: Path, writer: Writer, server: TroubledServer, bucket: Bucket
) -> None:
    bucket.create("db1/checkpoint", b"somebody's")
    with shipping(tmp_path, server, bucket) as daemon:
        writer.write(writer.moments(2)[0])
        daemon.wait_until(lambda: daemon.metric("s3_failures_total") > 0)
        daemon.drain()
        assert "holds something that `mirror` hasn't made" in daemon.log.read_text()
        assert daemon.metric("ready") == 1
    assert [name for name, _ in bucket.names()] == ["db1/checkpoint"]


@pytest.mark.parametrize("mirror", ["gs://bucket/x", "s3://Bad_Name", "s3://bucket/../x"])
def test_a_place_that_can_be_none_is_refused_at_once(tmp_path: Path, mirror: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'store = "store"\n[sources]\npostgres = ["x"]\n[daemon]\nmirror = "{mirror}"\n')
    said = scalple("daemon", "--config", config)
    assert (said.code, "daemon.mirror" in said.err) == (4, True)
    assert f"{config}:5" in said.err
