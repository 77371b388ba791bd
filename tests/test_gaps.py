"""What isn't known is said: holes with their session and count, and changes of what is logged."""

from pathlib import Path

import pytest

from tests.commandline import SAMPLE, rows, scalple
from tests.simulation import Setting, World
from tests.test_claims import A, Log


@pytest.mark.parametrize("seed", range(4))
def test_a_log_with_its_middle_cut_out_reports_the_hole(tmp_path: Path, seed: int) -> None:
    world = World(Setting(statements=60, backends=2), seed).play()
    server, pooler, events = world.write(tmp_path)
    lines = server.read_text().splitlines(keepends=True)
    begin, end = len(lines) // 3, len(lines) // 3 + 20
    server.write_text("".join(lines[:begin] + lines[end:]))
    missing: dict[str, int] = {}
    for line in lines[begin:end]:
        missing[line.split(",")[5]] = missing.get(line.split(",")[5], 0) + 1
    later = {line.split(",")[5] for line in lines[end:]}
    store = tmp_path / "store"
    arguments = ("--postgres-log", server, "--pgbouncer-log", pooler, "--identity-events", events)
    assert scalple("reprocess", "--store", store, *arguments).code == 0
    found = rows(store, "SELECT session_id, reason, missing FROM gaps")
    earlier = {line.split(",")[5] for line in lines[:begin]}
    told = {
        row["session_id"]: row["missing"] for row in found if row["reason"] == "hole-in-session"
    }
    assert told == {one: n for one, n in missing.items() if one in later and one in earlier}
    begun = {row["session_id"] for row in found if row["reason"] == "session-begins-before-log"}
    assert begun == {one for one in missing if one in later and one not in earlier}


def test_a_change_of_what_is_logged_is_a_gap(tmp_path: Path) -> None:
    log = Log()
    log.says(A, 1, "SELECT 'pgaudit.log'")
    log.says(A, 2, "SET pgaudit.log = 'none'", "SET")
    log.says(A, 3, "ALTER ROLE x SET pgaudit.log_catalog = 'off'", "ALTER ROLE")
    log._record(A, 0, 'parameter "log_min_messages" changed to "fatal"')
    log._record(A, 0, 'parameter "work_mem" changed to "64MB"')
    path = log.write(tmp_path / "postgresql.csv")
    store = tmp_path / "store"
    assert scalple("reprocess", "--store", store, "--postgres-log", path).code == 0
    found = rows(store, "SELECT reason, detail FROM gaps ORDER BY seq")
    assert found == [
        {"reason": "auditing-changed", "detail": name}
        for name in ("pgaudit.log", "pgaudit.log_catalog", "log_min_messages")
    ]


def test_a_whole_log_has_no_gaps(tmp_path: Path) -> None:
    store = tmp_path / "store"
    said = scalple(
        *("reprocess", "--store", store, "--config", SAMPLE / "config.toml", "--origin", "sample")
    )
    assert said.code == 0, said.err
    assert rows(store, "SELECT count(*) AS n FROM gaps") == [{"n": 0}]
