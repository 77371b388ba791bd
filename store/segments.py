"""One segment: rows of one kind as a Parquet file, and the checks that rows must pass.

A table and a salt key enter, Parquet bytes leave; Parquet bytes enter, the same table and salt
key leave. The salt key stands in the file's key-value metadata and nowhere else. Names, hashes
of files and the commit are the writer's.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scalple.correlate.record import KINDS
from scalple.ingest.errors import VerificationError
from scalple.store import layout
from scalple.store.rowtree import SALT_KEY_BYTES

SEGMENT_ROWS_MAX = 1 << 20
SEGMENT_BYTES_MAX = layout.SEGMENT_BYTES_MAX
ROW_GROUP_ROWS = 16_384
"""Questions fetch single rows, and a reader unpacks a whole row group for one of them. Fewer rows
make that cheaper and the file larger (docs/adr/0010)."""

_SALT_KEY = b"scalple.salt_key"
_RANGED = ("seq", "log_time", "ts")
"""Columns that questions cut by range; statistics of the others cost time and prune nothing."""
_KIND = b"scalple.kind"


@dataclass(frozen=True, slots=True)
class Segment:
    """What a segment's bytes hold."""

    kind: str
    table: pa.Table
    salt_key: bytes


def to_parquet(segment: Segment) -> bytes:
    """The file's bytes; the same table always gives the same bytes."""
    metadata = {_KIND: segment.kind, _SALT_KEY: segment.salt_key.hex()}
    table = _writable(segment.table)
    return _written(table.schema, metadata, [table])


def rows_to_parquet(kind: str, groups: Iterable[pa.Table]) -> bytes:
    """Rows of many segments as one file without a salt; each table becomes a row group.

    The bytes depend on the rows alone, not on how the tables hold them.
    """
    plain = (_in_schema(_decoded(table), KINDS[kind]) for table in groups)
    return _written(KINDS[kind], {_KIND: kind}, plain)


def _written(schema: pa.Schema, metadata: dict[bytes, str], tables: Iterable[pa.Table]) -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema.remove_metadata(),
        compression="zstd",
        compression_level=1,
        store_schema=False,
        write_statistics=[name for name in _RANGED if name in schema.names],
        **_encodings(schema),
    ) as writer:
        writer.add_key_value_metadata(metadata)
        for table in tables:
            writer.write_table(table, ROW_GROUP_ROWS)
    return bytes(sink.getvalue().to_pybytes())


def coded(table: pa.Table) -> pa.Table:
    """With dictionaries for text."""
    for at, field in enumerate(table.schema):
        if field.type == pa.string():
            table = table.set_column(at, field.name, table.column(at).dictionary_encode())
    return table


def _decoded(table: pa.Table) -> pa.Table:
    """Without dictionaries."""
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            chunks = [chunk.dictionary_decode() for chunk in table.column(at).chunks]
            values = pa.chunked_array(chunks, field.type.value_type)
            table = table.set_column(at, field.name, values)
    return table


def _writable(table: pa.Table) -> pa.Table:
    """Parquet holds no dictionaries of lists; a table may, because rows share them."""
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and pa.types.is_list(field.type.value_type):
            chunks = [chunk.dictionary_decode() for chunk in table.column(at).chunks]
            lists = pa.chunked_array(chunks, field.type.value_type)
            table = table.set_column(at, field.name, lists)
    return table


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """Dictionaries for text, deltas for numbers: a third smaller and faster than the defaults."""
    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    deltas = {name: "DELTA_BINARY_PACKED" for name, kind in leaves if _counts(kind)}
    return {
        "use_dictionary": [name for name, _ in leaves if name not in deltas],
        "column_encoding": deltas,
    }


