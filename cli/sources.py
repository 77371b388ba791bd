"""The files of a run: opened, recognised by content, each content once, oldest first.

Enters: paths, and the positions that the store has reached. Leaves: files with the place where
their reading begins, or an InputError, before anything is written anywhere. A file that is the
store's already, or a copy of another one given, is counted and not read. Says of a file of another
kind what it seems to be.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from scalple.ingest import identity, pgbouncer, stderrlog
from scalple.ingest.container import RECORD_BYTES_MAX, LogReader, ReadOptions
from scalple.ingest.containers import recognised
from scalple.ingest.errors import InputError
from scalple.ingest.logtime import LogTimes
from scalple.ingest.pairinglines import PairingLines
from scalple.ingest.sourcefile import HEAD_BYTES, Anchors, Parse, SourceFile
from scalple.store.manifest import Position

_SAMPLE_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A file and how it is read."""

    file: SourceFile
    parse: Parse
    reader: LogReader | None = None
    """Of server logs."""


@dataclass(slots=True)
class Sources:
    """What a run has to read."""

    logs: list[Opened] = field(default_factory=list)
    """Server logs, those included that hold nothing new: what they held last is context."""
    poolers: list[Opened] = field(default_factory=list)
    people: list[Opened] = field(default_factory=list)
    given: int = 0
    known: int = 0
    """Files that hold nothing new."""
    warnings: list[str] = field(default_factory=list)

    @property
    def fresh(self) -> list[SourceFile]:
        """Files that hold something new."""
        every = (*self.logs, *self.poolers, *self.people)
        return [one.file for one in every if has_news(one)]


def has_news(one: Opened) -> bool:
    """Whether bytes follow those that the store has."""
    return one.file.end < one.file.size


def open_sources(
    postgres: Sequence[Path],
    poolers: Sequence[Path],
    people: Sequence[Path],
    options: ReadOptions,
    positions: Iterable[Position],
) -> Sources:
    """Open and recognise everything.

    Raises:
        InputError: a file can't be read, isn't what it was given for, or differs from what the
            store knows of it; two hold the same records in different forms; or there is nothing
            in any of them.
        ConfigError: there is no such time zone, or no such prefix.
    """
    found = Sources(given=len(postgres) + len(poolers) + len(people))
    reached = list(positions)
    found.logs = _open("postgres", postgres, options, reached, found)
    found.poolers = [
        one for one in _open("pgbouncer", poolers, options, reached, found) if has_news(one)
    ]
    found.people = [
        one for one in _open("identity", people, options, reached, found) if has_news(one)
    ]
    if not found.fresh and not found.known:
        raise InputError("nothing to read", place="; ".join(found.warnings) or None)
    return found


def _open(
    source: str,
    paths: Sequence[Path],
    options: ReadOptions,
    positions: list[Position],
    found: Sources,
) -> list[Opened]:
    kind = _KINDS[source]
    anchors = [anchors_of(one) for one in positions if one.source == source]
    samples: list[_Sample] = []
    for path in paths:
        file = SourceFile(path)
        if file.size == 0 and file.damage is None:
            found.warnings.append(f"{path}: is empty")
            continue
        file.resume(anchors)
        sample = _sample(kind.open(file, options))
        if sample.holds_record or file.end:
            samples.append(sample)
        elif file.end < file.size:
            found.warnings.append(f"{path}: holds no complete record yet ({file.size} bytes)")
    _refuse_other_forms(samples)
    # Of the same moment, as they were given.
    samples.sort(key=lambda one: one.first_us)
    alike: dict[tuple[int, bytes], list[Opened]] = {}
    for sample in samples:
        alike.setdefault((sample.first_us, sample.begins), []).append(sample.opened)
    kept = [one for group in alike.values() for one in _distinct(group, found)]
    found.known += sum(not has_news(one) for one in kept)
    return kept


@dataclass(frozen=True, slots=True)
class _Sample:
    """What a file begins with."""

    opened: Opened
    holds_record: bool
    first_us: int
    """Files are read in the order of their first time."""
    begins: bytes
    audit: frozenset[tuple[int, int, str]]
    """(second, process, message) of its first pgAudit records."""


def _sample(opened: Opened) -> _Sample:
    """Look at the first records; also meets what can't be read before any commit."""
    file = opened.file
    length = _SAMPLE_BYTES
    while True:
        data = file.read(0, length)
        block = opened.parse(data, 0, len(data) >= file.size)
        if block.consumed or len(data) >= file.size or length >= RECORD_BYTES_MAX:
            break
        length *= 4
    if file.end:
        opened.parse(file.read(file.end, _SAMPLE_BYTES), file.end, False)
    table = block.table
    if opened.reader is not None:
        file.settle(opened.reader.record_end)
    column = "log_time" if opened.reader is not None else "ts"
    first = pc.min(table.column(column).cast(pa.int64())).as_py() if table.num_rows else None
    return _Sample(
        opened,
        bool(block.consumed) or len(data) < file.size,
        first or 0,
        data[:64],
        _first_audit(table) if opened.reader is not None else frozenset(),
    )


def _first_audit(table: pa.Table) -> frozenset[tuple[int, int, str]]:
    audit = table.filter(pc.starts_with(table.column("message"), "AUDIT: ")).slice(0, 200)
    seconds = pc.divide(audit.column("log_time").cast(pa.int64()), 1_000_000).to_pylist()
    pids = audit.column("process_id").to_pylist()
    texts = audit.column("message").to_pylist()
    return frozenset(zip(seconds, (pid or 0 for pid in pids), texts, strict=True))


