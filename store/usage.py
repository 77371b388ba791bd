"""What the login roles of a store did with which relations, as far as its rows say.

Enters: a connection with the store's views, a period, perhaps a database. Leaves: uses, as
`scalple.correlate.unusedrights` compares them with grants.
"""

from importlib import resources
from typing import Any

import duckdb

from scalple.correlate.unusedrights import Use
from scalple.store.question import Period


def uses(
    con: duckdb.DuckDBPyConnection, period: Period, database: str | None
) -> tuple[list[Use], dict[str, int], list[str]]:
    """(uses, rows per login role, pgAudit's classes that occur).

    Args:
        con: the store's views.
        period: of the statements.
        database: only what was done there; None for all databases.
    """
    where, values = _conditions(period, database)
    text = resources.files("scalple.store").joinpath("usage.sql").read_text("utf-8")
    found = con.sql(text.format(where=where), params=values).to_arrow_table().to_pylist()
    roles = con.execute(
        f"SELECT db_role, count(*) FROM audit WHERE db_role IS NOT NULL AND {where} GROUP BY 1",
        values,
    ).fetchall()
    classes = con.execute(f"SELECT DISTINCT class FROM audit WHERE {where}", values).fetchall()
    return (
        [
            Use(
                one["db_role"],
                one["relation"],
                None
                if one["columns"] is None or one["relation"] is None
                else frozenset(one["columns"]),
                one["privilege"],
                one["is_certain"],
                one["statements"],
                one["last"],
            )
            for one in found
        ],
        dict(roles),
        [name for (name,) in classes if name is not None],
    )


def knows(con: duckdb.DuckDBPyConnection, database: str) -> bool:
    """Whether any statement is of that database."""
    sql = "SELECT 1 FROM audit WHERE database = ? LIMIT 1"
    return con.execute(sql, [database]).fetchone() is not None


def _conditions(period: Period, database: str | None) -> tuple[str, dict[str, Any]]:
    where: list[str] = ["true"]
    values: dict[str, Any] = {}
    for sign, name, moment in ((">=", "since", period.since), ("<", "until", period.until)):
        if moment is not None:
            where.append(f"log_time {sign} ${name}")
            values[name] = moment
    if database is not None:
        # Where the log doesn't say which one, it may have been this one.
        where.append("coalesce(database, $database) = $database")
        values["database"] = database
    return " AND ".join(where), values
