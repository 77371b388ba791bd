"""A corpus of statements whose meaning was worked out by hand, from PostgreSQL's own semantics.

tests/corpus/*.toml, a file for each concept, and the schema they are about. An entry says what
pgAudit logs (`sql`, `parameters`, class and command) and what the record must say. In masked texts
«customer_id 5» is the mask of an identifier, «hash x» a keyed hash. `possible_for` is whether the
statement could have shown customer 4711, whom no entry names. `limit` says why an entry expects
less than PostgreSQL's semantics would allow: then nothing may be claimed that isn't so.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from scalple.correlate.enrichment import Enricher
from scalple.correlate.rules import Rules
from scalple.correlate.subjects import Sealer, open_sealed, subject_token
from scalple.store.possible import possible
from scalple.store.question import Question
from scalple.store.sqlfile import sql_file

KEY = b"k" * 32
CORPUS = Path(__file__).with_name("corpus")
RULES = Rules(
    identifiers={
        "customer_id": (
            "public.users.id",
            "public.orders.user_id",
            "public.payments.user_id",
            "public.events.user_id",
            "public.Customer Notes.UserId",
        ),
        "email": ("public.users.email", "crm.contacts.email"),
        "contact_id": ("crm.contacts.id",),
    },
    personal_data={
        "public.users.email": "email",
        "public.users.name": "redact",
        "public.users.iban": "keep-last-4",
        "public.users.born": "date-year",
        "public.payments.card": "keep-last-4",
        "public.events.payload": "redact",
        "public.Customer Notes.Body": "redact",
        "crm.contacts.email": "email",
        "crm.contacts.phone": "hash",
    },
    functions={
        "public.get_order_by_id": ("customer_id",),
        "crm.find_contact": ("contact_id", ""),
        "public.forget": ("", "customer_id"),
    },
)
ANOTHER = subject_token(KEY, "customer_id", "4711")

Entry = dict[str, Any]


def entries() -> list[tuple[str, Entry]]:
    """(concept, entry) of the whole corpus."""
    found = []
    for path in sorted(CORPUS.glob("*.toml")):
        for entry in tomllib.loads(path.read_text("utf-8"))["statement"]:
            found.append((path.stem, entry))
    return found


ENTRIES = entries()


def batch(statements: list[Entry]) -> pa.Table:
    """The columns of pgAudit's records that enrichment and the question read."""

    def column(name: str) -> pa.Array:
        return pa.array([entry.get(name) for entry in statements], pa.string())

    return pa.table(
        {
            "query": column("sql"),
            "parameters": column("parameters"),
            "class": pa.array([entry["pgaudit"][0] for entry in statements], pa.string()),
            "command": pa.array([entry["pgaudit"][1] for entry in statements], pa.string()),
            "object_type": column("object_type"),
            "object_name": column("object_name"),
        }
    )


@pytest.fixture(scope="module")
def enriched() -> list[Entry]:
    """What one batch of the whole corpus says of each entry."""
    schema = (CORPUS / "schema.sql").read_text("utf-8")
    table = batch([entry for _, entry in ENTRIES])
    result = Enricher(RULES, schema, KEY).enrich(table)
    for name in ("class", "command"):
        result = result.append_column(name, table[name])
    rows = range(len(ENTRIES))
    result = result.append_column("seq", pa.array(rows, pa.uint64()))
    result = result.append_column("log_time", pa.array(rows, pa.timestamp("us", "UTC")))
    audit = result.append_column("origin", pa.array(["db1"] * len(ENTRIES)))
    con = duckdb.connect()
    con.register("audit", audit)
    con.execute(sql_file("writing.sql"))
    found = [row["seq"] for row in possible(con, question())]
    said = [row | {"possible_for": False} for row in result.to_pylist()]
    for seq in found:
        said[seq]["possible_for"] = True
    return said


def question() -> Question:
    """Who could have seen customer 4711?"""
    return Question(
        tokens=(("customer_id", ANOTHER),),
        subject_columns=RULES.identifiers["customer_id"],
        personal_columns=tuple(RULES.personal_data),
    )


def with_masks(text: str) -> str:
    """An expected text with the masks that depend on the key."""

    def mask(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name == "hash":
            return "h:" + Sealer(KEY).digest(b"mask", value)[:8].hex()
        return "id:" + f"{subject_token(KEY, name, value):016x}"[:12]

    return re.sub(r"«(\w+) ([^»]*)»", mask, text)


def expected(entry: Entry) -> Entry:
    """An entry in the form of `told`."""
    masked: list[str] | None = entry.get("masked_parameters")
    text: str = entry.get("masked") or entry["sql"]
    return {
        "query": with_masks(text),
        "parameters": masked and [with_masks(value) for value in masked],
        "tables": "tables" in entry and sorted(entry["tables"]),
        "columns": "columns" in entry and sorted(entry["columns"]),
        "basis": entry["basis"],
        "shape": entry.get("shape"),
        "subjects": sorted(entry.get("subjects", [])),
        "possible_for": entry["possible_for"],
    }


def told(row: Entry, entry: Entry) -> Entry:
    """What the record says, in the corpus's words."""
    names = {f"{f}({n})": i for f, a in RULES.functions.items() for n, i in enumerate(a, 1)}
    for identifier, columns in RULES.identifiers.items():
        names |= dict.fromkeys(columns, identifier)
    subjects = []
    for one in row["subjects"]:
        name = names[one["column"]]
        value = open_sealed(KEY, name, one["sealed"])
        assert one["token"] == subject_token(KEY, name, value)
        subjects.append([name, one["column"], value, one["basis"]])
    tables, columns = row["affected_tables"], row["columns_accessed"]
    return {
        "query": row["query"],
        "parameters": row["parameters"],
        "tables": tables is not None and sorted(tables),
        "columns": columns is not None and sorted(columns),
        "basis": row["columns_basis"],
        "shape": row["access_shape"],
        "subjects": sorted(subjects),
        "possible_for": row["possible_for"],
    }


@pytest.mark.parametrize(
    "place", range(len(ENTRIES)), ids=lambda i: f"{ENTRIES[i][0]}: {ENTRIES[i][1]['sql'][:70]}"
)
def test_the_record_says_what_the_statement_means(place: int, enriched: list[Entry]) -> None:
    entry = ENTRIES[place][1]
    assert told(enriched[place], entry) == expected(entry)


@pytest.mark.parametrize("limit", sorted({e["limit"] for _, e in ENTRIES if "limit" in e}))
def test_what_is_limited_claims_nothing(limit: str) -> None:
    """It counts as possible, or says that the text doesn't tell all."""
    for _, entry in ENTRIES:
        if entry.get("limit") == limit:
            assert entry["possible_for"] or entry["basis"] != "parsed"


def test_the_corpus_is_large_and_covers_each_concept() -> None:
    concepts = {concept for concept, _ in ENTRIES}
    assert len(ENTRIES) >= 400
    assert len(concepts) >= 20
