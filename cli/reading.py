"""One parsed block -> its records with pgAudit's payloads split and their statements enriched.

Enters: the bytes of a block and what a container found in them. Leaves: `Records`. Decides
nothing about who; needs no evidence, so that it runs ahead of attribution, on the parser's thread.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.calledby import CALLED
from scalple.correlate.enrichment import Enricher
from scalple.correlate.logbatch import where_in
from scalple.correlate.outcome import denied_rows
from scalple.correlate.schemastate import SchemaState
from scalple.correlate.schemawatch import SchemaWatch
from scalple.correlate.undeclared import Sightings
from scalple.correlate.versions import Versions
from scalple.ingest import pgaudit
from scalple.ingest.records import NONSTANDARD, TEXT
from scalple.ingest.rejects import Block, Reject

Ints = npt.NDArray[np.int64]

_MISUNDERSTOOD = "42"
"""Class of the states of statements whose words may mean nothing, except 42501."""


@dataclass(frozen=True, slots=True)
class Records:
    """What one block held; nothing is attributed yet."""

    log: pa.Table
    rows: Ints
    """Positions in `log` of the well-formed pgAudit records."""
    payload: pa.Table
    """PAYLOAD_SCHEMA, one row per element of `rows`."""
    enriched: pa.Table
    """The enrichment's columns, one row per element of `rows`; and `called` where some relation or
    column had been called otherwise before."""
    refused: Ints
    """Positions in `log` of the records that report a refused statement."""
    refused_queries: pa.Array
    """Their statements, masked."""
    rejects: list[Reject]
    sightings: Sightings
    """Undeclared columns that seem to hold personal data."""
    schema: bytes | None = None
    """What the logs have told of the schema up to here, if anything: to be kept with the rows."""


@dataclass(slots=True)
class RecordReader:
    """Reads blocks in the order in which they were logged, one at a time."""

    enricher: Enricher
    schema: SchemaWatch
    _state: SchemaState = field(default_factory=SchemaState)

    def read(self, data: bytes, begin: int, block: Block) -> Records:
        """The records of a block.

        Args:
            data: the bytes that were parsed.
            begin: where they begin in the file.
            block: what they held.
        """
        log = block.table.combine_chunks()
        messages = log.column("message").combine_chunks()
        marked = np.flatnonzero(np.asarray(pgaudit.is_audit(messages)))
        if len(marked) < len(messages):
            messages = messages.take(pa.array(marked))
        lenient = where_in(log.column("remark"), pa.array([NONSTANDARD], TEXT))[marked]
        payload, ok = pgaudit.split_payloads(messages, lenient)
        good = np.asarray(ok)
        bad = _bad_payloads(data, begin, block, marked[~good])
        refused = denied_rows(log)
        payload = payload.combine_chunks()
        rows = marked[good]
        versions = self.schema.read(log, rows, payload)
        queries = self._masked(log.take(pa.array(refused)), versions.take(refused))
        self.enricher.take_sightings()  # what was refused may name columns that there aren't
        enriched = self.enricher.enrich(_statements(payload), versions.take(rows))
        called = self.enricher.called(versions.take(rows))
        if called is not None:
            enriched = enriched.append_column(CALLED, called)
        return Records(
            log,
            rows,
            payload,
            enriched,
            refused,
            queries,
            block.rejects + bad,
            self.enricher.take_sightings(),
            self._state.of(self.schema),
        )

    def _masked(self, refused: pa.Table, versions: Versions) -> pa.Array:
        texts, states = refused.column("query").cast(TEXT), refused.column("sql_state_code")
        nothing = pa.nulls(len(texts), TEXT)
        batch = dict.fromkeys(_STATEMENT_COLUMNS, nothing)
        batch |= {"query": texts, "rows_returned": pa.nulls(len(texts), pa.int64())}
        masked = self.enricher.enrich(pa.table(batch), versions).column("query")
        strange = [
            code is not None and code.startswith(_MISUNDERSTOOD) and code != "42501"
            for code in states.to_pylist()
        ]
        return pa.array(
            [
                self.enricher.without_strange_names(text) if text and is_strange else text
                for text, is_strange in zip(masked.to_pylist(), strange, strict=True)
            ],
            TEXT,
        )


_STATEMENT_COLUMNS = (
    "query",
    "parameters",
    "audit_type",
    "class",
    "command",
    "object_type",
    "object_name",
    "rows_returned",
)


_UNLOGGED = pa.array([pgaudit.NOT_LOGGED, pgaudit.PREVIOUSLY_LOGGED], TEXT)


def _statements(payload: pa.Table) -> pa.Table:
    """What the enricher reads; pgAudit's placeholders become NULL."""
    statement = payload.column("statement")
    parameter = payload.column("parameter")
    unlogged = pc.is_in(parameter, _UNLOGGED)
    # Only both placeholders together mean that the text wasn't logged: a client may write them.
    no_text = np.asarray(unlogged) & where_in(statement, _UNLOGGED)
    if no_text.any():
        statement = pc.if_else(pa.array(no_text), pa.scalar(None, TEXT), statement.cast(TEXT))
    absent = pc.or_kleene(unlogged, pc.equal(parameter, pgaudit.NO_PARAMETERS))
    return pa.table(
        {
            "query": statement,
            "parameters": pc.if_else(absent, pa.scalar(None, TEXT), parameter),
            **{name: payload.column(name) for name in _STATEMENT_COLUMNS[2:-1]},
            "rows_returned": payload.column("rows"),
        }
    )


def _bad_payloads(data: bytes, base: int, block: Block, rows: Ints) -> list[Reject]:
    """Records that begin like pgAudit's but aren't well formed, with all their bytes."""
    if not len(rows):
        return []
    offsets = block.table.column("source_offset").to_numpy()
    ends = np.sort(
        np.concatenate(
            [offsets, [one.offset for one in block.rejects], [base + block.consumed]]
        ).astype(np.uint64)
    )
    found = []
    for row in rows.tolist():
        begin = int(offsets[row])
        end = int(ends[np.searchsorted(ends, begin, side="right")])
        raw = data[begin - base : end - base]
        found.append(Reject(begin, raw, "not a well-formed pgAudit payload"))
    return found
