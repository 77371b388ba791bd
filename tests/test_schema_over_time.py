"""A statement is read with the schema of its time: dated files, and the DDL that the log shows."""

import datetime as dt
import os
import re
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.cli import schemafiles, schemarecord
from scalple.cli.config import load
from scalple.cli.schemafiles import SchemaText
from scalple.correlate import ddl, schemastate
from scalple.correlate.catalog import read_schema, without_literals
from scalple.correlate.rules import Rules
from scalple.correlate.schemawatch import SchemaWatch
from scalple.ingest.csvlog import parse_block
from scalple.ingest.logtime import LogTimes
from scalple.ingest.rejects import Block
from scalple.store.reader import StoreReader
from tests.commandline import SAMPLE, reprocess_sample, scalple
from tests.commandline import rows as asked
from tests.ddl_log import DdlLog, columns_of, read
from tests.ddl_series import Series
from tests.stack import Stack

A, B = "a", "b"
ALL = "SELECT * FROM users"
USERS = "CREATE TABLE public.users (id bigint PRIMARY KEY, email text, fax text);"
BASE = schemafiles.dated((SchemaText(USERS),))
RULES = Rules(
    identifiers={"customer_id": ("public.users.id",)}, personal_data={"public.users.email": "email"}
)


# -- DDL in the log ------------------------------------------------------------------------------


def test_columns_come_and_go_with_ddl() -> None:
    log = DdlLog()
    log.says(B, 1, ALL)
    for number, text in enumerate(("ADD phone text", "DROP fax", "RENAME email TO mail"), start=1):
        kind = "TABLE COLUMN" if "RENAME" in text else "TABLE"
        named = "public.users.mail" if "RENAME" in text else "public.users"
        log.says(A, number, f"ALTER TABLE users {text}", "ALTER TABLE", named, kind=kind)
        log.says(B, 1 + number, ALL)
    assert columns_of(read(log.block(), BASE), ALL) == [
        ["users.id", "users.email", "users.fax"],
        ["users.id", "users.email", "users.fax", "users.phone"],
        ["users.id", "users.email", "users.phone"],
        ["users.id", "users.mail", "users.phone"],
    ]


def test_nobody_else_sees_a_change_before_its_commit() -> None:
    log = DdlLog()
    log.says(A, 1, "BEGIN", "BEGIN")
    log.says(A, 1, "ALTER TABLE users DROP fax", "ALTER TABLE", "public.users")
    log.says(B, 1, ALL)
    log.says(A, 1, ALL)
    log.says(A, 1, "COMMIT", "COMMIT")
    log.says(B, 2, ALL)
    with_fax, without = ["users.id", "users.email", "users.fax"], ["users.id", "users.email"]
    assert columns_of(read(log.block(), BASE), ALL) == [with_fax, without, without]


@pytest.mark.parametrize("end", ["rollback", "error", "leaving", "savepoint"])
def test_what_was_taken_back_changes_nothing(end: str) -> None:
    log = DdlLog()
    log.says(A, 1, "BEGIN", "BEGIN")
    log.says(A, 1, "SAVEPOINT s", "SAVEPOINT")
    log.says(A, 1, "ALTER TABLE users DROP fax", "ALTER TABLE", "public.users")
    if end == "rollback":
        log.says(A, 1, "ROLLBACK", "ROLLBACK")
    elif end == "error":
        log.fails(A, 1)
        log.says(A, 2, "SELECT 1")
    elif end == "savepoint":
        log.says(A, 1, "ROLLBACK TO SAVEPOINT s", "ROLLBACK")
        log.says(A, 1, "COMMIT", "COMMIT")
    else:
        log.leaves(A)
    log.says(B, 1, ALL)
    assert columns_of(read(log.block(), BASE), ALL) == [["users.id", "users.email", "users.fax"]]


def test_a_statement_that_fails_after_its_ddl_takes_it_back() -> None:
    log = DdlLog()
    log.says(A, 1, "DO $$ … $$", "DO")
    text = "ALTER TABLE users DROP email"
    log.says(A, 1, text, "ALTER TABLE", "public.users", sub=2, same=True)
    log.fails(A, 1)
    log.says(A, 2, "SELECT 1")
    log.says(B, 1, ALL)
    assert columns_of(read(log.block(), BASE), ALL) == [["users.id", "users.email", "users.fax"]]


