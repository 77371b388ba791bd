"""What became of a statement: did it succeed, and which statements were refused altogether.

Enters: a batch's log records and the pgAudit records among them. Leaves: `success` and `sqlstate`
per pgAudit record, and which records report a statement that PostgreSQL refused before pgAudit saw
it. pgAudit writes a query's line before it runs unless `log_rows` is on, and a utility command's
after it succeeded (pgaudit.c, ExecutorStart and ProcessUtility hooks); what can't be told stays
NULL. Doesn't follow transactions to their end.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]

_BEFORE_EXECUTION = ("READ", "WRITE", "FUNCTION")
LINES_MAX = 64
"""A statement gives one line per relation; more than this many are not looked through."""
_DENIED = r"^(42|28|3D|3F)"


def outcomes(log: pa.Table, audit_rows: Ints, payload: pa.Table) -> tuple[pa.Array, pa.Array]:
    """(success, sqlstate) of each pgAudit record."""
    after = pc.or_(
        pc.is_valid(payload.column("rows")),
        pc.invert(pc.is_in(payload.column("class").cast("string"), pa.array(_BEFORE_EXECUTION))),
    ).combine_chunks()
    sqlstate = pa.nulls(len(audit_rows), pa.string())
    success = pc.if_else(after, pa.scalar(True), pa.scalar(None, pa.bool_()))
    errors = np.flatnonzero(_is_error(log).to_numpy(zero_copy_only=False))
    if not len(errors):
        return success, sqlstate
    failed = _failed(log, audit_rows, payload, errors)
    states: list[str | None] = [None] * len(audit_rows)
    for row, error in failed.items():
        if not after[row].as_py():
            states[row] = log.column("sql_state_code")[error].as_py()
    sqlstate = pa.array(states, pa.string())
    return pc.if_else(pc.is_valid(sqlstate), pa.scalar(False), success), sqlstate


def denied_rows(log: pa.Table) -> Ints:
    """Positions of the records that report a refused statement or login."""
    refused = pc.match_substring_regex(
        pc.fill_null(log.column("sql_state_code").cast("string"), ""), _DENIED
    )
    rows = pc.and_(_is_error(log), refused)
    return np.flatnonzero(np.asarray(rows.to_numpy()))


def _is_error(log: pa.Table) -> pa.ChunkedArray:
    """By sqlstate, because the words of severity are translated."""
    state = pc.fill_null(log.column("sql_state_code").cast("string"), "00000")
    warning = pc.or_(pc.starts_with(state, "00"), pc.starts_with(state, "01"))
    return pc.invert(pc.or_(warning, pc.starts_with(state, "02")))


def _failed(log: pa.Table, audit_rows: Ints, payload: pa.Table, errors: Ints) -> dict[int, int]:
    """pgAudit record -> the error that follows it in its session, of the same statement.

    One Python step per error: errors are few, and each looks at one record before it.
    """
    session = np.asarray(log.column("session_id").combine_chunks().indices.to_numpy(), np.int64)
    transaction = log.column("virtual_transaction_id")
    statements = payload.column("statement")
    stride = log.num_rows + 1
    order = np.argsort(session[audit_rows], kind="stable")
    keys = session[audit_rows][order] * stride + audit_rows[order]
    found: dict[int, int] = {}
    for error in errors.tolist():
        text = log.column("query")[error].as_py()
        before = int(np.searchsorted(keys, session[error] * stride + error)) - 1
        for at in range(before, max(before - LINES_MAX, -1), -1):
            row = int(order[at])
            record = int(audit_rows[row])
            if (
                text is None
                or session[record] != session[error]
                or transaction[record].as_py() != transaction[error].as_py()
                or statements[row].as_py() != text
            ):
                break
            found[row] = error
    return found
