"""The copy in S3 that a daemon keeps: whatever becomes of the server or the daemon, it ends as the store is.

A moto server stands behind a network that can be taken away, be slow, keep silent or refuse; the daemon is a
process that is killed.
"""

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scalple.cli.config import Config
from scalple.cli.daemonsection import DaemonSection
from scalple.cli.s3section import S3Section
from scalple.cli.shipping import Shipper, ShippingState
from scalple.store.bucket import Bucket
from scalple.store.bucketsettings import BucketSettings
from tests.commandline import scalple
from tests.daemons import DaemonProcess
from tests.s3server import serving
from tests.store.sample import make_store
from tests.test_daemon import Writer, configuration
from tests.troubledserver import TroubledServer

SHIPPING = """
mirror            = "s3://{name}/db1"
mirror_interval_s = 0.2
mirror_drain_s    = {drain_s}
compact_commits   = 3
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
    name = "b" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
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
        text = f'{configuration(directory)}\n[s3]\nendpoint = "{server.endpoint}"'
        super().__init__(directory, text, more=SHIPPING.format(name=name, drain_s=drain_s))

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
    settings = (
        f'[s3]\nendpoint = "{bucket.settings.endpoint}"\ncache_dir = "{store.parent}/cache"\n'
    )
    config.write_text(settings)
    said = scalple("verify", "--store", bucket.url, "--config", config)
    assert said.code == 0, said.err


def test_away_for_long(
    tmp_path: Path, writer: Writer, server: TroubledServer, bucket: Bucket
) -> None:
    moments = writer.moments(4)
    with shipping(tmp_path, server, bucket) as daemon:
        writer.write(moments[0])
        daemon.drain()
        daemon.wait_until(daemon.caught_up)
        server.down()
        writer.write(moments[1])
        daemon.drain()
        daemon.wait_until(lambda: daemon.metric("s3_failures_total") > 0)
        assert daemon.metric("ready") == 1  # nothing of it touches what the daemon is for
        assert (daemon.metric("s3_up"), daemon.waiting > 0) == (0, True)
        daemon.kill()
        daemon.start()
        writer.write(moments[2])
        daemon.drain()
        assert daemon.waiting == -1  # nobody knows before the bucket was asked
        server.up()
        daemon.wait_until(daemon.caught_up)
        assert daemon.metric("s3_up") == 1
        writer.write(moments[-1])
        daemon.wait_until(lambda: any((tmp_path / "store").glob("*/index/head")))
        daemon.drain()
        assert daemon.stop() == 0  # what is left is copied first
    same(tmp_path / "store", bucket)


def test_killed_while_a_slow_server_is_written_to(
    tmp_path: Path, writer: Writer, server: TroubledServer, bucket: Bucket
) -> None:
    server.delay_s = 0.02
    with shipping(tmp_path, server, bucket) as daemon:
        for turn, moment in enumerate(writer.moments(1)):
            writer.write(moment)
            asked = server.requests
            daemon.wait_until(lambda asked=asked, turn=turn: server.requests > asked + 9 + 7 * turn)  # type: ignore[misc]
            assert daemon.process is not None
            children = children_of(daemon.process.pid)
            assert children
            daemon.kill()
            daemon.wait_until(lambda children=children: not any(map(is_alive, children)))  # type: ignore[misc]
            daemon.start()
        daemon.drain()
        assert daemon.stop() == 0
    same(tmp_path / "store", bucket)


def children_of(pid: int) -> list[int]:
    """Processes that a process has started."""
    said = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(one) for one in said.stdout.split()]


def is_alive(pid: int) -> bool:
    """Whether it is there and no more than a name."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three commits, and little patience."""
    monkeypatch.setattr("scalple.cli.shipping.RETRY_S", (0.1, 0.5))
    return make_store(tmp_path / "store")


@contextmanager
def copying(
    store: Path, server: TroubledServer, bucket: Bucket, drain_s: float = 20
) -> Iterator[ShippingState]:
    """What a daemon leaves to other processes, without one."""
    config = Config(
        daemon=DaemonSection(mirror=bucket.url, mirror_interval_s=0.2, compact_commits=0),
        s3=S3Section(endpoint=server.endpoint),
    )
    state = ShippingState()
    shipper = Shipper(store, "db1", config, state)
    try:
        yield state
    finally:
        shipper.finish(drain_s)


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for something."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_refused_credentials_are_tried_again(
    store: Path, server: TroubledServer, bucket: Bucket, capfd: pytest.CaptureFixture[str]
) -> None:
    server.refuses = True
    with copying(store, server, bucket) as state:
        wait_until(lambda: state.failed > 1)
        assert "isn't allowed (InvalidAccessKeyId)" in str(state.failing)
        assert state.sizes == {}
        server.refuses = False
        wait_until(lambda: state.sizes == {"db1": 3})
        assert state.failing is None
        assert scalple("coverage", "--store", store).code == 0  # the first question that is asked
        wait_until(lambda: state.sizes == {"db1": 3, "_access": 1})
    same(store, bucket)
    said = capfd.readouterr().err
    assert "copied again" in said
    assert '"secret"' not in said
    assert [json.loads(line)["event"] for line in said.splitlines()]  # nothing but our own lines


def test_a_silent_server_delays_the_end_by_no_more_than_was_said(
    store: Path, server: TroubledServer, bucket: Bucket
) -> None:
    with copying(store, server, bucket, drain_s=0.3) as state:
        wait_until(lambda: state.sizes == {"db1": 3})
        server.is_silent = True
        asked = server.requests
        make_store(store, 2)
        wait_until(lambda: server.requests > asked)
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    server.down()
    server.is_silent = False
    server.up()
    with copying(store, server, bucket):
        pass  # the end alone is reason enough
    same(store, bucket)


def test_a_bucket_that_holds_another_log_is_never_written_to(
    store: Path, server: TroubledServer, bucket: Bucket
) -> None:
    bucket.create(".mirror", b"")
    bucket.create("db1/checkpoint", b"somebody's")
    with copying(store, server, bucket) as state:
        wait_until(lambda: state.failed > 1)
        assert "signature" in str(state.failing)
    assert not [name for name, _ in bucket.names() if name.endswith((".parquet", ".json"))]
    assert bucket.get("db1/checkpoint") == b"somebody's"


@pytest.mark.parametrize("mirror", ["gs://bucket/x", "s3://Bad_Name", "s3://bucket/../x"])
def test_a_place_that_can_be_none_is_refused_at_once(tmp_path: Path, mirror: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'store = "store"\n[sources]\npostgres = ["x"]\n[daemon]\nmirror = "{mirror}"\n'
    )
    said = scalple("daemon", "--config", config)
    assert (said.code, "daemon.mirror" in said.err) == (4, True)
    assert f"{config}:5" in said.err
