"""jsonlog: bytes of PostgreSQL's jsonlog -> server log records as columns.

Enters: a block of bytes that starts at a line's start. Leaves: a table of TABLE_SCHEMA, and the
lines that are no record. Source: src/backend/utils/error/jsonlog.c (PostgreSQL 15 and later): one
object a line, a key left out where csvlog's field is empty, numbers as numbers.

pyarrow's JSON reader parses the whole block; the time stamps of its rows must be those at the
lines' beginnings. Where they aren't (a torn line, another object inside one), Python's own parser
goes line by line. Doesn't open files, guess a time zone, or look into messages.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from scalple.ingest.container import (
    EMPTY,
    RECORD_BYTES_MAX,
    Container,
    ReadOptions,
    complete,
)
from scalple.ingest.fields import UNSOUND, sift
from scalple.ingest.lines import distinct_keys
from scalple.ingest.logtime import LogTimes
from scalple.ingest.rejects import Block, Reject

Ints = npt.NDArray[np.int64]

_NAMES = {
    "timestamp": "log_time",
    "user": "user_name",
    "dbname": "database_name",
    "pid": "process_id",
    "remote_host": "remote_host",
    "remote_port": "remote_port",
    "session_id": "session_id",
    "line_num": "session_line_num",
    "vxid": "virtual_transaction_id",
    "error_severity": "error_severity",
    "state_code": "sql_state_code",
    "message": "message",
    "detail": "detail",
    "context": "context",
    "statement": "query",
    "application_name": "application_name",
    "backend_type": "backend_type",
    "leader_pid": "leader_pid",
}
_INTEGERS = {"pid": pa.int32(), "remote_port": pa.int32(), "line_num": pa.int64()}
_INTEGERS["leader_pid"] = pa.int32()
_SCHEMA = pa.schema([(key, _INTEGERS.get(key, pa.string())) for key in _NAMES])

_BEGIN = b'{"timestamp":"'
_TIME_BYTES = len("2026-11-23 03:49:12.415")
_HEAD = re.compile(
    rb'\{"timestamp":"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [^"]{1,20}",.*"error_severity":"'
)
_SUCCESSFUL = "00000"
_BLOCK_BYTES = 4 << 20


def looks_like_jsonlog(head: bytes) -> bool:
    """Whether the first bytes of a file hold a line of jsonlog."""
    return any(map(_HEAD.match, head.split(b"\n")))


def parse_block(data: bytes, offset: int, times: LogTimes) -> Block:
    """Parse a block that starts at a line's start; its last line may be incomplete.

    Args:
        data: the bytes.
        offset: where they stand in the file, in bytes.
        times: resolves the zone of the time stamps.
    """
    consumed = data.rfind(b"\n") + 1
    if not consumed:
        if len(data) > RECORD_BYTES_MAX:
            return Block(EMPTY, [Reject(offset, data, "line longer than 256 MiB")], len(data))
        return Block(EMPTY, [], 0)
    view = np.frombuffer(data, np.uint8, consumed)
    ends = np.flatnonzero(view == 10)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    filled = _filled(data, starts, ends)
    starts, ends = starts[filled], ends[filled]
    rejects: list[Reject] = []
    table = _read_json(data, view, consumed, starts, ends)
    if table is None:
        table, kept = _read_lines(data, offset, starts, ends, rejects)
        starts, ends = starts[kept], ends[kept]
    table, unsound = sift(_renamed(table), times)
    for row in unsound.tolist():
        raw = data[starts[row] : ends[row] + 1]
        rejects.append(Reject(offset + int(starts[row]), raw, UNSOUND))
    columns = dict(zip(table.column_names, table.columns, strict=True))
    columns["source_offset"] = pa.array(np.delete(starts, unsound).astype(np.uint64) + offset)
    rejects.sort(key=lambda one: one.offset)
    return Block(complete(columns, table.num_rows), rejects, consumed)


def _filled(data: bytes, starts: Ints, ends: Ints) -> npt.NDArray[np.bool_]:
    """Which lines hold anything but a line end."""
    short = np.flatnonzero(ends - starts <= 1)
    filled = np.ones(len(starts), bool)
    filled[short] = [data[starts[at] : ends[at]].strip(b"\r") != b"" for at in short.tolist()]
    return filled


def _read_json(
    data: bytes, view: npt.NDArray[np.uint8], consumed: int, starts: Ints, ends: Ints
) -> pa.Table | None:
    """All lines at once, or None where rows and lines don't agree."""
    if not len(starts):
        return _SCHEMA.empty_table()
    longest = int((ends - starts).max())
    try:
        table = pa.json.read_json(
            pa.BufferReader(pa.py_buffer(data).slice(0, consumed)),
            read_options=pa.json.ReadOptions(block_size=max(_BLOCK_BYTES, 2 * longest)),
            parse_options=pa.json.ParseOptions(
                explicit_schema=_SCHEMA, unexpected_field_behavior="ignore"
            ),
        )
        # The reader trusts that text is UTF-8.
        table.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != len(starts) or not _aligned(table.column("timestamp"), view, starts):
        return None
    return table.select(_SCHEMA.names)


