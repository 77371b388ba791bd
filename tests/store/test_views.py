"""The views: their columns, ids, revisions, and what a user's SQL can't do through them."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from scalple.correlate.record import KINDS
from scalple.ingest.errors import ConfigError, InputError
from scalple.store import views
from scalple.store.guard import only_select
from scalple.store.reader import StoreReader
from scalple.store.verified import VerifiedFiles
from tests.store.sample import NOON, files, make_store, open_writer, statements, table


def connect(store: Path, origin: str | None = None) -> duckdb.DuckDBPyConnection:
    """A connection that remembers nothing."""
    return views.connect_reader(StoreReader.open(store, origin, verified=VerifiedFiles(None)))


def columns(con: duckdb.DuckDBPyConnection, view: str) -> list[tuple[str, str]]:
    """Names and types of a view."""
    return [(row[0], row[1]) for row in con.execute(f"DESCRIBE {view}").fetchall()]


def revise(store: Path, changes: list[tuple[int, dict[str, Any]]]) -> None:
    """Commits revisions."""
    with open_writer(store) as writer:
        rows = [
            {"audit_seq": seq, "changes": json.dumps(change), "reason": "late", "revised_at": NOON}
            for seq, change in changes
        ]
        writer.commit({"revisions": table("revisions", writer.next_seq["revisions"], rows)}, [], {})


def test_ids_and_columns(tmp_path: Path) -> None:
    con = connect(make_store(tmp_path / "store", 1))

    assert [name for name, _ in columns(con, "audit")] == ["log_id", *KINDS["audit"].names]
    first = con.execute("SELECT log_id, query, parameters FROM audit ORDER BY seq").fetchall()
    assert first[1] == ("db1#1", "SELECT * FROM users WHERE id = 1", ["a", None, ""])
    assert con.execute("SELECT id FROM evidence").fetchall() == [("db1/evidence#0",)]
    for kind in ("denied", "gaps", "unparsed"):
        assert con.execute(f"SELECT id, origin FROM {kind}").fetchall() == [
            (f"db1/{kind}#0", "db1")
        ]


def test_an_empty_store_has_the_same_columns(tmp_path: Path) -> None:
    full = make_store(tmp_path / "full" / "store", 1)
    revise(full, [(0, {"success": True})])
    open_writer(tmp_path / "empty" / "store").close()
    one, none = connect(full), connect(tmp_path / "empty" / "store")

    for kind in KINDS:
        assert columns(none, kind) == columns(one, kind)
        assert none.execute(f"SELECT count(*) FROM {kind}").fetchall() == [(0,)]


def test_all_origins_but_the_log_of_questions(tmp_path: Path) -> None:
    store = make_store(tmp_path / "it's a store", 1)
    for origin in ("db2", "_access"):
        make_store(store, 1, origin)

    counts = "SELECT origin, count(*) FROM audit GROUP BY 1 ORDER BY 1"
    assert connect(store).execute(counts).fetchall() == [("db1", 4), ("db2", 4)]
    assert connect(store, "db2").execute(counts).fetchall() == [("db2", 4)]
    assert connect(store, "_access").execute(counts).fetchall() == [("_access", 4)]
    with pytest.raises(ConfigError):
        connect(tmp_path / "nowhere")


def test_audit_shows_the_newest_revision_of_each_column(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 1)
    make_store(store, 1, "db2")
    subject = {"token": 2**64 - 1, "column": "id", "basis": "parameter", "sealed": "00ff"}
    revise(
        store,
        [
            (1, {"session_user_id": None, "attribution_grade": "candidates", "success": False}),
            (1, {"attribution_grade": "unattributed", "attribution_reason": 'late "drift"'}),
            (1, {"attribution_candidates": ["a", "b"], "peer_port": 4711, "sqlstate": "57014"}),
            (2, {"findings": ["drift"], "attribution_evidence": None, "subjects": [subject]}),
        ],
    )
    revise(store, [(1, {"success": True})])
    con = connect(store)

    names = (
        "session_user_id, attribution_grade, attribution_reason, success, sqlstate, "
        "attribution_candidates, peer_port, query"
    )
    found = con.execute(f"SELECT {names} FROM audit WHERE log_id = 'db1#1'").fetchall()
    query = "SELECT * FROM users WHERE id = 1"
    assert found == [(None, "unattributed", 'late "drift"', True, "57014", ["a", "b"], 4711, query)]
    found = con.execute("SELECT findings, subjects FROM audit WHERE log_id = 'db1#2'").fetchall()
    assert found == [(["drift"], [{**subject, "sealed": b"\x00\xff"}])]
    untouched = "SELECT * EXCLUDE (log_id) FROM audit WHERE origin = 'db1' AND seq IN (0, 3)"
    rows = con.sql(untouched + " ORDER BY seq").to_arrow_table().to_pylist()
    expected = statements(0, 4).to_pylist()
    assert rows == [expected[0], expected[3]]
    assert con.execute("SELECT count(*) FROM audit").fetchall() == [(8,)]
    assert con.execute(
        "SELECT DISTINCT attribution_grade FROM audit WHERE origin = 'db2'"
    ).fetchall() == [("proven",)]


@pytest.fixture
def con(tmp_path: Path) -> duckdb.DuckDBPyConnection:
    """A connection to a small store."""
    return connect(make_store(tmp_path / "store", 1))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM audit",
        "FROM audit SELECT count(*)",
        "WITH t AS (FROM audit) SELECT count(*) FROM t",
        "SELECT 4 AS copy -- COPY",
        "SELECT count(*) FROM audit;",
    ],
)
def test_reading_is_allowed(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert con.execute(only_select(con, sql)).fetchall() == [(4,)]


@pytest.mark.parametrize(
    "sql",
    [
        "WITH x AS (COPY (SELECT 1) TO '{segment}' (USE_TMP_FILE false)) SELECT 1",
        "WITH x AS (COPY (SELECT 1) TO '{segment}' (USE_TMP_FILE false)) SELECT * FROM x",
        "COPY audit TO '{segment}' (USE_TMP_FILE false)",
        "EXPLAIN ANALYZE COPY audit TO '{segment}' (USE_TMP_FILE false)",
        "SELECT 1; COPY audit TO '{segment}' (USE_TMP_FILE false)",
        "PREPARE p AS COPY audit TO '{segment}' (USE_TMP_FILE false)",
        "CREATE TABLE t AS SELECT 1",
        "DROP VIEW audit",
        "SET lock_configuration = false",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        "SELECT * FROM glob('/*')",
        "ATTACH '/tmp/x.db'",
        "LOAD httpfs",
        "nonsense",
        "",
    ],
)
def test_anything_else_is_refused(con: duckdb.DuckDBPyConnection, tmp_path: Path, sql: str) -> None:
    segments = files(tmp_path / "store" / "db1" / "segments")
    before = {path: path.read_bytes() for path in segments}
    for segment in segments[:1]:
        with pytest.raises(InputError):
            con.execute(only_select(con, sql.format(segment=segment)))

    assert {path: path.read_bytes() for path in files(segments[0].parent)} == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY (SELECT 1) TO '/tmp/scalple-test.csv'",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/etc/hostname']",
        "RESET lock_configuration",
        "INSTALL httpfs",
        "CREATE SECRET (TYPE s3)",
        "SELECT * FROM statements",
    ],
)
def test_the_connection_itself_reaches_nothing_else(
    con: duckdb.DuckDBPyConnection, sql: str
) -> None:
    with pytest.raises(duckdb.Error):
        con.execute(sql)
