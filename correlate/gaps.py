"""What is missing from a log, as far as the log itself tells: rows of `gaps`.

Enters: a batch's records and their runs. Leaves: holes in the numbering of sessions, sessions whose
beginning or end isn't here, and changes of the settings that decide what is logged at all.
"""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.logbatch import Bools, LogBatch, where_in, where_true
from scalple.correlate.runs import Runs
from scalple.correlate.sessions import Session
from scalple.ingest.records import TEXT, TIME

_AUDITING = (
    r"(?i)\b(?:pgaudit\.\w+|log_min_messages|log_min_error_statement|log_connections"
    r"|log_disconnections|log_line_prefix|log_destination|shared_preload_libraries)\b"
)
"""Settings that decide what is logged."""
_SETS = pa.array(["SET", "RESET", "ALTER SYSTEM", "ALTER ROLE", "ALTER DATABASE"], TEXT)


def gaps(batch: LogBatch, runs: Runs, unfinished: list[tuple[int, Session]]) -> pa.Table:
    """Holes in the numbering of sessions, sessions whose beginning or end isn't here, and changes of
    what is logged at all.

    Args:
        batch: the records.
        runs: of all of them.
        unfinished: (record, session): there it shows that the session is over, which nothing said.
    """
    found = pa.concat_tables([_in_records(batch, runs), _without_end(batch, unfinished)])
    return found.sort_by("source_offset") if unfinished else found


def _without_end(batch: LogBatch, unfinished: list[tuple[int, Session]]) -> pa.Table:
    at = pa.array([row for row, _ in unfinished], pa.int64())
    n = len(unfinished)
    return pa.table(
        {
            "log_time": batch.log.column("log_time").take(at),
            "since": pa.nulls(n, TIME),
            "reason": pa.array(["session-ends-unseen"] * n, TEXT),
            "session_id": pa.array([session.session_id for _, session in unfinished], TEXT),
            "missing": pa.nulls(n, pa.int64()),
            "detail": pa.nulls(n, TEXT),
            "source_offset": batch.log.column("source_offset").take(at),
        }
    )


def _in_records(batch: LogBatch, runs: Runs) -> pa.Table:
    changed = _changes_of_auditing(batch)
    hole = (runs.missing > 0) | runs.begins_unseen
    at = np.flatnonzero(hole | changed)
    where = pa.array(at)
    unseen = runs.begins_unseen[at]
    reason = np.where(unseen, "session-begins-before-log", "hole-in-session")
    reason = np.where(hole[at], reason, "auditing-changed")
    return pa.table(
        {
            "log_time": batch.log.column("log_time").take(where).combine_chunks(),
            "since": pa.array(
                batch.time_us[at] - runs.idle_us[at], mask=~hole[at] | (runs.idle_us[at] < 0)
            ).cast(TIME),
            "reason": pa.array(reason, TEXT),
            "session_id": batch.log.column("session_id").take(where).cast(TEXT).combine_chunks(),
            "missing": pa.array(runs.missing[at], pa.int64(), mask=unseen | ~hole[at]),
            "detail": pa.array(
                [_setting(batch.message[row].as_py()) if changed[row] else None for row in at],
                TEXT,
            ),
            "source_offset": batch.log.column("source_offset").take(where).combine_chunks(),
        }
    )


def _changes_of_auditing(batch: LogBatch) -> Bools:
    """Records of a setting's change that decides what is logged: `SIGHUP`s, and SETs."""
    named = pc.match_substring_regex(batch.message, _AUDITING)
    said = where_true(named)
    by_server = batch.begins('parameter "') & said
    settings = np.zeros(batch.log.num_rows, bool)
    commands = where_in(batch.payload.column("command"), _SETS) & ~batch.forged
    settings[batch.audit_rows] = commands
    return by_server | (settings & said)


def _setting(message: str) -> str | None:
    """The first setting that the message names, of those that decide what is logged."""
    found = re.search(_AUDITING, message)
    return found[0].lower() if found else None
