"""DuckDB as a calculator in memory: no file, no extension, no network.

Enters: how many rows are to be computed with. Leaves: a connection of one's own, with the macros of macros.sql;
what it makes is TEMP and goes with it. Computes nothing itself.
"""

from functools import cache

import duckdb

from scalple.correlate.evidencesql import read_sql

FEW = 20_000
"""For more rows the time to make a database is little, and the memory that it would go on holding is much."""
_MANY = 100_000
"""For more, a second thread is worth its memory."""


def calculator(rows: int) -> duckdb.DuckDBPyConnection:
    """A connection with nothing in it, for one thread, to be closed; times are UTC."""
    con = _shared().cursor() if rows <= FEW else _database(2 if rows > _MANY else 1)
    con.execute("SET TimeZone = 'UTC'")
    return con


@cache
def _shared() -> duckdb.DuckDBPyConnection:
    """To make a database takes longer than what is computed in it for a commit of few rows. The thread in the
    background gives back what it held for those: 40 MB that it would keep."""
    return _database(1, allocator_background_threads=True)


def _database(threads: int, **more: bool) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:", config={"threads": threads, **more})
    con.execute(read_sql("macros.sql"))
    return con
