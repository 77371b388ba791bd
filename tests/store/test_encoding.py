"""The vectorised row encoding against a slow reference written from docs/FORMAT.md."""

import struct
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.record import KINDS, SUBJECT
from scalple.ingest.epoch import microseconds
from scalple.ingest.records import TEXT
from scalple.store import encoding, rowtree
from scalple.store.merkle import leaf_hash

WIDE = pa.schema(
    [
        ("seq", pa.uint64()),
        ("when", pa.timestamp("us", tz="UTC")),
        ("word", pa.string()),
        ("number", pa.int64()),
        ("port", pa.int32()),
        ("flag", pa.bool_()),
        ("raw", pa.binary()),
        ("words", pa.list_(pa.field("item", pa.string()))),
        ("subjects", pa.list_(pa.field("item", SUBJECT))),
        ("last", pa.string()),
    ]
)


def reference(row: dict[str, Any], types: list[tuple[str, pa.DataType]]) -> bytes:
    """The bytes of one row or struct, without the version byte."""
    nulls = bytearray((len(types) + 7) // 8)
    fixed, variable = b"", b""
    for at, (name, kind) in enumerate(types):
        value = row[name]
        if value is None:
            nulls[at // 8] |= 1 << at % 8
        if kind == pa.uint64():
            fixed += struct.pack(">Q", value or 0)
        elif kind == pa.int64():
            fixed += struct.pack(">q", value or 0)
        elif kind == pa.int32():
            fixed += struct.pack(">i", value or 0)
        elif kind == pa.bool_():
            fixed += struct.pack(">B", value or 0)
        elif pa.types.is_timestamp(kind):
            micros = 0 if value is None else microseconds(value)
            fixed += struct.pack(">q", micros)
        elif value is not None:
            encoded = reference_value(value, kind)
            variable += struct.pack(">I", len(encoded)) + encoded
    return bytes(nulls) + fixed + variable


def reference_value(value: Any, kind: pa.DataType) -> bytes:
    """The bytes of one variable-length value that is not NULL."""
    if kind == pa.string():
        return bytes(value.encode())
    if kind == pa.binary():
        return bytes(value)
    out = b""
    for item in value:
        if item is None:
            out += struct.pack(">I", 0xFFFFFFFF)
            continue
        if pa.types.is_struct(kind.value_type):
            encoded = reference(item, [(f.name, f.type) for f in kind.value_type])
        else:
            encoded = reference_value(item, kind.value_type)
        out += struct.pack(">I", len(encoded)) + encoded
    return out


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Values of an Arrow type, NULL among them."""
    found: st.SearchStrategy[Any]
    if kind == pa.uint64():
        found = st.integers(0, 2**64 - 1)
    elif kind == pa.int64():
        found = st.integers(-(2**63), 2**63 - 1)
    elif kind == pa.int32():
        found = st.integers(-(2**31), 2**31 - 1)
    elif kind == pa.bool_():
        found = st.booleans()
    elif pa.types.is_timestamp(kind):
        found = st.datetimes(datetime(1901, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC))
    elif kind == pa.string():
        found = st.sampled_from(["", "a", "é\x00", "SELECT 1"]) | st.text(max_size=8)
    elif kind == pa.binary():
        found = st.binary(max_size=8)
    elif pa.types.is_struct(kind):
        found = st.fixed_dictionaries({f.name: values(f.type) for f in kind})
    else:
        found = st.lists(values(kind.value_type), max_size=3)
    return st.none() | found


def rows(schema: pa.Schema) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows of a schema."""
    row = st.fixed_dictionaries({f.name: values(f.type) for f in schema})
    return st.lists(row, min_size=1, max_size=12)


def encoded(table: pa.Table) -> list[bytes]:
    """What the vectorised encoder says, row by row."""
    found: list[bytes] = []
    for batch in encoding.chunks(table):
        lead = np.zeros((batch.num_rows, 0), np.uint8)
        found += encoding.encode_rows(batch, lead).to_pylist()
    return found


def as_dictionaries(table: pa.Table) -> pa.Table:
    """Text columns dictionary-encoded, as the pipeline hands them over."""
    columns = [
        column.dictionary_encode() if column.type == TEXT else column for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)


@pytest.mark.parametrize("schema", [WIDE, *KINDS.values()], ids=["wide", *KINDS])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_bytes_equal_the_reference(schema: pa.Schema, data: st.DataObject) -> None:
    found_rows = data.draw(rows(schema))
    types = [(f.name, f.type) for f in schema]
    expected = [b"\x01" + reference(row, types) for row in found_rows]
    table = pa.Table.from_pylist(found_rows, schema=schema)

    assert encoded(table) == expected
    assert encoded(as_dictionaries(table)) == expected


@given(found_rows=rows(WIDE), cut=st.integers(0, 12))
def test_slices_and_chunks_change_no_byte(found_rows: list[dict[str, Any]], cut: int) -> None:
    table = pa.Table.from_pylist(found_rows, schema=WIDE)
    twice = pa.concat_tables([table.slice(cut), table.slice(0, cut), table]).slice(len(table))

    assert encoded(twice) == encoded(table)
    assert encoded(as_dictionaries(twice)) == encoded(table)


def test_repetitive_dictionaries_and_null_dictionary_values() -> None:
    texts = ["a", None, "", "b"] * 50
    plain = pa.table({"a": pa.array(texts), "n": pa.nulls(200, pa.int64())})
    indices = pa.array([0, 1, 2, 3] * 50, pa.int32())
    coded = pa.DictionaryArray.from_arrays(indices, pa.array(["a", None, "", "b"]))

    assert encoded(plain) == encoded(plain.set_column(0, "a", coded))
    assert encoded(plain) == encoded(plain.set_column(0, "a", plain["a"].dictionary_encode()))


def test_hostile_sizes_are_split_before_they_overflow() -> None:
    long = pa.DictionaryArray.from_arrays(
        pa.array([0] * 3000, pa.int32()), pa.array(["x" * (1 << 20)])
    )
    batches = list(encoding.chunks(pa.table({"a": long})))

    assert sum(b.num_rows for b in batches) == 3000
    assert max(b.num_rows for b in batches) <= 512


def test_row_hash_is_the_leaf_hash_of_salt_and_row() -> None:
    table = pa.table({"a": pa.array(["x", None])})
    salts = rowtree.salts(b"k" * 32, 2)
    first, second = encoded(table)
    hashes = rowtree.row_hashes(table, b"k" * 32)

    assert hashes[:32] == leaf_hash(salts[0].tobytes() + first)
    assert hashes[32:] == leaf_hash(salts[1].tobytes() + second)
