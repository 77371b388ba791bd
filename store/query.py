"""Questions that people ask of a store: who touched this person, what did this actor run.

Enters: a connection with the store's views and a question. Leaves: Arrow tables of audit rows.
`direct` names the subject; `possible` touched personal data of the subject's tables and nothing in
it excludes the subject: it could have shown the subject, no more is claimed. Opens no file itself
(see `views`) and prints nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from scalple.ingest.errors import InputError
from scalple.store.guard import only_select
from scalple.store.question import Question, filters
from scalple.store.sqlfile import sql_file

GROUP = (
    "query_fingerprint",
    "session_user_id",
    "session_email",
    "on_behalf_of",
    "attribution_candidates",
    "access_shape",
    "columns_accessed",
    "affected_tables",
)
"""What the rows of one group of possible accesses have in common."""
SAMPLE = ("log_id", "command", "query", "parameters")
"""What is told of the first row of a group."""


def direct(con: duckdb.DuckDBPyConnection, question: Question) -> pa.Table:
    """Audit rows that fit: those naming the subject, if the question has one.

    Raises:
        InputError: a text of the question isn't valid UTF-8.
    """
    return _rows(con, *direct_rows(question))


def direct_rows(question: Question) -> tuple[list[str], dict[str, Any]]:
    """The conditions of `direct` and their values."""
    where, values = filters(question)
    if question.tokens:
        where.append("list_has_any(list_transform(subjects, lambda s: s.token), $tokens)")
        values["tokens"] = [token for _, token in question.tokens]
    return where, values


def possible(con: duckdb.DuckDBPyConnection, question: Question) -> pa.Table:
    """Audit rows that touched personal data of the subject's tables and don't exclude the subject."""
    return _rows(con, *_possible_rows(question))


def possible_groups(con: duckdb.DuckDBPyConnection, question: Question) -> pa.Table:
    """`possible` by template and actor, most first: GROUP, SAMPLE, `times`, `first`, `last`, `rows`."""
    where, values = _possible_rows(question)
    sql = sql_file("possible_groups.sql").format(
        clause=" AND ".join(where),
        group=", ".join(GROUP),
        sample=", ".join(f"arg_min({name}, seq) AS {name}" for name in SAMPLE),
    )
    return rows_of(con, sql, values)


def possible_times(con: duckdb.DuckDBPyConnection, question: Question, unit: str) -> pa.Table:
    """How many of `possible` fall into each `minute`, `hour`, `day` or `month`: `time`, `times`."""
    where, values = _possible_rows(question)
    sql = (
        f"SELECT date_trunc('{unit}', log_time) AS time, count(*) AS times FROM audit "
        f"WHERE {' AND '.join(where)} GROUP BY 1 ORDER BY 1"
    )
    return rows_of(con, sql, values)


def _possible_rows(question: Question) -> tuple[list[str], dict[str, Any]]:
    if not question.tokens:
        return ["false"], {}
    where, values = filters(question)
    where += [possible_sql(), sql_file("not_direct.sql")]
    tables = {column.rpartition(".")[0] for column in question.subject_columns}
    personal = {*question.personal_columns, *question.subject_columns}
    return where, values | possible_values(
        PossibleOf(
            tuple(column for column in personal if column.rpartition(".")[0] in tables),
            question.subject_columns,
            tuple(token for _, token in question.tokens),
        )
    )


def possible_sql(
    named_columns: str = 'list_transform(subjects, lambda s: s."column")',
    brings_others: str = "brings_others(query)",
) -> str:
    """possible.sql over rows of `audit`, or over what else has these facts."""
    return sql_file("possible.sql").format(
        named_columns=named_columns, brings_others=brings_others
    )


@dataclass(frozen=True, slots=True)
class PossibleOf:
    """Whose data a possible access may have shown.

    Attributes:
        personal: columns with personal data, or that hold identifiers.
        subject_columns: those that hold identifiers.
        tokens: of one subject, whose own rows are direct; none: of everybody.
    """

    personal: tuple[str, ...]
    subject_columns: tuple[str, ...]
    tokens: tuple[int, ...]


def possible_values(of: PossibleOf) -> dict[str, Any]:
    """The values of the parameters in possible.sql."""
    return {
        "tables": sorted({column.rpartition(".")[0] for column in of.personal}),
        "personal": sorted(of.personal),
        "subject_columns": list(of.subject_columns),
        "tokens": list(of.tokens),
    }


def refused(con: duckdb.DuckDBPyConnection, question: Question) -> pa.Table:
    """Rows of `denied`: what the actor asked for and didn't get. Only of an actor can that be asked."""
    if question.actor is None or question.tokens or question.table is not None:
        return rows_of(con, "SELECT * FROM denied WHERE false", {})
    where, values = filters(question)
    sql = f"SELECT * FROM denied WHERE {' AND '.join(where)} ORDER BY log_time, origin, seq"
    return rows_of(con, sql, values)


def unknown(con: duckdb.DuckDBPyConnection, question: Question) -> list[str]:
    """Which of the question's names no statement of the store has, whatever the period."""
    found = []
    for what, alone in (
        ("actor", Question(actor=question.actor)),
        ("table", Question(table=question.table)),
        ("role", Question(role=question.role)),
        ("address", Question(address=question.address)),
    ):
        name = getattr(question, what)
        if name is None:
            continue
        where, values = filters(alone)
        sql = f"SELECT 1 FROM audit WHERE {' AND '.join(where)} LIMIT 1"
        if not con.execute(sql, values).fetchall():
            found.append(f"no statement in this store has the {what} {name!r}")
    return found


def newest_statement(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """When the newest statement was logged; None if there is none."""
    newest: datetime | None = rows_of(con, "SELECT max(log_time) AS t FROM audit", {})["t"][
        0
    ].as_py()
    return newest


def _rows(con: duckdb.DuckDBPyConnection, where: list[str], values: Mapping[str, Any]) -> pa.Table:
    clause = " AND ".join(where) or "true"
    sql = f"SELECT * FROM audit WHERE {clause} ORDER BY log_time, origin, seq"
    return rows_of(con, sql, values)


def rows_of(con: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> pa.Table:
    """The rows of a query with named parameters."""
    return con.sql(sql, params=dict(values)).to_arrow_table()


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
