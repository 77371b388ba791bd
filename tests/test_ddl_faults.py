"""DDL that was taken back, perhaps taken back, or told in an odd way: nobody is named for it."""

from collections.abc import Sequence
from typing import Any

import pytest

from scalple.cli import schemafiles
from scalple.cli.schemafiles import SchemaText
from scalple.correlate.rules import Rules
from tests.ddl_log import DdlLog, read

USERS = "CREATE TABLE public.users (id bigint PRIMARY KEY, tag text);"
PARTS = "CREATE TABLE public.parts (id bigint PRIMARY KEY, tag text);"
RULES = Rules(
    identifiers={"customer_id": ("public.users.id",)},
    personal_data={"public.users.tag": "redact"},
)
NAMED, MASKED, CLEAR = "named", "masked", "clear"
Step = tuple[Any, ...]


def asks(table: str) -> str:
    return f"SELECT tag FROM {table} WHERE id = 42 AND tag = 'one'"


def ran(*steps: Step, schema: str = USERS, cuts: Sequence[int] = (), again: bool = False) -> Any:
    """What becomes of each statement of `asks`. A step: transaction, text, object, kind, session."""
    log = DdlLog()
    for number, text, *more in steps:
        words = text.removeprefix("/* so */").replace("TEMP TABLE", "TABLE").split()
        is_ddl = words[0] in ("ALTER", "CREATE", "DROP", "PREPARE")
        command = " ".join(words[:2]) if is_ddl else words[0]
        command += " AS" * (" AS SELECT" in text)
        named, kind, session = [*more, None, None, None][:3]
        log.says(session or "a", number, text, command, named, kind=kind or "TABLE")
    base = schemafiles.dated((SchemaText(schema),))
    rows = read(log.block(), base, RULES, cuts, restarting=again)
    return [
        NAMED if row["subjects"] else CLEAR if "'one'" in row["query"] else MASKED
        for row in rows
        if row["query"].startswith("SELECT")
    ]


def renames(number: int, old: str, new: str) -> Step:
    return (number, f"ALTER TABLE {old} RENAME TO {new}", f"public.{new}")


def swap(number: int) -> list[Step]:
    return [
        renames(number, old, new)
        for old, new in (("users", "tmp"), ("parts", "users"), ("tmp", "parts"))
    ]


MADE = (1, "CREATE TABLE public.parts (id bigint PRIMARY KEY, tag text)", "public.parts")
BEGIN, COMMIT = (2, "BEGIN"), (2, "COMMIT")
ADDED = (2, "ALTER TABLE parts ADD COLUMN z int", "public.parts")
BOTH = ((50, asks("users")), (51, asks("parts")))


def said(*texts: str) -> list[Step]:
    return [(2, text) for text in texts]


@pytest.mark.parametrize(
    "inner",
    [
        said("SAVEPOINT s", "RELEASE s", "ROLLBACK TO s"),
        said("SAVEPOINT s", "RELEASE SAVEPOINT s", "ROLLBACK TO SAVEPOINT s"),
        said("SAVEPOINT t", "SAVEPOINT s", "RELEASE t", "/* so */ ROLLBACK WORK TO s"),
    ],
)
def test_a_released_savepoint_is_not_gone_back_to(inner: list[Step]) -> None:
    steps = (MADE, BEGIN, ADDED, (2, "SAVEPOINT s"), *swap(2), *inner, COMMIT, *BOTH)
    for again in (False, True):
        assert ran(*steps, cuts=range(0, 20, 3) if again else (), again=again) == [NAMED, CLEAR]


def test_a_savepoint_from_before_the_first_change_takes_all_back() -> None:
    back = (2, "ROLLBACK TO s")
    assert ran(MADE, BEGIN, (2, "SAVEPOINT s"), *swap(2), back, COMMIT, *BOTH) == [NAMED, CLEAR]
    left = (MADE, BEGIN, (2, "SAVEPOINT s"), renames(2, "users", "u7"), back, COMMIT)
    for cuts in ((), (3,), (4,)):
        taken = ran(*left, renames(3, "parts", "u7"), (50, asks("u7")), BOTH[0], cuts=cuts)
        assert taken == [CLEAR, NAMED]


