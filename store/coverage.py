"""What is known of a period, and what isn't: beside every answer, and as an answer of its own.

Enters: a connection with the store's views and a period. Leaves: counts, as plain values. Names
nobody's data; decides nothing about how it is shown.
"""

from collections.abc import Mapping
from typing import Any

import duckdb

from scalple.ingest.columntypes import INTEGER, TEXT
from scalple.store.question import Period, Question, filters
from scalple.store.quick import Quick
from scalple.store.rows import make_table, rows_of
from scalple.store.sqlfile import sql_file
from scalple.store.views import gaps_sql


def coverage(
    con: duckdb.DuckDBPyConnection, period: Period, quick: Quick | None = None
) -> dict[str, Any]:
    """What is known of a period, and what isn't: to be printed beside every answer."""
    where, values = filters(Question(period=period))
    clause = " AND ".join(where) or "true"
    _count(con, clause, values, quick)
    period_facts = rows_of(
        con,
        "SELECT coalesce(sum(n), 0)::BIGINT AS statements, min(first) AS first, max(last) AS last, "
        "count(DISTINCT session_user_id) AS actors FROM counted",
        {},
    )[0]

    counts = _counted(con)
    grades = counts["attribution_grade"]
    named = sum(grades.get(grade, 0) for grade in ("proven", "confirmed", "claimed"))
    by_people = period_facts["statements"] - grades.get("pooler", 0)
    # A gap that lasts is one of every period that it touches.
    touching, _ = filters(Question(period=period), begins="coalesce(since, log_time)")
    in_time = f"log_time IS NULL OR ({' AND '.join(touching) or 'true'})"
    gaps = f"({gaps_sql()})" if quick is None else _quick_gaps(con, quick)
    return period_facts | {
        "attributed": named,
        "attributed_share": round(named / by_people, 6) if by_people else None,
        "by_grade": grades,
        "by_method": counts["attribution_method"],
        "by_reason": counts["attribution_reason"],
        "findings": counts["findings"],
        **rows_of(
            con,
            "SELECT count(*) AS denied, count(session_user_id) AS denied_named FROM denied "
            f"WHERE {clause}",
            values,
        )[0],
        "gaps": _counts(con, f"SELECT reason AS name FROM {gaps} WHERE {in_time}", values),
        "expired": expired_in(con, period),
        "unparsed": sum(_counts(con, "SELECT reason AS name FROM unparsed", {}).values()),
    }


def expired_in(con: duckdb.DuckDBPyConnection, period: Period) -> list[dict[str, Any]]:
    """What was there of a period and isn't any more, by log and reason."""
    values = {"since": period.since, "until": period.until}
    return rows_of(con, sql_file("expired_in.sql"), values)


_SUMMED = {
    "attribution_grade": "attribution_grade",
    "attribution_method": "attribution_method",
    "attribution_reason": "attribution_reason",
    "findings": "unnest(findings)",
}
_COUNTED = (
    "session_user_id",
    "attribution_grade",
    "attribution_method",
    "attribution_reason",
    "findings",
)
_SPANS = """
SELECT name AS origin, unnest([ever_first, ever_last]) AS log_time, attribution_reason
FROM met JOIN people ON code = person JOIN origins USING (origin) WHERE {unheard}
UNION ALL
SELECT name, max(ever_last), NULL FROM met JOIN origins USING (origin) GROUP BY 1
"""
"""What gaps.sql looks at: of which statements no log tells, and when the last statement was. Of each
person the first and the last one do."""
_ROWS = """
UNION ALL
SELECT name, log_time, attribution_reason
FROM facts JOIN people ON code = person JOIN origins ON origin = {origin}
WHERE is_unheard(attribution_reason)
"""
"""Where they don't: some lie in the time of which the poolers' logs tell, and others beside it."""
_STRADDLES = """
SELECT count(*) FROM (
  SELECT origin AS name, min(ts) AS first_ts, max(ts) + INTERVAL 65 SECONDS AS last_ts
  FROM events WHERE source = 'pgbouncer' GROUP BY origin
) JOIN origins USING (name) JOIN met USING (origin) JOIN people ON code = person
WHERE is_unheard(attribution_reason)
  AND (ever_first < first_ts AND ever_last >= first_ts
    OR ever_first <= last_ts AND ever_last > last_ts)
"""
"""How many unnamed people ran statements in that time and others beside it."""


