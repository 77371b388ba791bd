"""Declarations follow what they declare: renamed, moved and swapped tables and columns."""

import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scalple.cli import asking, schemafiles
from scalple.cli.reading import RecordReader
from scalple.cli.schemafiles import SchemaText
from scalple.correlate.calledby import CALLED
from scalple.correlate.enrichment import Enricher
from scalple.correlate.rules import Rules
from scalple.correlate.schemawatch import SchemaWatch
from scalple.correlate.subjects import subject_token
from scalple.ingest.csvlog import parse_block
from scalple.ingest.logtime import LogTimes
from scalple.store import namesobject, rownames
from scalple.store.possible import possible
from scalple.store.question import Question
from scalple.store.reader import AuditCommit
from scalple.store.sqlfile import sql_file
from tests import renamed_world
from tests.ddl_log import KEY, DdlLog, read
from tests.renamed_world import RULES, UNDECLARED, World
from tests.stack import Stack

EXAMPLES = int(os.environ.get("RENAMES_EXAMPLES", "8"))
DECLARED = {*RULES.personal_data, *(c for many in RULES.identifiers.values() for c in many)}
_ENRICHER = Enricher(RULES, None, KEY)
_NUMBER = re.compile(r"/\* (\d+) \*/")


class Answered:
    """A log as a store of one commit would have it."""

    def __init__(self, log: DdlLog, directory: Path) -> None:
        reader = RecordReader(_ENRICHER, SchemaWatch(renamed_world.DATED))
        records = reader.read(b"", 0, log.block())
        table = records.enriched
        for name in ("class", "command"):
            table = table.append_column(name, records.payload.column(name))
        names = None
        if CALLED in table.column_names:
            names = directory / "names"
            names.write_bytes(namesobject.to_bytes(table.column(CALLED)))
            table = table.drop_columns([CALLED])
        rows = range(table.num_rows)
        table = table.append_column("seq", pa.array(rows, pa.uint64()))
        table = table.append_column("log_time", pa.array(rows, pa.timestamp("us", "UTC")))
        table = table.append_column("origin", pa.array(["db1"] * len(rows)))
        self.names = rownames.RowNames(
            [AuditCommit("db1", "0", 0, len(rows), False, (), {}, names)]
        )
        self.con = duckdb.connect(config={"threads": 1})
        self.con.register("audit", table)
        self.con.execute(sql_file("writing.sql"))
        self.names.register(self.con)
        numbers = [_NUMBER.search(text or "") for text in table["query"].to_pylist()]
        self.number = {seq: int(one[1]) for seq, one in enumerate(numbers) if one}
        self.rows = {
            self.number[at]: row for at, row in enumerate(table.to_pylist()) if numbers[at]
        }

    def direct(self, name: str, value: str) -> set[int]:
        token = subject_token(KEY, name, value)
        return {
            number
            for number, row in self.rows.items()
            if any(one["token"] == token for one in row["subjects"] or ())
        }

    def possible(self, name: str, value: str) -> set[int]:
        known = asking.Known(RULES, asking.carried(RULES, self.names.lineages))
        question = Question(
            tokens=((name, subject_token(KEY, name, value)),),
            subject_columns=RULES.identifiers[name],
            personal_columns=tuple(RULES.personal_data),
            carried=known.carried([name]),
        )
        return {self.number[row["seq"]] for row in possible(self.con, question)}


def in_first_names(row: dict[str, Any], meant: dict[str, str]) -> dict[str, Any]:
    """What a row says, without its text, in the names of the beginning."""

    def first(names: list[str] | None) -> list[str] | None:
        return None if names is None else sorted(meant[name] for name in names)

    return {
        "tables": first(row["affected_tables"]),
        "columns": first(row["columns_accessed"]),
        "basis": row["columns_basis"],
        "shape": row["access_shape"],
        "subjects": sorted((meant[one["column"]], one["token"]) for one in row["subjects"] or ()),
    }


