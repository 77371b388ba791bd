"""A live PostgreSQL -> its settings, its clock, and which roles and databases are audited otherwise.

Enters: a connection string. Leaves: `LiveServer`. One read-only transaction over system views; what the role
may not see is told as not seen. Changes nothing, and reads no row of a table.
"""

import datetime as dt
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalple.ingest.liveconnection import connected
from scalple.ingest.serversettings import ServerSettings, Setting

_SETTINGS = """
SELECT name, current_setting(name), sourcefile, sourceline, source, pending_restart
FROM pg_settings
WHERE name ~ '^(log_|logging_|pgaudit[.])'
   OR name IN ('shared_preload_libraries', 'data_directory', 'config_file', 'lc_messages',
               'log_destination', 'server_version_num', 'session_preload_libraries')
"""
# What the files say, where this session itself was given something else.
_IN_FILES = """
SELECT name, setting, sourcefile, sourceline FROM pg_file_settings WHERE applied ORDER BY seqno
"""
_MAY_READ_FILES = "SELECT has_function_privilege('pg_show_all_file_settings()', 'execute')"
_OWN = frozenset({"client", "session", "user", "database", "database user"})
"""Sources of values that other sessions don't have."""
# Settings of single roles and databases that decide what is logged.
_OVERRIDES = """
SELECT r.rolname, d.datname, split_part(one, '=', 1), substr(one, strpos(one, '=') + 1)
FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole
LEFT JOIN pg_database d ON d.oid = s.setdatabase,
unnest(s.setconfig) AS one
WHERE lower(split_part(one, '=', 1)) ~ '^(pgaudit[.]|log_)'
ORDER BY 1 NULLS FIRST, 2 NULLS FIRST, 3
"""
_FACTS = """
SELECT current_database(), current_user,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgaudit'),
       EXISTS (SELECT FROM pg_extension WHERE extname = 'pgaudit'),
       EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_read_all_settings'
               AND pg_has_role(oid, 'usage')),
       array(SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate
             ORDER BY 1)
"""


@dataclass(frozen=True, slots=True)
class Override:
    """A setting of a role, of a database, or of a role in a database."""

    role: str | None
    database: str | None
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class LiveServer:
    """What a server says of itself.

    Attributes:
        settings: as they hold for this connection.
        database, role: of this connection.
        has_library: pgAudit's files are installed.
        has_extension: `CREATE EXTENSION pgaudit` was done in this database.
        sees_all: the role may see every setting and where it stands.
        pending: changed in a file and waiting for a restart.
        overrides: what decides about logging for single roles and databases.
        databases: those that can be connected to.
        ahead_s: the server's clock less this host's, in seconds.
        within_s: the error of that at most.
        is_here: reached over a unix socket or loopback: its files are on this host.
    """

    settings: ServerSettings
    database: str
    role: str
    has_library: bool
    has_extension: bool
    sees_all: bool
    pending: tuple[str, ...]
    overrides: tuple[Override, ...]
    databases: tuple[str, ...]
    ahead_s: float
    within_s: float
    is_here: bool


def ask(dsn: str) -> LiveServer:
    """Ask a server.

    Raises:
        ConfigError: psycopg isn't installed, or it is no connection string.
        InputError: the server can't be reached, or refuses.
    """
    with connected(dsn, "ask the server") as connection:
        ahead, within = _clock(connection)
        connection.execute("BEGIN READ ONLY")
        rows = connection.execute(_SETTINGS).fetchall()
        ((database, role, library, extension, sees_all, databases),) = connection.execute(
            _FACTS
        ).fetchall()
        in_files = _in_files(connection)
        overrides = tuple(Override(*row) for row in connection.execute(_OVERRIDES).fetchall())
        is_here = _is_here(connection)
    return LiveServer(
        _settings(rows, in_files),
        database,
        role,
        library,
        extension,
        sees_all,
        tuple(sorted(row[0] for row in rows if row[5])),
        overrides,
        tuple(databases),
        ahead,
        within,
        is_here,
    )


def _in_files(connection: Any) -> dict[str, Setting]:
    """What postgresql.conf and so on say; nothing where the role may not see it."""
    ((may,),) = connection.execute(_MAY_READ_FILES).fetchall()
    rows = connection.execute(_IN_FILES).fetchall() if may else []
    return {name.lower(): Setting(value, Path(file), line) for name, value, file, line in rows}


def _settings(rows: list[Any], in_files: dict[str, Setting]) -> ServerSettings:
    found = {
        name: in_files[name]
        if source in _OWN and name in in_files
        else Setting(value, Path(file) if file else None, line, source)
        for name, value, file, line, source, _ in rows
    }
    directory, main = found.get("data_directory"), found.get("config_file")
    return ServerSettings(
        Path(main.value) if main else None,
        Path(directory.value) if directory else None,
        int(found["server_version_num"].value) // 10_000,
        found,
        is_live=True,
    )


def _clock(connection: Any) -> tuple[float, float]:
    """(how far the server's clock is ahead, within how much), the best of a few tries."""
    best = (0.0, float("inf"))
    for _ in range(5):
        begun, wall = time.monotonic(), time.time()
        ((now,),) = connection.execute("SELECT clock_timestamp()").fetchall()
        took = time.monotonic() - begun
        assert isinstance(now, dt.datetime)
        if took / 2 < best[1]:
            best = (now.timestamp() - (wall + took / 2), took / 2)
    return best


def _is_here(connection: Any) -> bool:
    info = connection.info
    return info.host.startswith("/") or info.hostaddr in ("127.0.0.1", "::1")
