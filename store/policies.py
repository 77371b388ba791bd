"""Stored rows as the rules about them need them, and how often each rule found something.

Enters: a connection with the store's views. Leaves: the rows of an origin in batches, its identity
events, and counts. Evaluates no rule (see `scalple.correlate.policies`) and prints nothing.
"""

from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa

from scalple.correlate.entitledrows import COPYING, MIXED
from scalple.correlate.policies import AS_LOGGED, OF_ACCESS, OF_PEOPLE
from scalple.ingest.records import TEXT, TIME
from scalple.store.question import Period
from scalple.store.rownames import RowNames

_ROWS = 100_000
_COUNTS = pa.schema(
    [
        ("day", TEXT),
        ("finding", TEXT),
        ("actor", TEXT),
        ("db_role", TEXT),
        ("found", pa.int64()),
        ("stored", pa.int64()),
        ("first", TIME),
        ("last", TIME),
    ]
)
_OF_STATEMENT = """
       command, object_type, object_name,
       -- Where records are written at the end, inner ones have the lower numbers: see entitledstatements.
       CASE WHEN substatement_id <> 1 THEN true
            WHEN list_contains(coalesce(findings, []), 'outer-missing') THEN NULL
            ELSE rows_returned IS NOT NULL AND coalesce(max(substatement_id) FILTER (
              NOT list_contains($copying, coalesce(command, ''))
              AND NOT is_forged(findings))
              OVER (PARTITION BY coalesce(session_id, backend_pid::VARCHAR), statement_id), 1) > 1
       END AS is_within,
       query IS NULL OR regexp_matches(query, $mixed) AS is_mixed
"""
EMPTY = _COUNTS.empty_table()
_COUNT = """
SELECT strftime(log_time, '%Y-%m-%d') AS day, finding, session_user_id AS actor, db_role,
       count(*) FILTER (list_contains(now, finding)) AS found,
       count(*) FILTER (list_contains(findings, finding)) AS stored,
       min(log_time) AS first, max(log_time) AS last
FROM (SELECT *, unnest(list_distinct(coalesce(findings, []) || coalesce(now, []))) AS finding
      FROM batch)
WHERE list_contains($names, finding)
   OR len(list_filter($prefixes, lambda p: starts_with(finding, p))) > 0
GROUP BY ALL
"""
_TOTALS = {
    "findings": """
        SELECT finding, sum(found)::BIGINT AS found, sum(stored)::BIGINT AS stored,
               count(DISTINCT actor) AS actors, min(first) AS first, max(last) AS last
        FROM counts GROUP BY finding ORDER BY finding""",
    "actors": """
        SELECT finding, actor, db_role, sum(found)::BIGINT AS found, sum(stored)::BIGINT AS stored,
               min(first) AS first, max(last) AS last
        FROM counts GROUP BY finding, actor, db_role
        ORDER BY finding, found DESC, actor NULLS LAST, db_role""",
    "days": """
        SELECT day, finding, actor, db_role, sum(found)::BIGINT AS found,
               sum(stored)::BIGINT AS stored
        FROM counts GROUP BY day, finding, actor, db_role
        ORDER BY day, finding, actor NULLS LAST, db_role""",
}


def events(con: duckdb.DuckDBPyConnection, origin: str) -> pa.Table:
    """What identity events of an origin say beside the actor: seq, source, detail."""
    return con.sql(
        "SELECT seq, source, detail FROM evidence WHERE origin = $origin AND source = 'identity'",
        params={"origin": origin},
    ).to_arrow_table()


def batches(
    con: duckdb.DuckDBPyConnection,
    origin: str,
    period: Period,
    names: RowNames,
    *,
    for_rights: bool = False,
) -> Iterator[pa.Table]:
    """The rows of a period, with the columns that rules look at; `names` is registered; with
    `for_rights` OF_STATEMENT too."""
    where = ["origin = $origin"]
    wanted: dict[str, Any] = {"origin": origin}
    if period.since is not None:
        where.append("log_time >= $since")
        wanted["since"] = period.since
    if period.until is not None:
        where.append("log_time < $until")
        wanted["until"] = period.until
    columns = ", ".join(f'"{name}"' for name in (*AS_LOGGED, *OF_PEOPLE, *OF_ACCESS))
    columns += ", names" if names.lineages else ""
    if for_rights:
        columns += f", {_OF_STATEMENT}"
        wanted |= {"copying": list(COPYING), "mixed": MIXED}
    asked = con.sql(
        f"SELECT {columns} FROM {names.source} WHERE {' AND '.join(where)}", params=wanted
    )
    for batch in asked.to_arrow_reader(_ROWS):
        yield names.called(pa.Table.from_batches([batch]))


def counts(
    rows: pa.Table, found: pa.Array | None, prefixes: tuple[str, ...], names: tuple[str, ...]
) -> pa.Table:
    """How many rows have each finding, per day, actor and role.

    Args:
        rows: a batch.
        found: what rules find of each row; None where there are no rules.
        prefixes, names: which findings are meant.
    """
    now = pa.nulls(rows.num_rows, pa.list_(TEXT)) if found is None else found
    if isinstance(now, pa.DictionaryArray):
        now = now.dictionary_decode()
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("batch", rows.append_column("now", now))
        table = con.sql(_COUNT, params={"names": list(names), "prefixes": list(prefixes)})
        return table.to_arrow_table().cast(_COUNTS)


def total(parts: pa.Table) -> dict[str, pa.Table]:
    """By finding; by finding, actor and role; and the same by day."""
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("counts", parts)
        return {name: con.sql(sql).to_arrow_table() for name, sql in _TOTALS.items()}
