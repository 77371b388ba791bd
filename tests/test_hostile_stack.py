"""What PostgreSQL accepts and pgAudit writes, however odd: read, masked, never lost.

tests/hostile.sql runs on a real server; then its log is read by ingest and enriched. The yardstick
for the log is Python's csv module (auditcount). Texts that aren't UTF-8, and long ones, are made
here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scalple.correlate.templates import COMMENT, split
from tests.auditcount import audit_fields, audit_records
from tests.cluster import SUPERUSER
from tests.commandline import scalple
from tests.stack import Stack, StackOptions

pytestmark = pytest.mark.stack

HERE = Path(__file__).parent
CONFIG = """origin = "db1"
[pooler]
kind = "none"
[identifiers]
person = ["hostile.person.id", "hostile.visit.person_id"]
[personal_data]
"hostile.person.name" = "redact"
"hostile.visit.note" = "redact"
"""
KINDS = ("SELECT", "INSERT", "UPDATE", "DELETE")
LONG = "SELECT id FROM person WHERE name = '" + "Zanzibarski " * 90_000 + "'"
NOT_UTF8 = b"SELECT note FROM odd WHERE note = 'Zanz\xff\xfeibarski' OR note = E'\\xe9'"


def statements() -> list[str]:
    """The paragraphs of tests/hostile.sql behind its heading."""
    return (HERE / "hostile.sql").read_text("utf-8").strip().split("\n\n")[1:]


@dataclass(frozen=True)
class Read:
    """The log as ingest and enrichment read it, and as the csv module does."""

    rows: list[dict[str, Any]]
    unparsed: list[int]
    truth: list[list[str]]
    refused: list[str]


def run(stack: Stack) -> list[str]:
    """Runs everything, and takes it back; returns what the server refused."""
    refused = []
    dsn = stack.dsn_direct(user=SUPERUSER, application_name="hostile")
    with psycopg.connect(dsn) as connection:
        connection.execute("SET pgaudit.log = 'none'")
        connection.execute((HERE / "hostile_setup.sql").read_bytes())
        connection.execute("SET pgaudit.log = 'all'")
        cursor = connection.cursor()
        for text in [*statements(), LONG]:
            try:
                with connection.transaction():
                    if text.upper().startswith("COPY"):
                        with cursor.copy(text.encode()) as copy:
                            list(copy)
                    else:
                        cursor.execute(text.encode())
            except psycopg.Error as error:
                refused.append(f"{text[:100]}: {error}")
        connection.rollback()
    return refused


def run_not_utf8(stack: Stack) -> None:
    """Text in no encoding at all, in a database that takes any."""
    with psycopg.connect(stack.dsn_superuser("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE raw TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    dsn = stack.dsn_direct(user=SUPERUSER, dbname="raw", application_name="hostile")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE odd (note text)")
        connection.execute(NOT_UTF8)
        connection.execute("SELECT note FROM odd WHERE note = 'afterwards'")


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Read]:
    place = tmp_path_factory.mktemp("hostile")
    with Stack(StackOptions(pooler=False, users=10, eu_users=5)) as stack:
        refused = run(stack)
        run_not_utf8(stack)
    (place / "c.toml").write_text(CONFIG)
    store = place / "store"
    given = ("--schema", HERE / "hostile_setup.sql", "--config", place / "c.toml")
    said = scalple("reprocess", "--store", store, *given, "--postgres-log", *stack.csvlog_paths())
    assert said.code == 0, said.err

    def asked(sql: str) -> list[dict[str, Any]]:
        found = scalple("sql", "--store", store, "--format", "json", sql)
        assert found.code == 0, found.err
        rows: list[dict[str, Any]] = found.json()
        return rows

    yield Read(
        asked("SELECT * FROM audit WHERE application_name = 'hostile' ORDER BY seq"),
        [row["n"] for row in asked("SELECT octet_length(raw) AS n FROM unparsed")],
        [r for r in audit_records(stack.csvlog_paths()) if "hostile" in r],
        refused,
    )


def test_everything_ran(read: Read) -> None:
    assert read.refused == []
    assert len(statements()) >= 300


def test_every_record_of_the_log_is_a_row(read: Read) -> None:
    rows = {(row["session_id"], row["session_line_num"]) for row in read.rows}
    missing = [r for r in read.truth if (r[5], int(r[6])) not in rows]
    assert len(rows) == len(read.rows)
    # One record isn't UTF-8; what stands around it in the log is read.
    assert [audit_fields(r)[7].encode(errors="surrogateescape") for r in missing] == [NOT_UTF8]
    assert len(read.unparsed) == 1
    assert "afterwards" in read.rows[-1]["query"]


def logged(read: Read) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows, each with the text that its statement had."""
    truth = {(r[5], int(r[6])): audit_fields(r)[7] for r in read.truth}
    for row in read.rows:
        yield row, truth[row["session_id"], row["session_line_num"]]


def test_hardly_any_query_or_write_takes_the_fallback(read: Read) -> None:
    texts: dict[str, bool] = {}
    for row, text in logged(read):
        if row["command"] in KINDS and text:
            texts[text] = row["columns_accessed"] is not None
    unread = [text[:100] for text, is_read in texts.items() if not is_read]
    assert len(texts) > 250
    assert len(unread) <= 0.03 * len(texts), unread


def test_what_takes_the_fallback_hides_every_literal(read: Read) -> None:
    fallen = [(row, text) for row, text in logged(read) if row["columns_accessed"] is None and text]
    assert fallen
    for row, text in fallen:
        assert row["access_shape"] is None
        assert row["columns_basis"] == ("object-audit" if row["affected_tables"] else "unknown")
        segments, skeleton = split(text)
        kept, _ = split(row["query"])
        markers = [m for m in skeleton if m in "\x01\x02\x03"]
        for literal, marker, now in zip(segments[1::2], markers, kept[1::2], strict=True):
            assert now == "'***'" or marker == COMMENT or literal in ("''", "$$$$"), (text, now)


def test_what_pgaudit_names_the_row_names(read: Read) -> None:
    for row in read.rows:
        if (
            row["object_type"] == "TABLE"
            and row["object_name"]
            and row["object_name"].startswith("hostile.")
        ):
            name = row["object_name"].replace('"Weird ""Table"""', 'Weird "Table"')
            assert name in row["affected_tables"], row["query"]


def test_no_row_knows_less_than_pgaudit(read: Read) -> None:
    """The objects of the log confirm what was parsed: nothing is left to them but what the schema
    doesn't hold (temporary tables) and what the text doesn't say."""
    strange = {
        row["object_name"]
        for row in read.rows
        if row["columns_basis"] == "object-audit" and row["columns_accessed"] is not None
    }
    assert {name for name in strange if not name.startswith("pg_temp.")} <= {"hostile.person"}


def test_no_value_of_a_personal_column_is_in_the_record(read: Read) -> None:
    assert "Zanz" not in repr(read.rows)
