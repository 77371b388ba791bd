"""Whatever a constant is wrapped in: beside a personal or identifier column it isn't in the record."""

import pyarrow as pa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from scalple.correlate.enrichment import Enricher
from tests.test_corpus import CORPUS, KEY, RULES, batch

ENRICHER = Enricher(RULES, (CORPUS / "schema.sql").read_text("utf-8"), KEY)

# {a} and {b} are values, {c} is the column.
TEXT_VALUES = [
    *("lower({a})", "{a} || {b}", "coalesce({a}, {b})", "({a})", "{a}::text", "trim({a})"),
    *("CASE WHEN tier = 'x' THEN {a} ELSE {b} END", "concat({a}, {b})", "(ARRAY[{a}, {b}])[1]"),
    *("nullif({a}, {b})", "replace({a}, {b}, {a})", "format('%s', {a})", "substring({a} FROM 1)"),
    *("overlay({a} PLACING {b} FROM 1)", "my_func({a})", "pg_catalog.upper({a})", "(SELECT {a})"),
    *('({a} COLLATE "C")', "split_part({a}, {b}, 1)", "to_json({a})::text", "left({a}, 3)"),
    *("CASE {a} WHEN {b} THEN {a} END", "greatest({a}, {b})", "(VALUES ({a}))", "md5({a})"),
]
NUMBER_VALUES = [
    *("abs({a})", "{a} + {b}", "- {a}", "({a})", "{a}::bigint", "coalesce({a}, {b})", "int8({a})"),
    *("CASE WHEN tier = 'x' THEN {a} ELSE {b} END", "(ARRAY[{a}])[1]", "greatest({a}, {b})"),
    *("(SELECT {a})", "nullif({a}, {b})", "power({a}, {b})", "my_func({a})", "{a} % {b}", "~{a}"),
    *("@ {a}", "{a} # {b}", "mod({a}, {b})", "CAST({a} AS numeric(10, 2))", "(VALUES ({a}))"),
]
PREDICATES = [
    *("{c} = {a}", "{a} = {c}", "{c} <> {a}", "{c} IS DISTINCT FROM {a}", "{c} === {a}"),
    *("{c} IN ({a}, {b})", "{c} NOT IN ({a})", "{c} BETWEEN {a} AND {b}", "{c}::text LIKE {a}::text"),
    *("{c} = ANY (ARRAY[{a}, {b}])", "{c} = SOME (ARRAY[{a}])", "{c} <> ALL (ARRAY[{a}])"),
    *("({c}, tier) = ({a}, 'x')", "ROW({c}, tier) IN (({a}, 'x'))", "({c} = {a}) IS NOT TRUE"),
    *("NOT ({c} = {a})", "{c} IN (SELECT {a})", "EXISTS (SELECT 1 WHERE {c} = {a})"),
    *("{c} IN (VALUES ({a}))", "CASE WHEN {c} = {a} THEN true END", "CASE {c} WHEN {a} THEN true END"),
    *("CASE WHEN tier = 'x' THEN {c} ELSE {a} END = {b}", "ARRAY[{c}] && ARRAY[{a}]"),
    *("coalesce({c}, {a}) > {b}", "({c} = {a}) = false", "nullif({c}, {a}) IS NULL"),
]  # fmt: skip
STATEMENTS = [
    *("SELECT tier FROM users u WHERE {p}", "SELECT tier FROM users u WHERE tier = 'q' OR {p}"),
    *("DELETE FROM users u WHERE {p}", "UPDATE users u SET tier = 'a' WHERE {p}"),
    *("UPDATE users SET {c} = {a} WHERE tier = 'q'", "UPDATE users SET ({c}, tier) = ({a}, 'x')"),
    *("UPDATE users SET ({c}, tier) = (SELECT {a}, 'x')", "INSERT INTO users ({c}) VALUES ({a})"),
    *("INSERT INTO users ({c}) SELECT {a}", "SELECT tier FROM users u JOIN orders o ON {p}"),
    "INSERT INTO users ({c}) VALUES ({a}) ON CONFLICT ({c}) DO UPDATE SET {c} = {b}",
    *("SELECT tier FROM (SELECT {c}, tier FROM users) u WHERE {p}", "SELECT {p} FROM users"),
    *("SELECT count(*) FILTER (WHERE {p}) FROM users u", "SELECT tier FROM users ORDER BY {p}"),
    *("WITH u AS (SELECT * FROM users) SELECT tier FROM u WHERE {p}", "SELECT {c} FROM users UNION SELECT {a}"),
    *("WITH x AS (SELECT {a} AS k) SELECT tier FROM users, x WHERE {c} = x.k",),
    *("SELECT tier FROM users JOIN (VALUES ({a})) w(k) ON w.k = {c}", "COPY (SELECT FROM users WHERE {p}) TO STDOUT"),
    "MERGE INTO users u USING orders o ON u.id = o.id WHEN MATCHED THEN UPDATE SET {c} = {a}",
]  # fmt: skip


def built(column: str, constant: str, values: list[str]) -> st.SearchStrategy[str]:
    """Statements in which the constant is compared with, or given to, the column."""

    def wrapped(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.builds(lambda t, a, b: t.format(a=a, b=b), st.sampled_from(values), inner, inner)

    value = st.recursive(st.just(constant), wrapped, max_leaves=4)
    return st.builds(
        lambda s, p, a, b: s.format(p=p.format(a=a, b=b, c=column), a=a, b=b, c=column),
        st.sampled_from(STATEMENTS),
        st.sampled_from(PREDICATES),
        value,
        value,
    )


@settings(max_examples=60, deadline=None, phases=(Phase.generate,))
@given(
    st.lists(
        built("name", "'Zanzibarski'", TEXT_VALUES) | built("id", "987654", NUMBER_VALUES),
        min_size=5,
        max_size=15,
    )
)
def test_no_constant_beside_such_a_column_is_in_the_record(texts: list[str]) -> None:
    table: pa.Table = batch([{"sql": text, "pgaudit": ["READ", "SELECT"]} for text in texts])
    for text, masked in zip(texts, ENRICHER.enrich(table)["query"].to_pylist(), strict=True):
        assert "Zanz" not in masked, text
        assert "987654" not in masked, text
