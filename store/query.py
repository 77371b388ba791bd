"""Questions that people ask of a store: who touched this person, what did this actor run.

Enters: a connection with the store's views and a question. Leaves: Arrow tables of audit rows.
`direct` names the subject; `possible` touched personal data of the subject's tables and nothing in
it excludes the subject: it could have shown the subject, no more is claimed. Opens no file itself
(see `views`) and prints nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Any

import duckdb
import pyarrow as pa

from scalple.ingest.errors import InputError
from scalple.store.guard import only_select, require_utf8


@dataclass(frozen=True, slots=True)
class Period:
    """From `since`, inclusive, to `until`, exclusive; None is open."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """Filters combine with AND; the identifiers of `subject` are one person's and combine with OR.

    Attributes:
        tokens: (identifier, token) of the subject; empty if the question isn't about a subject.
        subject_columns: columns that hold those identifiers.
        personal_columns: all columns declared as personal data.
    """

    tokens: tuple[tuple[str, int], ...] = ()
    subject_columns: tuple[str, ...] = ()
    personal_columns: tuple[str, ...] = ()
    actor: str | None = None
    table: str | None = None
    period: Period = Period()


def direct(con: duckdb.DuckDBPyConnection, question: Question) -> pa.Table:
    """Audit rows that fit: those naming the subject, if the question has one.

    Raises:
        InputError: a text of the question isn't valid UTF-8.
    """
    where, values = _filters(question)
    if question.tokens:
        where.append("list_has_any(list_transform(subjects, lambda s: s.token), $tokens)")
        values["tokens"] = [token for _, token in question.tokens]
    return _rows(con, where, values)


def possible(con: duckdb.DuckDBPyConnection, question: Question) -> pa.Table:
    """Audit rows that touched personal data of the subject's tables and don't exclude the subject."""
    if not question.tokens:
        return _rows(con, ["false"], {})
    where, values = _filters(question)
    where.append(_sql("possible.sql"))
    tables = sorted({column.rpartition(".")[0] for column in question.subject_columns})
    personal = [
        column
        for column in {*question.personal_columns, *question.subject_columns}
        if column.rpartition(".")[0] in tables
    ]
    values |= {
        "tables": tables,
        "personal": sorted(personal),
        "subject_columns": list(question.subject_columns),
        "tokens": [token for _, token in question.tokens],
    }
    return _rows(con, where, values)


def refused(con: duckdb.DuckDBPyConnection, question: Question) -> pa.Table:
    """Rows of `denied`: what the actor asked for and didn't get. Only of an actor can that be asked."""
    if question.actor is None or question.tokens or question.table is not None:
        return _table(con, "SELECT * FROM denied WHERE false", {})
    where, values = _filters(question)
    sql = f"SELECT * FROM denied WHERE {' AND '.join(where)} ORDER BY log_time, origin, seq"
    return _table(con, sql, values)


def coverage(con: duckdb.DuckDBPyConnection, period: Period) -> dict[str, Any]:
    """What is known of a period, and what isn't: to be printed beside every answer."""
    where, values = _filters(Question(period=period))
    clause = " AND ".join(where) or "true"

    def counts(column: str) -> dict[str, int]:
        return _counts(con, f"SELECT {column} AS name FROM audit WHERE {clause}", values)

    period_facts: dict[str, Any] = _table(
        con,
        "SELECT count(*) AS statements, min(log_time) AS first, max(log_time) AS last, "
        f"count(DISTINCT session_user_id) AS actors FROM audit WHERE {clause}",
        values,
    ).to_pylist()[0]
    grades = counts("attribution_grade")
    named = sum(grades.get(grade, 0) for grade in ("proven", "confirmed", "claimed"))
    by_people = period_facts["statements"] - grades.get("pooler", 0)
    # A gap that lasts is one of every period that it touches.
    touching, _ = _filters(Question(period=period), begins="coalesce(since, log_time)")
    in_time = f"log_time IS NULL OR ({' AND '.join(touching) or 'true'})"
    return period_facts | {
        "attributed": named,
        "attributed_share": round(named / by_people, 6) if by_people else None,
        "by_grade": grades,
        "by_method": counts("attribution_method"),
        "by_reason": counts("attribution_reason"),
        "findings": counts("unnest(findings)"),
        **_table(
            con,
            "SELECT count(*) AS denied, count(session_user_id) AS denied_named FROM denied "
            f"WHERE {clause}",
            values,
        ).to_pylist()[0],
        "gaps": _counts(con, f"SELECT reason AS name FROM gaps WHERE {in_time}", values),
        "unparsed": sum(_counts(con, "SELECT reason AS name FROM unparsed", {}).values()),
    }


