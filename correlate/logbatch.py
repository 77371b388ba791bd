"""One batch of log records, in the forms that attribution needs: Arrow columns -> numpy arrays.

Enters: all records of a batch and the payloads of those that are pgAudit's. Leaves: plain arrays,
one element per record or per pgAudit record. Decides nothing.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.ingest.records import TEXT

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class LogBatch:
    """One batch's columns in the forms that the rules need."""

    def __init__(self, log: pa.Table, audit_rows: Ints, payload: pa.Table) -> None:
        self.log = log
        self.audit_rows = audit_rows
        self.payload = payload
        self.message = log.column("message").combine_chunks()
        self.time_us = numbers(log.column("log_time").cast(pa.int64()), 0)
        marked = pc.or_(pc.is_valid(log.column("context")), pc.is_valid(log.column("query")))
        self.forged = where_true(marked)[audit_rows]

    def spread(self, values: Ints, missing: int) -> Ints:
        """Values of the pgAudit records, put where those stand among all records."""
        everywhere = np.full(self.log.num_rows, missing, np.int64)
        everywhere[self.audit_rows] = values
        return everywhere


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


def dictionary_encoded(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """One array over one dictionary."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.unify_dictionaries().chunk(0) if whole.num_chunks else pa.array([], TEXT)
    return whole if isinstance(whole, pa.DictionaryArray) else whole.dictionary_encode()


def codes_of(encoded: pa.DictionaryArray, null: int = -1) -> Ints:
    """Places in the dictionary, with `null` where there is no value."""
    return np.asarray(pc.fill_null(encoded.indices, null).to_numpy(), np.int64)


def words(codes: Ints, vocabulary: tuple[str, ...]) -> pa.DictionaryArray:
    """Codes as their words; a negative code is NULL."""
    index = pa.array(codes.astype(np.int32), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(index, pa.array(vocabulary, TEXT))


def take(values: Bools, at: Ints) -> Bools:
    """`values[at]`, also when there are no values."""
    return values[at] if len(values) else np.zeros(len(at), bool)


def transactions(column: pa.ChunkedArray) -> Ints:
    """A number per virtual transaction (`backend/local id`), -1 outside any.

    Only neighbours within one session are compared, and there the backend's part is fixed, so
    that the digits alone tell transactions apart.
    """
    text = column.combine_chunks()
    idle = pc.or_kleene(pc.is_null(text), pc.ends_with(text, "/0"))
    digits = pc.if_else(pc.fill_null(idle, True), "-1", pc.replace_substring(text, "/", ""))
    return np.asarray(digits.cast(pa.int64()).to_numpy(), np.int64)
