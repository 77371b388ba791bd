"""Enriched rows: a table of statements read by hand, and batches of every make.

tests/enriched.txt holds one block per statement: how it was bound, then what the row must say.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.enrichment import COLUMNS, Enricher
from scalple.correlate.record import AUDIT
from scalple.correlate.rules import Rules
from scalple.correlate.subjects import open_sealed, subject_token
from scalple.ingest.errors import ConfigError

KEY = b"k" * 32
SCHEMA = """
CREATE TABLE public.users (
    id bigint NOT NULL,
    email text,
    name text,
    region text,
    iban text,
    subscription_tier text,
    created_at timestamp with time zone DEFAULT now()
);
CREATE TABLE public.orders (id bigint NOT NULL, user_id bigint, total numeric(10,2), note text);
CREATE TABLE public.items (order_id bigint, line int, sku text, PRIMARY KEY (order_id, line));
CREATE VIEW public.eu AS
 SELECT users.id, users.email FROM public.users WHERE (users.region = 'EU'::text);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.orders ADD CONSTRAINT orders_pkey PRIMARY KEY (id);
"""
RULES = Rules(
    identifiers={
        "customer_id": ("public.users.id", "public.orders.user_id"),
        "email": ("public.users.email",),
    },
    personal_data={
        "public.users.email": "email",
        "public.users.iban": "keep-last-4",
        "public.users.name": "redact",
    },
)
IDENTIFIER_OF = {c: name for name, columns in RULES.identifiers.items() for c in columns}
TEXT = pa.string()


def batch(
    queries: list[str | None],
    parameters: list[str | None] | None = None,
    objects: list[tuple[str, str] | None] | None = None,
) -> pa.Table:
    rows = len(queries)
    named = objects or [None] * rows
    return pa.table(
        {
            "query": pa.array(queries, TEXT),
            "parameters": pa.array(parameters or [None] * rows, TEXT),
            "audit_type": pa.array(["SESSION"] * rows, TEXT),
            "class": pa.array(["READ"] * rows, TEXT).dictionary_encode(),
            "command": pa.array(["SELECT"] * rows, TEXT),
            "object_type": pa.array([o and o[0] for o in named], TEXT),
            "object_name": pa.array([o and o[1] for o in named], TEXT),
            "rows_returned": pa.array([None] * rows, pa.int64()),
        }
    )


def enriched(table: pa.Table, schema: str | None = SCHEMA) -> list[dict[str, Any]]:
    result = Enricher(RULES, schema, KEY).enrich(table)
    result.validate(full=True)
    values = [
        f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in result.schema
    ]
    assert result.column_names == list(COLUMNS)
    assert values == [AUDIT.field(name).type for name in COLUMNS]
    rows: list[dict[str, Any]] = result.to_pylist()
    assert len(rows) == table.num_rows
    return rows


def described(query: str, bound: str | None, row: dict[str, Any]) -> str:
    """A row as a block of the table."""

    def bare(names: list[str] | None) -> str:
        return " ".join(name.removeprefix("public.") for name in names or [])

    subjects = [
        f"{bare([s['column']])}="
        f"{open_sealed(KEY, IDENTIFIER_OF[s['column']], s['sealed'])}/{s['basis']}"
        for s in row["subjects"]
    ]
    lines = {
        "bound": bound,
        "shape": f"{row['access_shape'] or '-'}, {row['columns_basis']}",
        "tables": bare(row["affected_tables"]),
        "columns": bare(row["columns_accessed"]),
        "personal": bare(row["masked_fields"]),
        "text": row["query"] if row["query"] != query else "",
        "values": " ".join(row["parameters"] or []),
        "subjects": " ".join(subjects),
    }
    return "\n".join([query, *(f"  {k:<9} {v}" for k, v in lines.items() if v)])


BLOCKS = Path(__file__).with_name("enriched.txt").read_text(encoding="utf-8").strip().split("\n\n")


def asked(block: str) -> tuple[str, str | None]:
    query, second, *_ = block.split("\n")
    return query, second.removeprefix("  bound     ") if second.startswith("  bound") else None


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0][:60])
def test_statement(block: str) -> None:
    query, bound = asked(block)
    row = enriched(batch([query], [bound]))[0]
    assert described(query, bound, row) == block


def test_one_batch_says_what_single_rows_say() -> None:
    queries, bound = zip(*map(asked, BLOCKS), strict=True)
    rows = enriched(batch(list(queries) * 3, list(bound) * 3))
    whole = [described(q, b, r) for q, b, r in zip(queries, bound, rows, strict=False)]
    assert whole == BLOCKS
    assert rows[: len(BLOCKS)] == rows[-len(BLOCKS) :]


def test_one_enricher_gives_the_same_again() -> None:
    table = batch([asked(block)[0] for block in BLOCKS])
    enricher = Enricher(RULES, SCHEMA, KEY)
    assert enricher.enrich(table).equals(enricher.enrich(table))


def test_encodings_and_chunks_make_no_difference() -> None:
    queries = ["SELECT * FROM users WHERE id = 5", None, "SELECT 1", "SELECT 1"]
    plain = batch(queries, ["1", None, "", "a@b.de"])
    coded = plain.set_column(0, "query", plain["query"].dictionary_encode())
    chunks = pa.concat_tables([coded.slice(0, 1), coded.slice(1, 2), coded.slice(3)])
    assert enriched(plain) == enriched(coded) == enriched(chunks)


def test_empty_batch() -> None:
    assert enriched(batch([])) == []


def test_tokens_are_those_of_the_query_side() -> None:
    row = enriched(batch(["SELECT 1 FROM users WHERE id = $1"], ["0042"]))[0]
    assert row["subjects"][0]["token"] == subject_token(KEY, "customer_id", "42")
    assert row["parameters"] == ["id:" + f"{row['subjects'][0]['token']:016x}"[:12]]


def test_without_schema() -> None:
    queries = [
        "SELECT * FROM users WHERE id = 5",
        "SELECT id, email FROM users WHERE region = 'EU'",
        "SELECT email FROM users, orders WHERE user_id = 5 AND other = 1",
    ]
    star, single, joined = enriched(batch(list(queries)), None)
    assert star["columns_basis"] == "unknown"
    assert star["masked_fields"] == ["public.users.email", "public.users.iban", "public.users.name"]
    assert star["access_shape"] == "point"
    assert single["columns_accessed"] == [f"public.users.{c}" for c in ("id", "email", "region")]
    assert joined["columns_basis"] == "unknown"
    assert [s["column"] for s in joined["subjects"]] == ["public.orders.user_id"]


def test_object_named_by_pgaudit() -> None:
    objects = [("TABLE", 'public."My Table"'), ("VIEW", "public.eu"), ("FUNCTION", "public.f")]
    queries = ["SELECT id FROM users", "not sql at 'all", None]
    read, unread, absent = enriched(batch([*queries], ["", "x", "1,,y"], [*objects]))
    assert read["affected_tables"] == ["public.users", "public.My Table"]
    assert (unread["affected_tables"], unread["columns_basis"]) == (["public.eu"], "object-audit")
    assert (unread["query"], unread["parameters"]) == ("not sql at '***'", ["***"])
    assert unread["access_shape"] is unread["columns_accessed"] is unread["masked_fields"] is None
    assert (absent["query"], absent["columns_basis"]) == (None, "unknown")
    assert absent["query_fingerprint"] is absent["affected_tables"] is None
    assert absent["parameters"] == ["***", "", "***"]


def test_parameters() -> None:
    query = "SELECT $2::text, $3::text FROM users WHERE name = $1"
    bound = [
        None,
        "",
        "Ann",
        "Ann,x",
        'Ann,"a,""b""",Ann',
        "Anna,Anna,x",
        "<long param suppressed>",
    ]
    rows = enriched(batch([query] * len(bound), [*bound]))
    assert [row["parameters"] for row in rows] == [
        None,
        [""],
        ["***"],
        ["***", "x"],
        ["***", 'a,"b"', "Ann"],  # short values are masked where they are tied to the column only
        ["***", "***", "x"],
        ["<long param suppressed>"],
    ]