def _count(
    con: duckdb.DuckDBPyConnection, clause: str, values: dict[str, Any], quick: Quick | None
) -> None:
    """The table `counted`: the statements of the period by all that is counted of them."""
    measured = "count(*) AS n, min(log_time) AS first, max(log_time) AS last"
    if quick is None:
        sql = f"SELECT {', '.join(_COUNTED)}, {measured} FROM audit WHERE {clause} GROUP BY ALL"
    else:
        _meet(con, clause, values, quick)
        sql = (
            f"SELECT {', '.join(_COUNTED)}, n, first, last FROM met JOIN people ON code = person "
            "WHERE n > 0"
        )
        values = {}
    con.execute(f"CREATE OR REPLACE TEMP TABLE counted AS {sql}", values)


def _meet(
    con: duckdb.DuckDBPyConnection, clause: str, values: dict[str, Any], quick: Quick
) -> None:
    """The tables `met` (see met.sql) and `origins`."""
    quick.load_facts(con)
    numbers = (INTEGER, range(len(quick.origins)))
    make_table(con, "origins", {"origin": numbers, "name": (TEXT, quick.origins)})
    only = "" if clause == "true" else f" FILTER ({clause})"
    counted = ", ".join(
        f"{what}{only} AS {name}"
        for what, name in (
            ("count(*)", "n"),
            ("min(log_time)", "first"),
            ("max(log_time)", "last"),
        )
    )
    con.execute(sql_file("met.sql").format(origin=quick.origin_number, counted=counted), values)


def _quick_gaps(con: duckdb.DuckDBPyConnection, quick: Quick) -> str:
    """The rows of `gaps`, after `_meet`."""
    quick.load_events()
    audit = _SPANS.format(unheard="is_unheard(attribution_reason)")
    if con.execute(_STRADDLES).fetchall()[0][0]:
        audit = _SPANS.format(unheard="false") + _ROWS.format(origin=quick.origin_number)
    return f"({gaps_sql(audit, 'events')})"


def coverage_in_detail(con: duckdb.DuckDBPyConnection, period: Period) -> dict[str, Any]:
    """`coverage`, and the same by day, by actor and by database; why the unnamed have no name; which
    poolers the evidence tells of."""
    where, values = filters(Question(period=period))
    clause = " AND ".join(where) or "true"
    found = coverage(con, period)
    nobody = "session_user_id IS NULL AND attribution_grade <> 'pooler'"
    unnamed = _counts(
        con,
        f"SELECT coalesce(attribution_reason, 'unknown') AS name FROM audit WHERE {clause} AND {nobody}",
        values,
    )
    return found | {
        "unnamed": unnamed,
        "by_actor": _counts(
            con,
            f"SELECT session_user_id AS name FROM audit WHERE {clause} AND session_user_id IS NOT NULL",
            values,
        ),
        "by_database": _counts(
            con,
            f"SELECT coalesce(database, '(not logged)') AS name FROM audit WHERE {clause}",
            values,
        ),
        "days": rows_of(con, sql_file("coverage_days.sql").format(clause=clause), values),
        "poolers": rows_of(con, sql_file("coverage_poolers.sql"), {}),
    }


def _counted(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, int]]:
    """What is counted -> name -> how many statements of the period, most first."""
    every = " UNION ALL ".join(
        f"SELECT '{what}' AS what, {name} AS name, n FROM counted" for what, name in _SUMMED.items()
    )
    found: dict[str, dict[str, int]] = {what: {} for what in _SUMMED}
    for what, name, n in con.execute(
        f"SELECT what, name, sum(n)::BIGINT FROM ({every}) WHERE name IS NOT NULL "
        "GROUP BY 1, 2 ORDER BY 3 DESC, 2"
    ).fetchall():
        found[what][name] = n
    return found


def _counts(con: duckdb.DuckDBPyConnection, rows: str, values: Mapping[str, Any]) -> dict[str, int]:
    """name -> how many, most first."""
    return _sums(con, f"SELECT name, 1 AS n FROM ({rows})", values)


def _sums(
    con: duckdb.DuckDBPyConnection, rows: str, values: Mapping[str, Any] | None = None
) -> dict[str, int]:
    """name -> the sum of `n`, most first."""
    sql = (
        f"SELECT name, sum(n)::BIGINT FROM ({rows}) WHERE name IS NOT NULL "
        "GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    return dict(con.execute(sql, values).fetchall())
