"""However long or nested a statement is, reading it takes steps in proportion to its length.

Steps are counted, not timed: calls that Python makes while a form is read.
"""

import contextlib
import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate import rewriting, statements, templates
from scalple.correlate.catalog import Catalog, read_schema
from scalple.correlate.rewriting import Unread

IDENTIFIERS = {"public.users.id": ["customer"], "public.orders.user_id": ["customer"]}


def schema(views: int = 0) -> Catalog:
    """Two tables, and views each of which reads the one before twice."""
    text = "CREATE TABLE public.users (id int PRIMARY KEY, name text);"
    text += "CREATE TABLE public.orders (id int PRIMARY KEY, user_id int, note text);"
    text += "CREATE VIEW public.v0 AS SELECT id, name FROM public.users;"
    for n in range(1, views + 1):
        text += f"CREATE VIEW public.v{n} AS SELECT a.id, b.name FROM public.v{n - 1} a, "
        text += f"public.v{n - 1} b WHERE a.id = b.id;"
    return read_schema(text)


def read(text: str, catalog: Catalog | None = None) -> statements.Statement:
    return statements.analyse(templates.split(text)[1], catalog or schema(), IDENTIFIERS)


def steps(work: Callable[[], object]) -> int:
    """How many functions are called."""
    count = 0

    def profile(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    except Unread:
        pass
    finally:
        sys.setprofile(before)
    return count


REPEATED = {
    "alternatives": ("SELECT name FROM users WHERE ", "id = 1", " OR ", ""),
    "conditions": ("SELECT name FROM users u, orders o WHERE ", "u.id = o.user_id", " AND ", ""),
    "a list": ("SELECT name FROM users WHERE id IN (", "1", ", ", ")"),
    "rows": ("INSERT INTO users (id, name) VALUES ", "(1, 'x')", ", ", ""),
    "a sum": ("SELECT name FROM users WHERE id = ", "1", " + ", ""),
    "a sum that is ordered by": ("SELECT id AS a FROM users ORDER BY ", "a", " + ", ""),
    "an aggregate of a sum": ("SELECT ", "id", " + ", " FROM users"),
    "strange operators": ("SELECT ", "id", " === ", " FROM users"),
    "stars": ("SELECT ", "*", ", ", " FROM users, orders"),
    "subqueries": (
        "SELECT name FROM users u WHERE ",
        "EXISTS (SELECT FROM orders o WHERE o.user_id = u.id)",
        " AND ",
        "",
    ),
    "statements": ("", "SELECT name FROM users WHERE id = 1", "; ", ""),
    "branches": ("SELECT CASE ", "WHEN id = 1 THEN name", " ", " END FROM users"),
    "unions": ("", "SELECT id FROM users", " UNION ", ""),
    "blanks": ("DECLARE c", " ", "", ";"),
    "open brackets": ("SELECT ", "a [", " ", ""),
    "SEARCH clauses": ("SELECT ", "SEARCH DEPTH FIRST BY a", " ", ""),
    "INSERT lists": ("SELECT ", "INSERT INTO a (", " ", ""),
}


@pytest.mark.parametrize("what", REPEATED)
def test_twice_the_text_takes_twice_the_steps(what: str) -> None:
    before, unit, between, after = REPEATED[what]
    few = 50 if what == "unions" else 200
    catalog = schema()

    def work(times: int) -> Callable[[], object]:
        text = before + between.join([unit] * times) + after
        return lambda: read(text, catalog)

    steps(work(few))  # what is made once
    once, twice = steps(work(few)), steps(work(2 * few))
    assert twice <= 2.2 * once + 500


def test_relations_beyond_number_are_not_read() -> None:
    for join in (
        "JOIN orders o{n} ON o{n}.id = u.id",
        "JOIN orders o{n} USING (id)",
        ", users u{n}",
    ):
        text = "SELECT 1 FROM users u " + " ".join(join.format(n=n) for n in range(500))
        with pytest.raises(Unread, match="too many relations"):
            read(text)


def test_columns_beyond_number_that_are_equal_are_not_read() -> None:
    chain = " AND ".join(f"t.c{n} = t.c{n + 1}" for n in range(300))
    with pytest.raises(Unread, match="too many columns"):
        read(f"SELECT 1 FROM t WHERE {chain} AND t.c0 = 5")


def test_a_view_of_views_is_read_once_each() -> None:
    few, many = schema(3), schema(30)
    once = steps(lambda: read("SELECT name FROM v3 WHERE id = 5", few))
    assert steps(lambda: read("SELECT name FROM v30 WHERE id = 5", many)) <= 10 * once


OPENING = [
    *("(", "f(", "date(", "cast(", "array[", "case when ", "(select ", "exists(select ", "not (", "a[", "- "),
    *("row(", "sum(", "coalesce(", "a in (", "interval (", "x::decimal(", "count(*) filter (where "),
    *("(select * from (select 1) t where ", "(values (", "f(x => ", "f(distinct ", "a = any (", "'x' "),
    *("with x as (", "extract(day from ", "trim(both 'x' from ", "=== ", "a between ", "a is ", "?- "),
]  # fmt: skip
CLOSING = [
    ")",
    "]",
    " end",
    " then 1 end",
    " as int)",
    "))",
    " over ()",
    "",
    " and 1",
    "::int",
    "[1]",
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["select ", "select 1 from t where ", "insert into t values ", "table ", ""]),
    st.lists(st.tuples(st.sampled_from(OPENING), st.sampled_from(CLOSING)), max_size=5),
    st.integers(1, 40),
)
def test_nesting_of_any_kind_ends(start: str, layers: list[tuple[str, str]], times: int) -> None:
    inner = "".join(opening for opening, _ in layers) * times + "1"
    text = start + inner + "".join(closing for _, closing in reversed(layers)) * times
    with contextlib.suppress(Unread):
        assert read(text).basis in ("parsed", "star-expanded", "unknown")


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("""abAS"'()[].,;*=<>!@#%^&|`?~+-/ \n"""), max_size=60))
def test_rewriting_never_fails(text: str) -> None:
    try:
        plain, _ = rewriting.unwrapped(rewriting.plainer(text))
        rewriting.stranger(f"SELECT {plain}")
    except Unread:
        pass