def test_a_parameter_is_hidden_in_the_comment_that_repeats_it() -> None:
    queries = [f"SELECT 1 FROM users WHERE name = $1 /* for {n} */" for n in ("Annabel", "Bob")]
    rows = enriched(batch([*queries], ["Annabel", "Bobby"]))
    assert rows[0]["query"] == "SELECT 1 FROM users WHERE name = $1 /* for *** */"
    assert rows[1]["query"] == queries[1]


def test_detectors_in_loose_values() -> None:
    query = "SELECT $1, 'see j.doe@x.de', 'DE89370400440532013000', 'DE89370400440532013001'"
    row = enriched(batch([query], ["4111 1111 1111 1111"]))[0]
    assert row["parameters"] == ["****1111"]
    assert row["query"] == "SELECT $1, 'see j***@***.de', '****3000', 'DE89370400440532013001'"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (
            'SELECT id FROM users WHERE name = "Zanzibarski"',
            "SELECT id FROM users WHERE name = ***",
        ),
        (
            "SELECT lower(name) FROM public.users WHERE email = zanz.secret@x.de -- Zanz",
            "SELECT lower(name) FROM public.users WHERE email = ***.***@***.*** -- ***",
        ),
        (
            "SELECT id FROM users WHERE name IS DISTINCT FROM Zanz AND region = 'EU'",
            "SELECT id FROM users WHERE name IS DISTINCT FROM *** AND region = 'EU'",
        ),
        ("SELECT id FROM salaries", "SELECT id FROM salaries"),
    ],
)
def test_words_nobody_knows(query: str, shown: str) -> None:
    enricher = Enricher(RULES, SCHEMA, KEY)
    masked = enricher.enrich(batch([query]))["query"][0].as_py()
    assert enricher.without_strange_names(masked) == shown


