"""The files of a run: opened, recognised by content, each content once, oldest first.

Enters: paths, and the positions that the store has reached. Leaves: files with the place where
their reading begins, or an InputError, before anything is written anywhere. A file that is the
store's already, or a copy of another one given, is counted and not read. Says of a file of another
kind what it seems to be.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from scalple.ingest import csvlog, identity, pgbouncer
from scalple.ingest.errors import InputError
from scalple.ingest.logtime import LogTimes
from scalple.ingest.rejects import Block
from scalple.ingest.sourcefile import HEAD_BYTES, Anchors, SourceFile
from scalple.store.manifest import Position

_SAMPLE_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20


@dataclass(slots=True)
class Sources:
    """What a run has to read."""

    logs: list[SourceFile] = field(default_factory=list)
    """Server logs, those included that hold nothing new: what they held last is context."""
    poolers: list[SourceFile] = field(default_factory=list)
    people: list[SourceFile] = field(default_factory=list)
    given: int = 0
    known: int = 0
    """Files that hold nothing new."""
    warnings: list[str] = field(default_factory=list)

    @property
    def fresh(self) -> list[SourceFile]:
        """Files that hold something new."""
        return [file for file in (*self.logs, *self.poolers, *self.people) if has_news(file)]


def has_news(file: SourceFile) -> bool:
    """Whether bytes follow those that the store has."""
    return file.end < file.size


def open_sources(
    postgres: Sequence[Path],
    poolers: Sequence[Path],
    people: Sequence[Path],
    timezone: str | None,
    positions: Iterable[Position],
) -> Sources:
    """Open and recognise everything.

    Raises:
        InputError: a file can't be read, isn't what it was given for, or differs from what the
            store knows of it; or there is nothing in any of them.
        ConfigError: there is no such time zone.
    """
    found = Sources(given=len(postgres) + len(poolers) + len(people))
    reached = list(positions)
    found.logs = _open("postgres", postgres, timezone, reached, found)
    found.poolers = [
        f for f in _open("pgbouncer", poolers, timezone, reached, found) if has_news(f)
    ]
    found.people = [f for f in _open("identity", people, timezone, reached, found) if has_news(f)]
    if not found.fresh and not found.known:
        raise InputError("nothing to read", place="; ".join(found.warnings) or None)
    return found


def _open(
    source: str,
    paths: Sequence[Path],
    timezone: str | None,
    positions: list[Position],
    found: Sources,
) -> list[SourceFile]:
    kind = _KINDS[source]
    anchors = [_anchors(one) for one in positions if one.source == source]
    files: list[tuple[bytes, SourceFile]] = []
    for path in paths:
        file = SourceFile(path)
        if file.size == 0:
            found.warnings.append(f"{path}: is empty")
            continue
        if not file.resume(anchors):
            _recognise(file, kind)
        if has_news(file) and not _holds_record(file, kind, LogTimes(timezone, str(path)), found):
            continue
        files.append((file.read(0, 64), file))
    # Every container here begins its records with the time, in a form that sorts.
    files.sort(key=lambda pair: pair[0])
    kept = [
        one
        for _, alike in groupby(files, key=lambda pair: pair[0])
        for one in _distinct([file for _, file in alike], found)
    ]
    found.known += sum(not has_news(file) for file in kept)
    return kept


def _recognise(file: SourceFile, kind: "_Kind") -> None:
    head = file.head()
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    if packed is None and kind.recognise(head):
        return
    seems, hint = (f"compressed with {packed}", "decompress it first") if packed else _seems(head)
    raise InputError(
        f"isn't {kind.name}" + (f": it seems to be {seems}" if seems else ""),
        place=str(file.path),
        hint=hint or kind.hint,
    )


def _holds_record(file: SourceFile, kind: "_Kind", times: LogTimes, found: Sources) -> bool:
    """Whether there is anything to commit; also meets what can't be read before any commit."""
    data = file.read(file.end, _SAMPLE_BYTES)
    final = file.end + len(data) >= file.size
    block = kind.parse(data, file.end, file.path.name, times, final)
    if block.consumed or not final or file.end:
        return True
    found.warnings.append(f"{file.path}: holds no complete record yet ({file.size} bytes)")
    return False