@given(st.lists(st.tuples(*[st.integers(0, 23)] * 3), min_size=4, max_size=9))
@example([(0, 0, 0), (0, 1, 2), (4, 0, 0), (0, 0, 1)])
@settings(max_examples=EXAMPLES, deadline=None)
def test_answers_are_those_of_a_history_without_renames(
    numbers: list[tuple[int, int, int]],
) -> None:
    world = World()
    world.run(numbers)
    with tempfile.TemporaryDirectory() as directory:
        plain = Answered(world.plain, Path(directory))
        renamed = Answered(world.renamed, Path(directory))
    assert plain.rows.keys() == renamed.rows.keys() == set(range(len(world.of)))
    stands_for_itself = {name: name for meant in world.meant for name in meant.values()}
    for number, row in renamed.rows.items():
        told = plain.rows[number]
        assert in_first_names(row, world.meant[number]) == in_first_names(told, stands_for_itself)
        masked = {world.meant[number][column] for column in row["masked_fields"] or ()}
        # Of others it's the present name that says that they are personal.
        assert masked >= set(told["masked_fields"] or ()) & DECLARED
    # What bears another one's declared name may be possible too often: an undeclared table, or a
    # declared one that took the name which another declared one had left.
    of_nobody = {number for number, tables in enumerate(world.of) if UNDECLARED in tables}
    of_nobody |= {
        number
        for number in range(len(world.of))
        if any(now != first and now in DECLARED for now, first in world.meant[number].items())
    }
    for name in RULES.identifiers:
        for value in ("42", "7", "4711"):
            assert renamed.direct(name, value) == plain.direct(name, value)
            found, expected = renamed.possible(name, value), plain.possible(name, value)
            assert found - of_nobody == expected - of_nobody, sorted(found ^ expected)
            assert found >= expected


# -- one thing at a time --------------------------------------------------------------------------

TWO = (
    "CREATE TABLE public.users (id bigint PRIMARY KEY, email text, fax text);"
    "CREATE TABLE public.parts (id bigint PRIMARY KEY, email text, fax text);"
)
BASE = schemafiles.dated((SchemaText(TWO),))
OF_USERS = Rules(
    identifiers={"customer_id": ("public.users.id",)},
    personal_data={"public.users.fax": "redact"},
    harmless=("public.parts.email", "public.users.email"),
)
FAX = "SELECT fax FROM {} WHERE id = 42 AND fax = 'one'"
NAMED, MASKED, NOTHING = "named", "masked", "nothing"


def ran(*texts: str, schema: Any = BASE, rules: Rules = OF_USERS) -> list[str]:
    """What becomes of each `SELECT`'s `id = 42 AND fax = 'one'`, among DDL of another session.

    DDL is `text -> object`, as pgAudit names it.
    """
    log = DdlLog()
    for number, text in enumerate(texts, start=1):
        said, _, named = text.partition(" -> ")
        command = " ".join(said.split()[:2]) + " AS" * (" AS SELECT" in said)
        if said.startswith("SELECT"):
            log.says("b", number, said)
        elif named:
            kind = "TABLE COLUMN" if named.count(".") == 2 else "TABLE"
            log.says("a", number, said, command, named, kind=kind)
        else:
            log.says("a", number, said, said.split()[0])
    found = []
    for row in read(log.block(), schema, rules):
        if row["query"] is not None and row["query"].startswith("SELECT"):
            told = NAMED if row["subjects"] else MASKED if "***" in row["query"] else NOTHING
            assert "'one'" not in row["query"] or told == NOTHING
            found.append(told)
    return found


def fax_of(table: str) -> str:
    return FAX.format(table)


RENAMED = "ALTER TABLE users RENAME TO clients -> public.clients"


def test_a_renamed_table_stays_declared_also_where_no_schema_tells_of_it() -> None:
    moved = "ALTER TABLE clients SET SCHEMA crm -> crm.clients"
    for schema in (BASE, ()):
        said = ran(RENAMED, fax_of("clients"), moved, fax_of("crm.clients"), schema=schema)
        assert said == [NAMED, NAMED]


def test_a_rename_that_is_taken_back_changes_nothing() -> None:
    log = DdlLog()
    log.says("a", 1, "BEGIN", "BEGIN")
    log.says("a", 1, "ALTER TABLE users RENAME TO clients", "ALTER TABLE", "public.clients")
    log.says("a", 1, fax_of("clients"))
    log.says("b", 1, fax_of("users"))
    log.says("a", 1, "ROLLBACK", "ROLLBACK")
    log.says("b", 2, fax_of("users"))
    rows = [row for row in read(log.block(), BASE, OF_USERS) if "fax" in row["query"]]
    assert [row["subjects"][0]["column"] for row in rows] == [
        *("public.clients.id", "public.users.id", "public.users.id")
    ]