def _refuse_other_forms(samples: list[_Sample]) -> None:
    """A server may write one log in several forms at once: read twice, it would count twice."""
    seen: dict[tuple[int, int, str], _Sample] = {}
    for sample in samples:
        for record in sample.audit:
            other = seen.setdefault(record, sample)
            if other is not sample and type(other.opened.reader) is not type(sample.opened.reader):
                raise InputError(
                    f"holds the same records as {other.opened.file.path}, in another form",
                    place=str(sample.opened.file.path),
                    hint="give one of them; csvlog and jsonlog say more than stderr",
                )


def _distinct(alike_files: list[Opened], found: Sources) -> list[Opened]:
    """Of copies the longest: one may have been made while the other went on growing."""
    if len(alike_files) == 1:
        return alike_files
    kept: list[Opened] = []
    for one in sorted(alike_files, key=lambda one: one.file.measure(), reverse=True):
        file = one.file
        for other in (before.file for before in kept):
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
            kept.append(one)
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


def anchors_of(position: Position) -> Anchors:
    """What recognises the place that a commit has reached."""
    return Anchors(position.head_bytes, position.head_sha256, position.end, position.tail_sha256)


# -- kinds of source -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    opened: Callable[[SourceFile, bytes, ReadOptions], Opened | None]
    """How a file that begins so is read; None if it isn't of this kind."""
    hint: str

    def open(self, file: SourceFile, options: ReadOptions) -> Opened:
        """Raises InputError if the file is of another kind."""
        head = file.head()
        opened = self.opened(file, head, options)
        if opened is None:
            kind, hint = seems(head, options)
            if file.damage is not None:
                kind, hint = f"compressed, and damaged: {file.damage}", "give it whole"
            raise InputError(
                f"isn't {self.name}" + (f": it seems to be {kind}" if kind else ""),
                place=str(file.path),
                hint=hint or self.hint,
            )
        return opened


def open_one(source: str, file: SourceFile, options: ReadOptions) -> Opened:
    """One file, recognised; `source` as in a position. Raises InputError if it is of another kind."""
    return _KINDS[source].open(file, options)


def _open_postgres(file: SourceFile, head: bytes, options: ReadOptions) -> Opened | None:
    container = recognised(head, options)
    if container is None or pgbouncer.looks_like_pgbouncer(head.partition(b"\n")[0]):
        return None
    reader = container.open(head, str(file.path), options)
    return Opened(file, lambda data, at, final: reader.parse(data, at, final=final), reader)


def _open_pgbouncer(file: SourceFile, head: bytes, options: ReadOptions) -> Opened | None:
    if not pgbouncer.looks_like_pgbouncer(head):
        return None
    times, name = LogTimes(options.timezone, str(file.path)), file.path.name
    pairing = PairingLines()
    return Opened(
        file,
        lambda data, at, final: pgbouncer.parse_log(
            data, at, name, times, final=final, pairing=pairing
        ),
    )


def _open_identity(file: SourceFile, head: bytes, _options: ReadOptions) -> Opened | None:
    if not identity.looks_like_events(head):
        return None
    name = file.path.name
    return Opened(file, lambda data, at, _: identity.parse_events(data, at, name))


_KINDS = {
    "postgres": _Kind(
        "a PostgreSQL log",
        _open_postgres,
        "give csvlog, jsonlog or stderr files, compressed or not (docs/SOURCES.md)",
    ),
    "pgbouncer": _Kind(
        "a PgBouncer log",
        _open_pgbouncer,
        "give the file that pgbouncer.ini names as logfile",
    ),
    "identity": _Kind(
        "a file of identity events",
        _open_identity,
        "identity events are JSON Lines, one object a line (docs/IDENTITY_EVENTS.md)",
    ),
}


_OTHERS = (
    (re.compile(rb'^"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d'), "a csvlog that another program wrote anew"),
    (
        re.compile(rb"^(?:<\d+>)?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ [^\s:]+: ", re.MULTILINE),
        "a syslog",
    ),
    (re.compile(rb'^\{"(?:insertId|logName|textPayload)"'), "an export of Cloud SQL"),
    (re.compile(rb"^\S+ app\[postgres\.\d+\]: ", re.MULTILINE), "a logplex stream"),
    (re.compile(rb"^(?:NOTICE|WARNING|INFO|LOG):  AUDIT: ", re.MULTILINE), "what psql printed"),
)
"""Forms that hold PostgreSQL's log records inside something else."""


def seems(head: bytes, options: ReadOptions) -> tuple[str | None, str | None]:
    """What a file of another kind is, and what to do with it."""
    if pgbouncer.looks_like_pgbouncer(head.partition(b"\n")[0]):
        return "a PgBouncer log", "give it with --pgbouncer-log"
    if identity.looks_like_events(head):
        return "identity events", "give it with --identity-events"
    container = recognised(head, ReadOptions(options.timezone))
    if container is not None and not options.log_line_prefixes:
        return container.name, "give it with --postgres-log"
    if prefix := stderrlog.seems_stderr(head):
        stated = " or ".join(map(repr, options.log_line_prefixes))
        against = f", but no line begins with log_line_prefix {stated}" if stated else ""
        return (
            f"PostgreSQL's stderr log{against}; its lines seem to have the prefix {prefix!r}",
            f"--log-line-prefix {prefix!r} (as log_line_prefix stands in postgresql.conf)",
        )
    for pattern, what in _OTHERS:
        if pattern.search(head[:_SAMPLE_BYTES]):
            return f"{what}, which can't be read yet", None
    if b"\0" in head[:_SAMPLE_BYTES]:
        return "binary", None
    return None, None
