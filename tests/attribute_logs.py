"""Log files -> attributed pgAudit records, without a store: parse, split payloads, correlate.

Enters: paths, or blocks of bytes. Leaves: one table with the attribution columns beside what names
the record, the rejects, and the gaps. Does what the pipeline does between files and store, in
batches of any size; knows nothing of the truth.
"""

import hashlib
import pickle
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from scalple.correlate.correlator import Correlator
from scalple.correlate.evidence import Evidence
from scalple.correlate.logbatch import where_in
from scalple.correlate.outcome import denied_rows
from scalple.correlate.record import EVIDENCE
from scalple.correlate.rules import Rules
from scalple.ingest import identity, pgaudit, pgbouncer, sourcefile
from scalple.ingest.container import LogReader, ReadOptions, complete
from scalple.ingest.containers import recognised
from scalple.ingest.logtime import LogTimes
from scalple.ingest.records import NONSTANDARD, Lacks
from scalple.ingest.rejects import Block, Reject
from scalple.ingest.sourcefile import SourceFile

TRUTH = re.compile(r"/\* truth:(\S+) \*/")
ORIGIN = "test"
UTC = ReadOptions(timezone="UTC")


@dataclass
class Attributed:
    """What came out of a set of logs."""

    rows: pa.Table
    """One row per pgAudit record: attribution columns, log columns, statement, true author."""
    gaps: pa.Table
    rejects: list[Reject] = field(default_factory=list)
    bad_payloads: int = 0
    sessions: list[dict[str, object]] = field(default_factory=list)
    refused: list[dict[str, object]] = field(default_factory=list)
    """Rows of refused statements, with their true author."""

    def dicts(self) -> list[dict[str, object]]:
        """The rows, one dictionary each."""
        return list(self.rows.to_pylist())

    def wrong(self, grades: Sequence[str] = ("proven", "confirmed")) -> list[dict[str, object]]:
        """Rows whose named actor isn't the true author, at one of `grades`."""
        return [
            row
            for row in self.dicts()
            if row["attribution_grade"] in grades
            and row["truth"] is not None
            and row["truth"] != row["session_user_id"]
        ]


Named = tuple[str, bytes]
"""A file's name, and what it holds."""


def read_evidence(
    pgbouncer_logs: Iterable[Path], identities: Iterable[Path]
) -> tuple[pa.Table, list[Reject]]:
    """All events of the files, numbered as the store would."""
    return _evidence_in(_named(pgbouncer_logs), _named(identities))


def _named(files: Iterable[Path]) -> list[Named]:
    return [(one.name, one.read_bytes()) for one in files]


def _evidence_in(
    pgbouncer_logs: list[Named], identities: list[Named]
) -> tuple[pa.Table, list[Reject]]:
    times = LogTimes("UTC", "pgbouncer")
    parts: list[pa.Table] = []
    rejects: list[Reject] = []
    for name, data in pgbouncer_logs:
        block = pgbouncer.parse_log(data, 0, name, times)
        parts.append(block.table)
        rejects += block.rejects
    for name, data in identities:
        block = identity.parse_events(data, 0, name)
        parts.append(block.table)
        rejects += block.rejects
    return numbered(parts), rejects


def numbered(parts: Iterable[pa.Table]) -> pa.Table:
    """Events with `seq` and `origin`, as EVIDENCE has them."""
    names = EVIDENCE.names[2:]
    empty = pa.schema([EVIDENCE.field(name) for name in names]).empty_table()
    events = pa.concat_tables([empty, *(one.select(names) for one in parts)])
    seq = pa.array(np.arange(events.num_rows, dtype=np.uint64))
    origin = pa.array([ORIGIN] * events.num_rows, pa.string())
    return events.add_column(0, "origin", origin).add_column(0, "seq", seq)


def evidence_of(
    pgbouncer_logs: Iterable[Path], identities: Iterable[Path], rules: Rules
) -> tuple[Evidence, list[Reject]]:
    """Evidence of the files and what couldn't be read of them.

    It is derived once from the same bytes and rules, which takes longer than most tests' logs do; every
    caller has a copy of his own of what was derived.
    """
    files = _named(pgbouncer_logs), _named(identities)
    digest = hashlib.sha256(pickle.dumps((files, rules))).digest()
    if digest not in _DERIVED:
        if len(_DERIVED) >= _DERIVED_MAX:
            _DERIVED.pop(next(iter(_DERIVED)))
        events, rejects = _evidence_in(*files)
        _DERIVED[digest] = pickle.dumps((Evidence(events, rules), rejects))
    found: tuple[Evidence, list[Reject]] = pickle.loads(_DERIVED[digest])
    return found


_DERIVED: dict[bytes, bytes] = {}
_DERIVED_MAX = 16