def test_where_it_is_unknown_whether_ddl_lasted_the_columns_of_both_count() -> None:
    log = DdlLog()
    # Other statements in its transaction, and neither BEGIN nor COMMIT are logged.
    log.says(A, 1, "SELECT 1")
    log.says(A, 2, "SELECT 2")
    log.says(A, 2, "ALTER TABLE users DROP email, ADD phone text", "ALTER TABLE", "public.users")
    log.says(A, 3, "SELECT 3")
    log.says(B, 1, ALL)
    both = [["users.id", "users.email", "users.fax", "users.phone"]]
    rows = read(log.block(), BASE)
    assert columns_of(rows, ALL) == both
    assert rows[-1]["columns_basis"] == "star-expanded"


def test_a_block_that_may_take_back_what_it_did_hides_nothing() -> None:
    log = DdlLog()
    log.says(A, 1, "DO $$ BEGIN …; EXCEPTION WHEN OTHERS THEN NULL; END $$", "DO")
    log.says(A, 1, "ALTER TABLE users DROP email", "ALTER TABLE", "public.users", sub=2, same=True)
    log.says(A, 2, "SELECT 1")
    log.says(B, 1, ALL)
    assert columns_of(read(log.block(), BASE), ALL) == [["users.id", "users.email", "users.fax"]]


def test_a_forged_line_of_ddl_changes_nothing() -> None:
    log = DdlLog()
    text = "ALTER TABLE users DROP email"
    log.says(A, 1, text, "ALTER TABLE", "public.users", context="PL/pgSQL function inline")
    log.says(B, 1, ALL)
    assert columns_of(read(log.block(), BASE), ALL) == [["users.id", "users.email", "users.fax"]]


def test_a_text_that_was_logged_once_counts_for_all_lines_of_its_statement() -> None:
    log = DdlLog()
    text = "CREATE TABLE t (a serial, b text)"
    log.says(A, 1, text, "CREATE SEQUENCE", "public.t_a_seq", kind="SEQUENCE")
    log.says(A, 1, "<previously logged>", "CREATE TABLE", "public.t", same=True)
    log.says(B, 1, "SELECT * FROM t")
    rows = read(log.block(), cuts=range(4))
    assert columns_of(rows, "SELECT * FROM t") == [["t.a", "t.b"]]


def test_ddl_whose_text_is_unknown_makes_its_table_unknown() -> None:
    log = DdlLog()
    log.says(A, 1, "<not logged>", "ALTER TABLE", "public.users")
    log.says(B, 1, ALL)
    assert columns_of(read(log.block(), BASE), ALL) == [None]


def test_ddl_of_another_database_changes_nothing() -> None:
    log = DdlLog()
    text = "ALTER TABLE users DROP email"
    log.says(A, 1, text, "ALTER TABLE", "public.users", database="test")
    log.says(B, 1, ALL)
    log.says(A, 2, ALL, database="test")
    assert columns_of(read(log.block(), BASE), ALL) == [
        ["users.id", "users.email", "users.fax"],
        ["users.id", "users.fax"],
    ]


def test_a_temporary_table_is_its_sessions_alone_and_shows_what_it_was_made_of() -> None:
    log = DdlLog()
    text = "CREATE TEMP TABLE users AS SELECT id, email FROM public.users"
    log.says(A, 1, text, "CREATE TABLE AS", "pg_temp.users")
    log.says(A, 2, ALL)
    log.says(B, 1, ALL)
    log.says(A, 3, "DROP TABLE users", "DROP TABLE", "pg_temp.users")
    log.says(A, 4, ALL)
    whole = ["users.id", "users.email", "users.fax"]
    rows = read(log.block(), BASE, RULES)
    assert columns_of(rows, ALL) == [
        ["users.id", "pg_temp.users.id", "users.email", "pg_temp.users.email"],
        whole,
        whole,
    ]
    assert rows[1]["masked_fields"] == ["public.users.email"]


