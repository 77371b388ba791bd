"""Pairing lines of `verbose=2`: read from every version's log, joined in sequence, never wrongly.

Lines are recordings of real PgBouncers; joins are shown on a real stack, and on a modelled server
connection whose truth is known.
"""

import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.pairing import (
    Chain,
    ServerConnection,
    SessionRecords,
    may_end_several,
    pair,
)
from scalple.correlate.rules import Pooler, Rules
from scalple.ingest import pgbouncer
from scalple.ingest.logtime import LogTimes
from tests.attribute_logs import Attributed, attribute_files
from tests.relay import Actor, Relay
from tests.simulation import Setting, World
from tests.stack import Stack, StackOptions
from tests.test_attribution_stack import RULES
from tests.workload import WorkloadOptions, run_workload

DATA = Path(__file__).parent / "data"
UTC = LogTimes("UTC", "pgbouncer")


def events(data: bytes) -> list[tuple[object, ...]]:
    """(event, client's port, server connection) of a log's pairing lines."""
    table = pgbouncer.parse_log(data, 0, "pgbouncer.log", UTC).table
    return [
        (row["event"], row["client_port"], row["detail"])
        for row in table.to_pylist()
        if row["event"] in ("link", "served", "replay", "pooler-query")
    ]


@pytest.mark.parametrize("version", ["1.12", "1.18"])
def test_before_1_21_the_line_before_tells_the_server_connection(version: str) -> None:
    found = events(next(DATA.glob(f"pgbouncer_{version}_verbose2*.log")).read_bytes())
    assert [one for one, _, _ in found][:4] == ["replay", "served", "replay", "served"]
    served = [(port, server) for one, port, server in found if one == "served"]
    assert len({port for port, _ in served}) == 2
    assert len({server for _, server in served}) == 1


@pytest.mark.parametrize("version", ["1.21", "1.25"])
def test_since_1_21_a_link_says_so_itself(version: str) -> None:
    found = events(next(DATA.glob(f"pgbouncer_{version}_verbose2*.log")).read_bytes())
    assert [one for one, _, _ in found][:3] == ["replay", "link", "served"]
    assert found[1][1:] == found[2][1:]


FRAME = b"2026-11-23 03:49:26.687 UTC [28846] "
CLIENT = b"C-0x55ad2356a730: appdb/alice@127.0.0.1:42698 "


@pytest.mark.parametrize(
    "line",
    [
        b"DEBUG " + CLIENT + b"got var: application_name=x@10.0.0.9:4000 transaction time: 5 us",
        b"NOISE C-0x55ad2356a730: appdb/x@10.0.0.9:4000 linking client to S-0x1f @127.0.0.1:42698 "
        + b"linking client to S-0x55ad23571e10",
        b"DEBUG C-0x55ad2356a730: appdb/x@10.0.0.9:4000 y@127.0.0.1:42698 transaction time: 7 us",
    ],
)
def test_a_clients_text_that_looks_like_a_pairing_pairs_nothing(line: bytes) -> None:
    block = pgbouncer.parse_log(FRAME + line + b"\n", 0, "pgbouncer.log", UTC)
    assert block.table.num_rows == 0
    assert [one.reason for one in block.rejects] == ["can be read in more than one way"]


def test_a_setting_that_holds_an_address_is_still_a_setting() -> None:
    line = (
        b"DEBUG S-0x55ad23571e10: appdb/app_user@127.0.0.1:55432 "
        b"varcache_apply: SET application_name='x@10.0.0.9:4000 P: checking: y';"
    )
    ((event, _, text),) = events(FRAME + line + b"\n")
    assert (event, text) == (
        "replay",
        "SET application_name='x@10.0.0.9:4000 P: checking: y';",
    )


def test_a_client_that_only_synchronises_has_made_no_transaction() -> None:
    ready = b"NOISE S-0x1e10: appdb/app_user@127.0.0.1:55432 read pkt='Z', len=6"
    over = b"DEBUG " + CLIENT + b"transaction time: 5 us"
    sends = b"NOISE " + CLIENT + b"read pkt='%s' len=5"
    lines = [ready, over, sends % b"S", ready, over, sends % b"Q", ready, over]
    assert [one for one, _, _ in events(b"".join(FRAME + x + b"\n" for x in lines))] == [
        "served",
        "served",
    ]


