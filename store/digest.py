"""A commit's digest: its audit rows once more, in the form in which questions look them up.

Audit rows enter, three small Parquet files leave, which the commit's manifest names as objects
(docs/FORMAT.md, "Digest"):

- `audit-subjects`: which rows name a subject, ordered by its token. It holds half of each token,
  so that it finds too many rows once in billions, and never too few.
- `audit-rows`: per row the numbers of which statement it was and whose (all that tells whether it
  may have shown a subject, and all that is counted), when it was, and of how many rows. Many
  share such facts, so that a question tests some thousands of them and no rows.
- `audit-facts`: what those numbers mean, as JSON; each fact once per opening of the writer.

A digest says nothing that the rows don't; `verify` makes it again from them. Who asks is `quick`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scalple.correlate.record import AUDIT
from scalple.ingest.errors import VerificationError
from scalple.store.digestnames import (
    FACTS,
    MEASURES,
    NEEDED,
    PERSON,
    ROWS,
    SINCE,
    STATEMENT,
    SUBJECTS,
)
from scalple.store.distinct import Distinct, distinct
from scalple.store.sqlfile import sql_file

_MADE = {
    "named_columns": """list_sort(list_distinct(list_transform(subjects, lambda s: s."column")))""",
    "brings_others": "brings_others",
    "rewritten": "rewritten",
}
_FACTS = pa.schema([("of", pa.string()), ("fact", pa.string())])
_HALF = np.uint64(32)
_LOOKED_UP_ROWS = 16_384
_READ_ROWS = 131_072
"""How many rows stand together in a file: few where few are wanted; where all are read, DuckDB gives each
of its threads so many."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Per row its facts; a dictionary of JSON objects each.

    Attributes:
        statement: the columns STATEMENT, `named_columns`, and of writes only `brings_others` and
            `rewritten`.
        person: the columns PERSON.
    """

    statement: pa.DictionaryArray
    person: pa.DictionaryArray

    def slice(self, first: int, count: int) -> "Facts":
        """Those of some rows."""
        return Facts(self.statement.slice(first, count), self.person.slice(first, count))


@dataclass(frozen=True, slots=True)
class Numbered:
    """Per row the numbers of its facts, as `audit-rows` has them.

    Attributes:
        since: the manifest from which on facts are numbered.
        statement: int32, counted among the statements of `audit-facts` since then.
        person: likewise.
        measures: the columns MEASURES.
    """

    since: int
    statement: pa.Array
    person: pa.Array
    measures: pa.Table


@dataclass(frozen=True, slots=True)
class Meaning:
    """What `audit-facts` of one commit adds: JSON objects."""

    statements: list[str]
    people: list[str]


@cache
def _calculator() -> duckdb.DuckDBPyConnection:
    """One database in memory for all: to make one takes longer than a small digest."""
    con = duckdb.connect(config={"threads": 1})
    con.execute(sql_file("writing.sql"))
    return con


class Digester:
    """Finds the facts of rows; DuckDB is only the calculator. For one thread."""

    def __init__(self) -> None:
        self._con = _calculator().cursor()
        self._con.execute("SET TimeZone = 'UTC'")

    def facts(self, rows: pa.Table) -> Facts:
        """The facts of rows that have at least the columns NEEDED."""
        rows = rows.select(NEEDED)
        if rows.num_rows and rows.column(0).num_chunks > 1:
            rows = _plain(rows).combine_chunks()
        others, rewritten = self._writing(rows)
        named = _column_names(rows.column("subjects"))
        columns = [rows.column(name) for name in STATEMENT]
        said = [pa.chunked_array([others]), pa.chunked_array([rewritten])]
        statements = distinct([*columns, named, *said], rows.num_rows)
        people = distinct([rows.column(name) for name in PERSON], rows.num_rows)
        given = rows.select([*STATEMENT, "subjects"]).append_column("brings_others", others)
        given = given.append_column("rewritten", rewritten)
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

    def _writing(self, rows: pa.Table) -> tuple[pa.Array, pa.Array]:
        """`brings_others` and `rewritten`, of writes only: they read the whole text."""
        writes = np.flatnonzero(pc.fill_null(pc.equal(rows.column("access_shape"), "write"), False))
        texts = _plain(rows.select(["query"]).take(pa.array(writes)))
        coded = texts["query"].combine_chunks().dictionary_encode("encode")
        self._con.register("given", pa.table({"text": coded.dictionary}))
        tested = self._con.sql(
            "SELECT brings_others(text) AS b, rewritten_by(text) AS r FROM given"
        ).to_arrow_table()
        codes = np.full(rows.num_rows, -1, np.int32)
        codes[writes] = coded.indices.to_numpy(zero_copy_only=False)
        index = pa.array(codes, mask=codes < 0)
        return tuple(tested[name].combine_chunks().take(index) for name in ("b", "r"))


class Numbering:
    """Digests one commit after the other; remembers which facts have a number."""

    def __init__(self) -> None:
        self._digester = Digester()
        self._since: int | None = None
        self._statements: dict[str, int] = {}
        self._people: dict[str, int] = {}

    def digest(self, n: int, rows: pa.Table) -> dict[str, bytes]:
        """The objects of commit `n`, which has these audit rows."""
        if self._since is None:
            self._since = n
        return to_objects(self.tables(rows), str(self._since))

    def tables(self, rows: pa.Table) -> dict[str, pa.Table]:
        """The same as tables, whatever commits the rows are of."""
        facts = self._digester.facts(rows)
        statement, statements = _numbered(facts.statement, self._statements)
        person, people = _numbered(facts.person, self._people)
        measures = {name: rows.column(name) for name in MEASURES}
        added = {
            "of": [*["statement"] * len(statements), *["person"] * len(people)],
            "fact": [*statements, *people],
        }
        return {
            SUBJECTS: subjects_index(rows),
            ROWS: pa.table({"statement": statement, "person": person, **measures}),
            FACTS: pa.table(added, _FACTS),
        }


def to_objects(tables: Mapping[str, pa.Table], since: str) -> dict[str, bytes]:
    """The bytes of a digest, or of parts of one."""
    numbered = {SINCE: since}
    how: dict[str, dict[str, Any]] = {
        SUBJECTS: {"sorted_by": ("token_half", "seq"), "group": _LOOKED_UP_ROWS, "ranged": True},
        ROWS: {"sorted_by": ("log_time",), "group": _READ_ROWS},
        FACTS: {},
    }
    return {
        name: _to_bytes(
            table.replace_schema_metadata(numbered) if name == ROWS else table, **how[name]
        )
        for name, table in tables.items()
    }


def _numbered(facts: pa.DictionaryArray, known: dict[str, int]) -> tuple[pa.Array, list[str]]:
    """Per row its fact's number, and the facts that got one now."""
    before = len(known)
    texts = facts.dictionary.to_pylist()
    numbers = np.array([known.setdefault(text, len(known)) for text in texts], np.int32)
    return pa.array(numbers[np.asarray(facts.indices)]), list(known)[before:]