def attribute_files(
    logs: Sequence[Path],
    pgbouncer_logs: Iterable[Path] = (),
    identities: Iterable[Path] = (),
    rules: Rules | None = None,
    *,
    block_bytes: int | None = None,
    options: ReadOptions = UTC,
    lacking: Lacks | None = None,
) -> Attributed:
    """Attribute whole files, in blocks of `block_bytes` (the pipeline's own size by default).

    Args:
        logs: server logs of any container.
        pgbouncer_logs: PgBouncer's.
        identities: identity events.
        rules: as the operator would declare them.
        block_bytes: how much is read at a time.
        options: what is stated about the server logs.
        lacking: fields that are taken out of every record, as if its container hadn't them.
    """
    rules = rules or Rules()
    evidence, rejects = evidence_of(pgbouncer_logs, identities, rules)
    batches = Batches(Correlator(ORIGIN, rules, evidence), rejects)
    with pytest.MonkeyPatch.context() as patch:
        if block_bytes is not None:
            patch.setattr(sourcefile, "BLOCK_BYTES", block_bytes)
        for path in sorted(logs, key=lambda one: one.read_bytes()[:64]):
            file = SourceFile(path)
            container = recognised(file.head(), options)
            assert container is not None, f"{path}: no server log"
            reader = container.open(file.head(), str(path), options)

            def parse(data: bytes, offset: int, final: bool, reader: LogReader = reader) -> Block:
                block = reader.parse(data, offset, final=final)
                return without(block, lacking) if lacking is not None else block

            for piece in file.pieces(parse):
                batches.add(piece.block)
    return batches.result()


_COLUMN_OF = {
    Lacks.USER: "user_name",
    Lacks.DATABASE: "database_name",
    Lacks.ENDPOINT: "connection_from",
    Lacks.NAME: "application_name",
    Lacks.TRANSACTION: "virtual_transaction_id",
    Lacks.LINE: "session_line_num",
    Lacks.SESSION: "session_id",
    Lacks.STATE: "sql_state_code",
}


def without(block: Block, lacking: Lacks) -> Block:
    """The block as a container would give it that lacks these fields."""
    columns = dict(zip(block.table.column_names, block.table.columns, strict=True))
    for bit, name in _COLUMN_OF.items():
        if bit & lacking:
            columns[name] = pa.nulls(block.table.num_rows, columns[name].type)
    if Lacks.FRACTION & lacking:
        columns["log_time"] = pc.floor_temporal(columns["log_time"], unit="second")
    columns["lacks"] = pa.array([int(lacking)] * block.table.num_rows, pa.uint16())
    return Block(complete(columns, block.table.num_rows), block.rejects, block.consumed)


class Batches:
    """Blocks of a server log, one after the other."""

    def __init__(self, correlator: Correlator, rejects: list[Reject]) -> None:
        self.correlator = correlator
        self.rejects = rejects
        self.rows: list[pa.Table] = []
        self.gaps: list[pa.Table] = []
        self.sessions: list[dict[str, object]] = []
        self.bad_payloads = 0
        self.next_evidence = 1_000_000
        self.count = 0
        self.taken_back: dict[int, list[str] | None] = {}
        self.refused: list[dict[str, object]] = []

    def add(self, block: Block) -> None:
        """One batch, as the pipeline's builder hands it on."""
        log = block.table.combine_chunks()
        messages = log.column("message").combine_chunks()
        marked = np.flatnonzero(np.asarray(pgaudit.is_audit(messages)))
        lenient = where_in(log.column("remark"), pa.array([NONSTANDARD]))[marked]
        payload, ok = pgaudit.split_payloads(messages.take(pa.array(marked)), lenient)
        good = np.asarray(ok)
        audit = marked[good]
        self.rejects += block.rejects
        self.bad_payloads += int((~good).sum())
        done = self.correlator.attribute(
            log,
            audit,
            payload.combine_chunks(),
            self.next_evidence,
            self.count,
            denied := denied_rows(log),
        )
        for text, row in zip(
            log.column("query").take(pa.array(denied)).to_pylist(),
            done.refused.to_pylist(),
            strict=True,
        ):
            found = TRUTH.search(text or "")
            self.refused.append({"truth": found[1] if found else None, "query": text, **row})
        self.count += len(audit)
        self.taken_back |= done.taken_back
        self.next_evidence += done.sessions.num_rows
        self.sessions += done.sessions.to_pylist()
        self.gaps.append(done.gaps)
        self.rows.append(_rows(done.log, audit, payload, done.columns))

    def result(self) -> Attributed:
        """Everything so far."""
        rows = pa.concat_tables(self.rows) if self.rows else pa.table({})
        if self.taken_back:
            # As a revision would.
            findings = rows.column("findings").to_pylist()
            for at, found in self.taken_back.items():
                findings[at] = [*(found or ()), "rolled-back"]
            at = rows.schema.get_field_index("findings")
            rows = rows.set_column(at, "findings", pa.array(findings, rows.schema.field(at).type))
        return Attributed(
            rows,
            pa.concat_tables(self.gaps) if self.gaps else pa.table({}),
            self.rejects,
            self.bad_payloads,
            self.sessions,
            self.refused,
        )


_LOG = ("log_time", "session_id", "session_line_num", "user_name", "connection_from")
_PAYLOAD = ("statement_id", "class", "command", "statement")


def _rows(log: pa.Table, audit: "np.ndarray", payload: pa.Table, columns: pa.Table) -> pa.Table:
    at = pa.array(audit)
    texts = payload.column("statement").cast(pa.string()).to_pylist()
    truth = [found[1] if (found := TRUTH.search(text or "")) else None for text in texts]
    table = pa.table({"truth": pa.array(truth, pa.string())})
    for name in ("application_name", "source_offset", *_LOG):
        table = table.append_column(name, _plain(log.column(name).take(at)))
    for name in _PAYLOAD:
        table = table.append_column(name, _plain(payload.column(name)))
    for name in columns.column_names:
        table = table.append_column(name, _plain(columns.column(name)))
    return table


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        parts = [part.dictionary.take(part.indices) for part in _chunks(column)]
        return pa.chunked_array(parts, column.type.value_type)
    return column


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return list(column.chunks) if isinstance(column, pa.ChunkedArray) else [column]