def test_a_view_keeps_the_columns_of_its_time() -> None:
    log = DdlLog()
    log.says(A, 1, f"CREATE VIEW v AS {ALL}", "CREATE VIEW", "public.v", kind="VIEW")
    log.says(A, 2, "ALTER TABLE users ADD phone text", "ALTER TABLE", "public.users")
    named = "public.users.mail"
    log.says(
        A, 3, "ALTER TABLE users RENAME email TO mail", "ALTER TABLE", named, kind="TABLE COLUMN"
    )
    log.says(B, 1, "SELECT email FROM v")
    log.says(B, 2, "SELECT * FROM v")
    rows = read(log.block(), BASE)
    assert columns_of(rows, "SELECT email FROM v") == [["users.mail", "v.email"]]
    assert set(columns_of(rows, "SELECT * FROM v")[0] or ()) == {
        *("users.id", "users.mail", "users.fax", "v.id", "v.email", "v.fax")
    }


def test_a_partition_is_read_and_written_as_its_parent() -> None:
    log = DdlLog()
    log.says(
        A, 1, "CREATE TABLE logs (u text) PARTITION BY LIST (u)", "CREATE TABLE", "public.logs"
    )
    text = "CREATE TABLE logs_1 PARTITION OF logs FOR VALUES IN ('x')"
    log.says(A, 2, text, "CREATE TABLE", "public.logs_1")
    log.says(B, 1, "SELECT * FROM logs_1 WHERE u = 'x@y.de'", "SELECT", "public.logs_1")
    row = read(log.block(), rules=Rules(personal_data={"public.logs.u": "email"}))[-1]
    assert row["columns_accessed"] == ["public.logs.u"]
    assert set(row["affected_tables"]) == {"public.logs", "public.logs_1"}
    assert row["query"] == "SELECT * FROM logs_1 WHERE u = 'x***@***.de'"


def test_statements_without_ddl_are_read_once_per_form() -> None:
    log = DdlLog()
    watch = SchemaWatch(BASE)
    log.says(B, 1, ALL)
    records = log.block()
    before = watch.timeline("app").newest().serial
    read(records, BASE)
    assert watch.timeline("app").newest().serial == before
    assert schemastate.SchemaState().of(watch) is None


def test_types_are_known() -> None:
    text = "CREATE TABLE t (a int, b varchar(80) NOT NULL, c uuid, d citext[], e timestamptz, f serial)"
    assert read_schema(text).tables["public.t"].types == {
        "a": "integer",
        "b": "character varying",
        "c": "uuid",
        "d": "citext[]",
        "e": "timestamp with time zone",
        "f": "integer",
    }


