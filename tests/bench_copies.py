"""Rewritten copies of a recording: the same load again, at a later time, from other ports.

Enters: the csvlog, PgBouncer's log and the identity events of one recording.
Leaves: the same lines appended to given files, with times moved on and session ids, client ports and
the sidecar's name changed alike in all three. Does not: record, or change how anything is quoted.

The csvlog is rewritten in columns by DuckDB; the other two are small and rewritten by line.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

# Linux's range of the ports that clients get; ports of listening servers lie below it.
_FIRST, _COUNT = 32768, 28232
_STEP = 9973

_TEXT_COLUMNS = (
    *("user_name", "database_name", "connection_from", "command_tag", "message", "detail", "hint"),
    *("internal_query", "context", "query", "location", "application_name", "backend_type"),
)
_COLUMNS = (
    *("log_time", "user_name", "database_name", "process_id", "connection_from", "session_id"),
    *("session_line_num", "command_tag", "session_start_time", "virtual_transaction_id"),
    *("transaction_id", "error_severity", "sql_state_code", "message", "detail", "hint"),
    *("internal_query", "internal_query_pos", "context", "query", "query_pos", "location"),
    *("application_name", "backend_type", "leader_pid", "query_id"),
)

_REWRITE = """
COPY (
    WITH parsed AS (
        SELECT *,
            split_part(connection_from, ':', 2) AS server_port,
            regexp_extract(application_name, ' - 127\\.0\\.0\\.1:(\\d+)$', 1) AS client_port
        FROM read_csv($source, columns = $columns, header = false, nullstr = '',
                      allow_quoted_nulls = false, quote = '"', escape = '"',
                      max_line_size = 16000000)
    )
    SELECT
        strftime(left(log_time, 23)::TIMESTAMP + to_seconds($seconds), '%Y-%m-%d %H:%M:%S.%g UTC'),
        user_name, database_name, process_id,
        replace(connection_from, ':' || server_port, ':' || coalesce(moved(server_port), ''))
            AS connection_from,
        format('{:x}', ('0x' || split_part(session_id, '.', 1))::BIGINT + $seconds)
            || '.' || split_part(session_id, '.', 2),
        session_line_num, command_tag,
        strftime(left(session_start_time, 19)::TIMESTAMP + to_seconds($seconds),
                 '%Y-%m-%d %H:%M:%S UTC'),
        virtual_transaction_id, transaction_id, error_severity, sql_state_code,
        replace(
            replace(message, '127.0.0.1:' || coalesce(nullif(client_port, ''), '?'),
                    '127.0.0.1:' || coalesce(moved(client_port), '?')),
            ' port=' || coalesce(nullif(server_port, ''), '?'),
            ' port=' || coalesce(moved(server_port), '?')
        ) AS message,
        detail, hint, internal_query, internal_query_pos, context, query, query_pos, location,
        replace(application_name, '127.0.0.1:' || client_port,
                '127.0.0.1:' || coalesce(moved(client_port), '')) AS application_name,
        backend_type, leader_pid, query_id
    FROM parsed
) TO '{target}' (FORMAT csv, HEADER false, FORCE_QUOTE ({quoted}))
"""

_MOVED = """
CREATE MACRO moved(port) AS
    CASE WHEN try_cast(port AS BIGINT) BETWEEN {first} AND {last}
         THEN ({first} + (port::BIGINT - {first} + {shift}) % {count})::VARCHAR
         ELSE nullif(port, '') END
"""


def append_copy(source: Mapping[str, Path], target: Mapping[str, Path], number: int) -> None:
    """Appends copy `number` (from 1) of the three logs, an hour or more after the one before."""
    seconds = number * _spacing(source["pgbouncer.log"])
    shift = number * _STEP % _COUNT
    _append(target["postgresql.csv"], rewritten_csvlog(source["postgresql.csv"], seconds, shift))
    for name, change in (("pgbouncer.log", _pgbouncer), ("identity.jsonl", _identity)):
        # Only "\n" ends a line in either file.
        lines = source[name].read_text(encoding="utf-8").removesuffix("\n").split("\n")
        moved = change(timedelta(seconds=seconds), shift, number)
        with target[name].open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{moved(line)}\n" for line in lines)


def rewritten_csvlog(source: Path, seconds: int, shift: int) -> Path:
    """Writes the moved csvlog beside its source; nothing moved gives the source's own bytes."""
    target = source.with_suffix(".copy")
    columns = dict.fromkeys(_COLUMNS, "VARCHAR")
    statement = _REWRITE.replace("{target}", str(target).replace("'", "''")).replace(
        "{quoted}", ", ".join(_TEXT_COLUMNS)
    )
    with duckdb.connect() as database:
        last = _FIRST + _COUNT - 1
        database.execute(_MOVED.format(first=_FIRST, last=last, count=_COUNT, shift=shift))
        database.execute(statement, {"source": str(source), "columns": columns, "seconds": seconds})
    return target


def _append(target: Path, part: Path) -> None:
    with target.open("ab") as out, part.open("rb") as copied:
        shutil.copyfileobj(copied, out, 1 << 22)
    part.unlink()


def _spacing(pgbouncer_log: Path) -> int:
    lines = pgbouncer_log.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    first, last = (datetime.fromisoformat(line[:23]) for line in (lines[0], lines[-1]))
    return 3600 * (1 + int((last - first).total_seconds()) // 3600)


def _port(text: str, shift: int) -> str:
    port = int(text)
    if not _FIRST <= port < _FIRST + _COUNT:
        return text
    return str(_FIRST + (port - _FIRST + shift) % _COUNT)


def _pgbouncer(later: timedelta, shift: int, _number: int) -> Callable[[str], str]:
    def moved(line: str) -> str:
        at = (datetime.fromisoformat(line[:23]) + later).isoformat(" ", "milliseconds")
        return at + re.sub(
            r"(?<=127\.0\.0\.1:)\d+", lambda found: _port(found[0], shift), line[23:]
        )

    return moved


def _identity(later: timedelta, shift: int, number: int) -> Callable[[str], str]:
    def moved(line: str) -> str:
        event = json.loads(line)
        at = datetime.fromisoformat(event["ts"]) + later
        event["ts"] = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        sidecar = f"{event['sidecar'].rsplit('-', 1)[0]}-{number}"
        if "connection" in event:
            event["connection"] = event["connection"].replace(event["sidecar"], sidecar)
            event["client_port"] = int(_port(str(event["client_port"]), shift))
        event["sidecar"] = sidecar
        return json.dumps(event, ensure_ascii=False, separators=(",", ":"))

    return moved
