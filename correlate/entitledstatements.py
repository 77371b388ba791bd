"""What policies that ask for rights need of pgAudit's records beside what was touched.

Enters: a batch. Leaves: the columns OF_STATEMENT of its pgAudit records, and a finding where an outer
statement may be missing. A record is *within* another statement if a function, a trigger or EXECUTE ran it:
then the rights may be another role's. Without `pgaudit.log_rows` the outer statement has the number 1. With
it, the inner ones come first: number 1 is the outer one's only if no other record of the same statement
follows, which the session's next one shows, and if its transaction reports no error before: a statement
that fails has no record, while what its triggers ran has.
"""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.codes import coded_lists, combined, compact
from scalple.correlate.entitledrows import COPYING, MIXED
from scalple.correlate.logbatch import Bools, Ints, LogBatch, dictionary_encoded, numbers, where_in
from scalple.correlate.record import TEXTS
from scalple.correlate.sharing import shared
from scalple.ingest.pgaudit import NOT_LOGGED, PREVIOUSLY_LOGGED
from scalple.ingest.records import TEXT

OUTER_MISSING: Final = "outer-missing"
"""The record may be of what a function or trigger ran, of a statement that failed and has none."""


def outer_missing(
    batch: LogBatch, session_of: Ints, statement: Ints, transaction: Ints, failed: Bools
) -> Bools:
    """Which pgAudit records have that finding.

    Args:
        batch: the records.
        session_of: a code per session, for each record.
        statement: pgAudit's number of the statement, for each record; -1 for others and forged ones.
        transaction: number of the virtual transaction, for each record.
        failed: records that report an error.
    """
    at = batch.audit_rows
    is_late = batch.payload.column("rows").is_valid().to_numpy()
    if not failed.any() or not is_late.any():
        return np.zeros(len(at), bool)
    number = numbers(batch.payload.column("substatement_id"), 0)
    kinds = where_in(batch.payload.column("class"), pa.array(["READ", "WRITE"], TEXT))
    followed = _failing(session_of, statement, transaction, failed)[at]
    return np.asarray(is_late & kinds & (number == 1) & followed)


def with_finding(columns: pa.Table, where: Bools) -> pa.Table:
    """The columns of attribution, with that finding on these rows."""
    if not where.any():
        return columns
    codes, lists = coded_lists(columns.column("findings"))
    distinct, place = combined([codes, where.astype(np.int64)])
    merged = [
        [*(lists[code] if code >= 0 else ()), *([OUTER_MISSING] if is_so else [])] or None
        for code, is_so in distinct
    ]
    name = columns.column_names.index("findings")
    return columns.set_column(name, "findings", shared(place, pa.array(merged, TEXTS)))


def with_statements(
    rows: pa.Table,
    batch: LogBatch,
    session_of: Ints,
    statement: Ints,
    orphaned: Bools,
    ended: Bools,
) -> pa.Table:
    """The rows, one per pgAudit record, with those columns.

    Args:
        rows: what is known of the records.
        batch: the records.
        session_of: a code per session, for each record.
        statement: as for `outer_missing`.
        orphaned: which pgAudit records have OUTER_MISSING.
        ended: records with which their session ended.
    """
    for name in ("command", "object_type", "object_name"):
        rows = rows.append_column(name, batch.payload.column(name))
    within = _within(batch, session_of, statement, orphaned, ended)
    mask = within < 0
    rows = rows.append_column("is_within", pa.array(within > 0, pa.bool_(), mask=mask))
    texts = dictionary_encoded(batch.payload.column("statement"))
    mixed = pc.match_substring_regex(texts.dictionary.cast(TEXT), MIXED)
    untold = pc.is_in(texts.dictionary, pa.array([NOT_LOGGED, PREVIOUSLY_LOGGED], TEXT))
    return rows.append_column("is_mixed", pc.or_(mixed, untold).take(texts.indices))


def _within(
    batch: LogBatch, session_of: Ints, statement: Ints, orphaned: Bools, ended: Bools
) -> Ints:
    """1, 0, or -1 where it can't be told."""
    at = batch.audit_rows
    number = numbers(batch.payload.column("substatement_id"), 0)
    is_late = np.asarray(batch.payload.column("rows").is_valid().to_numpy(), bool)
    if not len(at):
        return number
    session, mine = session_of[at], statement[at]
    is_copying = where_in(batch.payload.column("command"), pa.array(COPYING, TEXT))
    counted = np.where(is_copying | (mine < 0), 0, number)
    size = int(mine.max(initial=0)) + 2
    keys, place = compact(session.astype(np.int64) * size + mine + 1, int(session.max() + 1) * size)
    most = np.zeros(len(keys), np.int64)
    np.maximum.at(most, place, counted)
    last = np.full(int(session_of.max()) + 1, -1)
    np.maximum.at(last, session, mine)
    gone = np.zeros(len(last), bool)
    gone[session_of[ended]] = True
    is_open = (mine == last[session]) & ~gone[session]
    is_open |= orphaned
    told = np.where(is_late & is_open, -1, 0)
    return np.where((number != 1) | (is_late & (most[place] > 1)), 1, told)


def _failing(session_of: Ints, statement: Ints, transaction: Ints, failed: Bools) -> Bools:
    """Records behind which their transaction reports an error before another statement."""
    count = len(session_of)
    order = np.argsort(session_of, kind="stable")
    session, number, error = session_of[order], statement[order], failed[order]
    begun = transaction[order]
    # The last statement before each record, if it is of the same session and transaction.
    told = np.maximum.accumulate(np.where(number >= 0, np.arange(count), -1))
    mine = (told >= 0) & (session[told] == session) & (begun[told] == begun)
    current = np.where(mine, number[told], -1)
    starts = np.ones(count, bool)
    starts[1:] = (session[1:] != session[:-1]) | (current[1:] != current[:-1])
    run = np.cumsum(starts) - 1
    found = np.zeros(count, bool)
    found[order] = (np.bincount(run, error, minlength=1) > 0)[run] & (current >= 0)
    return found
