"""A DuckDB session without any view, opened while the rest of the program is still being loaded.

Enters nothing. Leaves a connection with our macros and no relation; which files it may read, and that
nothing of it can be changed any more, is settled by `views`. To open one takes 25 ms, in which DuckDB
doesn't need Python: a question begins it on a thread before it loads what else it needs.
"""

import os
import tempfile
import zoneinfo  # noqa: F401 (Arrow looks for it on whichever thread needs it first: two at once may find half of it)
from pathlib import Path
from threading import Thread

import duckdb

from scalple.correlate.evidencesql import read_sql
from scalple.store.sqlfile import sql_file


class _Opening(Thread):
    """Opens a session."""

    con: duckdb.DuckDBPyConnection | None = None

    def run(self) -> None:
        """If it can't be opened, the error comes where it is needed."""
        try:
            self.con = _opened()
        except duckdb.Error:
            self.con = None


_begun: list[_Opening] = []
_kept: list[duckdb.DuckDBPyConnection] = []
"""Until the process ends: to take a session apart takes 8 ms."""


def begin() -> None:
    """Open a session on another thread, for the next `take`, of a process that does nothing else."""
    opening = _Opening()
    opening.start()
    _begun.append(opening)


def take() -> duckdb.DuckDBPyConnection:
    """A session of one's own: the one that was begun, or a new one."""
    if _begun:
        opening = _begun.pop()
        opening.join()
        if opening.con is not None:
            _kept.append(opening.con)
            return opening.con
    return _opened()


def has_files() -> bool:
    """Whether DuckDB has put something on disk that it removes when it ends."""
    return _directory().exists()


def _directory() -> Path:
    return Path(tempfile.gettempdir()) / f"scalple-{os.getpid()}"


def _opened() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "temp_directory": str(_directory()),
            "temp_file_encryption": True,
        }
    )
    con.execute("SET GLOBAL TimeZone = 'UTC'")  # of cursors as well
    con.execute(read_sql("macros.sql"))
    con.execute(sql_file("writing.sql"))
    con.execute(sql_file("statements.sql"))
    return con
