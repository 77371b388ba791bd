"""DuckDB as a calculator in memory: no file, no extension, no network.

Enters: how many threads are worth it. Leaves: a connection of one's own, with the macros of macros.sql; what
it makes is TEMP and goes with it. Computes nothing itself.
"""

from functools import cache

import duckdb

from scalple.correlate.evidencesql import read_sql


def calculator(threads: int) -> duckdb.DuckDBPyConnection:
    """A connection with nothing in it, for one thread; times are UTC."""
    con = _database(threads).cursor()
    con.execute("SET TimeZone = 'UTC'")
    return con


@cache
def _database(threads: int) -> duckdb.DuckDBPyConnection:
    """One for all: to make one takes longer than what is computed in it for a commit of few rows."""
    con = duckdb.connect(":memory:", config={"threads": threads})
    con.execute(read_sql("macros.sql"))
    return con
