"""What a daemon beside real servers is told, and what must be in its store afterwards.

Enters: the logs of servers that have stopped, and a store. Leaves: nothing, or a failed assertion. Does
not: start anything.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psycopg

from tests.attribute_logs import attribute_files
from tests.commandline import rows
from tests.stack import Stack


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


def assert_each_once(csvs: Sequence[Path], events: list[Path], store: Path) -> int:
    """Each record of the server's logs is in the store once, but what was logged after the daemon's end;
    how many there are."""
    whole = attribute_files(csvs, [], events)
    times = {
        (row["session_id"], row["session_line_num"]): row["log_time"]
        for row in whole.dicts()
        if row["user_name"] is not None
    }
    found = rows(store, "SELECT session_id, session_line_num, log_time FROM audit")
    counted = Counter((row["session_id"], row["session_line_num"]) for row in found)
    assert max(counted.values()) == 1
    assert not counted.keys() - times.keys()
    last = max(row["log_time"] for row in found)
    assert [one for one in times.keys() - counted.keys() if times[one] < last] == []
    return len(found)


def assert_nobody_wrong(store: Path) -> dict[str, int]:
    """Nobody is named at the top grades who isn't the author; how many are named, by grade."""
    named: Counter[str] = Counter()
    wrong = []
    sql = "SELECT log_id, query, session_user_id, attribution_grade FROM audit WHERE query LIKE '%truth:%'"
    for row in rows(store, sql):
        truth = re.search(r"/\* truth:(\S+) \*/", row["query"])
        if truth and row["attribution_grade"] in ("proven", "confirmed"):
            named[row["attribution_grade"]] += 1
            if row["session_user_id"] != truth[1]:
                wrong.append(row)
    assert wrong == []
    assert named["confirmed"] > 100
    return dict(named)
