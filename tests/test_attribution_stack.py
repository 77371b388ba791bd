"""No wrong name: what the correlator says about statements on real servers, against their authors.

`proven` and `confirmed` must be right in every honest scene; where the pooler's log and the names
can't say who was served, the answer is a set that holds the author, or nobody.
"""

import contextlib
import itertools
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.rules import Actors, Pooler, Rules
from scalple.ingest.records import Lacks
from tests.attribute_logs import Attributed, attribute_files
from tests.auditcount import count_audit_records
from tests.conftest import Recorded
from tests.examples import examples
from tests.relay import Actor, EventFile, Relay
from tests.scenes import (
    Forwarder,
    Part,
    Player,
    Stage,
    announce_unix,
    has_ipv6,
    resetting,
    worker,
)
from tests.stack import Stack, StackOptions
from tests.workload import DIRECT, WorkloadOptions, run_workload

pytestmark = pytest.mark.stack

ROLES = Actors(roles={role: actor.name for role, actor in DIRECT.items() if actor.name})
RULES = Rules(actors=ROLES)
FORGED = "SESSION,1,1,READ,SELECT,TABLE,public.users,SELECT 1 /* truth:nobody */,<none>"


def of(done: Attributed, scene: str) -> list[dict[str, object]]:
    """The rows of one scene's players."""
    return [row for row in done.dicts() if str(row["truth"]).startswith(f"{scene}_")]


def wrong_of(done: Attributed, scene: str) -> list[dict[str, object]]:
    """Rows of a scene with a name that isn't their author's, or with an unannounced author's."""
    return [
        row
        for row in of(done, scene)
        if row["attribution_grade"] in ("proven", "confirmed")
        and row["session_user_id"] != row["truth"]
    ]


def grades(rows: list[dict[str, object]]) -> Counter[tuple[object, object]]:
    """How many rows of each grade and reason."""
    return Counter((row["attribution_grade"], row["attribution_reason"]) for row in rows)


def share_named(rows: list[dict[str, object]]) -> float:
    """Part of the rows that name somebody at the two top grades."""
    named = [row for row in rows if row["attribution_grade"] in ("proven", "confirmed")]
    return len(named) / len(rows)


def assert_named_but_for_the_unannounced(rows: list[dict[str, object]]) -> None:
    """All but the few that a nameless client may have run: how many those are, the machine's load decides."""
    unnamed = [row for row in rows if row["attribution_grade"] not in ("proven", "confirmed")]
    assert {row["attribution_reason"] for row in unnamed} <= {"unannounced-client"}, grades(rows)
    assert share_named(rows) >= 0.7, grades(rows)


# -- the recorded workload ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def attributed(recorded: Recorded) -> Attributed:
    """The shared recording, attributed in one batch."""
    return attribute_files(recorded.csvlogs, [recorded.pgbouncer_log], [recorded.identity], RULES)


def test_transaction_pooling_names_nobody_wrongly(
    attributed: Attributed, recorded: Recorded
) -> None:
    assert attributed.wrong() == []
    people = [row for row in attributed.dicts() if row["truth"] not in (None, "none")]
    assert share_named(people) >= 0.99
    direct = [row for row in people if row["user_name"] in ROLES.roles]
    assert direct
    assert {row["attribution_grade"] for row in direct} == {"proven"}
    unannounced = [row for row in attributed.dicts() if row["truth"] == "none"]
    assert unannounced
    assert all(row["session_user_id"] is None for row in unannounced)
    rejected = sum(b"AUDIT: " in reject.raw for reject in attributed.rejects)
    counted = count_audit_records(recorded.csvlogs)
    assert attributed.rows.num_rows + rejected + attributed.bad_payloads == counted


@pytest.mark.parametrize("block_bytes", [5_000, 40_000])
def test_attribution_does_not_depend_on_the_size_of_batches(
    attributed: Attributed, recorded: Recorded, block_bytes: int
) -> None:
    again = attribute_files(
        recorded.csvlogs,
        [recorded.pgbouncer_log],
        [recorded.identity],
        RULES,
        block_bytes=block_bytes,
    )
    assert again.gaps.equals(attributed.gaps)
    for whole, cut in zip(attributed.dicts(), again.dicts(), strict=True):
        if cut["attribution_reason"] == "parallel-worker" and cut["user_name"] is None:
            # At a batch's end, the leader's next record isn't at hand: nobody is named.
            assert cut["attribution_grade"] == "candidates"
        else:
            assert cut == whole


