"""One block of log records -> the tables that are committed for it.

Enters: a parsed block. Leaves: tables of the kinds that have rows, numbered. Joins the results of
attribution, enrichment and outcome; decides nothing itself.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.correlator import Attributed, Correlator
from scalple.correlate.enrichment import Enricher
from scalple.correlate.logbatch import dictionary_encoded
from scalple.correlate.masking import scrub
from scalple.correlate.outcome import denied_rows, outcomes
from scalple.correlate.record import AUDIT, DENIED, EVIDENCE, GAPS, TEXTS, UNPARSED
from scalple.correlate.sharing import shared
from scalple.ingest import pgaudit
from scalple.ingest.records import TEXT
from scalple.ingest.rejects import Block, Reject

_TELLING_STATES = ("42501", "42883")
"""Errors whose message names objects only; others may quote what the client wrote."""
_MISUNDERSTOOD = "42"
"""Class of the states of statements whose words may mean nothing, except 42501."""


@dataclass(slots=True)
class RowNumbers:
    """Hands out the dense numbers of each kind, ahead of the commit."""

    origin: str
    next_seq: dict[str, int]

    def give(self, kind: str, table: pa.Table, schema: pa.Schema) -> pa.Table:
        """The table with `seq` and `origin`, its columns in the schema's order."""
        begin = self.next_seq[kind]
        self.next_seq[kind] = begin + table.num_rows
        seq = pa.array(np.arange(begin, begin + table.num_rows, dtype=np.uint64))
        columns = {"seq": seq, "origin": constant(self.origin, table.num_rows)}
        for name in schema.names[2:]:
            if name in table.column_names:
                columns[name] = table.column(name)
            else:
                columns[name] = pa.nulls(table.num_rows, schema.field(name).type)
        return pa.table(columns)


def constant(text: str, rows: int) -> pa.DictionaryArray:
    """The same text in every row."""
    return pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(rows, np.int32)), pa.array([text], TEXT)
    )


def reject_rows(numbers: RowNumbers, rejects: list[Reject], file: str) -> pa.Table:
    """Rejects as rows of `unparsed`."""
    table = pa.table(
        {
            "source_file": constant(file, len(rejects)),
            "source_offset": pa.array([one.offset for one in rejects], pa.uint64()),
            "reason": pa.array([one.reason for one in rejects], TEXT),
            "raw": pa.array([one.raw for one in rejects], pa.binary()),
        }
    )
    return numbers.give("unparsed", table, UNPARSED)


@dataclass(frozen=True, slots=True)
class Records:
    """What one block held, with pgAudit's payloads split; nothing is decided yet."""

    log: pa.Table
    rows: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    """Positions in `log` of the well-formed pgAudit records."""
    payload: pa.Table
    rejects: list[Reject]