def test_no_constant_reaches_the_record() -> None:
    asked_of = [asked(block) for block in BLOCKS if "Zanz" in block]
    assert len(asked_of) > 30
    for schema in (SCHEMA, None):
        rows = enriched(batch([q for q, _ in asked_of], [b for _, b in asked_of]), schema)
        assert "zanz" not in str(rows).lower()


@pytest.mark.parametrize(
    "query",
    [
        *[
            "select '",
            'select "',
            "select $$",
            "/*",
            "select e'\\",
            "'" * 999,
            "$1$2",
            ";;",
            "\x00",
        ],
        *[
            "\x01\x02\x03 'x' 1",
            "\ufeffselect 1",
            "select '\U0001f600' from tàble",
            "1e+",
            "'\ud7ff'",
        ],
        "select " + "(" * 5000 + "1" + ")" * 5000,
        "select " + "not " * 5000 + "true",
        "select " + "case when true then " * 5000 + "1",
        "select " + "date(" * 40 + "1" + ")" * 40,
        "select " + "array[" * 40 + "1" + "]" * 40,
        "select a" + "[1]" * 5000,
        "select 1" + " union select 1" * 3000,
        "select * from " + "(select * from " * 3000 + "users" + ") x" * 3000,
        "select 1 from users where " + " or ".join(["id = 1"] * 2000),
        "select '" + "x" * 3_000_000 + "' from users where email = 'a@b.de'",
        "select " + "1," * 200_000 + "1",
        "select " + "x" * 1_000_000,
        "declare c " + " " * 100_000 + ";",
    ],
    ids=lambda query: query[:20],
)
def test_hostile_text(query: str) -> None:
    row = enriched(batch([query, "SELECT 1"], ["x", None]))[0]
    assert "a@b.de" not in row["query"]


NOISE = st.lists(
    st.sampled_from(
        [
            "select",
            "from",
            "where",
            "and",
            "or",
            "(",
            ")",
            ",",
            "*",
            "=",
            "id",
            "email",
            "users",
            "orders",
            "u",
            ".",
            "'a@b.de'",
            "42",
            "$1",
            "$2",
            "in",
            "any",
            "values",
            "insert",
            "into",
            "update",
            "set",
            "delete",
            "join",
            "on",
            "using",
            "with",
            "as",
            "case",
            "when",
            "end",
            "--",
            "/*",
            "*/",
            '"',
            "'",
            ";",
            "::",
            "int",
            "null",
            "not",
            "exists",
            "union",
            "order",
            "by",
            "limit",
            "[",
            "]",
            "copy",
            "to",
            "stdin",
            "merge",
            "E'",
            "$$",
            "\n",
        ]
    ),
    max_size=25,
).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(NOISE | st.text(max_size=40), max_size=6), st.text(max_size=20))
def test_any_text_at_all(queries: list[str], bound: str) -> None:
    queries = [q.encode("utf-8", "replace").decode() for q in queries]
    bound = bound.encode("utf-8", "replace").decode()
    for query, row in zip(
        queries, enriched(batch([*queries], [bound] * len(queries))), strict=True
    ):
        assert (row["query"] == query) or ("***" in row["query"]) or ("id:" in row["query"])


def test_unknown_rule() -> None:
    with pytest.raises(ConfigError, match="unknown masking rule"):
        Enricher(Rules(personal_data={"public.users.email": "blur"}), None, KEY)


def test_short_key() -> None:
    with pytest.raises(ConfigError, match="32 bytes"):
        Enricher(RULES, None, b"short")


@settings(max_examples=50, deadline=None)
@given(mentioned=st.lists(st.integers(1, 6), max_size=3), given_values=st.integers(0, 6))
def test_an_argument_that_goes_by_its_name_is_nobodys_to_read(
    mentioned: list[int], given_values: int
) -> None:
    """The body of a function names its arguments; the log gives them by number."""
    text = "SELECT * FROM users WHERE name = n" + "".join(f" AND region <> ${n}" for n in mentioned)
    bound = ",".join(f"Secret Person {n}" for n in range(1, given_values + 1))
    (row,) = enriched(batch([text], [bound or None]))
    shown = row["parameters"] or []
    assert len(shown) == given_values
    for n, value in enumerate(shown, start=1):
        assert value == "***" or n in mentioned
