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
_UTILITY_BEFORE = (
    "DO",
    "CREATE EXTENSION",
    "ALTER EXTENSION",
    "CLOSE CURSOR",
    "CLOSE CURSOR ALL",
    "CLOSE",
)
"""Utility commands that are logged before they run (pgaudit.c, pgaudit_ProcessUtility_hook)."""
LINES_MAX = 64
"""A statement gives one line per relation; more than this many are not looked through."""
_DENIED = r"^(42|28|3D|3F)"
_DENIED_IN_WORDS = (
    r"^(permission denied|must be |syntax error |unterminated |no pg_hba\.conf entry "
    r"|password authentication failed |\S+ authentication failed |pg_hba\.conf rejects "
    r"|column reference |cannot insert |invalid reference |missing FROM-clause )"
    r"|^(relation|column|table|view|function|procedure|operator|type|schema|database|role|sequence"
    r"|index|cursor|prepared statement|parameter) .* (does not exist|already exists|is ambiguous"
    r"|is not unique)"
)
"""What PostgreSQL says with such a state, in English, for logs that give no state."""
_ERRORS = ("ERROR", "FATAL", "PANIC")


def outcomes(
    log: pa.Table, session: Ints, audit_rows: Ints, payload: pa.Table
) -> tuple[pa.Array, pa.Array]:
    """(success, sqlstate) of each pgAudit record.

    Args:
        log: all records.
        session: a code per session, for each record.
        audit_rows: positions in `log` of the pgAudit records.
        payload: PAYLOAD_SCHEMA, one row per element of `audit_rows`.
    """
    after = had_ended(payload)
    sqlstate = pa.nulls(len(audit_rows), pa.string())
    success = pc.if_else(after, pa.scalar(True), pa.scalar(None, pa.bool_()))
    errors = np.flatnonzero(is_error(log).to_numpy(zero_copy_only=False))
    if not len(errors):
        return success, sqlstate
    states: list[str | None] = [None] * len(audit_rows)
    failed = np.zeros(len(audit_rows), bool)
    for row, error in _failed(log, session, audit_rows, payload, errors).items():
        if not after[row].as_py():
            states[row] = log.column("sql_state_code")[error].as_py()
            failed[row] = True
    return pc.if_else(pa.array(failed), pa.scalar(False), success), pa.array(states, pa.string())


def had_ended(payload: pa.Table) -> pa.BooleanArray:
    """Which records were written when their statement had ended well: what fails after that is another."""
    before = pc.is_in(payload.column("class").cast("string"), pa.array(_BEFORE_EXECUTION))
    after = pc.or_(pc.is_valid(payload.column("rows")), pc.invert(before))
    early = pc.is_in(payload.column("command").cast("string"), pa.array(_UTILITY_BEFORE))
    return pc.and_(after, pc.invert(early)).combine_chunks()


def denied_rows(log: pa.Table) -> Ints:
    """Positions of the records that report a refused statement or login."""
    state = log.column("sql_state_code").cast("string")
    refused = pc.match_substring_regex(pc.fill_null(state, ""), _DENIED)
    if state.null_count:
        told = pc.match_substring_regex(log.column("message"), _DENIED_IN_WORDS)
        refused = pc.or_(refused, pc.and_(pc.is_null(state), pc.fill_null(told, False)))
    rows = pc.and_(is_error(log), refused)
    return np.flatnonzero(np.asarray(rows.to_numpy()))


def refused_statements(log: pa.Table, denied: Ints) -> Ints:
    """Those of the records of `denied_rows` that report a statement of a session that was let in.

    The server quotes no statement where it refuses a login.
    """
    quoted = np.asarray(pc.is_valid(log.column("query")).to_numpy(), bool)
    inside = np.asarray(pc.is_valid(log.column("virtual_transaction_id")).to_numpy(), bool)
    found: Ints = denied[(quoted & inside)[denied]]
    return found


def is_error(log: pa.Table) -> pa.ChunkedArray:
    """By sqlstate, because the words of severity are translated; by the word without one."""
    state = log.column("sql_state_code").cast("string")
    known = pc.fill_null(state, "00000")
    warning = pc.or_(pc.starts_with(known, "00"), pc.starts_with(known, "01"))
    error = pc.invert(pc.or_(warning, pc.starts_with(known, "02")))
    if state.null_count:
        word = pc.is_in(log.column("error_severity").cast("string"), pa.array(_ERRORS))
        error = pc.if_else(pc.is_null(state), word, error)
    return error


def _failed(
    log: pa.Table, session: Ints, audit_rows: Ints, payload: pa.Table, errors: Ints
) -> dict[int, int]:
    """pgAudit record -> the error that follows it in its session, of the same statement.

    One Python step per error: errors are few, and each looks at one record before it.
    """
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