def test_a_table_that_changed_places_with_a_declared_one_names_nobody_and_is_masked() -> None:
    said = ran(
        *("ALTER TABLE users RENAME TO tmp -> public.tmp", fax_of("tmp")),
        *("ALTER TABLE parts RENAME TO users -> public.users", fax_of("users")),
        *("ALTER TABLE tmp RENAME TO parts -> public.parts", fax_of("users"), fax_of("parts")),
    )
    assert said == [NAMED, MASKED, MASKED, NAMED]


def test_a_circle_of_three_is_a_swap() -> None:
    said = ran(
        "CREATE TABLE other (id bigint, email text, fax text) -> public.other",
        "CREATE TABLE third (id bigint, email text, fax text) -> public.third",
        "ALTER TABLE users RENAME TO tmp -> public.tmp",
        "ALTER TABLE other RENAME TO users -> public.users",
        "ALTER TABLE third RENAME TO other -> public.other",
        *("ALTER TABLE tmp RENAME TO third -> public.third", fax_of("users"), fax_of("third")),
    )
    assert said == [MASKED, NAMED]


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE users_new (LIKE users INCLUDING ALL) -> public.users_new",
        "CREATE TABLE users_new (id bigint, email text, fax text, more int) -> public.users_new",
        "CREATE TABLE users_new AS SELECT * FROM users -> public.users_new",
    ],
)
def test_a_new_edition_under_the_old_name_counts_and_so_does_the_old_one(made: str) -> None:
    edition = (
        *(made, "ALTER TABLE users RENAME TO users_old -> public.users_old"),
        "ALTER TABLE users_new RENAME TO users -> public.users",
    )
    gone = "DROP TABLE users_old -> public.users_old"
    said = ran(*edition, fax_of("users"), fax_of("users_old"), gone, *edition, fax_of("users"))
    assert said == [NAMED, NAMED, NAMED]


def test_a_new_edition_that_changed_places_with_the_old_one_counts_if_it_was_made_of_it() -> None:
    for made, expected in (("(LIKE users)", NAMED), ("(id bigint, email text, fax text)", MASKED)):
        said = ran(
            f"CREATE TABLE next {made} -> public.next",
            "ALTER TABLE users RENAME TO tmp -> public.tmp",
            "ALTER TABLE next RENAME TO users -> public.users",
            *("ALTER TABLE tmp RENAME TO next -> public.next", fax_of("users"), fax_of("next")),
        )
        assert said == [expected, NAMED]


def test_what_is_made_under_a_name_that_was_left_counts() -> None:
    made = "CREATE TABLE users (id bigint, email text, fax text) -> public.users"
    assert ran(RENAMED, made, fax_of("users"), fax_of("clients")) == [NAMED, NAMED]


def test_an_old_table_that_takes_a_declared_name_is_masked_and_perhaps_the_declared_one() -> None:
    left = "DROP TABLE users -> public.users"
    took = "ALTER TABLE parts RENAME TO users -> public.users"
    rules = Rules(OF_USERS.identifiers, OF_USERS.personal_data, ("public.users.email",))
    for first in (RENAMED, left):
        assert ran(first, took, fax_of("users"), rules=rules) == [MASKED]


def test_a_column_stays_declared_and_so_does_its_successor() -> None:
    said = ran(
        "ALTER TABLE users RENAME COLUMN fax TO old_fax -> public.users.old_fax",
        "SELECT 1 FROM users WHERE id = 42 AND old_fax = 'one'",
        *("ALTER TABLE users ADD fax text -> public.users", fax_of("users")),
        "ALTER TABLE users RENAME COLUMN id TO number -> public.users.number",
        "SELECT 1 FROM users WHERE number = 42 AND old_fax = 'one'",
    )
    assert said == [NAMED, NAMED, NAMED]


