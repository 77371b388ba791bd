"""A commit's digest: its audit rows once more, in the form in which questions look them up.

Audit rows enter, two small Parquet files leave, which the commit's manifest names as objects
(docs/FORMAT.md, "Digest"):

- `audit-subjects`: which rows name a subject, ordered by its token. It holds half of each token,
  so that it finds too many rows once in billions, and never too few.
- `audit-facts`: per row which statement it was (`statement`) and whose (`person`): all that tells
  whether it may have shown a subject, and all that is counted. Rows share a few such facts, as
  JSON, so that a question tests a few thousand of them and no rows.

A digest says nothing that the rows don't; `verify` makes it again from them. Who asks is `quick`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scalple.ingest.errors import VerificationError
from scalple.store.digestnames import FACTS, NAMES, SUBJECTS
from scalple.store.distinct import Distinct, distinct
from scalple.store.sqlfile import sql_file

STATEMENT = (
    "query_fingerprint",
    "class",
    "command",
    "affected_tables",
    "columns_accessed",
    "columns_basis",
    "access_shape",
)
PERSON = (
    "session_user_id",
    "session_email",
    "on_behalf_of",
    "attribution_candidates",
    "attribution_grade",
    "attribution_method",
    "attribution_reason",
    "findings",
    "database",
)
NEEDED = tuple(dict.fromkeys((*STATEMENT, *PERSON, "query", "subjects")))
"""The columns of `audit` that facts are made of."""
_MADE = {
    "named_columns": """list_sort(list_distinct(list_transform(subjects, lambda s: s."column")))""",
    "brings_others": "brings_others",
}
_HALF = np.uint64(32)
_ROW_GROUP_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class Facts:
    """Per row its facts; a dictionary of JSON objects each.

    Attributes:
        statement: the columns STATEMENT, `named_columns` and `brings_others` (of writes only).
        person: the columns PERSON.
    """

    statement: pa.DictionaryArray
    person: pa.DictionaryArray


class Digester:
    """Makes digests; keeps a connection, DuckDB is only the calculator. For one thread."""

    def __init__(self) -> None:
        self._con = duckdb.connect(config={"threads": 1})
        self._con.execute("SET TimeZone = 'UTC'")
        self._con.execute(sql_file("brings_others.sql"))

    def digest(self, rows: pa.Table) -> dict[str, bytes]:
        """The objects of a commit that has these audit rows."""
        return {SUBJECTS: _to_bytes(subjects_index(rows)), FACTS: _to_bytes(_table(self.facts(rows)))}

    def facts(self, rows: pa.Table) -> Facts:
        """The facts of rows that have at least the columns NEEDED."""
        rows = rows.select(NEEDED)
        if rows.num_rows and rows.column(0).num_chunks > 1:
            rows = _plain(rows).combine_chunks()
        others = self._brings_others(rows)
        named = _column_names(rows.column("subjects"))
        columns = [rows.column(name) for name in STATEMENT]
        statements = distinct([*columns, named, pa.chunked_array([others])], rows.num_rows)
        people = distinct([rows.column(name) for name in PERSON], rows.num_rows)
        given = rows.select([*STATEMENT, "subjects"]).append_column("brings_others", others)
        return Facts(
            self._coded(statements, given, {**{n: f'"{n}"' for n in STATEMENT}, **_MADE}),
            self._coded(people, rows.select(PERSON), {n: f'"{n}"' for n in PERSON}),
        )

    def _coded(
        self, found: Distinct, rows: pa.Table, fields: Mapping[str, str]
    ) -> pa.DictionaryArray:
        packed = ", ".join(f'"{name}" := {made}' for name, made in fields.items())
        self._con.register("given", _plain(rows.take(pa.array(found.first))))
        facts = self._con.sql(sql_file("facts.sql").format(fields=packed)).to_arrow_table()
        return pa.DictionaryArray.from_arrays(found.codes, facts["fact"].combine_chunks())

    def _brings_others(self, rows: pa.Table) -> pa.Array:
        """Of writes only: the test reads the whole text."""
        writes = np.flatnonzero(pc.fill_null(pc.equal(rows.column("access_shape"), "write"), False))
        texts = _plain(rows.select(["query"]).take(pa.array(writes)))
        coded = texts["query"].combine_chunks().dictionary_encode("encode")
        self._con.register("given", pa.table({"text": coded.dictionary}))
        tested = self._con.sql("SELECT brings_others(text) AS b FROM given").to_arrow_table()["b"]
        codes = np.full(rows.num_rows, -1, np.int32)
        codes[writes] = coded.indices.to_numpy(zero_copy_only=False)
        return tested.combine_chunks().take(pa.array(codes, mask=codes < 0))


def subjects_index(rows: pa.Table) -> pa.Table:
    """`token_half` (the upper 32 bits), `seq`: sorted, each pair once."""
    subjects = rows.column("subjects").combine_chunks()
    tokens = np.asarray(subjects.flatten().field("token"), np.uint64)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(subjects), 0), np.int64)
    at = np.repeat(np.arange(rows.num_rows, dtype=np.uint64), lengths)
    pairs = np.unique((tokens >> _HALF << _HALF) | at)
    first = np.uint64(rows.column("seq")[0].as_py())
    return pa.table(
        {
            "token_half": pa.array(_halves(pairs)),
            "seq": pa.array(first + (pairs & np.uint64(2**32 - 1))),
        }
    )


def token_half(token: int) -> int:
    """By which part of it a token is looked up."""
    return token >> 32


def check(objects: Mapping[str, bytes], rows: pa.Table, digester: Digester) -> None:
    """Returns when these are the digest of the rows.

    Raises:
        VerificationError: they aren't.
    """
    if not _read(pa.BufferReader(objects[SUBJECTS])).equals(subjects_index(rows)):
        raise VerificationError(f"{SUBJECTS} isn't what the rows say")
    stored = read_facts(pa.BufferReader(objects[FACTS]))
    made = digester.facts(rows)
    for name, one, other in (
        ("statement", stored.statement, made.statement),
        ("person", stored.person, made.person),
    ):
        if not _same(one, other):
            raise VerificationError(f"{FACTS}: {name} isn't what the rows say")


def read_facts(source: Path | pa.NativeFile) -> Facts:
    """The facts that an object holds.

    Raises:
        VerificationError: it holds none.
    """
    table = _read(source, ["statement", "person"])
    if table.schema.names != ["statement", "person"]:
        raise VerificationError(f"no facts: columns are {table.schema.names}")
    statement, person = (column.unify_dictionaries().combine_chunks() for column in table.columns)
    return Facts(statement, person)


def _same(one: pa.DictionaryArray, other: pa.DictionaryArray) -> bool:
    """Row for row the same JSON values, however they are written."""
    if len(one) != len(other) or one.null_count:
        return False
    pairs = np.unique(
        np.asarray(one.indices, np.int64) << 32 | np.asarray(other.indices, np.int64)
    )
    left, right = one.dictionary.to_pylist(), other.dictionary.to_pylist()
    return all(_equal(left[pair >> 32], right[pair & (2**32 - 1)]) for pair in pairs.tolist())


def _equal(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        value: Any = json.loads(one)
    except ValueError:
        return False
    return bool(value == json.loads(other))


def _halves(pairs: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    return (pairs >> _HALF).astype(np.uint32)


def _column_names(subjects: pa.ChunkedArray) -> pa.ChunkedArray:
    """Per row the columns of the subjects that it names."""
    chunks = []
    for chunk in subjects.chunks:
        lengths = np.asarray(pc.fill_null(pc.list_value_length(chunk), 0), np.int32)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        chunks.append(pa.ListArray.from_arrays(offsets, chunk.flatten().field("column")))
    return pa.chunked_array(chunks, pa.list_(pa.string()))


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries."""
    columns = [
        pa.chunked_array([one.dictionary_decode() for one in column.chunks], column.type.value_type)
        if pa.types.is_dictionary(column.type)
        else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)


def _table(facts: Facts) -> pa.Table:
    return pa.table({"statement": facts.statement, "person": facts.person})


def _to_bytes(table: pa.Table) -> bytes:
    coded = [f.name for f in table.schema if pa.types.is_dictionary(f.type)]
    deltas = {f.name: "DELTA_BINARY_PACKED" for f in table.schema if f.name not in coded}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=table.num_rows if coded else _ROW_GROUP_ROWS,
        compression="zstd",
        compression_level=1,
        store_schema=False,
        use_dictionary=coded,
        dictionary_pagesize_limit=1 << 30,
        column_encoding=deltas or None,
        write_statistics=["token_half"],
    )
    return bytes(sink.getvalue().to_pybytes())


def _read(source: Path | pa.NativeFile, dictionaries: list[str] | None = None) -> pa.Table:
    try:
        return pq.ParquetFile(source, read_dictionary=dictionaries).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise VerificationError(f"no digest: {error}") from error
