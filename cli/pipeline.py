"""Log files -> committed batches: the one path that every statement takes.

Enters: a plan of what to read and an open store. Leaves: manifests. Order matters: the sizes of
the server logs are noted first, then identity events and pooler logs are read to their ends, then
the server logs up to the noted sizes; every statement's naming evidence has then been read.

Three threads hold one batch each: one parses the next, one attributes and enriches, one encodes,
hashes and commits the one before. Memory doesn't grow with the logs.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from scalple.cli.batch import BatchBuilder, RowNumbers, reject_rows
from scalple.correlate.correlator import Correlator
from scalple.correlate.enrichment import Enricher
from scalple.correlate.evidence import Evidence
from scalple.correlate.record import EVIDENCE, GAPS
from scalple.correlate.rules import Rules
from scalple.ingest import csvlog, identity, pgbouncer
from scalple.ingest.errors import InputError
from scalple.ingest.logtime import LogTimes
from scalple.ingest.rejects import Block
from scalple.ingest.sourcefile import Anchors, Piece, SourceFile
from scalple.store.manifest import Position
from scalple.store.writer import StoreWriter

TAIL_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read, and the declarations that shape the rows."""

    origin: str
    rules: Rules
    postgres: tuple[Path, ...]
    pgbouncer: tuple[Path, ...]
    identity: tuple[Path, ...]
    timezone: str | None
    schema_sql: str | None
    subject_key: bytes
    objects: dict[str, bytes]
    """Declarations in force, recorded in the store with the rows they shaped."""


@dataclass(slots=True)
class Outcome:
    """What one run did."""

    rows: dict[str, int] = field(default_factory=dict)
    files_read: int = 0
    files_known: int = 0
    warnings: list[str] = field(default_factory=list)

    def add(self, tables: dict[str, pa.Table]) -> None:
        """Count committed rows by kind."""
        for kind, table in tables.items():
            self.rows[kind] = self.rows.get(kind, 0) + table.num_rows