def coverage_in_detail(con: duckdb.DuckDBPyConnection, period: Period) -> dict[str, Any]:
    """`coverage`, and the same by day, by actor and by database; why the unnamed have no name; which
    poolers the evidence tells of."""
    where, values = _filters(Question(period=period))
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
        "by_database": _counts(con, f"SELECT database AS name FROM audit WHERE {clause}", values),
        "days": _table(con, _sql("coverage_days.sql").format(clause=clause), values).to_pylist(),
        "poolers": _table(con, _sql("coverage_poolers.sql"), {}).to_pylist(),
    }


def unknown(con: duckdb.DuckDBPyConnection, question: Question) -> list[str]:
    """Which of the question's names no statement of the store has, whatever the period."""
    found = []
    for what, alone in (
        ("actor", Question(actor=question.actor)),
        ("table", Question(table=question.table)),
    ):
        name = getattr(question, what)
        if name is None:
            continue
        where, values = _filters(alone)
        sql = f"SELECT 1 FROM audit WHERE {' AND '.join(where)} LIMIT 1"
        if not con.execute(sql, values).fetchall():
            found.append(f"no statement in this store has the {what} {name!r}")
    return found


def newest_statement(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """When the newest statement was logged; None if there is none."""
    newest: datetime | None = _table(con, "SELECT max(log_time) AS t FROM audit", {})["t"][
        0
    ].as_py()
    return newest


def _counts(con: duckdb.DuckDBPyConnection, rows: str, values: Mapping[str, Any]) -> dict[str, int]:
    """name -> how many, most first."""
    sql = (
        f"SELECT name, count(*) FROM ({rows}) WHERE name IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    return dict(con.execute(sql, values).fetchall())


def _filters(question: Question, begins: str = "log_time") -> tuple[list[str], dict[str, Any]]:
    """Conditions and their values; `begins` is when a row begins, which lasts up to its log_time."""
    where: list[str] = []
    values: dict[str, Any] = {}
    if question.actor is not None:
        require_utf8(question.actor, "actor")
        where.append("(session_user_id = $actor OR lower(session_email) = lower($actor))")
        values["actor"] = question.actor
    if question.table is not None:
        require_utf8(question.table, "table")
        where.append("list_contains(affected_tables, $table)")
        name = question.table
        values["table"] = name if "." in name else f"public.{name}"
    if question.period.since is not None:
        where.append("log_time >= $since")
        values["since"] = question.period.since
    if question.period.until is not None:
        where.append(f"{begins} < $until")
        values["until"] = question.period.until
    return where, values


def _rows(con: duckdb.DuckDBPyConnection, where: list[str], values: Mapping[str, Any]) -> pa.Table:
    clause = " AND ".join(where) or "true"
    sql = f"SELECT * FROM audit WHERE {clause} ORDER BY log_time, origin, seq"
    return _table(con, sql, values)


def _table(con: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> pa.Table:
    return con.sql(sql, params=dict(values)).to_arrow_table()


def _sql(name: str) -> str:
    return resources.files("scalple.store").joinpath(name).read_text("utf-8")


def read_only_sql(con: duckdb.DuckDBPyConnection, text: str) -> pa.Table:
    """The user's own SELECT over the views.

    Raises:
        InputError: it is no single SELECT, it would write, or DuckDB refuses it.
    """
    statement = only_select(con, text)
    try:
        return con.sql(statement).to_arrow_table()
    except duckdb.Error as error:
        raise InputError(str(error).strip(), place="sql") from error