def _leaves(name: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_list(kind):
        yield from _leaves(f"{name}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{name}.{field.name}", field.type)
    else:
        yield name, kind


def _counts(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_timestamp(kind))


def from_parquet(data: bytes, *, coded: bool = True) -> Segment:
    """The inverse of `to_parquet`, with text columns dictionary-encoded if `coded`.

    Of a few rows the dictionaries take longer to read, and a hundred times the memory.

    Raises:
        VerificationError: not Parquet, or not as `to_parquet` writes it.
    """
    try:
        metadata = pq.read_metadata(pa.BufferReader(data))
        kind, salt_key = _said(metadata)
        table = _read(kind, data, metadata, coded=coded)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise VerificationError(f"not a segment: {error}") from error
    if len(salt_key) != SALT_KEY_BYTES:
        raise VerificationError("segment's salt key has the wrong length")
    return Segment(kind, table, salt_key)


def joined_from_parquet(
    kind: str, files: Sequence[bytes]
) -> tuple[pa.Table, list[tuple[bytes, int]]]:
    """(the rows of many small segments of a kind, one's after the other's; of each the salt key and
    how many rows). What a file costs beside its rows is mostly saved.

    Raises:
        VerificationError: one of them isn't as `to_parquet` writes it.
    """
    tables, parts = [], []
    try:
        for data in files:
            file = pq.ParquetFile(pa.BufferReader(data))
            found, salt_key = _said(file.metadata)
            if found != kind:
                raise VerificationError(f"segment of {found}, not of {kind}")
            tables.append(file.read(use_threads=False).replace_schema_metadata())
            parts.append((salt_key, tables[-1].num_rows))
        whole = _in_schema(pa.concat_tables(tables), KINDS[kind]).combine_chunks()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise VerificationError(f"not segments: {error}") from error
    if any(len(salt_key) != SALT_KEY_BYTES for salt_key, _ in parts):
        raise VerificationError("segment's salt key has the wrong length")
    return coded(whole), parts


def rows_from_parquet(kind: str, data: bytes) -> pa.Table:
    """The rows of `to_parquet` or `rows_to_parquet`, in the order of seq.

    Raises:
        VerificationError: not Parquet.
    """
    try:
        table = _read(kind, data, pq.read_metadata(pa.BufferReader(data)), coded=True)
        seq = table["seq"].combine_chunks()
        return table if pc.all(pc.less(seq[:-1], seq[1:])).as_py() else table.sort_by("seq")
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise VerificationError(f"not rows of {kind}: {error}") from error


def _said(metadata: pq.FileMetaData) -> tuple[str, bytes]:
    """Kind and salt key, as a segment's metadata has them."""
    said = metadata.metadata or {}
    return said[_KIND].decode(), bytes.fromhex(said[_SALT_KEY].decode())


def _read(kind: str, data: bytes, metadata: pq.FileMetaData, *, coded: bool) -> pa.Table:
    text = [field.name for field in KINDS[kind] if coded and field.type == pa.string()]
    file = pq.ParquetFile(pa.BufferReader(data), metadata=metadata, read_dictionary=text)
    table = file.read(use_threads=metadata.num_rows > ROW_GROUP_ROWS)  # few rows aren't worth it
    return _in_schema(table, KINDS[kind])


def _in_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Parquet calls a list's item `element`; the schema says what it is called here."""
    columns = [
        column if pa.types.is_dictionary(column.type) else column.cast(field.type)
        for column, field in zip(table.columns, schema, strict=False)
    ]
    return pa.table(columns, names=table.column_names[: len(columns)])


def check_rows(kind: str, table: pa.Table, origin: str, first_seq: int) -> None:
    """Columns are the kind's, in order; seq is dense from first_seq; origin is one.

    Raises:
        VerificationError: they aren't.
    """
    schema = KINDS[kind]
    if table.column_names != schema.names:
        raise VerificationError(
            f"columns of {kind} differ: expected {schema.names}, found {table.column_names}"
        )
    for field, column in zip(schema, table.columns, strict=True):
        found = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if found != field.type:
            raise VerificationError(
                f"column {field.name} of {kind}: expected {field.type}, found {found}"
            )
    dense = pa.arange(first_seq, first_seq + table.num_rows).cast(pa.uint64())
    if not table["seq"].equals(pa.chunked_array([dense])):
        raise VerificationError(f"seq of {kind} isn't dense from {first_seq}")
    origins = pc.unique(table["origin"]).to_pylist()
    if origins not in ([], [origin]):
        raise VerificationError(f"rows of {kind}: expected origin {origin}, found {origins[:3]}")


def split(table: pa.Table) -> Iterator[pa.Table]:
    """Slices of at most SEGMENT_ROWS_MAX rows."""
    for at in range(0, table.num_rows, SEGMENT_ROWS_MAX):
        yield table.slice(at, SEGMENT_ROWS_MAX)