def test_attribution_does_not_depend_on_how_logs_are_filed(
    attributed: Attributed, recorded: Recorded, tmp_path: Path
) -> None:
    (whole,) = recorded.csvlogs
    server = _parts(whole, tmp_path / "server", RECORD)
    pooler = _parts(recorded.pgbouncer_log, tmp_path / "pooler", rb"\n(?=\d{4}-)")
    events = _parts(recorded.identity, tmp_path / "events", rb"\n")
    again = attribute_files(server[::-1], pooler[::-1], events[::-1], RULES)
    columns = [
        name
        for name in attributed.rows.column_names
        if name not in ("attribution_evidence", "source_offset")
    ]
    assert again.rows.select(columns).to_pylist() == attributed.rows.select(columns).to_pylist()


RECORD = rb'\n(?=\d{4}-\d\d-\d\d [\d:.]+ UTC,(?:,|"))'
"""The end of a csvlog record: what stands behind it begins one."""


def _parts(path: Path, into: Path, cut: bytes) -> list[Path]:
    """The file cut into three at line ends that `cut` finds."""
    data = path.read_bytes()
    ends = [found.end() for found in re.finditer(cut, data)]
    places = [0, ends[len(ends) // 3], ends[2 * len(ends) // 3], len(data)]
    into.mkdir()
    files = []
    for number, (begin, end) in enumerate(itertools.pairwise(places)):
        files.append(into / f"part{number}")
        files[-1].write_bytes(data[begin:end])
    return files


def _records(path: Path) -> list[bytes]:
    """The records of a csvlog, each with its line end."""
    data = path.read_bytes()
    places = [0, *(found.end() for found in re.finditer(RECORD, data)), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


def test_a_log_cut_in_its_middle_reports_the_hole(
    attributed: Attributed, recorded: Recorded, tmp_path: Path
) -> None:
    (whole,) = recorded.csvlogs
    records = _records(whole)
    third = len(records) // 3
    cut = tmp_path / "cut.csv"
    cut.write_bytes(b"".join(records[:third] + records[third + 40 :]))
    done = attribute_files([cut], [recorded.pgbouncer_log], [recorded.identity], RULES)
    assert done.wrong() == []
    assert done.gaps.num_rows > attributed.gaps.num_rows
    assert "hole-in-session" in done.gaps.column("reason").to_pylist()


def test_two_halves_of_records_that_read_as_one_are_not_the_second_ones(
    attributed: Attributed, recorded: Recorded, tmp_path: Path
) -> None:
    """A cut inside two records: the head tells the session, the tail another client's name."""
    (whole,) = recorded.csvlogs
    records = _records(whole)
    middle = "\n  FROM c\n"
    rows = [row for row in attributed.dicts() if middle in str(row["statement"])]
    head = next(row for row in rows if row["attribution_grade"] == "confirmed")
    behind = rows[rows.index(head) :]
    tail = next(r for r in behind if r["session_user_id"] not in (None, head["session_user_id"]))
    offsets = list(itertools.accumulate(map(len, records), initial=0))
    first, last = (offsets.index(int(str(row["source_offset"]))) for row in (head, tail))
    before, _, _ = records[first].partition(middle.encode())
    _, _, after = records[last].partition(middle.encode())
    cut = tmp_path / "cut.csv"
    spliced = before + middle.encode() + after
    cut.write_bytes(b"".join([*records[:first], spliced, *records[last + 1 :]]))
    done = attribute_files([cut], [recorded.pgbouncer_log], [recorded.identity], RULES)
    at = head["source_offset"]
    (row,) = (one for one in done.dicts() if one["source_offset"] == at)
    assert row["session_user_id"] in (None, head["session_user_id"])
    assert "drift" in row["findings"]  # type: ignore[operator]
    assert [one for one in done.wrong() if one["source_offset"] != at] == []


def test_a_log_that_begins_in_the_middle_names_nobody_wrongly(
    recorded: Recorded, tmp_path: Path
) -> None:
    (whole,) = recorded.csvlogs
    lines = whole.read_bytes().splitlines(keepends=True)
    cut = tmp_path / "late.csv"
    cut.write_bytes(b"".join(lines[len(lines) // 2 :]))
    done = attribute_files([cut], [recorded.pgbouncer_log], [recorded.identity], RULES)
    assert done.wrong() == []
    assert "session-begins-before-log" in done.gaps.column("reason").to_pylist()


def test_without_the_poolers_log_nobody_behind_it_is_named(recorded: Recorded) -> None:
    done = attribute_files(recorded.csvlogs, [], [recorded.identity], RULES)
    assert not [r for r in done.dicts() if r["attribution_grade"] in ("proven", "confirmed")]


# -- other pooling ------------------------------------------------------------------------------


def test_without_the_endpoint_in_names_there_are_only_candidates(tmp_path: Path) -> None:
    with Stack(StackOptions(application_name_add_host=False, users=200)) as stack:
        run_workload(stack, tmp_path / "identity.jsonl", WorkloadOptions(statements=300))
    done = attribute_files(
        stack.csvlog_paths(), [stack.pgbouncer_log], [tmp_path / "identity.jsonl"], RULES
    )
    pooled = [row for row in done.dicts() if row["truth"] and row["user_name"] == "app_user"]
    assert len(pooled) > 200
    assert not [r for r in pooled if r["attribution_grade"] in ("proven", "confirmed")]
    # But for transactions in which the application itself says who it is.
    claimed = [row for row in pooled if row["attribution_grade"] == "claimed"]
    assert {row["attribution_method"] for row in claimed} == {"variable"}
    assert done.wrong(["claimed"]) == []
    for row in pooled:
        if row["truth"] != "none" and row not in claimed:
            assert row["truth"] in row["attribution_candidates"]  # type: ignore[operator]
    direct = [row for row in done.dicts() if row["truth"] and row["user_name"] in ROLES.roles]
    assert {row["attribution_grade"] for row in direct} == {"proven"}
    assert done.wrong() == []


def test_session_pooling_names_nobody_wrongly(tmp_path: Path) -> None:
    with Stack(StackOptions(pool_mode="session", pool_size=20, users=200)) as stack:
        run_workload(stack, tmp_path / "identity.jsonl", WorkloadOptions(statements=300))
    rules = Rules(actors=ROLES, pooler=Pooler(mode="session"))
    done = attribute_files(
        stack.csvlog_paths(), [stack.pgbouncer_log], [tmp_path / "identity.jsonl"], rules
    )
    assert done.wrong() == []
    people = [row for row in done.dicts() if row["truth"] not in (None, "none")]
    assert share_named(people) >= 0.99
    resets = [row for row in done.dicts() if row["statement"] == "DISCARD ALL"]
    assert resets
    assert {row["attribution_method"] for row in resets} == {"reset-query"}


# -- scenes -------------------------------------------------------------------------------------


@dataclass
class Played:
    """Logs of all scenes, attributed, and what some of them have to remember."""

    done: Attributed
    csvlogs: list[Path]
    events: list[Path]
    ipv6: bool
    stack: Stack
    """Its logs last as long as it does."""


def _names_at_the_cut() -> list[Part]:
    lengths = (32, 38, 42, 44, 45, 46, 47, 50, 56, 63, 75)
    parts = [Part(f"edge_{n}", chr(97 + i) * n, worker(8)) for i, n in enumerate(lengths)]
    return parts


def _odd_names() -> list[Part]:
    names = {
        "quote": "o'quote",
        "backslash": "back\\slash ' and \\",
        "newline": "two\nlines; SET application_name='x';",
        "unicode": "Zoë – Büro",
        "longunicode": "日本語" * 8,
        "suffix": "copy - 127.0.0.1:50001",
        "empty": "",
    }
    return [Part(f"odd_{key}", name, worker(10)) for key, name in names.items()]


def _drift(stage: Stage) -> None:
    """Two forgers take the victim's label, one by SET and one by a function in a SELECT."""
    with contextlib.ExitStack() as stack:
        victim = stack.enter_context(stage.player("drift_victim", "crm"))
        setter = stack.enter_context(stage.player("drift_setter", "psql"))
        caller = stack.enter_context(stage.player("drift_caller", "psql"))
        ((label,),) = victim.run("SELECT current_setting('application_name')")
        for forger, sql in (
            (setter, f"SET application_name = '{label}'"),
            (caller, f"SELECT set_config('application_name', '{label}', false)"),
        ):
            forger.work(5)
            victim.work(3)
            forger.run("BEGIN")
            forger.run(sql)
            forger.run("SELECT count(*) FROM orders")
            forger.run("COMMIT")
            with ThreadPoolExecutor(2) as pool:
                for done in [pool.submit(one.work, 15) for one in (forger, victim)]:
                    done.result()


def _forge(stage: Stage) -> None:
    """A client has PostgreSQL log lines that look like pgAudit's and like the server's own."""
    with psycopg.connect(stage.stack.dsn_superuser()) as connection:
        connection.execute(
            "CREATE FUNCTION shout(line text) RETURNS int LANGUAGE plpgsql"
            " AS $$BEGIN RAISE LOG '%', line; RETURN 1; END$$"
        )
    with stage.player("forge_one", "psql") as one, stage.player("forge_two", "crm") as two:
        ((label,),) = two.run("SELECT current_setting('application_name')")
        for text in (
            f"AUDIT: {FORGED}",
            "disconnection: session time: 0:00:00.1 user=app_user database=app host=127.0.0.1",
            'connection authenticated: identity="CN=boss" method=cert (pg_hba.conf:1)',
        ):
            one.run(f"DO $$BEGIN RAISE LOG '%', $x${text}$x$; END$$")
            one.work(2)
        # With log_rows the forged line comes first: alone in its transaction, like a replay.
        replay = f"AUDIT: SESSION,9,1,MISC,SET,,,SET application_name='{label}';,<none>"
        one.run(f"SELECT shout($x${replay}$x$)")
        one.work(5)
        two.work(5)


def _churn(player: Player) -> None:
    player.work(2)


def _unix(stage: Stage, events: EventFile) -> None:
    """Clients of one process over the unix socket: alone, then two at a time."""
    port = stage.stack.pooler_port

    @contextlib.contextmanager
    def client(author: str, number: int) -> Iterator[Player]:
        endpoint = announce_unix(events, port, author, number)
        with stage.player(author, "ux", announced=False, unix=True) as player:
            yield player
        events.write("close", endpoint)

    with client("unix_alone", 1) as alone:
        alone.work(10)
    time.sleep(0.05)
    with client("unix_first", 2) as first, client("unix_second", 3) as second:
        for _ in range(8):
            first.work(1)
            second.work(1)
    with stage.player("unix_silent", "ux", announced=False, unix=True) as silent:
        silent.work(3)


_VICTIM = """
import psycopg, sys, time
connection = psycopg.connect(sys.argv[1], autocommit=True, prepare_threshold=None)
connection.execute("BEGIN /* truth:killed_one */")
for n in range(400):
    connection.execute("SELECT name FROM users WHERE id = 3 /* truth:killed_one */")
    print("alive", flush=True)
"""


def _killed(stage: Stage) -> None:
    """A client dies inside a transaction, while another works."""
    dsn = stage.stack.dsn_pooler(
        application_name="doomed", port=stage.relay.listen(Actor("killed_one"))
    )
    with (
        stage.player("killed_other", "crm") as other,
        subprocess.Popen([sys.executable, "-c", _VICTIM, dsn], stdout=subprocess.PIPE) as victim,
    ):
        assert victim.stdout is not None
        for _ in range(5):
            victim.stdout.readline()
        other.work(3)
        victim.send_signal(signal.SIGKILL)
        victim.stdout.close()
        other.work(10)


def _restarted(stage: Stage) -> None:
    """The pooler is stopped under its clients and started again."""
    with stage.player("restart_before", "crm") as player:
        player.work(5)
        stage.stack.stop_pooler()
        with pytest.raises(psycopg.OperationalError):
            player.work(50)
    stage.stack.start_pooler()
    stage.play([Part(f"restart_after{n}", "crm", worker(8)) for n in range(3)])


def _direct(stack: Stack, events: Path) -> None:
    """Announced and unannounced connections to PostgreSQL itself."""
    with Relay(stack.postgres_port, events, sidecar="direct-1") as relay:
        for author in ("direct_a", "direct_b"):
            port = relay.listen(Actor(author))
            dsn = stack.dsn_direct(user="app_user", application_name="psql", port=port)
            _work(dsn, author)
        _work(stack.dsn_direct(user="app_user", application_name="psql"), "direct_silent")
        _work(stack.dsn_direct(user="app_user", application_name="x", unix=True), "direct_local")
        _work(stack.dsn_direct(user="jmueller"), "direct_role")
        _work(stack.dsn_direct(user="jmueller", unix=True), "direct_localrole")


def _work(dsn: str, author: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for n in range(4):
            connection.execute(f"SELECT {n}, name FROM users /* truth:{author} */".encode())


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """All scenes on one stack of two server connections."""
    directory = tmp_path_factory.mktemp("scenes")
    ipv6 = has_ipv6()
    listen = ["listen_addr = 127.0.0.1, ::1"] if ipv6 else []
    names = ("relay", "other", "direct")
    relay_events, other_events, direct_events = (directory / f"{n}.jsonl" for n in names)
    options = StackOptions(pool_size=2, users=60, pgbouncer_conf=listen)
    with Stack(options) as stack, Relay(stack.pooler_port, relay_events) as relay:
        stage = Stage(stack, relay)
        stage.play(
            [
                Part("reset_all", "asyncpg", resetting("RESET ALL")),
                Part("reset_discard", "pooled", resetting("DISCARD ALL")),
                Part("reset_empty", "odd", resetting("SET application_name = ''")),
                Part("reset_name", "odd", resetting("RESET application_name")),
                Part(
                    "reset_function",
                    "odd",
                    resetting("SELECT set_config('application_name', '', false)"),
                ),
                *(Part(f"reset_honest{n}", f"crm{n}", worker(40)) for n in range(3)),
            ]
        )
        stage.play([Part(f"calm_{n}", "crm", worker(10)) for n in range(3)])
        stage.play(
            [
                *(Part(f"long_{n}", "L" * n, worker(10)) for n in (100, 110, 130, 200)),
                Part("long_a", "crm", worker(15)),
                Part("long_b", "crm", worker(15)),
            ]
        )
        stage.play(_names_at_the_cut())
        stage.play([Part(f"shared_{n}", "S" * 60, worker(15)) for n in range(3)])
        stage.play(_odd_names())
        _drift(stage)
        _forge(stage)
        stage.play(
            [
                Part("silent_one", "cron", worker(10), announced=False),
                Part("silent_two", "", worker(10), announced=False),
                Part("silent_a", "crm", worker(15)),
            ]
        )
        for n in range(12):
            stage.play(
                [
                    Part(f"churn_{n}", "crm", _churn),
                    Part(f"churn_silent{n}", "crm", _churn, announced=False),
                ]
            )
        other = EventFile(other_events, "other-1")
        other.write("start", {"heartbeat_s": 10})
        _unix(stage, other)
        if ipv6:
            with Forwarder(stack.pooler_port, other, "six_one") as forwarder:
                dsn = stack.dsn_pooler(application_name="v6", port=forwarder.port)
                _work(dsn, "six_one")
        other.write("stop", {})
        other.close()
        _killed(stage)
        _restarted(stage)
        _direct(stack, direct_events)
    events = [relay_events, other_events, direct_events]
    done = attribute_files(stack.csvlog_paths(), [stack.pgbouncer_log], events, RULES)
    return Played(done, stack.csvlog_paths(), events, ipv6, stack)


def test_all_records_of_all_scenes_are_there(played: Played) -> None:
    rows = played.done.rows.num_rows + played.done.bad_payloads
    assert rows == count_audit_records(played.csvlogs)
    assert played.done.rejects == []


def test_a_client_that_resets_its_name_passes_for_nobody_else(played: Played) -> None:
    assert wrong_of(played.done, "reset") == []
    for row in of(played.done, "reset"):
        if row["attribution_grade"] == "candidates":
            assert row["truth"] in row["attribution_candidates"]  # type: ignore[operator]
    calm = of(played.done, "calm")
    assert calm
    assert share_named(calm) == 1.0  # whoever reset has gone


def test_a_name_too_long_to_replay_passes_for_nobody_else(played: Played) -> None:
    assert wrong_of(played.done, "long") == []


def test_a_name_cut_by_the_server_still_names_its_client(played: Played) -> None:
    rows = of(played.done, "edge")
    assert wrong_of(played.done, "edge") == []
    # Exactly 63 bytes with the suffix: nobody can tell whether that is the whole name.
    exact = [row for row in rows if row["truth"] == "edge_45"]
    rest = [row for row in rows if row["truth"] != "edge_45"]
    assert share_named(exact) == 0.0
    assert share_named(rest) == 1.0, grades(rest)


def test_clients_whose_names_are_cut_to_one_form_are_not_mixed_up(played: Played) -> None:
    assert of(played.done, "shared")
    assert wrong_of(played.done, "shared") == []


def test_quotes_newlines_and_letters_in_names_hide_nobody(played: Played) -> None:
    rows = of(played.done, "odd")
    assert wrong_of(played.done, "odd") == []
    assert {row["truth"] for row in rows} == {part.author for part in _odd_names()}
    short = [row for row in rows if row["truth"] != "odd_longunicode"]
    assert_named_but_for_the_unannounced(short)


def test_whoever_takes_anothers_label_is_never_proven_to_be_them(played: Played) -> None:
    rows = of(played.done, "drift")
    assert not [row for row in rows if row["attribution_grade"] == "proven"]
    # Nor confirmed: both were seen changing their names inside their own runs.
    assert wrong_of(played.done, "drift") == []
    taken = [
        row
        for row in rows
        if row["truth"] != "drift_victim" and "drift" in (row["findings"] or ())  # type: ignore[operator]
    ]
    assert taken
    assert not [row for row in taken if row["session_user_id"] == "drift_victim"]


def test_a_forged_line_is_marked_and_names_nobody(played: Played) -> None:
    forged = [row for row in played.done.dicts() if row["findings"] == ["forged-line"]]
    assert [row["command"] for row in forged] == ["SELECT", "SET"]
    for row in forged:
        assert (row["attribution_grade"], row["session_user_id"]) == ("unattributed", None)
    assert wrong_of(played.done, "forge") == []
    # A message that a client raised neither ends a session nor says who opened it. (A row or two of
    # these ten may fall into the moment in which the second player's name isn't known yet.)
    assert share_named(of(played.done, "forge")) > 0.7
    assert played.done.sessions == []


def test_unannounced_clients_are_nobody_and_disturb_nobody(played: Played) -> None:
    rows = of(played.done, "silent")
    assert wrong_of(played.done, "silent") == []
    assert_named_but_for_the_unannounced([row for row in rows if row["truth"] == "silent_a"])
    churned = of(played.done, "churn")
    assert wrong_of(played.done, "churn") == []
    announced = [row for row in churned if "silent" not in str(row["truth"])]
    assert share_named(announced) > 0.8
    # (Whoever gets the port and the name of one who has left isn't told apart from the stale name.)


def test_clients_of_one_process_over_a_unix_socket_are_not_mixed_up(played: Played) -> None:
    assert wrong_of(played.done, "unix") == []
    alone = [row for row in of(played.done, "unix") if row["truth"] == "unix_alone"]
    assert share_named(alone) == 1.0, grades(alone)


def test_a_client_over_ipv6_is_named(played: Played) -> None:
    if not played.ipv6:
        pytest.skip("no ::1 here")
    rows = of(played.done, "six")
    assert wrong_of(played.done, "six") == []
    assert share_named(rows) == 1.0, grades(rows)


def test_a_killed_client_leaves_nothing_to_the_next(played: Played) -> None:
    rows = of(played.done, "killed")
    assert wrong_of(played.done, "killed") == []
    assert share_named(rows) >= 0.95, grades(rows)


def test_a_restarted_pooler_mixes_nobody_up(played: Played) -> None:
    rows = of(played.done, "restart")
    assert wrong_of(played.done, "restart") == []
    assert share_named(rows) == 1.0, grades(rows)


def test_direct_connections_are_proven_by_endpoint_or_role(played: Played) -> None:
    by_author: dict[object, set[tuple[object, object]]] = {}
    for row in of(played.done, "direct"):
        by_author.setdefault(row["truth"], set()).add(
            (row["attribution_grade"], row["session_user_id"])
        )
    assert by_author == {
        "direct_a": {("proven", "direct_a")},
        "direct_b": {("proven", "direct_b")},
        "direct_silent": {("unattributed", None)},
        "direct_local": {("unattributed", None)},
        "direct_role": {("proven", DIRECT["jmueller"].name)},
        "direct_localrole": {("proven", DIRECT["jmueller"].name)},
    }


def test_the_author_is_always_among_the_candidates(played: Played) -> None:
    rows = [row for row in played.done.dicts() if row["attribution_grade"] == "candidates"]
    rows = [row for row in rows if row["truth"] and "silent" not in str(row["truth"])]
    assert rows
    for row in rows:
        assert row["truth"] in row["attribution_candidates"]  # type: ignore[operator]


# -- logs that say less -------------------------------------------------------------------------

_DEFAULT = (
    Lacks.USER
    | Lacks.DATABASE
    | Lacks.ENDPOINT
    | Lacks.NAME
    | Lacks.TRANSACTION
    | Lacks.LINE
    | Lacks.SESSION
    | Lacks.STATE
)
SCENES = (
    *("reset", "long", "edge", "shared", "odd", "drift", "forge", "silent", "churn", "unix", "six"),
    *("killed", "restart"),
)
POORER = {
    "%m [%p] ": _DEFAULT,
    "%t [%p]: ": _DEFAULT | Lacks.FRACTION,
    "%m [%p] %q%u@%d ": _DEFAULT & ~(Lacks.USER | Lacks.DATABASE),
    "%m [%p] %q%u@%d %r %a ": Lacks.TRANSACTION | Lacks.LINE | Lacks.SESSION | Lacks.STATE,
    "without %a": Lacks.NAME,
    "without %v": Lacks.TRANSACTION,
    "without %l": Lacks.LINE,
    "without %c": Lacks.SESSION,
    "without %r": Lacks.ENDPOINT,
    "without %u, %d": Lacks.USER | Lacks.DATABASE,
    "%t instead of %m": Lacks.FRACTION,
}


@pytest.mark.parametrize("prefix", POORER)
def test_a_log_that_says_less_names_fewer_and_nobody_wrongly(
    played: Played, attributed: Attributed, recorded: Recorded, prefix: str
) -> None:
    lacking = POORER[prefix]
    done = attribute_files(
        played.csvlogs, [played.stack.pgbouncer_log], played.events, RULES, lacking=lacking
    )
    for scene in SCENES:
        assert wrong_of(done, scene) == [], scene
    # Whole seconds are longer than a scene: clients of the same second are not told apart.
    assert share_named(of(done, "edge")) > 0.8 or Lacks.FRACTION & lacking
    honest = attribute_files(
        recorded.csvlogs, [recorded.pgbouncer_log], [recorded.identity], RULES, lacking=lacking
    )
    assert honest.wrong() == []
    assert honest.rows.num_rows == attributed.rows.num_rows
    people = [row for row in honest.dicts() if row["truth"] not in (None, "none")]
    # Nothing is right behind a replay where %v is missing: a client that nobody announced
    # may have been any until its name has been replayed once.
    assert share_named(people) >= 0.3, grades(people)


@settings(max_examples=examples(6), deadline=None)
@given(lacking=st.lists(st.sampled_from(list(Lacks)), unique=True))
def test_whatever_fields_a_log_lacks_nobody_is_named_wrongly(
    recorded: Recorded, lacking: list[Lacks]
) -> None:
    without = Lacks(sum(lacking))
    done = attribute_files(
        recorded.csvlogs, [recorded.pgbouncer_log], [recorded.identity], RULES, lacking=without
    )
    assert done.wrong() == []
    cut = attribute_files(
        recorded.csvlogs,
        [recorded.pgbouncer_log],
        [recorded.identity],
        RULES,
        lacking=without,
        block_bytes=60_000,
    )
    named = ("session_user_id", "attribution_grade", "user_name", "connection_from")
    for whole, part in zip(done.dicts(), cut.dicts(), strict=True):
        if part["attribution_reason"] != "parallel-worker":
            assert [part[name] for name in named] == [whole[name] for name in named]