def test_columns_that_changed_places_keep_what_was_declared_of_them() -> None:
    said = ran(
        "ALTER TABLE users RENAME COLUMN id TO swap -> public.users.swap",
        "ALTER TABLE users RENAME COLUMN email TO id -> public.users.id",
        "ALTER TABLE users RENAME COLUMN swap TO email -> public.users.email",
        "SELECT 1 FROM users WHERE id = 42 AND fax = 'one'",
        "SELECT 1 FROM users WHERE email = 42 AND fax = 'one'",
    )
    assert said == [MASKED, NAMED]


def test_a_partition_that_is_taken_out_stays_what_its_parent_was() -> None:
    said = ran(
        "CREATE TABLE users_1 PARTITION OF users FOR VALUES IN (1) -> public.users_1",
        *(fax_of("users_1"), "ALTER TABLE users DETACH PARTITION users_1 -> public.users"),
        *(fax_of("users_1"), "ALTER TABLE users_1 RENAME TO archive -> public.archive"),
        fax_of("archive"),
    )
    assert said == [NAMED, NAMED, NAMED]


def test_where_it_is_unknown_whether_a_swap_lasted_nobody_is_named() -> None:
    swap = (
        "ALTER TABLE users RENAME TO tmp; ALTER TABLE parts RENAME TO users; "
        "ALTER TABLE tmp RENAME TO parts"
    )
    log = DdlLog()
    log.says("a", 1, "SELECT 1")
    log.says("a", 2, "SELECT 2")
    for name in ("tmp", "users", "parts"):
        log.says("a", 2, swap, "ALTER TABLE", f"public.{name}")
    log.says("a", 3, "SELECT 3")
    for name in ("users", "parts"):
        log.says("b", 1, fax_of(name))
    rows = [row for row in read(log.block(), BASE, OF_USERS) if "fax" in row["query"]]
    assert len(rows) == 2
    assert not any(row["subjects"] or "'one'" in row["query"] for row in rows)


def test_names_are_kept_over_runs_and_when_changes_are_folded() -> None:
    log = DdlLog()
    log.says("a", 1, RENAMED.partition(" -> ")[0], "ALTER TABLE", "public.clients")
    column = "ALTER TABLE clients RENAME COLUMN fax TO paper"
    log.says("a", 2, column, "ALTER TABLE", "public.clients.paper", kind="TABLE COLUMN")
    for at in range(3, 540):
        log.says("a", at, "ALTER TABLE parts ADD COLUMN x int", "ALTER TABLE", "public.parts")
    log.says("b", 1, "SELECT paper FROM clients WHERE id = 42")
    rows = read(log.block(), BASE, OF_USERS, cuts=(100, 520, 535), restarting=True)
    assert [one["column"] for one in rows[-1]["subjects"]] == ["public.clients.id"]
    assert rows[-1]["masked_fields"] == ["public.clients.paper"]


def test_each_database_has_its_own_names() -> None:
    log = DdlLog()
    log.says("a", 1, RENAMED.partition(" -> ")[0], "ALTER TABLE", "public.clients")
    for at in range(3):
        for database in ("app", "test"):
            for table in ("clients", "users"):
                log.says(f"{database}{table}", at + 1, fax_of(table), database=database)
    rows = [row for row in read(log.block(), BASE, OF_USERS) if "fax" in row["query"]]
    named = [bool(row["subjects"]) for row in rows]
    # In `app` nothing is called users now: should something be, it is what was meant.
    assert named == [True, True, False, True] * 3
    called = [row[CALLED] for row in rows]
    assert [one is None for one in called] == [False, False, True, True] * 3


def test_names_are_followed_where_records_of_ddl_name_no_objects() -> None:
    log = DdlLog()
    log.says("a", 1, RENAMED.partition(" -> ")[0], "ALTER TABLE")
    log.says("a", 2, "ALTER TABLE clients RENAME fax TO paper", "ALTER TABLE")
    log.says("b", 1, "SELECT paper FROM clients WHERE id = 42")
    row = read(log.block(), BASE, OF_USERS)[-1]
    assert [one["column"] for one in row["subjects"]] == ["public.clients.id"]
    assert row["masked_fields"] == ["public.clients.paper"]


