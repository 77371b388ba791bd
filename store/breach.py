"""How far a breach reaches: whose data was certainly seen, whose may have been, and since when.

Enters: a connection with the store's views and what is known of the breach: an actor, a role, an
address or a table, and a period. Leaves: plain values. *Certain* subjects are named by statements
that weren't refused or failed. *Possible* are those behind statements that name nobody and read
personal data: logs can't list them, so that their statements and rows are counted. Where an actor
is asked for, statements of which he is one of several candidates are told apart as *uncertain*.
Opens no sealed value and notifies nobody.
"""

from dataclasses import replace
from typing import Any

import duckdb

from scalple.store.possible import Source, groups_of, source_of
from scalple.store.question import AS_DECLARED, Meaning, Question, filters
from scalple.store.rows import rows_of
from scalple.store.sqlfile import sql_file


def breach(con: duckdb.DuckDBPyConnection, question: Question) -> dict[str, Any]:
    """`certain`, `uncertain` (each with totals and `subjects`) and `possible` (by template)."""
    where, values = filters(question)
    found = {"certain": _part(con, where, values), "possible": _possible(con, question)}
    if question.actor is None:
        return found | {"uncertain": None}
    where, values = filters(replace(question, actor=None))
    values["people"] = _ids(con, question.actor)
    where.append("list_has_any(attribution_candidates, $people)")
    return found | {"uncertain": _part(con, where, values)}


def _part(
    con: duckdb.DuckDBPyConnection, where: list[str], values: dict[str, Any]
) -> dict[str, Any]:
    clause = " AND ".join([*where, "repeat_of IS NULL"]) or "true"
    con.execute(sql_file("breach_rows.sql").format(clause=clause), values)
    totals = rows_of(con, sql_file("breach_totals.sql"), {})[0]
    subjects = rows_of(con, sql_file("breach_subjects.sql"), {})
    return totals | {"subjects": subjects}


def _possible(con: duckdb.DuckDBPyConnection, question: Question) -> list[dict[str, Any]]:
    where, values = filters(question)
    declared = Meaning(AS_DECLARED, question.personal_columns, question.subject_columns)
    everybody = source_of(con, [_of_everybody(one) for one in (declared, *question.carried)])
    clause = [*where, "repeat_of IS NULL", "success IS DISTINCT FROM false", *everybody.where]
    source = Source(everybody.rows, clause, values | everybody.values)
    found = groups_of(con, source)
    return found


def _of_everybody(one: Meaning) -> Meaning:
    return Meaning(one.names, tuple({*one.personal, *one.subject_columns}), one.subject_columns)


def _ids(con: duckdb.DuckDBPyConnection, actor: str) -> list[str]:
    """The actor's ids: candidates are listed by id, and may be asked for by e-mail."""
    sql = (
        "SELECT DISTINCT session_user_id AS id FROM audit "
        "WHERE session_user_id = $actor OR lower(session_email) = lower($actor)"
    )
    found = {row["id"] for row in rows_of(con, sql, {"actor": actor})}
    return sorted({actor, *(one for one in found if one is not None)})