PIECES = [
    *"();,.\"'\n$",
    " CREATE ",
    " TABLE ",
    " ALTER ",
    " a ",
    " VIEW ",
    " AS ",
    " ADD ",
    " LIKE ",
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
@settings(max_examples=150, deadline=None)
def test_any_text_can_be_read_as_ddl(text: str) -> None:
    for prefix in ("", "CREATE TABLE a (", "ALTER TABLE a ", "CREATE UNIQUE INDEX ON a ("):
        list(ddl.read(without_literals(prefix + text)))
        read_schema(prefix + text)


# -- files and runs -----------------------------------------------------------------------------

OLD = "CREATE TABLE public.users (id bigint, email text);"
NEW = "CREATE TABLE public.users (id bigint, email text, phone text);"
MARCH, APRIL = ["users.id", "users.email"], ["users.id", "users.email", "users.phone"]


def over_march_and_april() -> DdlLog:
    log = DdlLog()
    log.says(B, 1, ALL)
    log.now = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
    log.says(B, 2, ALL)
    return log


@pytest.mark.parametrize("form", ["table", "option", "comment", "date"])
def test_each_file_holds_from_its_time_on(tmp_path: Path, form: str) -> None:
    old, new = tmp_path / "old.sql", tmp_path / "new.sql"
    old.write_text(OLD)
    new.write_text("-- taken_at: 2026-04-01T00:00:00Z\n" * (form == "comment") + NEW)
    since = {"table": "2026-04-01T00:00:00Z", "date": "2026-04-01"}
    if form in since:
        file = tmp_path / "config.toml"
        dated = f'{{ file = "new.sql", from = {since[form]} }}'
        file.write_text(f'[sources]\nschema = ["old.sql", {dated}]\n')
        named = load(file).sources.dated_schemas()
    else:
        texts = [str(old), f"2026-04-01={new}" if form == "option" else str(new)]
        named = tuple(schemafiles.option(text) for text in texts)
    schemas = schemafiles.dated(schemafiles.read_all(named))
    rules = Rules(personal_data={"public.users.phone": "redact"})
    rows = read(over_march_and_april().block(), schemas, rules)
    assert columns_of(rows, ALL) == [MARCH, APRIL]


def test_what_is_declared_adds_to_a_file_without_a_time() -> None:
    rules = Rules(personal_data={"public.users.phone": "redact"})
    rows = read(over_march_and_april().block(), schemafiles.dated((SchemaText(OLD),)), rules)
    assert columns_of(rows, ALL) == [APRIL, APRIL]


def named_time() -> dt.datetime:
    return dt.datetime(2026, 4, 1, tzinfo=dt.UTC)


def test_before_its_time_a_file_says_nothing_unless_it_says_its_time_itself() -> None:
    log = over_march_and_april()
    said = schemafiles.dated((SchemaText(NEW, named_time()),))
    assert columns_of(read(log.block(), said), ALL) == [None, APRIL]
    taken = schemafiles.dated((SchemaText(NEW, named_time(), reaches_back=True),))
    assert columns_of(read(log.block(), taken), ALL) == [APRIL, APRIL]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("postgresql.csv", ("csvlog", "--postgres-log")),
        ("pgbouncer.log", ("PgBouncer", "--pgbouncer-log")),
        ("identity.jsonl", ("identity events", "--identity-events")),
        ("config.toml", ("CREATE TABLE", "pg_dump")),
    ],
)
def test_a_log_is_no_schema(tmp_path: Path, name: str, words: tuple[str, ...]) -> None:
    said = reprocess_sample(tmp_path / "s", "--schema", SAMPLE / name)
    assert said.code == 3
    assert all(word in said.err for word in (name, *words)), said.err
    assert not (tmp_path / "s").exists()


def written(path: Path, log: DdlLog) -> Path:
    path.write_text(log.text())
    return path


def test_a_later_run_knows_the_tables_of_the_log_before(tmp_path: Path) -> None:
    first, second = DdlLog(), DdlLog()
    text = "CREATE TABLE staff (id int, iban text)"
    first.says(A, 1, text, "CREATE TABLE", "public.staff")
    first.says(A, 2, "SELECT 1")
    first.says(
        A, 3, "CREATE TEMP TABLE mine AS SELECT iban FROM staff", "CREATE TABLE AS", "pg_temp.mine"
    )
    second.now += dt.timedelta(hours=1)
    second.says(B, 1, "SELECT * FROM staff")
    second.says(A, 4, "SELECT * FROM mine")
    second.says(B, 2, "SELECT * FROM users")
    store, schema = tmp_path / "store", tmp_path / "schema.sql"
    schema.write_text(USERS)
    for log, more in ((first, ("--schema", schema)), (second, ())):
        file = written(tmp_path / f"{log.now:%H%M%S}.csv", log)
        said = scalple("reprocess", "--store", store, "--postgres-log", file, *more)
        assert said.code == 0, said.err
    found = asked(store, "SELECT columns_accessed FROM audit ORDER BY seq DESC LIMIT 3")
    assert [row["columns_accessed"] for row in reversed(found)] == [
        ["public.staff.id", "public.staff.iban"],
        ["public.staff.iban", "pg_temp.mine.iban"],
        ["public.users.id", "public.users.email", "public.users.fax"],
    ]
    reader = StoreReader.open(store, "default")
    assert schemarecord.recorded_schema(reader, "default") == USERS
    assert schemarecord.recorded_schemas(reader, "default") == (SchemaText(USERS),)
    assert scalple("verify", "--store", store).code == 0


def test_a_log_without_ddl_leaves_nothing_to_keep(tmp_path: Path) -> None:
    log = DdlLog()
    log.says(B, 1, ALL)
    store, file = tmp_path / "store", written(tmp_path / "log.csv", log)
    assert scalple("reprocess", "--store", store, "--postgres-log", file).code == 0
    reader = StoreReader.open(store, "default")
    assert schemarecord.recorded_schema_changes(reader, "default") is None


