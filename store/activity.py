"""What somebody did, at a glance: when, how much, in which tables, about whom.

Enters: a connection with the store's views and a question (an actor, a role, an address, a table).
Leaves: counts and short lists, as plain values. Each statement counts once, however many relations it
has a record for; records that repeat another one (`repeat_of`) don't count. Lists no statements: that
is `query.direct`.
"""

from typing import Any

import duckdb

from scalple.store.possible import direct_rows
from scalple.store.question import Question
from scalple.store.rows import rows_of
from scalple.store.sqlfile import sql_file

MOST = 20
"""How many tables and subjects are listed, those with most statements."""


def activity(con: duckdb.DuckDBPyConnection, question: Question) -> dict[str, Any]:
    """Totals, days, hours of the day (UTC), tables, shapes and subjects."""
    where, values = direct_rows(question)
    clause = " AND ".join([*where, "repeat_of IS NULL"])
    con.execute(sql_file("activity.sql").format(clause=clause), values)
    totals: dict[str, Any] = _list(con, sql_file("activity_totals.sql"))[0]
    return totals | {
        "days": _list(con, sql_file("activity_days.sql")),
        "hours": _counts(con, "extract(hour FROM began)::VARCHAR"),
        "shapes": _counts(con, "access_shape"),
        "commands": _counts(con, "command"),
        "tables": _list(con, sql_file("activity_tables.sql").format(most=MOST)),
        "subjects": _list(
            con,
            "SELECT count(DISTINCT s.token) AS n FROM (SELECT unnest(subjects) AS s FROM asked_rows)",
        )[0]["n"],
        "most_subjects": _list(con, sql_file("activity_subjects.sql").format(most=MOST)),
    }


def _list(con: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    return rows_of(con, sql, {})


def _counts(con: duckdb.DuckDBPyConnection, name: str) -> dict[str, int]:
    rows = _list(con, sql_file("activity_counts.sql").format(name=name))
    return {row["name"]: row["times"] for row in rows}
