"""The stack itself: real servers start, log, and are gone afterwards."""

import json
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.auditcount import audit_fields, audit_records, count_audit_records, csvlog_records
from tests.cluster import StackError
from tests.conftest import Recorded
from tests.stack import Stack, StackOptions
from tests.workload import WorkloadOptions, customers_of, plan

_ENDPOINT = re.compile(r" - 127\.0\.0\.1:(\d+)$")


def alive(pid: int) -> bool:
    """Whether a process with this id runs."""
    return Path(f"/proc/{pid}").exists()


def lines_of(path: Path) -> list[str]:
    """The lines of a JSON Lines file."""
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")


def await_logged(stack: Stack, text: str) -> None:
    """Waits until the server's log has this text: what a pooler does by itself has no answer to wait for."""
    deadline = time.monotonic() + 30
    while not any(text in path.read_text(encoding="utf-8") for path in stack.csvlog_paths()):
        assert time.monotonic() < deadline, f"{text} was not logged within 30 s"
        time.sleep(0.02)


@pytest.mark.stack
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_statement_through_the_pooler_is_audited(mode: str) -> None:
    options = StackOptions(pool_mode="session" if mode == "session" else "transaction", users=50)
    with Stack(options) as stack:
        pids = stack.pids()
        dsn = stack.dsn_pooler(application_name="billing")
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
            connection.execute("SELECT id FROM users WHERE id = %s", [42])
        if mode == "session":  # the pooler wipes once it has noticed that its client left
            await_logged(stack, "DISCARD ALL")
    assert sorted(pids) == ["pgbouncer", "postgres"]
    assert not any(map(alive, pids.values()))
    records = list(audit_records(stack.csvlog_paths()))
    reads = [record for record in records if audit_fields(record)[3] == "READ"]
    assert len(reads) == 1
    assert audit_fields(reads[0])[3:] == [
        *("READ", "SELECT", "TABLE", "public.users"),
        *("SELECT id FROM users WHERE id = $1", "42", "1"),
    ]
    assert _ENDPOINT.search(reads[0][22])
    # A session-pooled backend is wiped when its client leaves; a transaction-pooled one is not.
    assert ("DISCARD ALL" in {audit_fields(r)[4] for r in records}) == (mode == "session")
    assert "login attempt: db=app user=app_user" in stack.pgbouncer_log.read_text()


@pytest.mark.stack
def test_three_containers_hold_the_same_records() -> None:
    options = StackOptions(
        log_destination="stderr,csvlog,jsonlog", pgaudit={"log_rows": "off"}, pooler=False, users=10
    )
    with (
        Stack(options) as stack,
        psycopg.connect(stack.dsn_direct(unix=True), autocommit=True) as connection,
    ):
        connection.execute("SELECT 'two\nlines' FROM users")
        connection.execute("SELECT name FROM users WHERE id = %s", [1])
    (json_log,), (text_log,) = stack.jsonlog_paths(), stack.stderr_paths()
    messages = [json.loads(line).get("message", "") for line in lines_of(json_log)]
    assert count_audit_records(stack.csvlog_paths()) == 2
    assert sum(message.startswith("AUDIT: ") for message in messages) == 2
    assert text_log.read_text().count("LOG:  AUDIT: ") == 2
    assert all(len(audit_fields(r)) == 9 for r in audit_records(stack.csvlog_paths()))


@pytest.mark.stack
def test_an_exception_leaves_no_process() -> None:
    with pytest.raises(ZeroDivisionError), Stack(StackOptions(users=10)) as stack:
        pids = stack.pids()
        raise ZeroDivisionError
    assert len(pids) == 2
    assert not any(map(alive, pids.values()))


@pytest.mark.stack
def test_a_server_that_cannot_start_is_an_error() -> None:
    with pytest.raises(StackError, match="no_such_setting"):
        Stack(StackOptions(postgres_conf=["no_such_setting = 1"])).__enter__()


def test_the_servers_outlive_no_restart(stack: Stack) -> None:
    before = stack.pids()["pgbouncer"]
    stack.stop_pooler()
    stack.start_pooler()
    assert stack.pids()["pgbouncer"] != before
    assert stack.pgbouncer_log.read_text().count("process up:") >= 2


def test_rotation_keeps_one_file_under_a_constant_name(stack: Stack) -> None:
    stack.rotate()
    assert len(stack.csvlog_paths()) == 1


def test_the_servers_do_not_run_as_root(stack: Stack) -> None:
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in stack.pids().values()}
    assert 0 not in owners
    if os.geteuid() != 0:
        assert owners == {os.geteuid()}


def test_the_plan_is_determined_by_the_seed(stack: Stack) -> None:
    customers = customers_of(stack)
    options = WorkloadOptions(seed=3, statements=300)
    assert plan(options, customers) == plan(options, customers)
    assert plan(options, customers) != plan(WorkloadOptions(seed=4, statements=300), customers)


def actor_at(events: list[dict[str, Any]], port: int, moment: str) -> str:
    """Who had that port then, to the millisecond: one who leaves it in the very same one still has it, and
    another may get it later."""
    actor = "none"
    for event in events:
        if event.get("client_port") == port:
            said = event["ts"][:23]
            if event["event"] == "open" and said <= moment:
                actor = event["actor"]
            elif event["event"] == "close" and said < moment:
                actor = "none"
    return actor


def test_every_marked_record_carries_its_true_author(recorded: Recorded) -> None:
    """An attribution written only for this test: port of the label, events, times."""
    events = [json.loads(line) for line in lines_of(recorded.identity)]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert [events[0]["event"], events[-1]["event"]] == ["start", "stop"]
    seen: Counter[str] = Counter()
    for record in audit_records(recorded.csvlogs):
        mark = re.search(r"/\* truth:(\w+) \*/", audit_fields(record)[7])
        port = _ENDPOINT.search(record[22])
        if mark and port:
            assert actor_at(events, int(port[1]), record[0][:23].replace(" ", "T")) == mark[1]
            seen[mark[1]] += 1
    assert len(seen) == 11
    assert seen["none"] > 0


def test_truth_and_log_agree_on_what_failed(recorded: Recorded) -> None:
    told = Counter((t.text, t.outcome) for t in recorded.truth if t.outcome != "ok")
    logged = Counter((r[19], r[12]) for r in csvlog_records(recorded.csvlogs) if r[11] == "ERROR")
    assert told == logged
    assert {code for _, code in told} == {"42501", "42601", "42703", "22012", "23505"}


def test_every_statement_that_succeeded_is_in_the_log(recorded: Recorded) -> None:
    texts = {audit_fields(r)[7] for r in audit_records(recorded.csvlogs)}
    done = {t.text for t in recorded.truth if t.outcome == "ok"}
    # The ROLLBACK of a transaction that failed succeeds, and pgAudit does not see it.
    assert all(text.startswith("ROLLBACK") for text in done - texts)


def test_the_eu_question_returns_what_the_options_say(recorded: Recorded) -> None:
    text = "SELECT id, email, subscription_tier FROM users WHERE region = 'EU'"
    rows = [f for f in map(audit_fields, audit_records(recorded.csvlogs)) if f[7] == text]
    assert len(rows) == 1
    assert int(rows[0][9]) == recorded.stack.options.eu_users