def _aligned(stamps: pa.ChunkedArray, view: npt.NDArray[np.uint8], starts: Ints) -> bool:
    """Whether the parsed time stamps are those at the lines' beginnings, row by row."""
    if stamps.null_count or int(starts[-1]) + len(_BEGIN) + _TIME_BYTES > len(view):
        return False
    for at, byte in enumerate(_BEGIN):
        if not np.all(view[starts + at] == byte):
            return False
    if pc.min(pc.binary_length(stamps)).as_py() < _TIME_BYTES:
        return False
    joined = stamps.combine_chunks()
    begins = np.frombuffer(joined.buffers()[1], np.int32)[joined.offset :][: len(joined)]
    text = np.frombuffer(joined.buffers()[2], np.uint8)
    return all(
        bool(np.array_equal(text[begins + at], view[starts + len(_BEGIN) + at]))
        for at in (15, 17, 18, 20, 21, 22)
    )


def _read_lines(
    data: bytes, offset: int, starts: Ints, ends: Ints, rejects: list[Reject]
) -> tuple[pa.Table, Ints]:
    """Line by line: the good ones, and which those are."""
    rows, kept = [], []
    for at, (begin, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        line = data[begin:end]
        row = _read_line(line)
        if isinstance(row, str):
            rejects.append(Reject(offset + begin, data[begin : end + 1], row))
        else:
            rows.append(row)
            kept.append(at)
    return pa.Table.from_pylist(rows, schema=_SCHEMA), np.array(kept, np.int64)


def _read_line(line: bytes) -> dict[str, Any] | str:
    """The keys of one object; a reason if it is none of jsonlog's."""
    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=distinct_keys)
    except UnicodeDecodeError:
        return "not valid UTF-8"
    except (ValueError, RecursionError):
        return "not one JSON object"
    if not isinstance(value, dict) or not line.startswith(_BEGIN):
        return "not one of jsonlog's objects"
    for key in _NAMES:
        found = value.get(key)
        wanted = int if key in _INTEGERS else str
        if found is not None and (not isinstance(found, wanted) or isinstance(found, bool)):
            return f"{key} is not of its type"
        if isinstance(found, int) and not -(2**31) <= found < 2**31:
            return f"{key} is too large"
        if isinstance(found, str) and any("\ud800" <= one <= "\udfff" for one in found):
            return f"{key} is not valid text"
    return value


def _renamed(table: pa.Table) -> pa.Table:
    """With csvlog's names, and its way to write an endpoint and a success."""
    columns = {_NAMES[name]: table.column(name) for name in table.column_names}
    host = columns.pop("remote_host")
    port = columns.pop("remote_port").cast(pa.string())
    columns["connection_from"] = pc.if_else(
        pc.is_valid(port), pc.binary_join_element_wise(host, port, ":"), host
    )
    columns["sql_state_code"] = pc.fill_null(columns["sql_state_code"], _SUCCESSFUL)
    for name in ("connection_from", "session_id"):
        columns[name] = columns[name].dictionary_encode()
    return pa.table(columns)


@dataclass(slots=True)
class _JsonlogReader:
    times: LogTimes

    def parse(self, data: bytes, offset: int, *, final: bool) -> Block:
        return parse_block(data, offset, self.times)

    def next_start(self, data: bytes) -> int | None:
        begin = data.find(b"\n") + 1
        return begin or None

    def record_end(self, data: bytes, place: int) -> int:
        return place  # half a line waits


def _open(_head: bytes, place: str, options: ReadOptions) -> _JsonlogReader:
    return _JsonlogReader(LogTimes(options.timezone, place))


CONTAINER = Container("a jsonlog", lambda head, _: looks_like_jsonlog(head), _open)
