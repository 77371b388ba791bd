"""Lets a user's SQL read the views and write nothing.

A connection and the user's text enter; the one statement to run leaves, or an InputError. That a
statement is a SELECT isn't enough: DuckDB takes `WITH x AS (COPY … TO 'file') SELECT …` for one,
and the files a connection may read it may also write. So the plan is looked at before it runs.
Which files may be read at all is the connection's configuration (see `views`).
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from scalple.ingest.errors import InputError
from scalple.store.utf8 import require_utf8

_WRITES = re.compile(r"COPY|INSERT|UPDATE|DELETE|MERGE|CREATE|ALTER|DROP|ATTACH|EXPORT")


def only_select(con: duckdb.DuckDBPyConnection, text: str) -> duckdb.Statement:
    """The statement, which reads and does nothing else.

    Raises:
        InputError: it is no single SELECT, or it would write, or DuckDB refuses it.
    """
    require_utf8(text, "sql")
    try:
        statements = con.extract_statements(text)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise _refused("one SELECT is expected")
        plans = con.execute(f"EXPLAIN (FORMAT json)\n{statements[0].query}").fetchall()
    except duckdb.Error as error:
        raise InputError(str(error).strip(), place="sql") from error
    for _, plan in plans:
        for operator in _operators(json.loads(plan)):
            if _WRITES.search(operator):
                raise _refused(f"the statement would write ({operator})")
    return statements[0]


def _operators(plan: Any) -> Iterator[str]:
    for node in plan:
        yield str(node["name"])
        yield from _operators(node.get("children", []))


def _refused(what: str) -> InputError:
    return InputError(
        what,
        place="sql",
        hint="for example: SELECT attribution_grade, count(*) FROM audit GROUP BY 1",
    )
