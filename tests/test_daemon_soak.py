"""A daemon beside real servers for a long time, while everything around it is rotated and restarted.

Enters: nothing. Leaves: nothing. Each record of pgAudit's is in the store once, nobody is named wrongly, the
bucket holds what the store holds, and memory stays. `make prove` lets it run for 35 minutes, since events are kept
for a quarter of an hour: only then does memory have to stay as it is. The suite lets it run for some seconds.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from scalple.correlate.remembering import FAR
from scalple.store.bucket import Bucket
from scalple.store.bucketsettings import BucketSettings
from tests.bustle import play
from tests.commandline import scalple
from tests.daemons import DaemonProcess
from tests.followedstack import assert_each_once, assert_nobody_wrong, configuration, rotate
from tests.s3server import serving
from tests.stack import Stack
from tests.test_daemon_shipping import same
from tests.troubledserver import TroubledServer

pytestmark = pytest.mark.stack

SECONDS = float(os.environ.get("SOAK_SECONDS", "12"))
ROTATE_S = 3.0
RATE = 80.0
"""Statements a second, all the time."""
GROWS_MB_MINUTE = 2.0
"""More than that, over the second half of a long run, is a leak."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server."""
    with serving() as url:
        yield url


def test_rotation_restarts_and_outages_lose_double_and_leak_nothing(
    tmp_path: Path, endpoint: str
) -> None:
    bucket = Bucket("s3://soak/db1", BucketSettings(endpoint=endpoint))
    bucket.client.create_bucket(Bucket="soak")
    with TroubledServer(endpoint) as server:
        live_through(tmp_path, server)
    same(tmp_path / "store", bucket)


def live_through(tmp_path: Path, server: TroubledServer) -> None:
    """Everything happens; what must hold of the store holds."""
    store = tmp_path / "store"
    memory: list[tuple[float, float]] = []
    restarts = [0]

    @contextmanager
    def follow(stack: Stack, events: list[Path]) -> Iterator[Callable[[], bool]]:
        for path in events:
            path.touch()
        text = f'{configuration(stack, events, store)}[s3]\nendpoint = "{server.endpoint}"\n'
        more = 'mirror = "s3://soak/db1"\nmirror_interval_s = 0.5\n'
        with DaemonProcess(tmp_path, text, more=more) as daemon:
            begin = time.monotonic()
            due = {"rotate": begin + ROTATE_S, "restart": begin + SECONDS / 3, "look": begin}
            turn = [0]

            def act() -> bool:
                now = time.monotonic()
                if now > due["look"]:
                    memory.append((now - begin, daemon.resident_mb()))
                    due["look"] = now + 1.0
                if now > due["rotate"]:
                    turn[0] += 1
                    rotate(stack, turn[0])
                    due["rotate"] = now + ROTATE_S
                away = SECONDS / 4 < now - begin < SECONDS / 2
                if away != server.is_down:
                    (server.down if away else server.up)()
                if now > due["restart"] and restarts[0] < 2:
                    restarts[0] += 1
                    stack.stop_postgres()
                    stack.start_postgres()
                    due["restart"] = now + SECONDS / 3
                return now - begin > SECONDS and restarts[0] == 2

            yield act
            daemon.drain()
            assert daemon.stop() == 0

    statements = int(0.9 * RATE * SECONDS)
    logs = play(
        tmp_path, "transaction", statements, announced=3, follow=follow, rate=RATE, seconds=7200
    )
    csvs = sorted(logs.stack.log_directory.glob("*.csv*"), key=lambda path: path.stat().st_mtime_ns)
    assert len(csvs) > 2
    records = assert_each_once(csvs, logs.events, store)
    named = assert_nobody_wrong(store)
    at, held = np.array(memory[len(memory) // 2 :]).T
    slope = float(np.polyfit(at, held, 1)[0]) * 60
    print(
        f"\n{SECONDS:.0f} s, {records} records, {len(csvs)} files, {restarts[0]} restarts of PostgreSQL, "
        f"{named}, memory {held.max():.0f} MB, {slope:+.2f} MB a minute over the second half",
        file=sys.__stdout__,
    )
    if FAR.total_seconds() < SECONDS / 2:
        assert slope < GROWS_MB_MINUTE
    assert scalple("verify", "--store", store).code == 0
