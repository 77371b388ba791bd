"""A daemon beside real servers, under a crowd: killed, its logs rotated, everything restarted.

Enters: nothing. Leaves: nothing. Each record of pgAudit's is in the store once, nobody is named wrongly.
`make prove` kills it 300 times.
"""

import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.attribute_logs import attribute_files
from tests.bustle import play
from tests.commandline import rows, scalple
from tests.daemons import DaemonProcess
from tests.stack import Stack

pytestmark = pytest.mark.stack

KILLS = int(os.environ.get("DAEMON_KILLS", "2"))


def configuration(stack: Stack, events: list[Path], store: Path) -> str:
    """What an operator would write."""
    patterns = ", ".join(f'"{path}*"' for path in events)
    return (
        f'origin = "db1"\nstore = "{store}"\n[sources]\ntimezone = "UTC"\n'
        f'postgres = ["{stack.log_directory}/*.csv*"]\n'
        f'pgbouncer = ["{stack.pgbouncer_log}*"]\nidentity = [{patterns}]\n'
        '[pooler]\nkind = "pgbouncer"\nmode = "transaction"\n'
    )


def rotate(stack: Stack, turn: int) -> None:
    """As logrotate does it: both logs get another name, and their writers are told."""
    (log,) = stack.log_directory.glob("*.csv")
    log.rename(log.with_name(f"{log.name}.{turn}"))
    stack.rotate()
    stack.pgbouncer_log.rename(f"{stack.pgbouncer_log}.{turn}")
    dsn = stack.dsn_pooler(dbname="pgbouncer", user="postgres")
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("RELOAD")


def test_killed_under_load_it_has_every_record_once(tmp_path: Path) -> None:
    dice, store = random.Random(3), tmp_path / "store"
    kills = [0]

    @contextmanager
    def follow(stack: Stack, events: list[Path]) -> Iterator[Callable[[], None]]:
        for path in events:
            path.touch()
        with DaemonProcess(tmp_path, configuration(stack, events, store)) as daemon:
            due = [time.monotonic() + 1.0]

            def act() -> None:
                if time.monotonic() < due[0] or kills[0] >= KILLS:
                    return
                kills[0] += 1
                if kills[0] % 2:
                    rotate(stack, kills[0])
                daemon.kill()
                daemon.start()
                due[0] = time.monotonic() + dice.uniform(0.2, 1.5)

            yield act
            while kills[0] < KILLS:
                time.sleep(0.1)
                act()
            daemon.drain()
            assert daemon.stop() == 0

    statements = max(1500, 40 * KILLS)
    logs = play(tmp_path, "transaction", statements, announced=3, disturbed=False, follow=follow)
    csvs = sorted(logs.stack.log_directory.glob("*.csv*"), key=lambda path: path.stat().st_mtime_ns)
    whole = attribute_files(csvs, [], logs.events)
    expected = Counter(
        (row["session_id"], row["session_line_num"])
        for row in whole.dicts()
        if row["user_name"] is not None
    )
    found = rows(
        store,
        "SELECT session_id, session_line_num, query, session_user_id, attribution_grade FROM audit",
    )
    counted = Counter((row["session_id"], row["session_line_num"]) for row in found)
    assert max(counted.values()) == 1
    assert not counted.keys() - expected.keys()
    # Nothing is missing but what was logged when the servers were stopped, after the daemon.
    missing = expected.keys() - counted.keys()
    (last,) = rows(store, "SELECT max(log_time) AS t FROM audit")
    times = {(row["session_id"], row["session_line_num"]): row["log_time"] for row in whole.dicts()}
    assert [one for one in missing if times[one] < last["t"]] == []
    named: Counter[tuple[str, bool]] = Counter()
    for row in found:
        truth = re.search(r"/\* truth:(\S+) \*/", row["query"] or "")
        if truth and row["attribution_grade"] in ("proven", "confirmed"):
            named[row["attribution_grade"], row["session_user_id"] == truth[1]] += 1
    print(f"\n{kills[0]} kills, {len(found)} records, {dict(named)}", file=sys.__stdout__)
    assert named["proven", False] == named["confirmed", False] == 0
    assert named["confirmed", True] > 100
    assert scalple("verify", "--store", store).code == 0