class Committer:
    """Commits batches in order, on a thread of its own, one at a time."""

    def __init__(self, writer: StoreWriter, objects: dict[str, bytes], outcome: Outcome) -> None:
        self._writer = writer
        self._objects = objects
        self._outcome = outcome
        self._pool = ThreadPoolExecutor(1, "commit")
        self._pending: Future[None] | None = None

    def __enter__(self) -> "Committer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is None:
            self.wait()
        self._pool.shutdown(wait=True)

    def submit(self, tables: dict[str, pa.Table], positions: list[Position]) -> None:
        """Commit after the batch before; returns while this one is being written."""
        self.wait()
        self._pending = self._pool.submit(self._commit, tables, positions)

    def wait(self) -> None:
        """Until everything submitted is durable; raises what went wrong."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _commit(self, tables: dict[str, pa.Table], positions: list[Position]) -> None:
        kept = {kind: table for kind, table in tables.items() if table.num_rows}
        self._writer.commit(kept, positions, self._objects)
        self._outcome.add(kept)


class Pipeline:
    """One run over a set of files.

    Args:
        plan: what to read.
        writer: the open store.
        stored_evidence: evidence that earlier runs committed (columns of EVIDENCE).
        progress: called with (bytes read now, statements so far).
    """

    def __init__(
        self,
        plan: Plan,
        writer: StoreWriter,
        stored_evidence: pa.Table,
        progress: Callable[[int, int], None] = lambda _bytes, _statements: None,
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._stored = stored_evidence
        self._progress = progress
        self._numbers = RowNumbers(plan.origin, dict(writer.next_seq))
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Read everything that isn't in the store yet. Raises InputError before the first commit
        if a file can't be read."""
        plan = self._plan
        logs = self._open("postgres", plan.postgres, csvlog.looks_like_csvlog, "a csvlog")
        poolers = self._open(
            "pgbouncer", plan.pgbouncer, pgbouncer.looks_like_pgbouncer, "a PgBouncer log"
        )
        people = self._open("identity", plan.identity, _looks_like_events, "identity events")
        with Committer(self._writer, plan.objects, self.outcome) as committer:
            events = self._read_evidence(poolers, people, committer)
            correlator = Correlator(plan.origin, plan.rules, Evidence(events, plan.rules))
            enricher = Enricher(plan.rules, plan.schema_sql, plan.subject_key)
            builder = BatchBuilder(self._numbers, correlator, enricher)
            for log in logs:
                self._read_log(log, builder, committer)
        return self.outcome

    # -- files --------------------------------------------------------------------------------

    def _open(
        self,
        source: str,
        paths: Iterable[Path],
        recognise: Callable[[bytes], bool],
        kind: str,
    ) -> list[SourceFile]:
        """Files that hold something new, oldest first."""
        files: list[tuple[bytes, SourceFile]] = []
        known = [_anchors(one) for one in self._writer.positions if one.source == source]
        for path in paths:
            file = SourceFile(path)
            if file.size == 0:
                self.outcome.warnings.append(f"{path}: is empty")
                continue
            if file.resume(known):
                if file.end == file.size:
                    self.outcome.files_known += 1
                    continue
            elif not recognise(file.head()):
                raise InputError(
                    f"isn't {kind}", place=str(path), hint=_HINTS.get(source)
                )
            files.append((file.read(0, 64), file))
        # Every container here begins its records with the time, in a form that sorts.
        return [file for _, file in sorted(files, key=lambda pair: pair[0])]

    # -- evidence -----------------------------------------------------------------------------

    def _read_evidence(
        self, poolers: list[SourceFile], people: list[SourceFile], committer: Committer
    ) -> pa.Table:
        """All events known: those of earlier runs, and the new ones, which are committed."""
        times = LogTimes(self._plan.timezone, "PgBouncer's log")
        parts = [self._stored]
        for source, files in (("pgbouncer", poolers), ("identity", people)):
            for file in files:
                name = file.path.name

                def parse(data: bytes, offset: int, _final: bool, name: str = name) -> Block:
                    if source == "identity":
                        return identity.parse_events(data, offset, name)
                    return pgbouncer.parse_log(data, offset, name, times)

                parts += self._read_events(source, file, parse, committer)
        return pa.concat_tables([part.cast(EVIDENCE) for part in parts])

    def _read_events(
        self,
        source: str,
        file: SourceFile,
        parse: Callable[[bytes, int, bool], Block],
        committer: Committer,
    ) -> Iterator[pa.Table]:
        self.outcome.files_read += 1
        for piece in file.pieces(parse):
            block = piece.block
            table = self._numbers.give("evidence", block.table, EVIDENCE)
            unparsed = reject_rows(self._numbers, block.rejects, file.path.name)
            committer.submit(
                {"evidence": table, "unparsed": unparsed}, [_position(source, file, piece)]
            )
            self._progress(block.consumed, 0)
            yield table

    # -- statements ---------------------------------------------------------------------------

    def _read_log(self, file: SourceFile, builder: BatchBuilder, committer: Committer) -> None:
        self.outcome.files_read += 1
        times = LogTimes(self._plan.timezone, str(file.path))

        def parse(data: bytes, offset: int, final: bool) -> Block:
            return csvlog.parse_block(data, offset, times, final=final)

        for piece in ahead(file.pieces(parse)):
            tables = builder.build(piece.data, piece.begin, piece.block, file.path.name)
            committer.submit(tables, [_position("postgres", file, piece)])
            self._progress(piece.block.consumed, tables["audit"].num_rows)
        rest = file.rest(TAIL_BYTES_MAX)
        if rest.strip():
            self.outcome.warnings.append(
                f"{file.path}: its last {file.size - file.end} bytes are no complete record; "
                "they are read when the file has grown"
            )


def ahead(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The same pieces, the next one parsed while this one is worked on."""
    with ThreadPoolExecutor(1, "parse") as pool:
        upcoming = pool.submit(next, pieces, None)
        while (piece := upcoming.result()) is not None:
            upcoming = pool.submit(next, pieces, None)
            yield piece


def _position(source: str, file: SourceFile, piece: Piece) -> Position:
    anchors = piece.anchors
    return Position(
        source=source,
        path=str(file.path),
        head_sha256=anchors.head_sha256,
        head_bytes=anchors.head_bytes,
        begin=piece.begin,
        end=anchors.end,
        sha256=piece.sha256,
        tail_sha256=anchors.tail_sha256,
    )


def _anchors(position: Position) -> Anchors:
    return Anchors(
        position.head_bytes, position.head_sha256, position.end, position.tail_sha256
    )


def _looks_like_events(head: bytes) -> bool:
    return head.lstrip()[:1] == b"{"


_HINTS = {
    "postgres": "set log_destination = 'csvlog', and give the .csv files",
    "pgbouncer": "give the file that pgbouncer.ini names as logfile",
    "identity": "identity events are JSON Lines, one object a line",
}
