"""Log files -> committed batches: the one path that every statement takes.

Enters: a plan of what to read and an open store. Leaves: manifests. Order matters: the sizes of
the server logs are noted first, then identity events and pooler logs are read to their ends, then
the server logs up to the noted sizes; every statement's naming evidence has then been read.

Three threads hold one batch each: one parses and enriches the next, one attributes, one encodes,
hashes and commits the one before. Memory doesn't grow with the logs.
"""

import datetime as dt
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from scalple.cli import schemarecord
from scalple.cli.batch import BatchBuilder, RowNumbers, reject_rows
from scalple.cli.committer import Committer
from scalple.cli.declarations import row_names
from scalple.cli.evidencewarnings import differing_clocks, missing_evidence
from scalple.cli.formcache import FormCache
from scalple.cli.outcome import Outcome
from scalple.cli.reading import RecordReader, Records
from scalple.cli.revising import Reviser
from scalple.cli.sources import Opened, Sources, has_news, open_sources
from scalple.cli.storedrows import StoredRows
from scalple.cli.warmup import WarmUp
from scalple.correlate import schemastate
from scalple.correlate.correlator import Correlator
from scalple.correlate.enrichment import Enricher
from scalple.correlate.evidence import Evidence
from scalple.correlate.proposals import propose
from scalple.correlate.record import EVIDENCE, REVISIONS
from scalple.correlate.rightschanges import RightsChanges
from scalple.correlate.rightstimeline import DatedRights
from scalple.correlate.rules import Rules
from scalple.correlate.schematimeline import DatedSchema
from scalple.correlate.schemawatch import SchemaWatch
from scalple.ingest import stderrlog
from scalple.ingest.container import ReadOptions
from scalple.ingest.records import TIME
from scalple.ingest.rejects import Reject
from scalple.ingest.sourcefile import Piece, SourceFile
from scalple.store.manifest import Position
from scalple.store.rownames import RowNames
from scalple.store.writer import StoreWriter

_T = TypeVar("_T")

TAIL_BYTES_MAX = 1 << 20
FOREIGN_KEPT = 200
"""So many lines of unknown form are looked at, to say what they may be."""
PIECES_AHEAD = 3
"""How many blocks may be parsed and not yet attributed; each holds some memory."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read, and the declarations that shape the rows."""

    origin: str
    rules: Rules
    postgres: tuple[Path, ...]
    pgbouncer: tuple[Path, ...]
    identity: tuple[Path, ...]
    options: ReadOptions
    schemas: tuple[DatedSchema, ...]
    functions_sql: str
    """Definitions of functions: the names of their arguments."""
    objects: dict[str, bytes]
    """Declarations in force, recorded in the store with the rows they shaped."""
    revise: bool = False
    """Attribute once more what the store has read of these logs, also without late evidence."""
    schema_changes: bytes | None = None
    """What the logs have told earlier runs of the schema."""
    rights: tuple[DatedRights, ...] = ()
    """Snapshots of who could do what."""
    rights_changes: bytes | None = None
    """When rights can have changed, as the logs told earlier runs."""
    subject_key: bytes = b""
    """Filled in once nothing stands in the way of the run: keys may be made for it."""


def reader_of(plan: Plan) -> tuple[RecordReader, FormCache]:
    """What makes rows of records as the plan says, and the forms of statements that it knows."""
    watch = SchemaWatch(plan.schemas)
    if plan.schema_changes is not None:
        schemastate.restore(watch, plan.schema_changes)
    forms = FormCache(plan.rules, plan.functions_sql)
    enricher = Enricher(plan.rules, None, plan.subject_key, plan.functions_sql, forms.of)
    return RecordReader(enricher, watch), forms


