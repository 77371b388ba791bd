"""What texts do to identity variables: read where it is certain, `unclear` where it isn't, never wrong."""

import dataclasses
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.ingest.variables import NOTHING, Effect, Parameter, Setting, Variables
from tests.stack import Stack

VARIABLES = Variables(("app.current_user", "app.tenant"))

ANNA = Effect((Setting("anna"),))
LOCAL = Effect((Setting("anna", True),))
GONE = Effect((Setting(None),))

READ = {
    "SET app.tenant = 'anna'": ANNA,
    "set APP.Tenant to anna;": ANNA,
    "SET SESSION app.tenant = 'anna'": ANNA,
    "-- so\rSET app.tenant = 'anna'": ANNA,
    "/* a /* nested */ comment */ SET app.tenant TO 'anna' -- so": ANNA,
    """SET "app"."current_user" = 'anna'""": ANNA,
    "SET LOCAL app.tenant = 'anna'": LOCAL,
    "SET app.tenant = 'an''na'": Effect((Setting("an'na"),)),
    "SET app.tenant = DEFAULT": GONE,
    "SET app.tenant = ''": GONE,
    "RESET app.tenant": GONE,
    "RESET ALL": GONE,
    "DISCARD ALL": GONE,
    "SELECT set_config('app.tenant', 'anna', false)": ANNA,
    "select pg_catalog.set_config('app.tenant'::text, $$anna$$, true) as x;": LOCAL,
    "SELECT set_config('app.tenant', $1, true)": Effect((Setting(Parameter(0), True),)),
    "SELECT set_config($1, $2::varchar, $3)": Effect(
        (Setting(Parameter(1), Parameter(2), Parameter(0)),)
    ),
    "SELECT set_config('search_path', '', false), set_config('app.tenant', 'anna', false)": ANNA,
    "SET app.tenant = 'anna'; SELECT 1": Effect((Setting("anna"),), alone=False),
    "BEGIN; SET LOCAL app.tenant = 'anna'; COMMIT": Effect(
        (Setting("anna", True),), alone=False, ends=True
    ),
}
NOTHINGS = (
    "SELECT 1",
    "SET application_name = 'x'",
    "SET search_path = 'app.tenant'",
    "SELECT set_config('search_path', '', false)",
    (
        "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings "
        "WHERE name = 'restrict_nonsystem_relation_kind'"
    ),
    "SELECT current_setting('app.tenant')",
    "SELECT ';', 'set app.tenant = x'; SELECT 2",
    "UPDATE users SET name = 'SET app.tenant = 1'; SELECT 1",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET TIME ZONE 'UTC'",
    "DISCARD PLANS",
    "RESET search_path",
    "-- SET app.tenant = 'x'\nSELECT 1",
    "SET app.other = 'x'",
    "DO $$ BEGIN PERFORM 1; END $$",
)
UNCLEAR = (
    "SELECT set_config('app.' || 'tenant', 'anna', false)",
    "SELECT set_config('app.tenant', name, false) FROM users",
    "SELECT set_config('app.tenant', (SELECT 'x'), false)",
    "WITH a AS (SELECT set_config('app.tenant', 'x', false)) SELECT * FROM a",
    "INSERT INTO log SELECT set_config('app.tenant', 'x', true)",
    "DO $$ BEGIN PERFORM set_config('app.tenant', 'x', false); END $$",
    "DO $$ BEGIN SET app.tenant = 'x'; END $$",
    r"SET app.tenant = E'an\x6ea'",
    r"SET app.tenant = 'an\na'",
    "SET app.tenant = U&'anna'",
    "SET app.tenant = 'anna', 'bert'",
    "EXPLAIN ANALYZE SELECT set_config('app.tenant', 'x', false)",
    "SET app.tenant = 'anna'; ROLLBACK",
    "SET app.tenant = 'x",
    "SET app.tenant = 007",
    "SET app.tenant = ÄNNA",
    """SET U&"app".tenant = 'anna'""",
    r"""SELECT U&"set\005fconfig"('app.tenant', 'x', false)""",
    "SELECT set_config(" * 40,
    "SELECT 1; SET app.tenant = 'x'; --" + "x" * 70_000,
)


@pytest.mark.parametrize("text", READ)
def test_what_is_certain_is_read(text: str) -> None:
    assert VARIABLES.may_matter(text.encode())
    effect = VARIABLES.read(text.encode())
    named = tuple(dataclasses.replace(one, variable=None) for one in effect.settings)
    assert dataclasses.replace(effect, settings=named) == READ[text]
    assert {one.variable for one in effect.settings} <= {None, *VARIABLES.names}


@pytest.mark.parametrize("text", NOTHINGS)
def test_what_sets_nothing_is_nothing(text: str) -> None:
    assert not VARIABLES.may_matter(text.encode()) or VARIABLES.read(text.encode()) is NOTHING


@pytest.mark.parametrize("text", UNCLEAR)
def test_what_may_set_it_in_other_ways_is_unclear(text: str) -> None:
    assert VARIABLES.may_matter(text.encode())
    assert VARIABLES.read(text.encode()).unclear


pieces = st.sampled_from(
    [
        "SET",
        "app.tenant",
        "=",
        "TO",
        "'anna'",
        "''",
        "'a''b'",
        ";",
        "SELECT",
        "set_config(",
        "'app.tenant'",
        ",",
        "true",
        "false",
        ")",
        "/*",
        "*/",
        "--",
        "\n",
        "$$",
        "$x$",
        '"app"',
        ".",
        "E'\\''",
        "LOCAL",
        "RESET",
        "ALL",
        "1",
        "'",
        '"',
        "(",
        "$1",
        "::text",
        "DO",
        "U&'x'",
        "N'n'",
        "BEGIN",
        "ROLLBACK",
    ]
)


@settings(max_examples=2000, deadline=None)
@given(st.lists(pieces, max_size=14), st.sampled_from(["", " "]))
def test_any_text_is_read_without_an_error(parts: list[str], between: str) -> None:
    text = between.join(parts).encode()
    effect = VARIABLES.read(text)
    if effect is not NOTHING and not effect.unclear:
        assert VARIABLES.may_matter(text)


@pytest.fixture(scope="module")
def connection(stack: Stack) -> "Iterator[psycopg.Connection[tuple[str, ...]]]":
    """A server to ask."""
    with psycopg.connect(stack.dsn_superuser(), autocommit=True) as one:
        yield one


@pytest.mark.stack
@settings(max_examples=400, deadline=None)
@given(st.lists(pieces, min_size=3, max_size=10))
def test_postgresql_agrees(
    connection: "psycopg.Connection[tuple[str, ...]]", parts: list[str]
) -> None:
    text = " ".join(parts)
    effect = VARIABLES.read(text.encode())
    connection.execute("SELECT set_config('app.tenant', 'before', false)")
    try:
        connection.execute(text.encode())
    except psycopg.Error:
        connection.rollback()
        return
    finally:
        connection.execute("ROLLBACK")
    (now,) = connection.execute("SELECT current_setting('app.tenant', true)").fetchone() or ("",)
    if effect.unclear:
        return
    lasting = [one.value for one in effect.settings if one.local is False]
    assert (now or None) == (lasting[-1] if lasting else "before"), text