def test_what_may_end_several_transactions_is_seen() -> None:
    assert may_end_several("SELECT 1; COMMIT; SELECT 2")
    assert may_end_several("CALL archive() /* commits */")
    assert may_end_several(None)
    assert not may_end_several("COMMIT")
    assert not may_end_several("COMMIT;")
    assert not may_end_several("SELECT 1; SELECT 2")


# -- a modelled server connection ------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**32),
    st.booleans(),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.integers(1, 40),
)
def test_no_statement_is_joined_with_anothers_transaction(
    seed: int, links: bool, odd: float, size: int
) -> None:
    """Clients, several transactions to the millisecond, with transactions that log nothing, that end
    several at once, or that the server makes of its own accord; some say what the pooler says."""
    chance = random.Random(seed)
    now, number = 0, chance.randint(1, 9)
    since, until, is_client, applied = [], [], [], []
    rows: list[tuple[int, int, bool, bool, str, int]] = []
    name = ""
    for place in range(size):
        client = chance.randint(0, 2)
        replay = chance.random() < 0.4
        now += chance.choice([0, 0, 100, 100, 400, 3000])
        begun = now
        number += 1
        if chance.random() < odd / 4 and place:
            number += 1  # a transaction of the server's own, between two of the pooler's
        if replay:
            name = f"SET application_name='{client}';"
        mimics = not replay and chance.random() < 0.2
        text = name if replay else "SELECT 1"
        if mimics:
            text = f"SET application_name='{chance.randint(0, 2)}';"
        several = not replay and chance.random() < odd
        for _ in range(chance.randint(0, 3)):
            now += chance.choice([0, 50, 300])
            rows.append((number, now, replay or mimics, several, text, place))
            if replay:
                break
            number += several
        now += chance.choice([0, 50, 300])
        since.append(begun // 1000 * 1000)
        until.append(now // 1000 * 1000)
        is_client.append(not replay)
        applied.append(text if replay else None)
    every = np.arange(len(since))
    server = ServerConnection(
        np.array(since),
        np.array(until),
        np.array(is_client, bool),
        every,
        every,
        np.array(until),
        np.zeros(len(every), np.int64),
        applied,
        np.array(since),
        np.array(until),
        0,
        links,
    )
    cut = chance.randint(0, len(rows))
    found: list[int] = []
    whole = pair(server, _records(rows), Chain()).tolist()
    chain = Chain()
    for part in (rows[:cut], rows[cut:]):
        if part:
            found += pair(server, _records(part), chain).tolist()
    assert found == whole
    if not odd:
        # The server made nothing of its own: numbers never deceive.
        wrong = [
            (got, row[5]) for got, row in zip(whole, rows, strict=True) if got not in (-1, row[5])
        ]
        assert not wrong


def _records(rows: list[tuple[int, int, bool, bool, str, int]]) -> SessionRecords:
    time = np.array([row[1] // 1000 * 1000 for row in rows], np.int64)
    return SessionRecords(
        np.array([row[0] for row in rows], np.int64),
        time,
        time,
        np.array([row[2] for row in rows], bool),
        np.array([row[3] for row in rows], bool),
        [row[4] for row in rows],
        0,
    )


# -- a real stack ----------------------------------------------------------------------------------


def play(tmp_path: Path, mode: str, add_host: bool, statements: int) -> tuple[Attributed, Path]:
    """A workload behind a real PgBouncer that logs all; the logs, copied."""
    options = StackOptions(
        pool_mode=mode,  # type: ignore[arg-type]
        application_name_add_host=add_host,
        users=200,
        pgbouncer_conf=("verbose = 2",),
        pool_size=20 if mode == "session" else 3,
    )
    with Stack(options) as stack:
        run_workload(stack, tmp_path / "identity.jsonl", WorkloadOptions(statements=statements))
    shutil.copy(stack.pgbouncer_log, tmp_path / "pgbouncer.log")
    for path in stack.csvlog_paths():
        shutil.copy(path, tmp_path)
    return again(tmp_path, mode), tmp_path


def again(logs: Path, mode: str, block_bytes: int | None = None) -> Attributed:
    """The same logs, in blocks of another size."""
    return attribute_files(
        sorted(logs.glob("*.csv")),
        [logs / "pgbouncer.log"],
        [logs / "identity.jsonl"],
        Rules(actors=RULES.actors, pooler=Pooler(mode=mode)),
        block_bytes=block_bytes,
    )


@pytest.mark.parametrize(("mode", "add_host"), [("transaction", False), ("session", False)])
def test_links_pair_nearly_every_statement_where_names_tell_nothing(
    tmp_path: Path, mode: str, add_host: bool
) -> None:
    done, logs = play(tmp_path, mode, add_host, 800)
    rows = [
        row for row in done.dicts() if row["user_name"] == "app_user" and row["truth"] is not None
    ]
    assert len(rows) > 600
    assert done.wrong(["proven", "confirmed", "claimed"]) == []
    methods = Counter(row["attribution_method"] for row in rows)
    # After a DO block the numbers tell nothing until a time fixes them anew.
    assert methods["link"] > 0.85 * len(rows), methods
    grades = {row["attribution_grade"] for row in rows if row["attribution_method"] == "link"}
    # Nothing but the pooler's log says so: a part of it may be missing unseen.
    assert grades == {"confirmed", "unattributed"}
    for size in (3000, 40_000):
        pieces = again(logs, mode, size).dicts()
        assert [row for row, one in zip(pieces, done.dicts(), strict=True) if row != one] == []


def test_a_name_that_the_poolers_own_log_contradicts_names_nobody(tmp_path: Path) -> None:
    cast = ("relay", "burglar", "silent")
    wrong: dict[bool, int] = {}
    for verbose in (False, True):
        setting = Setting(cast=cast, verbose=verbose, version="1.25", statements=1500)
        files = World(setting, 3).play().write(tmp_path)
        done = attribute_files([files[0]], [files[1]], [files[2]])
        wrong[verbose] = len(done.wrong(["proven", "confirmed"]))
        against = [row for row in done.dicts() if row["attribution_reason"] == "identity-conflict"]
        assert {row["session_user_id"] for row in against} <= {None}
        assert bool(against) is verbose
    # Without the links a stolen name is believed.
    assert wrong[False] > 0
    assert wrong[True] == 0


def test_where_names_and_links_say_the_same_nothing_is_a_conflict(tmp_path: Path) -> None:
    done, _ = play(tmp_path, "transaction", True, 300)
    rows = [row for row in done.dicts() if row["attribution_method"] == "link"]
    assert len(rows) > 200
    assert not [row for row in done.dicts() if row["attribution_reason"] == "identity-conflict"]


def test_a_client_that_says_what_the_pooler_says_shifts_no_link(tmp_path: Path) -> None:
    """`SET application_name='…';` with the name that the next client bears, between two of theirs: the same
    text as the pooler's own, in the same millisecond."""
    options = StackOptions(
        application_name_add_host=False, pool_size=1, users=20, pgbouncer_conf=("verbose = 2",)
    )
    with Stack(options) as stack, Relay(stack.pooler_port, tmp_path / "identity.jsonl") as relay:
        ports = {name: relay.listen(Actor(name)) for name in ("emp_1", "mallory_2")}

        def come(name: str, calls_itself: str) -> psycopg.Connection[tuple[object, ...]]:
            dsn = stack.dsn_pooler(port=ports[name], application_name=calls_itself)
            return psycopg.connect(dsn, autocommit=True, prepare_threshold=None)

        def say(client: psycopg.Connection[tuple[object, ...]], name: str) -> None:
            client.execute(f"SELECT name FROM users WHERE id = 3 /* truth:{name} */".encode())

        with come("emp_1", "jj") as victim:
            for _ in range(40):
                with come("mallory_2", "ww") as liar:
                    say(victim, "emp_1")
                    say(liar, "mallory_2")
                    say(victim, "emp_1")
                    liar.execute("SET application_name='jj';")
                    say(liar, "mallory_2")
                    say(victim, "emp_1")
    shutil.copy(stack.pgbouncer_log, tmp_path)
    for path in stack.csvlog_paths():
        shutil.copy(path, tmp_path)
    done = again(tmp_path, "transaction")
    rows = [row for row in done.dicts() if row["truth"] is not None]
    assert len(rows) == 200
    assert done.wrong(["proven", "confirmed", "claimed"]) == []
    assert sum(row["attribution_method"] == "link" for row in rows) > 100
