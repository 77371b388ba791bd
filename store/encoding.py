"""The canonical bytes of a row: what is hashed (docs/FORMAT.md, "Row encoding").

Arrow batches enter; one binary value per row leaves. Whole columns are encoded at once, and the
values of a dictionary-encoded column once per distinct value. The bytes don't depend on how a
column travels (plain or dictionary, chunked or not) nor on Parquet. Nothing is hashed here.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.store.bare import bare

ROW_VERSION = 1
NULL_ITEM = 0xFFFFFFFF
"""Stands for the length of an item that is NULL inside a list."""

ROWS_PER_CHUNK = 32_768
CHUNK_BYTES_MAX = 1 << 29  # Arrow's binary offsets are 31 bits wide

Matrix = npt.NDArray[np.uint8]

_NOTHING = pa.array([b""])

_FIXED = {
    pa.uint64(): ">u8",
    pa.int64(): ">i8",
    pa.int32(): ">i4",
    pa.bool_(): "u1",
    pa.timestamp("us", tz="UTC"): ">i8",
}


def chunks(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """The table's rows in batches that fit the processor's cache and Arrow's offsets."""
    for batch in table.to_batches(max_chunksize=ROWS_PER_CHUNK):
        yield from _halves(batch)


def _halves(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.num_rows > 1 and _bytes_bound(batch) > CHUNK_BYTES_MAX:
        half = batch.num_rows // 2
        yield from _halves(batch.slice(0, half))
        yield from _halves(batch.slice(half))
    elif batch.num_rows:
        yield batch


def _bytes_bound(batch: pa.RecordBatch) -> int:
    """No fewer bytes than the batch's encoding has: every row may hold the longest value."""
    bound = int(batch.nbytes)
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            values = column.dictionary
            if not pa.types.is_list(values.type):
                values = pc.binary_length(values)
                bound += (pc.max(values).as_py() or 0) * len(column)
            else:
                bound += int(values.nbytes) * len(column)
    return bound


def encode_rows(batch: pa.RecordBatch, lead: Matrix) -> pa.Array:
    """One binary value per row: the row's `lead` bytes, the version byte, the row's fields."""
    version = np.full((batch.num_rows, 1), ROW_VERSION, np.uint8)
    return _fields(batch.columns, np.hstack([lead, version]))


def _fields(columns: Sequence[pa.Array], lead: Matrix) -> pa.Array:
    """lead, NULL bitmap, fixed-width values in order, variable-length values in order."""
    rows = len(lead)
    fixed = [(f"f{at}", _FIXED[c.type]) for at, c in enumerate(columns) if c.type in _FIXED]
    shape: list[tuple[str, str, int] | tuple[str, str]] = [
        ("lead", "u1", lead.shape[1]),
        ("nulls", "u1", (len(columns) + 7) // 8),
        *fixed,
    ]
    header = np.zeros(rows, np.dtype(shape))
    header["lead"] = lead
    variable: list[Part] = []
    for at, column in enumerate(columns):
        column = _without_null_values(column)
        if column.null_count:
            nulls = column.is_null().to_numpy(zero_copy_only=False).astype(np.uint8)
            header["nulls"][:, at // 8] |= nulls << (at % 8)
        if column.null_count == rows:
            continue
        if column.type in _FIXED:
            header[f"f{at}"] = _numbers(column)
        else:
            variable += _prefixed(column)
    matrix = header.view(np.uint8).reshape(rows, header.dtype.itemsize)
    return _join([Part(_slots(matrix)), *_merged(variable, rows)], rows)


class Part(NamedTuple):
    """One stretch of every row's bytes."""

    values: pa.Array
    at: pa.Array | None = None
    """Which value each row has; None: its own. NULL, like a NULL value, is no bytes."""


def _join(parts: Sequence[Part], rows: int) -> pa.Array:
    """The parts' bytes, row by row: one gather over all values laid end to end.

    A gather writes its output in order, so the row's bytes end up side by side and only the
    bounds coarsen. That is half the cost of Arrow's element-wise join.
    """
    pool = [_NOTHING]
    index = np.empty((rows, len(parts)), np.int32)
    size = 1
    for column, (values, at) in enumerate(parts):
        if at is None:
            index[:, column] = np.arange(size, size + rows)
        elif at.null_count:
            index[:, column] = pc.add(at, pa.scalar(size, pa.int32())).fill_null(0).to_numpy()
        else:
            np.add(at.to_numpy(), size, out=index[:, column])
        pool.append(values)
        size += len(values)
    gathered = pa.concat_arrays(pool).take(bare(index.reshape(-1)))
    return _binary(_offsets(gathered)[:: len(parts)], gathered.buffers()[2])


def _merged(parts: Sequence[Part], rows: int) -> Iterator[Part]:
    """The same bytes in fewer parts: neighbours that repeat together are joined once per
    combination of their values (a session's columns, a statement's, an actor's)."""
    group: list[Part] = []
    for part in parts:
        if part.at is None:
            yield from _combined(group, rows)
            yield part
            group = []
        else:
            group.append(part)
    yield from _combined(group, rows)


def _combined(group: list[Part], rows: int) -> list[Part]:
    sizes = [len(part.values) + 1 for part in group]  # one more stands for NULL
    if len(group) < 2 or math.prod(sizes) >= 1 << 62:
        return group
    code = np.zeros(rows, np.int64)
    for part, size in zip(group, sizes, strict=True):
        assert part.at is not None
        code *= size
        code += part.at.fill_null(size - 1).to_numpy()
    encoded = bare(code).dictionary_encode()
    rest = encoded.dictionary.to_numpy()
    if len(rest) * 3 > rows:
        return group
    distinct: list[Part] = []
    for part, size in zip(reversed(group), reversed(sizes), strict=True):
        rest, at = np.divmod(rest, size)
        distinct.insert(0, Part(part.values, bare(at.astype(np.int32), at == size - 1)))
    return [Part(_join(distinct, len(rest)), encoded.indices)]


def _without_null_values(column: pa.Array) -> pa.Array:
    """A dictionary may hold NULL as a value; then only the decoded column counts its NULLs."""
    if pa.types.is_dictionary(column.type) and column.dictionary.null_count:
        return column.dictionary.take(column.indices)
    return column


def _numbers(column: pa.Array) -> npt.NDArray[np.generic]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if column.null_count:
        column = column.fill_null(0)
    numbers: npt.NDArray[np.generic] = column.to_numpy()
    return numbers


def _prefixed(column: pa.Array) -> list[Part]:
    """Parts that give length and bytes of every value, nothing for NULL."""
    if pa.types.is_dictionary(column.type):
        if 2 * len(column.dictionary) > len(column):
            return _prefixed(column.dictionary.take(column.indices))
        values = _join(_prefixed(column.dictionary), len(column.dictionary))
        return [Part(values, column.indices.cast(pa.int32()))]
    values = _list_bytes(column) if pa.types.is_list(column.type) else column.cast(pa.binary())
    return [Part(_lengths(values)), Part(values)]


def _list_bytes(column: pa.Array) -> pa.Array:
    """The items' encodings of each list, concatenated; NULL lists stay NULL."""
    items = column.flatten()
    if pa.types.is_struct(items.type):
        fields = [_masked(items.field(at), items) for at in range(items.type.num_fields)]
        encoded = _fields(fields, np.empty((len(items), 0), np.uint8))
        values = pc.if_else(items.is_valid(), encoded, pa.scalar(None, pa.binary()))
    else:
        values = items.cast(pa.binary())
    joined = _join([Part(_lengths(values, null=NULL_ITEM)), Part(values)], len(values))
    counts = pc.list_value_length(column).fill_null(0).to_numpy()
    offsets = _offsets(joined)[np.concatenate([[0], np.cumsum(counts)])]
    lists = _binary(offsets, joined.buffers()[2])
    if not column.null_count:
        return lists
    return pc.if_else(column.is_valid(), lists, pa.scalar(None, pa.binary()))


def _masked(field: pa.Array, items: pa.Array) -> pa.Array:
    """A field of a NULL struct has no value of its own; hide what the buffer happens to hold."""
    if not items.null_count:
        return field
    return pc.if_else(items.is_valid(), field, pa.scalar(None, field.type))


def _lengths(values: pa.Array, *, null: int | None = None) -> pa.Array:
    """The big-endian 32-bit length of each value; for NULL `null`, or no bytes at all."""
    numbers = pc.binary_length(values).cast(pa.int64()).fill_null(null or 0).to_numpy()
    slots = _slots(numbers.astype(">u4").view(np.uint8).reshape(-1, 4))
    if null is None and values.null_count:
        return pc.if_else(values.is_valid(), slots, pa.scalar(None, pa.binary()))
    return slots


def _slots(matrix: Matrix) -> pa.Array:
    """The rows of a matrix as binary values."""
    rows, width = matrix.shape
    return _binary(np.arange(rows + 1) * width, pa.py_buffer(np.ascontiguousarray(matrix)))


def _binary(bounds: npt.NDArray[np.integer], data: pa.Buffer | None) -> pa.Array:
    offsets = pa.py_buffer(bounds.astype(np.int32))
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(bounds) - 1, [None, offsets, data or pa.py_buffer(b"")]
    )


def _offsets(values: pa.Array) -> npt.NDArray[np.int32]:
    every = np.frombuffer(values.buffers()[1], np.int32)
    return every[values.offset : values.offset + len(values) + 1]
