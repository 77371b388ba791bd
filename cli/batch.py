"""One block of log records -> the tables that are committed for it.

Enters: the records of a block, read. Leaves: tables of the kinds that have rows, numbered. Joins the results of
attribution, enrichment and outcome; decides nothing itself.
"""

import datetime as dt
import json
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.cli.reading import Records
from scalple.correlate.answers import ROLLED_BACK
from scalple.correlate.calledby import CALLED
from scalple.correlate.correlator import Attributed, Correlator
from scalple.correlate.enrichment import COLUMNS
from scalple.correlate.logbatch import Bools, Ints, dictionary_encoded, where_true
from scalple.correlate.masking import scrub
from scalple.correlate.outcome import outcomes
from scalple.correlate.rawbytes import without_statements
from scalple.correlate.record import AUDIT, DENIED, EVIDENCE, GAPS, REVISIONS, TEXTS, UNPARSED
from scalple.correlate.refusals import telling
from scalple.correlate.repeats import filled_in
from scalple.correlate.rollbacks import TakenBack
from scalple.correlate.sharing import shared
from scalple.ingest import pgaudit
from scalple.ingest.records import TEXT
from scalple.ingest.rejects import Reject


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


def _shown(reject: Reject) -> Reject:
    return replace(reject, raw=without_statements(reject.raw))


@dataclass(slots=True)
class BatchBuilder:
    """Builds batches in the order in which they were logged."""

    numbers: RowNumbers
    correlator: Correlator

    def build(
        self, records: Records, file: str
    ) -> tuple[dict[str, pa.Table], pa.ChunkedArray | None]:
        """The tables of one block, and the column `called` of its audit rows, if there is one.

        `file` is the file's name as it is recorded.
        """
        log, rows, payload = records.log, records.rows, records.payload
        attributed = self.correlator.attribute(
            log,
            rows,
            payload,
            self.numbers.next_seq["evidence"],
            self.numbers.next_seq["audit"],
            records.refused,
            records.enriched,
        )
        statements, begin = payload.column("statement"), self.numbers.next_seq["audit"]
        enriched = filled_in(records.enriched, statements, attributed.repeats, begin)
        called = enriched.column(CALLED) if CALLED in enriched.column_names else None
        return {
            "evidence": self.numbers.give(
                "evidence", _with_file(attributed.sessions, file), EVIDENCE
            ),
            "audit": self._audit(records, attributed, enriched, file),
            "denied": self._denied(records, attributed, file),
            "gaps": self.numbers.give("gaps", _with_file(attributed.gaps, file), GAPS),
            "unparsed": reject_rows(self.numbers, [_shown(r) for r in records.rejects], file),
            "revisions": self._revisions(attributed.taken_back),
        }, called

    def _revisions(self, taken_back: TakenBack) -> pa.Table:
        """Earlier records whose transaction has only now turned out to be rolled back."""
        now = dt.datetime.now(dt.UTC)
        rows = [
            {
                "audit_seq": seq,
                "changes": json.dumps({"findings": [*(found or ()), ROLLED_BACK]}),
                "reason": ROLLED_BACK,
                "revised_at": now,
            }
            for seq, found in sorted(taken_back.items())
        ]
        schema = pa.schema([REVISIONS.field(name) for name in REVISIONS.names[2:]])
        return self.numbers.give("revisions", pa.Table.from_pylist(rows, schema=schema), REVISIONS)

    def _audit(
        self, records: Records, attributed: Attributed, enriched: pa.Table, file: str
    ) -> pa.Table:
        log, rows, payload = attributed.log, records.rows, records.payload
        said = log if len(rows) == log.num_rows else log.take(pa.array(rows))
        address, port = _endpoint(said.column("connection_from"))
        success, sqlstate = outcomes(log, attributed.session, rows, payload)
        none_given = where_true(pc.equal(payload.column("parameter"), pgaudit.NO_PARAMETERS))
        parameters = _with_empty(enriched.column("parameters").combine_chunks(), none_given)
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
            **{name: enriched.column(name) for name in COLUMNS},
            "parameters": parameters,
            "rows_returned": payload.column("rows"),
            "success": success,
            "sqlstate": sqlstate,
            **{name: attributed.columns.column(name) for name in attributed.columns.column_names},
            "repeat_of": self._log_ids(attributed.repeats),
            "source_file": constant(file, len(rows)),
        }
        return self.numbers.give("audit", pa.table(columns), AUDIT)

    def _log_ids(self, seqs: Ints) -> pa.Array:
        """Numbers of audit rows as their log_ids; NULL for none."""
        if not (seqs >= 0).any():
            return pa.nulls(len(seqs), TEXT)
        numbers = pa.array(seqs, pa.int64(), mask=seqs < 0).cast(TEXT)
        return pc.binary_join_element_wise(pa.scalar(f"{self.numbers.origin}#"), numbers, "")

    def _denied(self, records: Records, attributed: Attributed, file: str) -> pa.Table:
        refused = attributed.log.take(pa.array(records.refused)).combine_chunks()
        address, port = _endpoint(refused.column("connection_from"))
        state = refused.column("sql_state_code").cast(TEXT)
        said = zip(refused.column("message").to_pylist(), state.to_pylist(), strict=True)
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
                "message": pa.array([telling(*one) for one in said], TEXT),
                "query": records.refused_queries,
                **{
                    name: attributed.refused.column(name)
                    for name in attributed.refused.column_names
                },
                "source_file": constant(file, refused.num_rows),
                "source_offset": refused.column("source_offset"),
            }
        )
        return self.numbers.give("denied", table, DENIED)


def _with_empty(lists: pa.ListArray, where: Bools) -> pa.ListArray:
    """The lists, empty instead of NULL where it says so; a NULL list has no elements to drop."""
    absent = np.asarray(pc.is_null(lists).to_numpy(zero_copy_only=False), bool) & ~where
    return pa.ListArray.from_arrays(lists.offsets, lists.values, type=TEXTS, mask=pa.array(absent))


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
