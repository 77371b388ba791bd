"""One batch of log records, in the forms that attribution needs: Arrow columns -> numpy arrays.

Enters: all records of a batch and the payloads of those that are pgAudit's. Leaves: plain arrays,
one element per record or per pgAudit record. Decides nothing.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.ingest.localised import SEVERITIES
from scalple.ingest.records import AMBIGUOUS, FORGED, NONSTANDARD, TEXT, UNPROVEN, Lacks

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_LOG = pa.array(SEVERITIES["LOG"].split(), TEXT)
_NOT_ITS_OWN = pa.array([AMBIGUOUS, FORGED], TEXT)
_DIGITS_MAX = len(str(2**32))


class LogBatch:
    """One batch's columns in the forms that the rules need."""

    def __init__(self, log: pa.Table, audit_rows: Ints, payload: pa.Table) -> None:
        self.log = log
        self.audit_rows = audit_rows
        self.payload = payload
        self.message = log.column("message").combine_chunks()
        self.time_us = numbers(log.column("log_time").cast(pa.int64()), 0)
        self.lacks = numbers(log.column("lacks"), 0)
        # The latest that it can have been: whole seconds are cut off, like milliseconds.
        self.time_end_us = self.time_us + np.where(self.lacking(Lacks.FRACTION), 999_999, 0)
        # Only what a client's own code raised carries a context or a statement: pgAudit and the
        # server hide both (errhidestmt, errhidecontext), or have none when they report a session.
        marked = pc.or_(pc.is_valid(log.column("context")), pc.is_valid(log.column("query")))
        self.raised = where_true(marked) | where_in(log.column("remark"), _NOT_ITS_OWN)
        self.forged = self.raised[audit_rows]
        # The server reports sessions at LOG; a client's own warning may bear no other mark.
        self.is_log = is_log(log)
        self.ambiguous = where_in(log.column("remark"), pa.array([AMBIGUOUS]))[audit_rows]
        self.nonstandard = where_in(log.column("remark"), pa.array([NONSTANDARD]))[audit_rows]
        self.unproven = where_in(log.column("remark"), pa.array([UNPROVEN]))[audit_rows]

    def lacking(self, field: Lacks) -> Bools:
        """Which records don't say that, because their container doesn't."""
        return np.asarray((self.lacks & int(field)) > 0)

    def joined_by(self, rows: Ints) -> "LogBatch":
        """The same batch with more statements among the pgAudit records: those that `rows` report.

        They have no payload but their text, and it is the server that quotes it.
        """
        rows = rows[~np.isin(rows, self.audit_rows)]  # a client may raise what looks like both
        if not len(rows):
            return self
        texts = self.payload.schema.field("statement").type
        more = {
            name: pa.nulls(len(rows), self.payload.schema.field(name).type)
            for name in self.payload.column_names
        }
        more["statement"] = _as(self.log.column("query").take(pa.array(rows)), texts)
        everything = pa.concat_tables([self.payload, pa.table(more, self.payload.schema)])
        places = np.concatenate([self.audit_rows, rows])
        order = np.argsort(places, kind="stable")
        payload = everything.unify_dictionaries().combine_chunks().take(pa.array(order))
        wide = LogBatch(self.log, places[order], payload)
        wide.forged &= ~np.isin(wide.audit_rows, rows)
        return wide

    def begins(self, text: str) -> Bools:
        """Which records are the server's own message that begins with `text`."""
        return where_true(pc.starts_with(self.message, text)) & ~self.raised & self.is_log

    def spread(self, values: Ints, missing: int) -> Ints:
        """Values of the pgAudit records, put where those stand among all records."""
        everywhere = np.full(self.log.num_rows, missing, np.int64)
        everywhere[self.audit_rows] = values
        return everywhere


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The texts in that type."""
    if pa.types.is_dictionary(kind):
        return column.cast(kind.value_type).dictionary_encode().cast(kind)
    return column.cast(kind)


def is_log(log: pa.Table) -> Bools:
    """Which records have the severity LOG, in whatever language."""
    return where_in(log.column("error_severity"), _LOG)


def numbers(column: pa.ChunkedArray, null: int) -> Ints:
    """Integers, with `null` where there is none."""
    filled = pc.fill_null(column, null) if column.null_count else column
    return np.asarray(filled.to_numpy(), np.int64)


def where_true(column: pa.Array | pa.ChunkedArray) -> Bools:
    """Truth values; NULL counts as false."""
    filled = pc.fill_null(column, False) if column.null_count else column
    if isinstance(filled, pa.ChunkedArray):
        return np.asarray(filled.to_numpy(), bool)
    return np.asarray(filled.to_numpy(zero_copy_only=False), bool)


def where_in(column: pa.Array | pa.ChunkedArray, wanted: pa.Array) -> Bools:
    """Which texts are one of `wanted`, looked at once per distinct text."""
    encoded = dictionary_encoded(column)
    return np.append(where_true(pc.is_in(encoded.dictionary, wanted)), False)[codes_of(encoded)]


def dictionary_encoded(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """One array over one dictionary."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.unify_dictionaries().chunk(0) if whole.num_chunks else pa.array([], TEXT)
    return whole if isinstance(whole, pa.DictionaryArray) else whole.dictionary_encode()


def codes_of(encoded: pa.DictionaryArray, null: int = -1) -> Ints:
    """Places in the dictionary, with `null` where there is no value."""
    return np.asarray(pc.fill_null(encoded.indices, null).to_numpy(), np.int64)


def session_names(log: pa.Table) -> pa.DictionaryArray:
    """A name for each record's session; where the log has none, its process stands for it."""
    column = log.column("session_id")
    if column.null_count:
        process = pc.binary_join_element_wise(
            pa.scalar("pid:"), log.column("process_id").cast(TEXT), ""
        )
        column = pc.coalesce(column.cast(TEXT), process)
    return dictionary_encoded(column)


def words(codes: Ints, vocabulary: tuple[str, ...]) -> pa.DictionaryArray:
    """Codes as their words; a negative code is NULL."""
    index = pa.array(codes.astype(np.int32), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(index, pa.array(vocabulary, TEXT))


def take(values: Bools, at: Ints) -> Bools:
    """`values[at]`, also when there are no values."""
    return values[at] if len(values) else np.zeros(len(at), bool)


def transactions(column: pa.ChunkedArray) -> Ints:
    """The local number of each virtual transaction (`backend/local number`), -1 outside any.

    Only neighbours within one session are compared, and there the backend's part is fixed. Every
    transaction takes the next number, also one that logs nothing.
    """
    text = pc.fill_null(column, "").combine_chunks()
    if isinstance(text, pa.ChunkedArray):
        text = pa.concat_arrays(text.chunks) if text.num_chunks else pa.array([], TEXT)
    ends = np.frombuffer(text.buffers()[1], np.int32)[text.offset :][: len(text) + 1]
    data = np.frombuffer(text.buffers()[2] or b"", np.uint8)
    begins, at = ends[:-1].astype(np.int64), ends[1:].astype(np.int64) - 1
    number = np.zeros(len(text), np.int64)
    inside = at >= begins
    for power in range(_DIGITS_MAX):
        byte = data[np.where(inside, at, 0)] if len(data) else np.zeros(len(text), np.uint8)
        inside &= (byte >= 48) & (byte <= 57)
        if not inside.any():
            break
        number += np.where(inside, (byte.astype(np.int64) - 48) * 10**power, 0)
        at = at - inside
        inside &= at >= begins
    return np.where(number > 0, number, -1)
