"""Rows into DuckDB and out of it as Python has them, without Arrow.

Enters: a connection, a query or columns. Leaves: rows as dicts, or a table. For what a question finds and
what it is asked with: where rows are many and Python has nothing to do with each, Arrow carries them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from scalple.ingest.columntypes import TIME
from scalple.ingest.epoch import moment_of


def rows_of(
    con: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The rows of a query with named parameters; times are in UTC.

    Raises:
        OverflowError: a time that Python has none for.
    """
    found = con.sql(sql, params=dict(values))
    names = found.columns
    # DuckDB makes times with a zone only where `pytz` is installed; they are counted here instead.
    times = [n for n, kind in enumerate(found.types) if str(kind) == TIME]
    if not times:
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    quoted = [f'"{name}"' for name in names]
    for n in times:
        quoted[n] = f"epoch_us({quoted[n]})"
    rows = []
    for row in found.project(", ".join(quoted)).fetchall():
        told = dict(zip(names, row, strict=True))
        for n in times:
            if row[n] is not None:
                told[names[n]] = moment_of(row[n])
        rows.append(told)
    return rows


def make_table(
    con: duckdb.DuckDBPyConnection,
    name: str,
    columns: Mapping[str, tuple[str, Sequence[Any]]],
    *,
    temporary: bool = True,
) -> None:
    """A table anew, of the columns' types and values; one that isn't temporary all cursors see.

    Args:
        con: where.
        name: its name.
        columns: name -> SQL type, values.
    """
    made = ", ".join(f'unnest(${n}::{kind}[]) AS "{n}"' for n, (kind, _) in columns.items())
    kept = "TEMP TABLE" if temporary else "TABLE"
    values = {n: list(many) for n, (_, many) in columns.items()}
    con.execute(f"CREATE OR REPLACE {kept} {name} AS SELECT {made}", values)
