"""A daemon beside real servers, under a crowd: killed, its logs rotated, everything restarted.

Enters: nothing. Leaves: nothing. Each record of pgAudit's is in the store once, nobody is named wrongly.
`make prove` kills it 300 times.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bustle import play
from tests.commandline import scalple
from tests.daemons import DaemonProcess
from tests.followedstack import assert_each_once, assert_nobody_wrong, configuration, rotate
from tests.stack import Stack

pytestmark = pytest.mark.stack

KILLS = int(os.environ.get("DAEMON_KILLS", "2"))
RATE = 60.0
"""Statements a second: the crowd has to go on for as long as the daemon is killed."""


def test_killed_under_load_it_has_every_record_once(tmp_path: Path) -> None:
    dice, store = random.Random(3), tmp_path / "store"
    kills = [0]

    @contextmanager
    def follow(stack: Stack, events: list[Path]) -> Iterator[Callable[[], bool]]:
        for path in events:
            path.touch()
        with DaemonProcess(tmp_path, configuration(stack, events, store)) as daemon:
            due = [time.monotonic() + 1.0]

            def act() -> bool:
                if kills[0] < KILLS and time.monotonic() > due[0]:
                    kills[0] += 1
                    if kills[0] % 5 == 1:
                        rotate(stack, kills[0])
                    daemon.kill()
                    # Every third one may be killed while it starts or reads what it missed.
                    daemon.start(wait=kills[0] % 3 != 0)
                    due[0] = time.monotonic() + dice.uniform(0.2, 1.5)
                return kills[0] == KILLS

            yield act
            daemon.drain()
            assert daemon.stop() == 0

    logs = play(
        tmp_path,
        "transaction",
        600,
        announced=3,
        disturbed=False,
        follow=follow,
        rate=RATE,
        seconds=7200,
    )
    csvs = sorted(logs.stack.log_directory.glob("*.csv*"), key=lambda path: path.stat().st_mtime_ns)
    records = assert_each_once(csvs, logs.events, store)
    named = assert_nobody_wrong(store)
    print(f"\n{kills[0]} kills, {records} records, {named}", file=sys.__stdout__)
    assert scalple("verify", "--store", store).code == 0