def test_a_line_that_a_client_may_have_raised_takes_no_name_from_anybody() -> None:
    log = DdlLog()
    log.says("a", 1, "SELECT 1")
    log.says("a", 2, "SELECT 2")
    text = "ALTER TABLE parts RENAME TO users"
    log.says("a", 2, text, "ALTER TABLE", "public.users")  # it isn't known whether that lasted
    log.says("a", 3, "SELECT 3")
    log.says("b", 1, fax_of("users"))
    assert read(log.block(), BASE, OF_USERS)[-1]["subjects"]


# -- against a real server -----------------------------------------------------------------------

ON_A_SERVER = (
    "CREATE TABLE users (id bigint PRIMARY KEY, fax text)",
    "CREATE TABLE parts (id bigint PRIMARY KEY, weight int)",
    "SELECT fax FROM users WHERE id = 42 -- named",
    "BEGIN",
    "ALTER TABLE users RENAME TO tmp",
    "ALTER TABLE parts RENAME TO users",
    "SELECT weight FROM users WHERE id = 42 -- not named",
    "ALTER TABLE tmp RENAME TO parts",
    "SELECT fax FROM parts WHERE id = 42 -- named",
    "COMMIT",
    "SELECT weight FROM users WHERE id = 42 -- not named",
    "ALTER TABLE parts SET SCHEMA {schema}x",
    "SELECT fax FROM {schema}x.parts WHERE id = 42 -- named",
    "ALTER TABLE {schema}x.parts RENAME COLUMN id TO number",
    "SELECT fax FROM {schema}x.parts WHERE number = 42 -- named",
    "ALTER SCHEMA {schema}x RENAME TO {schema}y",
    "SELECT fax FROM {schema}y.parts WHERE number = 42 -- named",
    "BEGIN",
    "ALTER TABLE {schema}y.parts RENAME TO clients",
    "ROLLBACK",
    "SELECT fax FROM {schema}y.parts WHERE number = 42 -- named",
    "CREATE TABLE next (LIKE {schema}y.parts INCLUDING ALL)",
    "INSERT INTO next SELECT * FROM {schema}y.parts",
    "DROP TABLE users",
    "ALTER TABLE next RENAME TO users",
    "SELECT fax FROM users WHERE number = 42 -- named",
    "SELECT fax FROM {schema}y.parts WHERE number = 42 -- named",
)


def test_a_server_that_renames_names_the_same_person(stack: Stack) -> None:
    schema = f"renames{time.time_ns() % 10**9}"
    log = stack.csvlog_paths()[-1]
    begin = log.stat().st_size
    with psycopg.connect(stack.dsn_superuser(), autocommit=True) as admin:
        admin.execute("GRANT CREATE ON DATABASE app TO app_user")
        with psycopg.connect(stack.dsn_direct(user="app_user"), autocommit=True) as session:
            for name in (schema, f"{schema}x"):
                session.execute(f"CREATE SCHEMA {name}")
            session.execute(f"SET search_path = {schema}")
            for text in ON_A_SERVER:
                session.execute(text.format(schema=schema))
            session.execute("SELECT 'over'")
            for name in (schema, f"{schema}y"):
                session.execute(f"DROP SCHEMA {name} CASCADE")
        admin.execute("REVOKE CREATE ON DATABASE app FROM app_user")
    deadline = time.monotonic() + 5
    while b"'over'" not in log.read_bytes()[begin:] and time.monotonic() < deadline:
        time.sleep(0.05)
    block = parse_block(log.read_bytes()[begin:], 0, LogTimes(None, "log"), final=True)
    rules = Rules(
        identifiers={"customer_id": (f"{schema}.users.id",)},
        personal_data={f"{schema}.users.fax": "redact"},
    )
    for restarting in (False, True):
        cuts = range(0, block.table.num_rows, 9) if restarting else ()
        texts = [text for text in ON_A_SERVER if "named" in text]
        found = [
            (row["query"].partition("-- ")[2], len(row["subjects"] or ()))
            for row in read(block, rules=rules, cuts=cuts, restarting=restarting)
            if "named" in (row["query"] or "") and row["query"].startswith("SELECT")
        ]
        assert found == [(text.partition("-- ")[2], int("not" not in text)) for text in texts]
