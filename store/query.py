"""Questions that people ask of a store: who touched this person, what did this actor run.

Enters: a connection with the store's views and a question. Leaves: audit rows.
`direct` names the subject; what could have shown it is `possible`'s. With digests (`quick`) rows
are found by them, and are the same. Opens no file itself (see `views`) and prints nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb

from scalple.ingest.errors import InputError
from scalple.store.guard import only_select
from scalple.store.possible import direct_rows
from scalple.store.question import Question, filters
from scalple.store.quick import Quick
from scalple.store.rows import rows_of

if TYPE_CHECKING:  # only the user's own SQL has Arrow's rows
    import pyarrow as pa


def direct(
    con: duckdb.DuckDBPyConnection,
    question: Question,
    quick: Quick | None = None,
    columns: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Audit rows that fit: those naming the subject, if the question has one.

    `columns`: only these are needed; there may be more.

    Raises:
        InputError: a text of the question isn't valid UTF-8.
    """
    where, values = direct_rows(question)
    if quick is not None and question.tokens:
        wanted = "*" if columns is None else ", ".join(("origin", "seq", *columns))
        return quick.naming(values["tokens"], " AND ".join(where), values, wanted)
    return _rows(con, where, values)


def refused(con: duckdb.DuckDBPyConnection, question: Question) -> list[dict[str, Any]]:
    """Rows of `denied`: what the actor asked for and didn't get. Only of an actor can that be asked."""
    if question.actor is None or question.tokens or question.table is not None:
        return []
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
    newest: datetime | None = rows_of(con, "SELECT max(log_time) AS t FROM audit", {})[0]["t"]
    return newest


def _rows(
    con: duckdb.DuckDBPyConnection, where: list[str], values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    clause = " AND ".join(where) or "true"
    sql = f"SELECT * FROM audit WHERE {clause} ORDER BY log_time, origin, seq"
    return rows_of(con, sql, values)


def read_only_sql(con: duckdb.DuckDBPyConnection, text: str) -> "pa.Table":
    """The user's own SELECT over the views.

    Raises:
        InputError: it is no single SELECT, it would write, or DuckDB refuses it.
    """
    statement = only_select(con, text)
    try:
        return con.sql(statement).to_arrow_table()
    except duckdb.Error as error:
        raise InputError(str(error).strip(), place="sql") from error
