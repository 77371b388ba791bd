"""A row's canonical bytes back to its values: what a proof shows is what was hashed.

The inverse of `encoding` for one row (docs/FORMAT.md, "Row encoding"). Bytes and a schema enter,
values by column leave. Strict: bytes that no row has are refused. Hashes nothing.
"""

import struct
from typing import Any

import pyarrow as pa

from scalple.ingest.epoch import EPOCH, moment_of
from scalple.ingest.errors import VerificationError
from scalple.store.encoding import NULL_ITEM, ROW_VERSION

_FIXED = {pa.uint64(): ">Q", pa.int64(): ">q", pa.int32(): ">i", pa.bool_(): ">?"}


def decode_row(schema: pa.Schema, data: bytes) -> dict[str, Any]:
    """Values by column; times in UTC, lists of structs as lists of dictionaries.

    Raises:
        VerificationError: these are not the bytes of a row of that schema.
    """
    reader = _Bytes(data)
    if reader.take(1) != bytes([ROW_VERSION]):
        raise VerificationError("row encoding of another version")
    values = _fields(list(schema), reader)
    reader.end()
    return values


class _Bytes:
    """Bytes that are taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise VerificationError("row ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def length(self) -> int:
        return int.from_bytes(self.take(4), "big")

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def end(self) -> None:
        if self.more:
            raise VerificationError("row has bytes beyond its end")


def _fields(fields: list[pa.Field], reader: _Bytes) -> dict[str, Any]:
    nulls = int.from_bytes(reader.take((len(fields) + 7) // 8), "little")
    if nulls >> len(fields):
        raise VerificationError("row marks columns as NULL that there are none of")
    values: dict[str, Any] = {}
    for at, field in enumerate(fields):
        if _is_fixed(field.type):
            value = _number(field.type, reader)
            if nulls >> at & 1 and value not in (0, EPOCH):
                raise VerificationError("a NULL has a value")
            values[field.name] = value
    for at, field in enumerate(fields):
        if nulls >> at & 1:
            values[field.name] = None
        elif not _is_fixed(field.type):
            values[field.name] = _value(field.type, reader.take(reader.length()))
    return {field.name: values[field.name] for field in fields}


def _is_fixed(kind: pa.DataType) -> bool:
    return kind in _FIXED or pa.types.is_timestamp(kind)


def _number(kind: pa.DataType, reader: _Bytes) -> Any:
    if pa.types.is_timestamp(kind):
        return moment_of(struct.unpack(">q", reader.take(8))[0])
    code = _FIXED[kind]
    data = reader.take(struct.calcsize(code))
    if kind == pa.bool_() and data not in (b"\0", b"\1"):
        raise VerificationError("a boolean is neither 0 nor 1")
    return struct.unpack(code, data)[0]


def _value(kind: pa.DataType, data: bytes) -> Any:
    if pa.types.is_list(kind):
        return _items(kind.value_type, _Bytes(data))
    if pa.types.is_binary(kind):
        return data
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise VerificationError("text isn't UTF-8") from error


def _items(kind: pa.DataType, reader: _Bytes) -> list[Any]:
    found: list[Any] = []
    while reader.more:
        length = reader.length()
        if length == NULL_ITEM:
            found.append(None)
        elif pa.types.is_struct(kind):
            inner = _Bytes(reader.take(length))
            found.append(_fields([kind.field(i) for i in range(kind.num_fields)], inner))
            inner.end()
        else:
            found.append(_value(kind, reader.take(length)))
    return found
