"""What isn't known is said: holes with their session and count, and changes of what is logged."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from scalple.cli.batch import RowNumbers, constant
from scalple.cli.following import Round
from scalple.cli.gaprows import gap_rows
from scalple.correlate.record import GAPS
from scalple.ingest.sourcegap import SourceGap
from tests.commandline import SAMPLE, rows, scalple
from tests.simulation import EPOCH, Setting, World
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
    found = rows(
        store, "SELECT reason, detail FROM gaps WHERE reason = 'auditing-changed' ORDER BY seq"
    )
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


def test_a_session_without_its_end_is_a_gap_once_it_must_be_over(tmp_path: Path) -> None:
    world = World(Setting(statements=120, backends=3, faults=("pooler-restarts",)), 2).play()
    server, pooler, events = world.write(tmp_path)
    lines = server.read_text().splitlines(keepends=True)
    ends = [at for at, line in enumerate(lines) if "disconnection: " in line]
    first, last = ends[0], ends[-1]
    lost = lines[last].split(",")[5]
    restart = (
        "2026-03-14 13:00:00.000 UTC,,,1,,69b00000.1,9,,2026-03-14 10:00:00 UTC,,0,LOG,00000,"
        '"database system is ready to accept connections",,,,,,,,,"","postmaster",,0\n'
    )
    assert first < last
    server.write_text("".join([*lines[:last], *lines[last + 1 :], restart, restart]))
    store = tmp_path / "store"
    arguments = ("--postgres-log", server, "--pgbouncer-log", pooler, "--identity-events", events)
    assert scalple("reprocess", "--store", store, *arguments).code == 0
    found = rows(store, "SELECT session_id FROM gaps WHERE reason = 'session-ends-unseen'")
    assert lost in [row["session_id"] for row in found]
    # Each once, and only those that didn't end.
    assert len(found) == len({row["session_id"] for row in found})
    ended = {lines[at].split(",")[5] for at in ends[:-1]}
    assert not ended & {str(row["session_id"]) for row in found}


def test_a_pooler_s_log_that_lacks_hours_is_a_gap_and_names_nobody_by_what_it_said_before(
    tmp_path: Path,
) -> None:
    def stamp(minute: int) -> str:
        return f"2026-03-14 {11 + minute // 60}:{minute % 60:02}:00.000 UTC [900] LOG"

    stats = "stats: 1 xacts/s, 1 queries/s, in 1 B/s, out 1 B/s, xact 1 us, query 1 us, wait 1 us"
    client = "C-0xc000: app/app_user@127.0.0.1:40001"
    server = "S-0xa000: app/app_user@127.0.0.1:5432"
    lines = [
        f"{stamp(0)} process up: PgBouncer 1.18.0, libevent 2.1.12",
        f"{stamp(0)} {server} new connection to server (from 127.0.0.1:30001)",
        f"{stamp(1)} {client} login attempt: db=app user=app_user tls=no",
        *(f"{stamp(minute)} {stats}" for minute in range(1, 180)),
    ]
    opened = {
        "v": 1,
        "event": "open",
        "ts": "2026-03-14T11:00:59.9Z",
        "sidecar": "side",
        "seq": 0,
        "connection": "c1",
        "client_addr": "127.0.0.1",
        "client_port": 40001,
        "actor": "alice",
        "authn": "asserted",
    }
    beats = [
        opened
        | {"event": "heartbeat", "seq": n, "ts": f"2026-03-14T{11 + n // 60}:{n % 60:02}:30Z"}
        for n in range(1, 175)
    ]
    start = opened | {
        "event": "start",
        "seq": -1,
        "ts": "2026-03-14T11:00:00Z",
        "heartbeat_s": 3600,
    }
    # `seq` counts from 1.
    events = [one | {"seq": int(str(one["seq"])) + 2} for one in (start, opened, *beats)]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
    world = World(Setting(), 1)
    (tmp_path / "postgresql.csv").write_text(_pooled_statements(world))
    said = {}
    for name, kept in (("whole", lines), ("holed", [*lines[:33], *lines[123:]])):
        log = tmp_path / f"{name}.log"
        log.write_text("\n".join(kept) + "\n")
        store = tmp_path / name
        done = scalple(
            *("reprocess", "--store", store, "--postgres-log", tmp_path / "postgresql.csv"),
            *("--pgbouncer-log", log, "--identity-events", tmp_path / "events.jsonl"),
        )
        assert done.code == 0, done.err
        said[name] = rows(
            store, "SELECT session_user_id AS who FROM audit WHERE class = 'READ' ORDER BY seq"
        )
        gaps = rows(store, "SELECT reason, detail, since, log_time FROM gaps")
        assert gaps == (
            []
            if name == "whole"
            else [
                {
                    "reason": "pooler-log-silent",
                    "detail": "900",
                    "since": EPOCH.replace(minute=30),
                    "log_time": EPOCH.replace(hour=13, minute=1),
                }
            ]
        )
        # It is one of every period that it touches.
        inside = scalple(
            *("coverage", "--store", store, "--format", "json"),
            *("--since", "2026-03-14T12:00:00Z", "--until", "2026-03-14T12:01:00Z"),
        ).json()["gaps"]
        assert inside == ({} if name == "whole" else {"pooler-log-silent": 1})
    assert said["whole"] == [{"who": "alice"}, {"who": "alice"}]
    assert said["holed"] == [{"who": "alice"}, {"who": None}]


def _pooled_statements(world: World) -> str:
    """Two statements of one client, before and after the hole."""
    one = world.connect()
    one.pointer, one.port, one.line = "0xa000", 30001, 0
    world.postgres.clear()
    world.record(one, "connection received: host=127.0.0.1 port=30001", transaction=False, role=",")
    world.record(one, "connection authorized: user=app_user database=app", tag="auth")
    for minute in (10, 170):
        world.now = minute * 60_000_000
        one.transaction += 1
        one.name = "crm - 127.0.0.1:40001"
        world.audit(one, "SET", f"SET application_name='{one.name}';")
        one.transaction += 1
        world.audit(one, "SELECT", "SELECT 1")
    return "\n".join(world.postgres) + "\n"


@pytest.mark.parametrize("lack", ["all", "end", "beginning"])
def test_a_pooler_s_log_that_is_missing_is_a_gap(tmp_path: Path, lack: str) -> None:
    server, pooler, events = World(Setting(statements=300), 5).play().write(tmp_path)
    lines = pooler.read_text().splitlines(keepends=True)
    half = len(lines) // 2
    pooler.write_text("".join(lines[:half] if lack == "end" else lines[half:]))
    # It goes on for hours.
    late = server.read_text().replace("2026-03-14 11:", "2026-03-14 15:").replace(",69b", ",69c")
    server.write_text(server.read_text() + late)
    store = tmp_path / "store"
    arguments: list[str | Path] = ["--postgres-log", server, "--identity-events", events]
    if lack != "all":
        arguments += ["--pgbouncer-log", pooler]
    assert scalple("reprocess", "--store", store, *arguments).code == 0
    found = rows(store, "SELECT since, log_time FROM gaps WHERE reason = 'pooler-log-missing'")
    assert found
    assert max(row["log_time"] for row in found) > EPOCH.replace(hour=15)
    unnamed = rows(
        store,
        "SELECT DISTINCT attribution_grade AS g FROM audit WHERE log_time > '2026-03-14 14:00:00Z'",
    )
    assert {row["g"] for row in unnamed} <= {"unattributed", "pooler"}


@pytest.mark.parametrize("word", ["stop", None])
def test_a_sidecar_that_was_stopped_isn_t_silent(tmp_path: Path, word: str | None) -> None:
    head = {"v": 1, "sidecar": "side"}
    said: list[tuple[str, str]] = [("start", "11:00:00"), ("heartbeat", "11:00:10")]
    said += [(word, "11:00:11")] if word else []
    said += [("start", "14:00:00"), ("heartbeat", "14:00:10"), ("heartbeat", "15:00:00")]
    said += [("stop", "15:00:01")]
    events = [
        head | {"event": event, "seq": n, "ts": f"2026-03-14T{time}Z"}
        for n, (event, time) in enumerate(said, start=1)
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in events))
    store = tmp_path / "store"
    assert scalple("reprocess", "--store", store, "--identity-events", path).code == 0
    found = rows(store, "SELECT since FROM gaps WHERE reason = 'identity-events-silent'")
    assert found == [{"since": EPOCH.replace(hour=14, second=10)}]


@pytest.mark.parametrize("files_first", [True, False])
def test_gaps_of_files_and_of_sessions_go_into_one_commit(files_first: bool) -> None:
    """Those that a log shows bear its name in a dictionary."""
    numbers = RowNumbers("db1", {"gaps": 7})
    lost = SourceGap("source-missing", Path("a.csv"), 0, 0, None, "gone", None)
    shown = gap_rows([lost]).set_column(
        GAPS.names.index("source_file") - 2, "source_file", constant("b.csv", 1)
    )
    round_ = Round()
    for table in (gap_rows([lost]), shown) if files_first else (shown, gap_rows([lost])):
        round_.rows({"gaps": numbers.give("gaps", table, GAPS)})
    whole = pa.concat_tables(round_.tables["gaps"])
    assert whole.column("seq").to_pylist() == [7, 8]
    assert sorted(whole.column("source_file").to_pylist()) == ["a.csv", "b.csv"]