class Pipeline:
    """One run over a set of files.

    Args:
        plan: what to read.
        writer: the open store.
        stored_evidence: evidence that earlier runs committed (columns of EVIDENCE).
        newest: log_time of the newest statement that earlier runs committed.
        views: the store as it was before this run, for revisions.
        progress: called with (bytes read now, statements so far).
        names: those that its rows were written under, registered with `views`.
    """

    def __init__(
        self,
        plan: Plan,
        writer: StoreWriter,
        stored_evidence: pa.Table,
        newest: dt.datetime | None = None,
        views: duckdb.DuckDBPyConnection | None = None,
        progress: Callable[[int, int], None] = lambda _bytes, _statements: None,
        names: RowNames | None = None,
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._stored = stored_evidence
        self._newest = newest
        self._views = views
        self._names = names or RowNames(())
        self._report = progress
        self._numbers = RowNumbers(plan.origin, dict(writer.next_seq))
        self._reader, self._forms = reader_of(plan)
        self.outcome = Outcome()
        self._rights = RightsChanges()
        self._rights_recorded = 0

    def _progress(self, length: int, statements: int) -> None:
        self.outcome.bytes_read += length
        self._report(length, statements)

    def run(self) -> Outcome:
        """Read everything that isn't in the store yet.

        Raises:
            InputError: before the first commit if a file can't be read.
        """
        plan = self._plan
        sources = open_plan(plan, self._writer.positions)
        self.outcome.files_known = sources.known
        self.outcome.warnings += sources.warnings
        if not sources.fresh and not plan.revise:
            return self.outcome
        with Committer(self._writer, plan.objects, self.outcome) as committer:
            begun = self._begin(sources.logs)
            events = self._read_evidence(sources, committer)
            evidence = Evidence(events, plan.rules)
            self.outcome.warnings += missing_evidence(evidence, plan.rules, self._expired())
            told = RightsChanges.from_bytes(plan.rights_changes)
            correlator = Correlator(plan.origin, plan.rules, evidence, plan.rights, told)
            self._rights = told
            builder = BatchBuilder(self._numbers, correlator)
            rows = StoredRows(plan.origin, plan.rules, self._views, self._names)
            warmup = WarmUp(correlator, self._stored)
            revise = plan.revise or self.outcome.late_events > 0
            for log in sources.logs:
                if revise and log.file.end and self._views is not None:
                    self._revise(log, Reviser(rows, warmup), committer)
                if log in begun or has_news(log):
                    if log not in begun and not revise:
                        warmup.catch_up(log, rows)
                    pieces = begun.get(log) or ahead(self._pieces(log))
                    self._read_log(log.file, pieces, builder, committer)
                else:
                    warmup.note(log)
            self.outcome.warnings += differing_clocks(evidence, plan.rules)
        self._forms.save()
        self.outcome.proposals = propose(self.outcome.sightings, plan.rules)
        return self.outcome

    # -- evidence -----------------------------------------------------------------------------

    def _expired(self) -> int:
        """How many rows of evidence the store had once."""
        if self._views is None:
            return 0
        sql = "SELECT sum(rows) FROM expired WHERE kind = 'evidence' AND origin = ?"
        found = self._views.execute(sql, [self._plan.origin]).fetchall()
        return int(found[0][0] or 0)

    def _read_evidence(self, sources: Sources, committer: Committer) -> pa.Table:
        """All events known: those of earlier runs, and the new ones, which are committed."""
        parts = [self._stored]
        for one in sources.poolers:
            parts += self._read_events("pgbouncer", one, committer)
        for one in sources.people:
            parts += self._read_events("identity", one, committer)
        return pa.concat_tables([part.cast(EVIDENCE) for part in parts])

    def _read_events(self, source: str, opened: Opened, committer: Committer) -> Iterator[pa.Table]:
        self.outcome.files_read += 1
        file = opened.file
        for piece in file.pieces(opened.parse):
            block = piece.block
            table = self._numbers.give("evidence", block.table, EVIDENCE)
            unparsed = reject_rows(self._numbers, block.rejects, file.path.name)
            committer.submit(
                {"evidence": table, "unparsed": unparsed}, [position_of(source, file.path, piece)]
            )
            self._progress(block.consumed, 0)
            self._note_late(table)
            yield table

    def _note_late(self, events: pa.Table) -> None:
        """Count events that speak of a time of which statements are in the store already."""
        if self._newest is not None and events.num_rows:
            late = pc.less_equal(events.column("ts"), pa.scalar(self._newest, TIME))
            self.outcome.late_events += pc.sum(late).as_py() or 0

    def _revise(self, log: Opened, reviser: Reviser, committer: Committer) -> None:
        """Attribute what the store has of a log once more, with the evidence that came late."""
        for table in reviser.revise(log):
            revisions = self._numbers.give("revisions", table, REVISIONS)
            committer.submit({"revisions": revisions}, [], self._rights_changes())
        self.outcome.logs_revised += 1
        self.outcome.warnings += (f"{log.file.path}: {one}" for one in reviser.doubts())

    # -- statements ---------------------------------------------------------------------------

    def _pieces(self, opened: Opened) -> Iterator[tuple[Piece, Records]]:
        return (
            (piece, self._reader.read(piece.data, piece.begin, piece.block))
            for piece in opened.file.pieces(opened.parse)
        )

    def _begin(self, logs: list[Opened]) -> dict[Opened, Iterator[tuple[Piece, Records]]]:
        """Parse the first log while the evidence is read: its size has been noted already.

        Only if it is new: otherwise what was read of it before has to come first.
        """
        first = logs[0] if logs else None
        if first is None or first.file.end:
            return {}
        return {first: ahead(self._pieces(first))}

    def _read_log(
        self,
        file: SourceFile,
        pieces: Iterator[tuple[Piece, Records]],
        builder: BatchBuilder,
        committer: Committer,
    ) -> None:
        self.outcome.files_read += 1
        foreign = Foreign()
        for piece, records in pieces:
            tables, called = builder.build(records, file.path.name)
            position = position_of("postgres", file.path, piece)
            changes = self._changes(records) | row_names(called)
            committer.submit(tables, [position], changes, records.sightings)
            self._progress(piece.block.consumed, tables["audit"].num_rows)
            foreign.add(records.rejects)
        if foreign.count:
            self.outcome.warnings.append(f"{file.path}: {foreign.described()}")
        if file.damage is not None:
            self.outcome.warnings.append(
                f"{file.path}: the compressed file is cut short or damaged ({file.damage}); it was "
                "read up to there, and is read on once it is whole"
            )
        if file.rest(TAIL_BYTES_MAX).strip():
            self.outcome.warnings.append(
                f"{file.path}: its last {file.size - file.end:,} bytes are no complete record; "
                "they are read when the file has grown"
            )

    def _changes(self, records: Records) -> dict[str, bytes]:
        """What a commit records of schema and rights, as these records tell of them."""
        return schemarecord.schema_changes(records.schema) | self._rights_changes()

    def _rights_changes(self) -> dict[str, bytes]:
        """What a commit records of them, if there is anything new."""
        if self._rights.revision == self._rights_recorded:
            return {}
        self._rights_recorded = self._rights.revision
        return {schemarecord.RIGHTS_CHANGES: self._rights.to_bytes()}


@dataclass(slots=True)
class Foreign:
    """Lines of one file that begin with none of the prefixes it was read with."""

    count: int = 0
    first: int = 0
    """Offset of the first, in bytes."""
    sample: list[Reject] = field(default_factory=list)

    def add(self, rejects: list[Reject]) -> None:
        """Those among a block's rejects."""
        mine = [one for one in rejects if one.reason == stderrlog.WITHOUT_PREFIX]
        if mine and not self.count:
            self.first = mine[0].offset
        self.count += len(mine)
        self.sample += mine[: FOREIGN_KEPT - len(self.sample)]

    def described(self) -> str:
        """How many, where, and what prefix they seem to have."""
        lines = [line for one in self.sample for line in one.raw.split(b"\n")]
        seems = stderrlog.seems_stderr(b"\n".join(lines) + b"\n")
        what = (
            f"{self.count:,} piece(s), the first at byte {self.first:,}, don't begin with "
            "log_line_prefix"
        )
        if seems is None:
            return f"{what} and look like nothing of PostgreSQL's; they are kept as unparsed"
        return (
            f"{what}; they seem to have {seems!r}: give each of the file's prefixes, this one with "
            f"--log-line-prefix {seems!r}"
        )


def ahead(pieces: Iterator[_T]) -> Iterator[_T]:
    """The same pieces; the next ones are parsed from now on, while others are worked on."""
    pool = ThreadPoolExecutor(1, "parse")
    upcoming = deque(pool.submit(next, pieces, None) for _ in range(PIECES_AHEAD))

    def taken() -> Iterator[_T]:
        with pool:
            while (piece := upcoming.popleft().result()) is not None:
                upcoming.append(pool.submit(next, pieces, None))
                yield piece

    return taken()


def position_of(source: str, path: Path, piece: Piece, incarnation: int = 0) -> Position:
    """What a commit says of a piece of a file."""
    anchors = piece.anchors
    return Position(
        source=source,
        path=str(path),
        head_sha256=anchors.head_sha256,
        head_bytes=anchors.head_bytes,
        incarnation=incarnation,
        begin=piece.begin,
        end=anchors.end,
        sha256=piece.sha256,
        tail_sha256=anchors.tail_sha256,
    )


def open_plan(plan: Plan, positions: Iterable[Position]) -> Sources:
    """The files of a plan, opened and recognised; raises as `open_sources`."""
    return open_sources(plan.postgres, plan.pgbouncer, plan.identity, plan.options, positions)
