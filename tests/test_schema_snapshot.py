"""A snapshot of a live database: what it says is what the server says, and what a dump says."""

import datetime as dt
import itertools
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from scalple.cli import schemafiles
from scalple.correlate import schematext, snapshot
from scalple.correlate.catalog import Catalog
from scalple.correlate.grants import Entitlements
from scalple.correlate.snapshot import Snapshot
from tests.commandline import Said, scalple
from tests.ddl_log import DdlLog, columns_of, read
from tests.stack import Stack, password_of

OBJECTS = """
CREATE SCHEMA shop;
CREATE EXTENSION IF NOT EXISTS citext;
CREATE TABLE shop.people (id bigint PRIMARY KEY, "E Mail" public.citext UNIQUE, iban varchar(34),
    born date, tags text[], at timestamptz(3), amount numeric(10,2), ref uuid);
CREATE TABLE shop.orders (person bigint REFERENCES shop.people, line int, note text,
    gone int, UNIQUE (person, line));
ALTER TABLE shop.orders DROP COLUMN gone;
CREATE UNIQUE INDEX by_iban ON shop.people (iban) INCLUDE (born);
CREATE UNIQUE INDEX partial ON shop.people (born) WHERE born IS NOT NULL;
CREATE UNIQUE INDEX expression ON shop.people (lower(iban));
CREATE VIEW shop.mails AS SELECT id, "E Mail" AS mail FROM shop.people WHERE iban <> 'DE;';
CREATE MATERIALIZED VIEW shop.sums AS SELECT person, count(*) AS n FROM shop.orders GROUP BY 1;
CREATE TABLE shop.events (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE shop.events_1 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE shop.child (more int) INHERITS (shop.orders);
CREATE FUNCTION shop.f(order_id int, OUT found text) LANGUAGE sql AS 'SELECT ''x''';
CREATE ROLE s_owner; CREATE ROLE s_group; CREATE ROLE s_inner NOINHERIT; CREATE ROLE s_reader;
CREATE ROLE s_anna LOGIN; CREATE ROLE s_ben LOGIN NOINHERIT; CREATE ROLE s_super SUPERUSER;
CREATE ROLE s_all; CREATE ROLE s_writer;
GRANT s_group TO s_inner; GRANT s_inner TO s_anna; GRANT s_group TO s_ben; GRANT s_reader TO s_anna;
GRANT s_owner TO s_ben; GRANT s_super TO s_anna;
GRANT pg_read_all_data TO s_all; GRANT pg_write_all_data TO s_writer;
ALTER TABLE shop.people OWNER TO s_owner; ALTER TABLE shop.orders OWNER TO s_owner;
REVOKE ALL ON shop.orders FROM s_owner;
GRANT SELECT (id), UPDATE ("E Mail") ON shop.people TO s_group;
GRANT SELECT ON shop.mails TO PUBLIC; GRANT INSERT, DELETE ON shop.people TO s_reader;
GRANT REFERENCES (id) ON shop.people TO PUBLIC; GRANT SELECT ON shop.events TO s_group;
"""
ROLES = [
    "s_owner",
    "s_group",
    "s_inner",
    "s_reader",
    "s_anna",
    "s_ben",
    "s_super",
    "s_all",
    "s_writer",
]


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[str]:
    """A database of its own on the shared server, as an unprivileged role reaches it."""
    with psycopg.connect(stack.dsn_superuser(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE snapshot")
    with psycopg.connect(stack.dsn_superuser("snapshot"), autocommit=True) as connection:
        connection.execute(OBJECTS)
    yield stack.dsn_direct(user="app_user", dbname="snapshot")
    with psycopg.connect(stack.dsn_superuser(), autocommit=True) as connection:
        connection.execute("DROP DATABASE snapshot WITH (FORCE)")
        connection.execute("DROP ROLE " + ", ".join(ROLES))


@pytest.fixture(scope="module")
def taken(database: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Said, Path]:
    file = tmp_path_factory.mktemp("taken") / "schema.json"
    return scalple("schema", "snapshot", "--dsn", database, "--output", file), file


def test_an_unprivileged_role_takes_a_snapshot(taken: tuple[Said, Path], stack: Stack) -> None:
    said, file = taken
    assert (said.code, said.out) == (0, ""), said.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert password_of("app_user") not in file.read_text() + said.err
    found = snapshot.read(file.read_text())
    assert (found.database, found.server_version // 10_000) == ("snapshot", 15)
    assert abs(found.taken_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)
    named = {one.name: one for one in found.relations}
    assert named["shop.events_1"].kind == "partition"
    assert named["shop.events_1"].parent == "shop.events"
    assert named["shop.sums"].kind == "matview"
    assert [(one.name, one.arguments) for one in found.functions if one.name == "shop.f"] == [
        ("shop.f", ("order_id",))
    ]


def simplified(catalog: Catalog) -> dict[str, Any]:
    """What statements are read by."""
    tables = {
        name: (list(table.columns), sorted(map(sorted, table.keys)), table.types)
        for name, table in catalog.tables.items()
    }
    return {"tables": tables, "views": set(catalog.views), "parents": catalog.parents}


def test_a_dump_of_the_same_database_says_the_same(
    taken: tuple[Said, Path], stack: Stack, database: str
) -> None:
    options = stack.options
    object.__setattr__(options, "database", "snapshot")
    try:
        dump = stack.dump_schema()
    finally:
        object.__setattr__(options, "database", "app")
    ours = simplified(schematext.catalog_of(taken[1].read_text()))
    theirs = simplified(schematext.catalog_of(dump))
    partition = theirs["tables"]["shop.events_1"]
    theirs["tables"]["shop.events_1"] = (partition[0], [], partition[2])
    assert theirs == ours
    for column in ("E Mail", "iban"):
        assert ours["tables"]["shop.people"][2][column] in ("citext", "character varying")


def test_the_server_and_the_snapshot_agree_on_who_may_do_what(
    taken: tuple[Said, Path], stack: Stack
) -> None:
    found = snapshot.read(taken[1].read_text())
    entitled = Entitlements.of(found)
    roles = [*ROLES, "app_user", "postgres", "staff"]
    asked = [
        (role, relation.name, column.name, what)
        for relation in found.relations
        for column in relation.columns
        for role, what in itertools.product(roles, ("SELECT", "INSERT", "UPDATE", "REFERENCES"))
    ]
    with psycopg.connect(stack.dsn_superuser("snapshot")) as connection:
        said = connection.execute(
            "SELECT has_column_privilege(r, (SELECT c.oid FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE n.nspname || '.' || c.relname = t), c, p) "
            "FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS x(r, t, c, p)",
            [list(one) for one in zip(*asked, strict=True)],
        ).fetchall()
        whole = [
            (role, relation.name, what)
            for relation in found.relations
            for role, what in itertools.product(roles, ("SELECT", "DELETE", "TRUNCATE", "TRIGGER"))
        ]
        told = connection.execute(
            "SELECT has_table_privilege(r, (SELECT c.oid FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE n.nspname || '.' || c.relname = t), p) "
            "FROM unnest(%s::text[], %s::text[], %s::text[]) AS x(r, t, p)",
            [list(one) for one in zip(*whole, strict=True)],
        ).fetchall()
    server = [one for (one,) in said]
    ours = [entitled.may(*one) for one in asked]
    assert [a for a, x, y in zip(asked, ours, server, strict=True) if x != y] == []
    assert {True, False} == set(server)
    mine = [entitled.may(role, relation, None, what) for role, relation, what in whole]
    assert [a for a, x, (y,) in zip(whole, mine, told, strict=True) if x != y] == []


def test_who_is_unknown_may_nothing(taken: tuple[Said, Path]) -> None:
    entitled = Entitlements.of(snapshot.read(taken[1].read_text()))
    assert not entitled.may("nobody", "shop.people", "id", "SELECT")
    assert not entitled.may("s_all", "shop.nowhere", "id", "SELECT")
    assert entitled.unentitled(
        "s_group", [("shop.people", "id"), ("shop.people", "iban")], "select"
    ) == [("shop.people", "iban")]


def test_a_snapshot_is_a_schema_from_its_time_on_and_before(taken: tuple[Said, Path]) -> None:
    (text,) = schemafiles.read_all(((str(taken[1]), None),))
    assert text.reaches_back
    log = DdlLog()
    query = "SELECT * FROM shop.people"
    log.says("a", 1, query, database="snapshot")
    log.says("b", 1, query, database="another")
    log.says("c", 1, "SELECT mail FROM shop.mails", database="snapshot")
    rows = read(log.block(), schemafiles.dated((text,)))
    known, unknown = columns_of(rows, query)
    assert known is not None
    assert known[:2] == ["shop.people.id", "shop.people.E Mail"]
    assert unknown is None
    assert columns_of(rows, "SELECT mail FROM shop.mails") == [
        ["shop.people.E Mail", "shop.mails.mail"]
    ]


def test_a_password_is_taken_from_its_file_and_shown_nowhere(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {name: str(value) for name, value in conninfo_to_dict(database).items()}
    secret = parts.pop("password")
    monkeypatch.setenv("PGPASSWORD", secret)
    said = scalple("schema", "snapshot", "--dsn", make_conninfo(**parts))
    assert said.code == 0
    assert snapshot.is_snapshot(said.out)
    monkeypatch.setenv("PGPASSWORD", "wrong-" + secret)
    for dsn in (
        make_conninfo(**parts),
        database.replace(secret, "other-" + secret),
        f"host='{secret}",
        f"postgresql://u:p@{secret}@127.0.0.1/app",
    ):
        said = scalple("schema", "snapshot", "--dsn", dsn, "--output", tmp_path / "none.json")
        assert said.code in (3, 4)
        assert secret not in said.err
        assert "PGPASSWORD" in said.err or "connection string" in said.err
    assert list(tmp_path.iterdir()) == []


SMALL: dict[str, Any] = {
    "v": 1,
    "taken_at": "2026-04-01T00:00:00Z",
    "database": "app",
    "server_version": 150000,
    "search_path": ["public"],
    "relations": [
        {
            "name": "public.users",
            "kind": "table",
            "columns": [{"name": "id", "type": "integer"}],
            "keys": [["id"]],
            "parent": None,
            "query": None,
        }
    ],
    "owners": {"public.users": "owner_role"},
    "grants": [
        {"role": "app_user", "relation": "public.users", "column": "id", "privilege": "SELECT"}
    ],
    "memberships": [{"role": "owner_role", "member": "jmueller", "inherits": True}],
    "roles": [{"name": "postgres", "superuser": True, "login": True}],
}


def test_a_snapshot_made_by_other_means_is_read() -> None:
    entitled = Entitlements.of(Snapshot.model_validate(SMALL))
    assert entitled.may("jmueller", "public.users", "id", "SELECT")
    assert entitled.may("postgres", "public.users", None, "DELETE")
    assert entitled.may("app_user", "public.users", "id", "SELECT")
    assert not entitled.may("app_user", "public.users", None, "SELECT")


@pytest.mark.parametrize(
    "change", [{"v": 2}, {"relations": [{"name": 5}]}, {"taken_at": "yesterday"}, {"relations": []}]
)
def test_a_broken_snapshot_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SMALL | change))
    log = tmp_path / "log.csv"
    log.write_text("x")
    said = scalple("reprocess", "--store", tmp_path / "s", "--postgres-log", log, "--schema", file)
    assert said.code == 3
    assert "schema.json" in said.err
    assert not (tmp_path / "s").exists()
