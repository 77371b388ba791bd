"""Which personal columns came back that no statement asked for by name.

Enters: a connection with the store's views, the columns declared as personal, a period. Leaves: Arrow
tables: templates that read personal columns through `*` alone, and per actor and column how it was read.
Whether the application used what came back, no log says: such columns could perhaps have been left out.
"""

from importlib import resources
from typing import Any

import duckdb
import pyarrow as pa

from scalple.store.question import AS_DECLARED, Meaning, Period
from scalple.store.rownames import audit_as_asked

_TEMPLATES = """
SELECT query_fingerprint, actor, db_role, by_star AS columns, count(*) AS statements,
       rows_in_all(rows_returned) AS rows_returned, count(*) - count(rows_returned) AS rows_unknown,
       min(log_time) AS first, max(log_time) AS last, min(query) AS query
FROM minimised WHERE len(by_star) > 0
GROUP BY query_fingerprint, actor, db_role, by_star
ORDER BY statements DESC, query_fingerprint, actor, db_role, columns
"""
_ACTORS = """
SELECT actor, db_role, name AS "column",
       count(*) FILTER (NOT list_contains(by_star, name)) AS by_name,
       count(*) FILTER (list_contains(by_star, name)) AS by_star,
       rows_in_all(rows_returned) AS rows_returned, count(*) - count(rows_returned) AS rows_unknown,
       min(log_time) AS first, max(log_time) AS last
FROM (SELECT *, unnest(columns) AS name FROM minimised)
GROUP BY actor, db_role, name
ORDER BY actor NULLS LAST, db_role, name
"""
_UNKNOWN = """
SELECT count(*) FROM {audit}
WHERE class = 'READ' AND repeat_of IS NULL AND columns_basis NOT IN ('parsed', 'star-expanded')
  AND (affected_tables IS NULL OR list_has_any(affected_tables, {tables})) AND {period}
"""


def minimisation(
    con: duckdb.DuckDBPyConnection,
    personal: tuple[str, ...],
    period: Period,
    carried: tuple[Meaning, ...] = (),
) -> dict[str, Any]:
    """`templates` and `actors` as tables, and how many rows may belong there and can't be told.

    Args:
        con: the store's views.
        personal: columns (`schema.table.column`) that are personal.
        period: of the statements.
        carried: the same, in the names of rows whose tables or columns were called otherwise before.
    """
    where, values = _period(period)
    text = resources.files("scalple.store").joinpath("minimisation.sql").read_text("utf-8")
    declared = Meaning(AS_DECLARED, personal, ())
    columns, tables = {"personal": list(personal)}, {"tables": declared.tables}
    asked = {"audit": "audit", "personal": "$personal", "tables": "$tables", "period": where}
    if carried:
        columns = tables = {}
        rows = audit_as_asked(con, [declared, *carried])
        asked |= {"audit": rows, "personal": "of_personal", "tables": "of_tables"}
    made = f"CREATE OR REPLACE TEMP TABLE minimised AS {text.format(**asked)}"
    con.execute(made, values | columns)
    unknown = con.execute(_UNKNOWN.format(**asked), values | tables).fetchall()[0][0]
    found: dict[str, pa.Table] = {
        "templates": con.sql(_TEMPLATES).to_arrow_table(),
        "actors": con.sql(_ACTORS).to_arrow_table(),
    }
    return found | {"unknown": unknown}


def _period(period: Period) -> tuple[str, dict[str, Any]]:
    """A condition on log_time, and its values."""
    where, values = ["true"], {}
    if period.since is not None:
        where.append("log_time >= $since")
        values["since"] = period.since
    if period.until is not None:
        where.append("log_time < $until")
        values["until"] = period.until
    return " AND ".join(where), values
