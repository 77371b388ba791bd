"""Fields as PostgreSQL writes them: whether they are, and times resolved.

Enters: a table with `log_time` as text. Leaves: the same with times, without the rows in which a
field is not what PostgreSQL writes there. What a row's container lacks may be NULL.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.ingest.logtime import LogTimes, NotATimeError

Ints = npt.NDArray[np.int64]

PORT = r"(?:6553[0-5]|655[0-2]\d|65[0-4]\d{2}|6[0-4]\d{3}|[1-5]?\d{1,4})"
SESSION_ID = r"[0-9a-f]{1,10}\.[0-9a-f]{1,8}"

UNSOUND = "a field is not of its type, or a time of an unknown zone"
"""Why a record is rejected that `typed` doesn't take."""

_SESSION_ID = rf"^{SESSION_ID}$"
_CAME_FROM = rf"(?s)^(?:[^:]*|.*:{PORT})$"
_LINES_MAX = 2**53
_TIMES_END_US = 7_258_118_400_000_000
"""2200: no clock of this century shows it."""


def typed(table: pa.Table, times: LogTimes, *, lacking: bool = False) -> pa.Table | None:
    """With the times resolved; None if a field isn't what PostgreSQL writes there.

    Args:
        table: session_id, connection_from, session_line_num and log_time, as text or numbers.
        times: resolves the time stamps.
        lacking: session ids and line numbers may be NULL.

    Raises:
        InputError: the times name no offset.
    """
    lines = pc.min_max(table.column("session_line_num"))
    session = table.column("session_id")
    if (
        not _all_match(session, _SESSION_ID)
        or not _all_match(table.column("connection_from"), _CAME_FROM)
        or not (lacking or not (session.null_count or table["session_line_num"].null_count))
        or (lines["min"].is_valid and not lines["min"].as_py() >= 1)
        or (lines["max"].is_valid and not lines["max"].as_py() <= _LINES_MAX)
        or table.column("log_time").null_count
    ):
        return None
    try:
        log_time = times.resolve(table.column("log_time").combine_chunks())
    except NotATimeError:
        return None
    moments = pc.min_max(log_time.cast(pa.int64()))
    if table.num_rows and not 0 <= moments["min"].as_py() <= moments["max"].as_py() < _TIMES_END_US:
        return None
    at = table.schema.get_field_index("log_time")
    return table.set_column(at, "log_time", log_time)


def sift(table: pa.Table, times: LogTimes, *, lacking: bool = False) -> tuple[pa.Table, Ints]:
    """(the sound rows, typed; positions of the others). Halves what holds an unsound one."""
    whole = typed(table, times, lacking=lacking)
    if whole is not None:
        return whole, np.empty(0, np.int64)
    if table.num_rows == 1:
        empty = typed(table.slice(0, 0), times, lacking=lacking)
        assert empty is not None
        return empty, np.zeros(1, np.int64)
    half = table.num_rows // 2
    first, bad_first = sift(table.slice(0, half), times, lacking=lacking)
    last, bad_last = sift(table.slice(half), times, lacking=lacking)
    return pa.concat_tables([first, last]), np.concatenate([bad_first, bad_last + half])


def _all_match(column: pa.ChunkedArray, pattern: str) -> bool:
    """Whether all distinct values have that form; NULL counts as one that has."""
    parts = column.unify_dictionaries().chunks[:1]
    if all(_match(part.dictionary, pattern) for part in parts):
        return True
    # A slice may hold on to values that none of its rows has.
    return _match(pc.unique(column.cast(pa.string())), pattern)


def _match(values: pa.Array, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(values, pattern)).as_py() is not False