def test_the_history_is_bounded_and_forgets_no_table() -> None:
    log = DdlLog()
    log.says(A, 1, "CREATE TABLE kept (a int)", "CREATE TABLE", "public.kept")
    for at in range(2, 640, 2):
        log.says(A, at, f"CREATE TABLE stage (c{at} int)", "CREATE TABLE", "public.stage")
        log.says(A, at + 1, "DROP TABLE stage", "DROP TABLE", "public.stage")
    log.says(B, 1, "SELECT * FROM kept")
    watch = SchemaWatch()
    begin = time.monotonic()
    rows = read(log.block(), watch=watch)
    assert time.monotonic() - begin < 20
    assert columns_of(rows, "SELECT * FROM kept") == [["kept.a"]]
    assert len(schemastate.to_bytes(watch)) < 200_000


# -- against a real server -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def series(stack: Stack) -> tuple[Series, Block]:
    """A random series of DDL on a real server, and the log of it."""
    log = stack.csvlog_paths()[-1]
    with psycopg.connect(stack.dsn_superuser(), autocommit=True) as connection:
        connection.execute("GRANT CREATE ON DATABASE app TO app_user")
    begin = log.stat().st_size
    dsn = stack.dsn_direct(user="app_user")
    sessions = [psycopg.connect(dsn, autocommit=True) for _ in range(3)]
    seed = int(os.environ.get("SERIES_SEED", "27"))
    done = Series(sessions, seed, f"series{time.time_ns() % 10**9}")
    done.run(450)
    for one in sessions:
        one.close()
    with psycopg.connect(stack.dsn_superuser(), autocommit=True) as connection:
        connection.execute("REVOKE CREATE ON DATABASE app FROM app_user")
    deadline = time.monotonic() + 5
    while b"disconnection" not in log.read_bytes()[begin:][-3000:] and time.monotonic() < deadline:
        time.sleep(0.05)
    return done, parse_block(log.read_bytes()[begin:], 0, LogTimes(None, "log"), final=True)


def compared(series: Series, rows: list[dict[str, Any]]) -> tuple[int, int, list[str]]:
    """(rows whose columns are the server's, rows of unknown columns, faults)."""
    right, unknown, faults = 0, 0, []
    for row in rows:
        found = re.search(r"/\* q(\d+)q \*/", row["query"] or "")
        if not found or int(found[1]) not in series.answers:
            continue
        relation, columns = series.answers[int(found[1])]
        name = relation.rpartition(".")[2]
        if row["columns_basis"] == "unknown":
            unknown += 1
            continue
        own = {"p1a": ("p1a", "p1")}.get(name, (name,))
        parts = [whole.split(".", 2) for whole in row["columns_accessed"]]
        parts = [part for part in parts if part[1] in own]
        # A temporary table may have been made of one of the same name.
        temporary = [part for part in parts if part[0] == "pg_temp"]
        got = {column for _, _, column in temporary or parts}
        if got == set(columns):
            right += 1
        else:
            faults.append(f"{row['query']}: {columns} {row['columns_accessed']}")
    return right, unknown, faults


def test_the_columns_are_those_that_the_server_gave(series: tuple[Series, Block]) -> None:
    done, block = series
    right, unknown, faults = compared(done, read(block))
    assert not faults
    assert right > 20
    assert unknown < right


@given(cuts=st.lists(st.integers(0, 10_000), max_size=12))
@settings(max_examples=4, deadline=None)
def test_any_size_of_batches_says_the_same(series: tuple[Series, Block], cuts: list[int]) -> None:
    assert read(series[1], cuts=cuts) == read(series[1])


def test_runs_that_go_on_hide_nothing(series: tuple[Series, Block]) -> None:
    done, block = series
    rows = read(block, cuts=range(0, block.table.num_rows, 80), restarting=True)
    for row in rows:
        found = re.search(r"/\* q(\d+)q \*/", row["query"] or "")
        if found and int(found[1]) in done.answers and row["columns_basis"] != "unknown":
            names = {whole.split(".", 2)[2] for whole in row["columns_accessed"]}
            assert names >= set(done.answers[int(found[1])][1]), row
    right, _, _ = compared(done, rows)
    assert right > 20