def subjects_index(rows: pa.Table) -> pa.Table:
    """`token_half` (the upper 32 bits), `seq`: sorted, each pair once."""
    return subjects_indexes(rows, [rows.num_rows])[0]


def subjects_indexes(rows: pa.Table, counts: Sequence[int]) -> tuple[pa.Table, list[int]]:
    """As `subjects_index`, of commits of so many rows each, which follow one another: (one's after the
    other's, how long each is)."""
    subjects = rows.column("subjects").combine_chunks()
    tokens = np.asarray(subjects.flatten().field("token"), np.uint64)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(subjects), 0), np.int64)
    at = np.repeat(np.arange(rows.num_rows, dtype=np.uint64), lengths)
    pairs = (tokens >> _HALF << _HALF) | at
    cuts = np.concatenate([[0], np.cumsum(lengths)])[np.cumsum(counts)][:-1]
    found = [np.unique(one) for one in np.split(pairs, cuts)]
    whole = np.concatenate(found)
    first = np.uint64(rows.column("seq")[0].as_py())
    table = {
        "token_half": pa.array(_halves(whole)),
        "seq": pa.array(first + (whole & np.uint64(2**32 - 1))),
    }
    return pa.table(table), [len(one) for one in found]


def read_rows(source: Path | pa.NativeFile) -> Numbered:
    """What an object `audit-rows` holds.

    Raises:
        VerificationError: it is none.
    """
    table = read_any(source)
    types = [pa.int32(), pa.int32(), *(AUDIT.field(name).type for name in MEASURES)]
    if table.schema.types != types:
        raise VerificationError(f"{ROWS}: columns are {table.schema.names}")
    since = _since(table.schema.metadata)
    statement, person = (column.combine_chunks() for column in table.columns[:2])
    measures = table.select([2, 3]).rename_columns(MEASURES).replace_schema_metadata()
    return Numbered(since, statement, person, measures)


def read_since(source: pa.NativeFile) -> int:
    """Only that of an object `audit-rows`."""
    try:
        return _since(pq.read_metadata(source).metadata)
    except (pa.ArrowException, OSError) as error:
        raise VerificationError(f"no digest: {error}") from error


def _since(metadata: Mapping[bytes, bytes] | None) -> int:
    try:
        return int((metadata or {})[SINCE])
    except (KeyError, ValueError) as error:
        raise VerificationError(f"{ROWS}: it isn't said since when facts are numbered") from error


def read_meaning(source: Path | pa.NativeFile) -> Meaning:
    """What an object `audit-facts` holds.

    Raises:
        VerificationError: it is none.
    """
    table = read_facts(source)
    pairs = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    statements = [fact for of, fact in pairs if of == "statement"]
    return Meaning(statements, [fact for of, fact in pairs if of == "person"])


def read_facts(source: Path | pa.NativeFile) -> pa.Table:
    """The columns `of` and `fact` of an object `audit-facts`; raises as `read_meaning` does."""
    table = read_any(source)
    if table.schema.types != _FACTS.types:
        raise VerificationError(f"{FACTS}: columns are {table.schema.names}")
    return table.rename_columns(_FACTS.names).replace_schema_metadata()


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


def _to_bytes(
    table: pa.Table,
    sorted_by: Sequence[str] = (),
    group: int | None = None,
    *,
    ranged: bool = False,
) -> bytes:
    """`sorted_by`: what grows slowly is told in differences; `group`: so many rows stand together;
    `ranged`: each says from where to where its values reach."""
    sink = pa.BufferOutputStream()
    metadata = table.schema.metadata or {}
    with pq.ParquetWriter(
        sink,
        table.schema.remove_metadata(),
        compression="zstd",
        compression_level=1,
        store_schema=False,
        use_dictionary=[name for name in table.column_names if name not in sorted_by],
        column_encoding=dict.fromkeys(sorted_by, "DELTA_BINARY_PACKED"),
        write_statistics=ranged,
    ) as writer:
        writer.add_key_value_metadata(metadata)
        writer.write_table(table.replace_schema_metadata(), group)
    return bytes(sink.getvalue().to_pybytes())


def read_any(source: Path | pa.NativeFile) -> pa.Table:
    """The table of any of the objects.

    Raises:
        VerificationError: it is none.
    """
    try:
        return pq.ParquetFile(source).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise VerificationError(f"no digest: {error}") from error