def _distinct(files: list[SourceFile], found: Sources) -> list[SourceFile]:
    """Of copies the longest: one may have been made while the other went on growing."""
    kept: list[SourceFile] = []
    for file in sorted(files, key=lambda one: one.size, reverse=True):
        for other in kept:
            alike = _common(file, other)
            if alike == file.size:
                found.warnings.append(f"{file.path}: the same as {other.path}, read once")
                break
            if alike >= HEAD_BYTES:
                raise InputError(
                    f"begins like {other.path}, but differs from it after {alike:,} bytes",
                    place=str(file.path),
                    hint="give one of them, whole and unchanged",
                )
        else:
            kept.append(file)
    return kept


def _common(file: SourceFile, other: SourceFile) -> int:
    """How many bytes the beginnings of two files share, cut to whole chunks when they differ."""
    size = min(file.size, other.size)
    step = HEAD_BYTES
    at = 0
    while at < size:
        step = min(step, size - at)
        if file.read(at, step) != other.read(at, step):
            return at
        at += step
        step = _CHUNK_BYTES
    return size


def _anchors(position: Position) -> Anchors:
    return Anchors(position.head_bytes, position.head_sha256, position.end, position.tail_sha256)


# -- kinds of source -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    recognise: Callable[[bytes], bool]
    parse: Callable[[bytes, int, str, LogTimes, bool], Block]
    hint: str


def _parse_csvlog(data: bytes, at: int, _name: str, times: LogTimes, final: bool) -> Block:
    return csvlog.parse_block(data, at, times, final=final)


def _parse_pgbouncer(data: bytes, at: int, name: str, times: LogTimes, _final: bool) -> Block:
    return pgbouncer.parse_log(data, at, name, times)


def _parse_identity(data: bytes, at: int, name: str, _times: LogTimes, _final: bool) -> Block:
    return identity.parse_events(data, at, name)


def _looks_like_csvlog(head: bytes) -> bool:
    """Lines of PgBouncer and of the stderr log begin alike, and may hold commas too."""
    first = head.partition(b"\n")[0]
    other = pgbouncer.looks_like_pgbouncer(first) or _STDERR_LINE.match(first)
    return csvlog.looks_like_csvlog(head) and not other


def _looks_like_events(head: bytes) -> bool:
    """A line that is no event is kept as unparsed, but all of them can't be."""
    return any(line.lstrip()[:1] == b"{" and b'"event"' in line for line in head.split(b"\n"))


_KINDS = {
    "postgres": _Kind(
        "a csvlog",
        _looks_like_csvlog,
        _parse_csvlog,
        "set log_destination = 'csvlog' in postgresql.conf, and give the .csv files",
    ),
    "pgbouncer": _Kind(
        "a PgBouncer log",
        pgbouncer.looks_like_pgbouncer,
        _parse_pgbouncer,
        "give the file that pgbouncer.ini names as logfile",
    ),
    "identity": _Kind(
        "a file of identity events",
        _looks_like_events,
        _parse_identity,
        "identity events are JSON Lines, one object a line (docs/IDENTITY_EVENTS.md)",
    ),
}
_STDERR_LINE = re.compile(rb"[^,]{0,200}\b(?:LOG|ERROR|FATAL|WARNING|NOTICE|STATEMENT|DETAIL):  ")
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def _seems(head: bytes) -> tuple[str | None, str | None]:
    """What a file of another kind is, and what to do with it."""
    if _looks_like_csvlog(head):
        return "a csvlog", "give it with --postgres-log"
    if pgbouncer.looks_like_pgbouncer(head):
        return "a PgBouncer log", "give it with --pgbouncer-log"
    if _looks_like_events(head):
        return "identity events", "give it with --identity-events"
    if any(map(_STDERR_LINE.match, head[:_SAMPLE_BYTES].split(b"\n"))):
        return "PostgreSQL's stderr log, which can't be read yet", None
    if b"\0" in head[:_SAMPLE_BYTES]:
        return "binary", None
    return None, None
