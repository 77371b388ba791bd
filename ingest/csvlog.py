"""csvlog: bytes of PostgreSQL's csvlog -> server log records as columns.

Enters: a block of bytes that starts at a record boundary. Leaves: a table of `LOG_SCHEMA`, the
byte ranges that are no record (with a reason), and how many bytes were consumed. Source:
src/backend/utils/error/csvlog.c, 23 columns up to PostgreSQL 12, 24 in 13, 26 since 14.

The fast way lets pyarrow's CSV reader parse the whole block and finds the records' offsets by
their time stamps; the two must agree on every record. Where they don't (a torn record, another
width, a statement that contains log lines), a strict reader goes record by record.

Doesn't open files, guess a time zone (see `logtime`) or look into messages (see `pgaudit`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from scalple.ingest.container import (
    DICTIONARY,
    EMPTY,
    RECORD_BYTES_MAX,
    REPEATED,
    TABLE_SCHEMA,
    Container,
    ReadOptions,
    complete,
)
from scalple.ingest.fields import SESSION_ID, UNSOUND, typed
from scalple.ingest.logtime import ZONE, LogTimes
from scalple.ingest.rejects import Block, Reject

COLUMNS = [
    "log_time",
    "user_name",
    "database_name",
    "process_id",
    "connection_from",
    "session_id",
    "session_line_num",
    "command_tag",
    "session_start_time",
    "virtual_transaction_id",
    "transaction_id",
    "error_severity",
    "sql_state_code",
    "message",
    "detail",
    "hint",
    "internal_query",
    "internal_query_pos",
    "context",
    "query",
    "query_pos",
    "location",
    "application_name",
    "backend_type",
    "leader_pid",
    "query_id",
]
WIDTHS = (26, 24, 23)

_KEEP = [name for name in TABLE_SCHEMA.names if name in COLUMNS]
_TYPES: dict[str, pa.DataType] = {
    name: DICTIONARY if name in REPEATED else pa.string() for name in COLUMNS
} | {"process_id": pa.int32(), "session_line_num": pa.int64(), "leader_pid": pa.int32()}

_CACHED = 1 << 20
"""Bytes looked at in one go; they and what is derived from them stay in the cache."""
_STRETCH_MIN = 4096
_TIME_BYTES = len("2026-11-23 03:49:12.415")
_FIELD = re.compile(rb'"[^"]*(?:""[^"]*)*"|[^",\r\n]*')
_START = re.compile(
    rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} (?:{ZONE}),".encode(), re.MULTILINE
)


def looks_like_csvlog(head: bytes) -> bool:
    """Whether the first bytes of a file hold the beginning of a csvlog record."""
    start = _START.search(head)
    if start is None:
        return False
    fields = head[start.end() :].split(b",", 9)
    return len(fields) > 4 and bool(re.fullmatch(SESSION_ID.encode(), fields[4]))


def parse_block(data: bytes, offset: int, times: LogTimes, *, final: bool) -> Block:
    """Parse a block that starts at a record boundary.

    Args:
        data: the bytes; may end anywhere.
        offset: where they stand in the file, in bytes.
        times: resolves the zone of the time stamps.
        final: no more bytes will follow; an incomplete last record stays unconsumed all the same.
    """
    tables: list[pa.Table] = []
    rejects: list[Reject] = []
    begin = 0
    stride = len(data)
    failed = len(data) + 1  # so long a stretch from here on isn't what it seems
    while begin < len(data):
        end = min(begin + stride, len(data))
        stretch = data[begin:end] if begin or end < len(data) else data
        fast = _parse_fast(stretch, offset + begin, times)
        if fast is not None and fast.consumed:
            tables.append(fast.table)
            begin += fast.consumed
            stride, failed = 2 * stride, len(data) + 1
            continue
        if fast is not None and end < len(data) and 2 * stride < failed:
            stride *= 2
            continue
        if fast is None and end - begin > _STRETCH_MIN:
            # What stands before the surprise is found by shorter stretches.
            failed = end - begin
            stride = failed // 4
            continue
        # Something here is not what it seems: one strict record (or reject), then the fast way
        # again over a short stretch, so that many such records don't cost many rescans.
        begin, rows = _parse_strict(data, begin, offset, rejects, times, final=final)
        if rows is None:
            break
        tables.extend(rows)
        stride, failed = 4 * _STRETCH_MIN, len(data) + 1
    merged = pa.concat_tables(tables).unify_dictionaries() if tables else EMPTY
    named = dict(zip(merged.column_names, merged.columns, strict=True))
    return Block(complete(named, merged.num_rows), rejects, begin)


def _parse_fast(data: bytes, offset: int, times: LogTimes) -> Block | None:
    """All complete records of a well-formed stretch, or None where the two views disagree."""
    view = np.frombuffer(data, dtype=np.uint8)
    starts, ends_block = record_starts(view)
    if not len(starts) or starts[0] != 0:
        return Block(EMPTY, [], 0) if not len(starts) and not len(data) else None
    # The last line may go on in the next block: only what stands before the last record start
    # that follows a newline is certainly complete, or everything when the data ends in a newline.
    for cut in _cuts(view, starts, ends_block):
        inside = starts[: int(np.searchsorted(starts, cut))]
        longest = int(np.diff(np.append(inside, cut)).max())
        table = _read_csv(memoryview(data)[:cut], longest)
        if table is not None and table.num_rows == len(inside) and _aligned(table, view, inside):
            sound = typed(table, times)
            if sound is not None:
                offsets = pa.array(inside.astype(np.uint64) + np.uint64(offset))
                return Block(sound.append_column("source_offset", offsets), [], cut)
    return None


def _cuts(
    view: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends_block: bool
) -> Iterator[int]:
    """Where the last complete record may end: at the block's end, or before its last record.

    Either may stand inside a quoted statement, so it counts only if the quotes before it balance.
    """
    last = int(starts[-1])
    quotes = _quotes(view[:last])
    if ends_block and (quotes + _quotes(view[last:])) % 2 == 0:
        yield len(view)
    if last > 0 and quotes % 2 == 0:
        yield last


def _quotes(view: npt.NDArray[np.uint8]) -> int:
    return sum(
        int(np.count_nonzero(view[at : at + _CACHED] == 34)) for at in range(0, len(view), _CACHED)
    )


def record_starts(view: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], bool]:
    """Offsets of the lines that begin like a record, and whether the data ends with a newline."""
    if not len(view):
        return np.empty(0, np.int64), False
    found = [
        np.flatnonzero(view[at : at + _CACHED] == 10) + (at + 1)
        for at in range(0, len(view), _CACHED)
    ]
    lines = np.concatenate([np.zeros(1, np.int64), *found])
    ends = bool(view[-1] == 10)
    lines = lines[lines + _TIME_BYTES < len(view)]
    marks = {4: 45, 7: 45, 10: 32, 13: 58, 16: 58, 19: 46, 23: 32}  # 2026-11-23 03:49:12.415 _
    for at, byte in marks.items():
        lines = lines[view[lines + at] == byte]
    return lines, ends


def _aligned(table: pa.Table, view: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]) -> bool:
    """Whether the parsed time stamps are those at the record starts, row by row."""
    parsed = table.column("log_time").combine_chunks()
    offsets = np.frombuffer(parsed.buffers()[1], np.int32)[: len(parsed) + 1]
    text = np.frombuffer(parsed.buffers()[2], np.uint8)
    # The last digits tell neighbours apart.
    return all(
        bool(np.array_equal(text[offsets[:-1] + at], view[starts + at])) for at in (18, 20, 21, 22)
    )


def _read_csv(data: bytes | memoryview, longest: int) -> pa.Table | None:
    """One width for all records, none longer than `longest` bytes; or None."""
    first = _strict_record(bytes(data[: 1 << 20]), 0)
    width = first[1] if isinstance(first, tuple) else 26
    names = COLUMNS[:width]
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(pa.py_buffer(data)),
            read_options=pa.csv.ReadOptions(
                column_names=names, block_size=max(4 << 20, 2 * longest)
            ),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                include_columns=[name for name in _KEEP if name in names],
                column_types={name: _TYPES[name] for name in names},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    if pc.any(pc.less(pc.binary_length(table.column(0)), _TIME_BYTES)).as_py():
        return None
    return _widen(table)


def _widen(table: pa.Table) -> pa.Table:
    for name in _KEEP:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, _TYPES[name]))
    return table.select(_KEEP).unify_dictionaries()


def _strict_record(data: bytes, begin: int) -> tuple[int, int] | str | None:
    """(end, width) of the record at `begin`; a reason if there is none; None if it may go on."""
    at, width = begin, 0
    while True:
        field = _FIELD.match(data, at)
        assert field is not None
        at, width = field.end(), width + 1
        if at >= len(data):
            return None
        if data[at : at + 2] == b"\r\n" or data[at : at + 1] == b"\n":
            end = at + (2 if data[at : at + 1] == b"\r" else 1)
            return (end, width) if width in WIDTHS else f"{width} columns instead of 23, 24 or 26"
        if data[at : at + 1] == b'"' and at == field.start():
            return None if b'"' not in data[at + 1 :].replace(b'""', b"") else "broken quotes"
        if data[at : at + 1] != b",":
            return "text after a closing quote"
        at += 1


def _parse_strict(
    data: bytes, begin: int, offset: int, rejects: list[Reject], times: LogTimes, *, final: bool
) -> tuple[int, list[pa.Table] | None]:
    """One record, or one reject up to where the next record begins. (begin, None) = need more."""
    while data[begin : begin + 1] in (b"\n", b"\r"):
        begin += 1
    verdict = _strict_record(data, begin)
    if isinstance(verdict, tuple):
        table = _read_csv(data[begin : verdict[0]], verdict[0] - begin)
        if table is not None and table.num_rows == 1 and _START.match(data, begin):
            sound = typed(table, times)
            if sound is not None:
                where = pa.array([begin + offset], pa.uint64())
                return verdict[0], [sound.append_column("source_offset", where)]
        verdict = UNSOUND
    resume = _resynchronise(data, begin)
    if resume is None:
        if len(data) - begin > RECORD_BYTES_MAX:
            rejects.append(Reject(offset + begin, data[begin:], "record longer than 256 MiB"))
            return len(data), []
        if verdict is None or not final:
            return begin, None
        last = data.rfind(b"\n", begin) + 1
        if last <= begin:
            return begin, None
        resume = last
    rejects.append(Reject(offset + begin, data[begin:resume], verdict or "unterminated record"))
    return resume, []


def _resynchronise(data: bytes, begin: int) -> int | None:
    """The next place at which a whole, well-formed record stands.

    Only a record as PostgreSQL itself writes it counts (text fields in quotes): a log line
    that a user pasted into a statement has its quotes doubled and so can't pass.
    """
    for start in _START.finditer(data, begin + 1):
        verdict = _strict_record(data, start.start())
        quoted = data[start.end() : start.end() + 1] in (b'"', b",")
        if isinstance(verdict, tuple) and quoted and _read_one(data, start.start(), verdict[0]):
            return start.start()
    return None


def _read_one(data: bytes, begin: int, end: int) -> bool:
    table = _read_csv(data[begin:end], end - begin)
    return table is not None and table.num_rows == 1


@dataclass(slots=True)
class _CsvlogReader:
    times: LogTimes

    def parse(self, data: bytes, offset: int, *, final: bool) -> Block:
        return parse_block(data, offset, self.times, final=final)

    def next_start(self, data: bytes) -> int | None:
        starts, _ = record_starts(np.frombuffer(data, np.uint8))
        # A window may begin at a record by chance; its own first byte is no line's start.
        inside = starts[starts > 0]
        return int(inside[0]) if len(inside) else None

    def record_end(self, data: bytes, place: int) -> int:
        return place  # half a record is seen by its quotes, and waits


def _open(_head: bytes, place: str, options: ReadOptions) -> _CsvlogReader:
    return _CsvlogReader(LogTimes(options.timezone, place))


CONTAINER = Container("a csvlog", lambda head, _: looks_like_csvlog(head), _open)