def read_records(data: bytes, begin: int, block: Block) -> Records:
    """Split the payloads of a block; needs no state, so that it can run ahead.

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
    payload, ok = pgaudit.split_payloads(messages)
    good = np.asarray(ok)
    bad = _bad_payloads(data, begin, block, marked[~good])
    return Records(log, marked[good], payload.combine_chunks(), block.rejects + bad)


@dataclass(slots=True)
class BatchBuilder:
    """Builds batches in the order in which they were logged."""

    numbers: RowNumbers
    correlator: Correlator
    enricher: Enricher

    def build(self, records: Records, file: str) -> dict[str, pa.Table]:
        """The tables of one block; `file` is the file's name as it is recorded."""
        log, rows, payload = records.log, records.rows, records.payload
        attributed = self.correlator.attribute(
            log, rows, payload, self.numbers.next_seq["evidence"]
        )
        return {
            "evidence": self.numbers.give(
                "evidence", _with_file(attributed.sessions, file), EVIDENCE
            ),
            "audit": self._audit(log, rows, payload, attributed, file),
            "denied": self._denied(log, file),
            "gaps": self.numbers.give("gaps", _with_file(attributed.gaps, file), GAPS),
            "unparsed": reject_rows(self.numbers, records.rejects, file),
        }

    def _audit(
        self, log: pa.Table, rows: np.ndarray, payload: pa.Table, attributed: Attributed, file: str
    ) -> pa.Table:
        said = log if len(rows) == log.num_rows else log.take(pa.array(rows))
        address, port = _endpoint(said.column("connection_from"))
        enriched = self.enricher.enrich(_statements(payload))
        success, sqlstate = outcomes(log, rows, payload)
        none_given = pc.equal(payload.column("parameter"), pgaudit.NO_PARAMETERS)
        parameters = enriched.column("parameters").combine_chunks()
        if pc.any(none_given).as_py():
            empty = pa.scalar([], TEXTS)
            parameters = pc.if_else(pc.fill_null(none_given, False), empty, parameters)
        columns = {
            **{
                name: said.column(name)
                for name in (
                    "log_time",
                    "session_id",
                    "session_line_num",
                    "virtual_transaction_id",
                    "source_offset",
                )
            },
            "database": said.column("database_name"),
            "db_role": said.column("user_name"),
            "backend_pid": said.column("process_id"),
            "application_name": _known(said.column("application_name")),
            "client_addr": address,
            "client_port": port,
            **{
                name: payload.column(name)
                for name in (
                    "audit_type",
                    "statement_id",
                    "substatement_id",
                    "class",
                    "command",
                    "object_type",
                    "object_name",
                )
            },
            **{name: enriched.column(name) for name in enriched.column_names},
            "parameters": parameters,
            "rows_returned": payload.column("rows"),
            "success": success,
            "sqlstate": sqlstate,
            **{name: attributed.columns.column(name) for name in attributed.columns.column_names},
            "source_file": constant(file, len(rows)),
        }
        return self.numbers.give("audit", pa.table(columns), AUDIT)

    def _denied(self, log: pa.Table, file: str) -> pa.Table:
        at = pa.array(denied_rows(log))
        refused = log.take(at).combine_chunks()
        address, port = _endpoint(refused.column("connection_from"))
        state = refused.column("sql_state_code").cast(TEXT)
        telling = pc.is_in(state, pa.array(_TELLING_STATES))
        table = pa.table(
            {
                "log_time": refused.column("log_time"),
                "database": refused.column("database_name"),
                "db_role": refused.column("user_name"),
                "session_id": refused.column("session_id"),
                "backend_pid": refused.column("process_id"),
                "session_line_num": refused.column("session_line_num"),
                "virtual_transaction_id": refused.column("virtual_transaction_id"),
                "client_addr": address,
                "client_port": port,
                "application_name": _known(refused.column("application_name")),
                "sqlstate": refused.column("sql_state_code"),
                "message": pc.if_else(telling, refused.column("message"), pa.scalar(None, TEXT)),
                "query": self._masked(refused.column("query"), state),
                "source_file": constant(file, refused.num_rows),
                "source_offset": refused.column("source_offset"),
            }
        )
        return self.numbers.give("denied", table, DENIED)

    def _masked(self, texts: pa.ChunkedArray, state: pa.ChunkedArray) -> pa.Array:
        nothing = pa.nulls(len(texts), TEXT)
        batch = dict.fromkeys(_STATEMENT_COLUMNS, nothing)
        batch |= {"query": texts.cast(TEXT), "rows_returned": pa.nulls(len(texts), pa.int64())}
        masked = self.enricher.enrich(pa.table(batch)).column("query")
        strange = [
            code is not None and code.startswith(_MISUNDERSTOOD) and code != "42501"
            for code in state.to_pylist()
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


def _statements(payload: pa.Table) -> pa.Table:
    """What the enricher reads; pgAudit's placeholders become NULL."""
    statement = payload.column("statement")
    parameter = payload.column("parameter")
    unlogged = pc.is_in(parameter, pa.array([pgaudit.NOT_LOGGED, pgaudit.PREVIOUSLY_LOGGED], TEXT))
    # Only both placeholders together mean that the text wasn't logged: a client may write them.
    no_text = pc.and_(
        unlogged,
        pc.is_in(
            statement.cast(TEXT), pa.array([pgaudit.NOT_LOGGED, pgaudit.PREVIOUSLY_LOGGED], TEXT)
        ),
    )
    if pc.any(no_text).as_py():
        statement = pc.if_else(no_text, pa.scalar(None, TEXT), statement.cast(TEXT))
    absent = pc.or_kleene(unlogged, pc.equal(parameter, pgaudit.NO_PARAMETERS))
    return pa.table(
        {
            "query": statement,
            "parameters": pc.if_else(absent, pa.scalar(None, TEXT), parameter),
            **{name: payload.column(name) for name in _STATEMENT_COLUMNS[2:-1]},
            "rows_returned": payload.column("rows"),
        }
    )


def _with_file(table: pa.Table, file: str) -> pa.Table:
    return table.append_column("source_file", constant(file, table.num_rows))


def _endpoint(column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """connection_from -> (address, port), split once per distinct text."""
    encoded = column.combine_chunks()
    if not isinstance(encoded, pa.DictionaryArray):
        encoded = encoded.dictionary_encode()
    addresses: list[str | None] = []
    ports: list[int | None] = []
    for text in encoded.dictionary.to_pylist():
        address, _, port = (text or "").rpartition(":")
        whole = bool(address) and port.isdigit()
        addresses.append(address if whole else text)
        ports.append(int(port) if whole else None)
    distinct = pa.array(addresses, TEXT).dictionary_encode()
    names = pa.DictionaryArray.from_arrays(
        pc.take(distinct.indices, encoded.indices), distinct.dictionary
    )
    return names, pc.take(pa.array(ports, pa.int32()), encoded.indices)


def _known(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Names as clients gave them, scrubbed; csvlog's quoted empty text says that there is none."""
    encoded = dictionary_encoded(column)
    found = encoded.dictionary.to_pylist()
    values = pa.array([scrub(name) if name else None for name in found], TEXT).dictionary_encode()
    codes = values.indices.take(encoded.indices)  # two names may look the same now
    return shared(np.asarray(pc.fill_null(codes, -1)), values.dictionary)


def _bad_payloads(data: bytes, base: int, block: Block, rows: np.ndarray) -> list[Reject]:
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
