"""The last records of a log -> how much is written, when, and what of it is pgAudit's.

Enters: paths of logs that may be read. Leaves: figures of samples: the beginning and the last 4 MiB of a
server's log, the last 1 MiB of PgBouncer's. Reads no whole log, and keeps no statement.
"""

import datetime as dt
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from scalple.ingest import pgbouncer
from scalple.ingest.container import Container, LogReader, ReadOptions
from scalple.ingest.containers import recognised
from scalple.ingest.errors import InputError, ScalpleError
from scalple.ingest.logtime import ZONE
from scalple.ingest.records import Lacks

_HEAD, _TAIL, _POOLER_TAIL = 1 << 20, 4 << 20, 1 << 20
_UPWARDS = 64 << 20
"""So far back the line is looked for in which PgBouncer tells its version."""
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")
_STAMP = re.compile(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? ({ZONE})\b".encode())
_STATS = re.compile(rb"stats: (\d+) xacts/s, (\d+) queries/s, (?:.*?, )?in (\d+) B/s", re.MULTILINE)
_UP = re.compile(rb" process up: PgBouncer (\d+)\.(\d+)")
_ALL_SAID = Lacks(0)
_REPLAY = "SET application_name="


@dataclass(frozen=True, slots=True)
class LogSample:
    """What a server's log says of itself.

    Attributes:
        path: the newest file.
        files: how many plain files there are; compressed ones aren't sampled.
        form: of the newest: `a csvlog` and so on; None if it is no log that is read.
        total_bytes: of all plain files.
        first, last: times of the first and the last record; None where there is none.
        zone: the abbreviation of its times.
        records, audits, replays: in the sampled bytes: records, those of pgAudit, and those of them
            in which an application_name is set.
        sampled_bytes: how many bytes those are.
        lacks: what its records don't say.
        problem: why its times can't be told, if they can't.
        written: when the newest file was last written to, in seconds since 1970.
    """

    path: Path
    files: int
    form: str | None
    total_bytes: int = 0
    first: dt.datetime | None = None
    last: dt.datetime | None = None
    zone: str | None = None
    records: int = 0
    audits: int = 0
    replays: int = 0
    sampled_bytes: int = 0
    lacks: Lacks = _ALL_SAID
    problem: str | None = None
    written: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolerSample:
    """What PgBouncer's log says of itself.

    Attributes:
        path: the newest file.
        is_log: it is one.
        zone: the abbreviation of its times.
        last: text of the last time stamp, without zone.
        version: (major, minor), if the line that tells it was found.
        queries_s, transactions_s, bytes_s: what clients sent, on average over its statistics lines.
        has_logins: some line tells of a client's login.
        written: when it was last written to, in seconds since 1970.
    """

    path: Path
    is_log: bool
    zone: str | None = None
    last: str | None = None
    version: tuple[int, int] | None = None
    queries_s: float | None = None
    transactions_s: float | None = None
    bytes_s: float | None = None
    has_logins: bool = False
    written: float = 0.0


def sample_server(paths: Sequence[Path], options: ReadOptions) -> LogSample | None:
    """The server's log in these files; None if there is none that isn't compressed or empty.

    Raises:
        InputError: one can't be read.
    """
    plain = [path for path in _by_age(paths) if not _is_packed(path) and path.stat().st_size]
    if not plain:
        return None
    newest, state = plain[-1], plain[-1].stat()
    total = sum(path.stat().st_size for path in plain)
    # No further than that, whatever is written meanwhile.
    begin = max(0, state.st_size - _TAIL)
    head = _bytes(newest, 0, min(_HEAD, state.st_size))
    container = recognised(head, options)
    if container is None:
        return LogSample(newest, len(plain), None, total, written=state.st_mtime)
    tail = _bytes(newest, begin, state.st_size - begin)
    zones = _STAMP.findall(tail)
    zone = zones[-1].decode() if zones else None
    try:
        table, sampled = _tail_records(container, newest, head, tail, state.st_size, options)
        first = _first(container, plain[0], options)
    except ScalpleError as error:
        return LogSample(
            newest,
            len(plain),
            container.name,
            total,
            zone=zone,
            problem=error.what,
            written=state.st_mtime,
        )
    message = table.column("message")
    audit = pc.fill_null(pc.starts_with(message, "AUDIT: "), False)
    audits = message.filter(audit)
    lacks = table.column("lacks")
    times = pc.min_max(table.column("log_time")).as_py()
    return LogSample(
        newest,
        len(plain),
        container.name,
        total,
        first or times["min"],
        times["max"],
        zone,
        table.num_rows,
        len(audits),
        pc.sum(pc.match_substring(audits, _REPLAY)).as_py() or 0,
        sampled,
        Lacks(lacks[-1].as_py() or 0) if table.num_rows else Lacks(0),
        written=state.st_mtime,
    )


def _tail_records(
    container: Container,
    path: Path,
    head: bytes,
    tail: bytes,
    size: int,
    options: ReadOptions,
) -> tuple[pa.Table, int]:
    """The last records, and how many bytes they take."""
    reader: LogReader = container.open(head, path.name, options)
    begin = max(0, size - len(tail))
    start = reader.next_start(tail) if begin else 0
    if start is None:
        start = len(tail)
    block = reader.parse(tail[start:], begin + start, final=True)
    return block.table, len(tail) - start


def _first(container: Container, path: Path, options: ReadOptions) -> dt.datetime | None:
    """When the first record of a file was logged; None if that can't be told."""
    head = _bytes(path, 0, _HEAD)
    if recognised(head, options) is not container:
        return None
    table = container.open(head, path.name, options).parse(head, 0, final=False).table
    found: dt.datetime | None = table.column("log_time")[0].as_py() if table.num_rows else None
    return found


def sample_pooler(paths: Sequence[Path]) -> PoolerSample | None:
    """PgBouncer's log in these files; None if there is none that isn't compressed or empty.

    Raises:
        InputError: one can't be read.
    """
    plain = [path for path in _by_age(paths) if not _is_packed(path) and path.stat().st_size]
    if not plain:
        return None
    newest, state = plain[-1], plain[-1].stat()
    begin = max(0, state.st_size - _POOLER_TAIL)
    tail = _bytes(newest, begin, state.st_size - begin)
    lines = tail.split(b"\n")[:-1]
    if begin:
        lines = lines[1:]
    if not any(pgbouncer.looks_like_pgbouncer(line) for line in lines):
        return PoolerSample(newest, False, written=state.st_mtime)
    stamps = [found for line in lines if (found := _STAMP.match(line))]
    told = [tuple(map(int, one.groups())) for line in lines for one in _STATS.finditer(line)]
    means = [sum(column) / len(told) for column in zip(*told, strict=True)] if told else []
    return PoolerSample(
        newest,
        True,
        stamps[-1][1].decode() if stamps else None,
        stamps[-1][0].decode().rpartition(" ")[0] if stamps else None,
        _version(plain),
        means[1] if means else None,
        means[0] if means else None,
        means[2] if means else None,
        any(b" login attempt: db=" in line for line in lines),
        state.st_mtime,
    )


def _version(paths: Sequence[Path]) -> tuple[int, int] | None:
    """PgBouncer's, from the newest line that tells it."""
    left = _UPWARDS
    for path in reversed(paths):
        end = path.stat().st_size
        while end > 0 and left > 0:
            begin = max(0, end - _POOLER_TAIL)
            found = _UP.findall(_bytes(path, begin, end - begin + 200))
            if found:
                return int(found[-1][0]), int(found[-1][1])
            left -= end - begin
            end = begin
    return None


def _by_age(paths: Sequence[Path]) -> list[Path]:
    """The oldest first."""
    return sorted(
        (path for path in paths if path.is_file()), key=lambda path: path.stat().st_mtime_ns
    )


def _is_packed(path: Path) -> bool:
    return _bytes(path, 0, 6).startswith(_PACKED)


def _bytes(path: Path, at: int, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(at, os.SEEK_SET)
            return file.read(count)
    except OSError as error:
        raise InputError(
            f"can't be read: {(error.strerror or str(error)).lower()}", place=str(path)
        ) from error