def test_a_savepoint_of_which_nothing_is_known_leaves_a_doubt() -> None:
    # The BEGIN isn't in the log: perhaps the savepoint was set after the swap and not logged.
    assert ran(MADE, ADDED, *swap(2), (2, "ROLLBACK TO s"), COMMIT, *BOTH) == [MASKED, MASKED]
    both = "SAVEPOINT s; SAVEPOINT t"
    told = (MADE, BEGIN, ADDED, (2, both), *swap(2), (2, both), (2, "ROLLBACK TO s"), COMMIT)
    assert ran(*told, *BOTH) == [MASKED, MASKED]


# -- names that were perhaps given away -------------------------------------------------------------


def test_what_takes_a_name_that_was_perhaps_given_away_is_nobodys_heir() -> None:
    prepared = [
        *(BEGIN, renames(2, "users", "u7"), (2, "PREPARE TRANSACTION 'x'")),
        (3, "ROLLBACK PREPARED 'x'"),
    ]
    took = ran(MADE, *prepared, renames(4, "parts", "u7"), (50, asks("u7")), BOTH[0])
    assert took == [MASKED, NAMED]
    new = (4, "CREATE TABLE public.u7 (id bigint, tag text)", "public.u7")
    assert ran(MADE, *prepared, new, (50, asks("u7")), BOTH[0]) == [MASKED, NAMED]
    on = (renames(4, "u7", "u8"), renames(5, "parts", "u7"))
    assert ran(MADE, *prepared, *on, (50, asks("u7")), (51, asks("u8"))) == [MASKED, NAMED]


def test_what_takes_the_name_of_a_table_that_was_perhaps_dropped_is_nobodys_heir() -> None:
    dropped = (BEGIN, (2, "DROP TABLE users", "public.users"), (2, "PREPARE TRANSACTION 'x'"))
    for first in ((), (MADE,)):
        schema = USERS if first else USERS + PARTS
        taken = (*first, *dropped, renames(4, "parts", "users"), BOTH[0])
        assert ran(*taken, schema=schema) == [MASKED]


def test_a_dropped_name_is_remembered_over_any_number_of_others() -> None:
    dropped = [(at, f"DROP TABLE s{at}", f"public.s{at}") for at in range(10, 270)]
    users = (2, "DROP TABLE users", "public.users")
    for cuts in ((), (100,)):
        steps = (users, *dropped, renames(300, "parts", "users"), (400, asks("users")))
        assert ran(*steps, schema=USERS + PARTS, cuts=cuts, again=True) == [MASKED]


# -- temporary copies ---------------------------------------------------------------------------

COPY = "SELECT * FROM v1 WHERE id = 42 AND tag = 'one'"


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("cuts", [(), (1,), (2,), (3,)])
def test_a_temporary_copy_stays_what_it_was_made_of(cuts: tuple[int, ...], again: bool) -> None:
    def copied(query: str, *later: Step) -> Any:
        made = (1, f"CREATE TEMP TABLE v1 AS {query}", "pg_temp.v1", "TABLE", "x")
        asked = (9, COPY, None, None, "x")
        return ran(made, *later, asked, schema=USERS + PARTS, cuts=cuts, again=again)

    assert copied("SELECT * FROM users", renames(1, "users", "clients")) == [NAMED]
    assert copied("SELECT * FROM users", (1, "DROP TABLE users", "public.users")) == [NAMED]
    assert copied("SELECT * FROM users", *swap(1)) == [NAMED]
    assert copied("SELECT * FROM parts", *swap(1)) == [CLEAR]
    whole = "SELECT public.users.id, public.users.tag FROM public.users"
    assert copied(whole, renames(1, "users", "clients")) == [NAMED]


def test_a_temporary_copy_that_was_made_through_a_view_is_perhaps_the_persons() -> None:
    view = "CREATE VIEW public.vv AS SELECT id, tag AS said FROM public.users;"
    made = "CREATE TEMP TABLE v1 AS SELECT * FROM vv"
    asked = (9, "SELECT * FROM v1 WHERE id = 42 AND said = 'one'", None, None, "x")
    for later in (
        [renames(1, "users", "clients")],
        [(1, "DROP TABLE users", "public.users")],
        swap(1),
    ):
        steps = ((1, made, "pg_temp.v1", "TABLE", "x"), *later, asked)
        assert ran(*steps, schema=USERS + PARTS + view) == [MASKED]
