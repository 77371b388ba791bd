"""Possible accesses: statements that could have shown the subject, and don't name it.

Enters: a connection with the store's views and a question. Leaves: rows, groups of them, or how
many there were when. `possible` touched personal data of the subject's tables and nothing in it
excludes the subject: no more is claimed. With digests (`quick`) groups are counted by the facts
that rows share; the answer is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from scalple.ingest.columntypes import BIGINT
from scalple.store.question import AS_DECLARED, Meaning, Question, filters
from scalple.store.quick import Quick
from scalple.store.rownames import audit_as_asked, register_meanings
from scalple.store.rows import make_table, rows_of
from scalple.store.sqlfile import sql_file

_BY_STATEMENT = ("query_fingerprint", "access_shape", "columns_accessed", "affected_tables")
_BY_PERSON = ("session_user_id", "session_email", "on_behalf_of", "attribution_candidates")
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


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of possible accesses, most first.

    Attributes:
        rows: GROUP, SAMPLE, `times`, `first`, `last`, `rows` of each; perhaps not of all.
        groups: how many there are.
        times: how many accesses they are in all.
    """

    rows: list[dict[str, Any]]
    groups: int
    times: int


@dataclass(frozen=True, slots=True)
class Source:
    """Possible rows: those of `rows` that meet `where`, with the values of both."""

    rows: str
    where: list[str]
    values: dict[str, Any]


_BESIDE = ("of_tables", "of_personal", "of_subjects")
"""What stands beside rows that were written under several names."""


def possible(con: duckdb.DuckDBPyConnection, question: Question) -> list[dict[str, Any]]:
    """Audit rows that touched personal data of the subject's tables and don't exclude the subject."""
    found = _possible_rows(con, question)
    beside = f" EXCLUDE ({', '.join(_BESIDE)})" if question.carried else ""
    sql = (
        f"SELECT *{beside} FROM {found.rows} WHERE {' AND '.join(found.where)} "
        "ORDER BY log_time, origin, seq"
    )
    return rows_of(con, sql, found.values)


def possible_groups(
    con: duckdb.DuckDBPyConnection,
    question: Question,
    most: int | None = None,
    quick: Quick | None = None,
) -> Groups:
    """`possible` by template and actor: the `most` most frequent ones, or all."""
    if quick is not None and _is_quick(question):
        return _quick_groups(con, quick, question, most)
    rows = groups_of(con, _possible_rows(con, question))
    return Groups(rows[:most], len(rows), sum(one["times"] for one in rows))


def possible_times(
    con: duckdb.DuckDBPyConnection, question: Question, unit: str, quick: Quick | None = None
) -> list[dict[str, Any]]:
    """How many of `possible` fall into each `minute`, `hour`, `day` or `month`: `time`, `times`."""
    if quick is not None and _is_quick(question):
        rows, values = _quick_rows(con, quick, question)
    else:
        found = _possible_rows(con, question)
        rows = f"SELECT log_time FROM {found.rows} WHERE {' AND '.join(found.where)}"
        values = found.values
    sql = (
        f"SELECT date_trunc('{unit}', log_time) AS time, count(*) AS times FROM ({rows}) "
        "GROUP BY 1 ORDER BY 1"
    )
    return rows_of(con, sql, values)


def groups_of(con: duckdb.DuckDBPyConnection, source: Source) -> list[dict[str, Any]]:
    """The groups of possible rows."""
    sql = sql_file("possible_groups.sql").format(
        audit=source.rows,
        clause=" AND ".join(source.where),
        group=", ".join(GROUP),
        # Of one row: arg_min itself would look for the first one that isn't NULL.
        sample=", ".join(f"arg_min_null({name}, (origin, seq)) AS {name}" for name in SAMPLE),
    )
    return rows_of(con, sql, source.values)


def source_of(con: duckdb.DuckDBPyConnection, meanings: Sequence[Meaning]) -> Source:
    """All possible rows of what is asked; the first meaning is of AS_DECLARED."""
    if len(meanings) > 1:
        where = possible_sql(tables="of_tables", personal="of_personal", subjects="of_subjects")
        return Source(audit_as_asked(con, meanings), [where], {})
    return Source("audit", [possible_sql()], possible_values(meanings[0]))


def possible_sql(
    named_columns: str = 'list_transform(subjects, lambda s: s."column")',
    brings_others: str = "brings_others(query)",
    rewritten: str = "rewritten_by(query)",
    tables: str = "$tables",
    personal: str = "$personal",
    subjects: str = "$subject_columns",
) -> str:
    """possible.sql over rows of `audit`, or over what else has these facts."""
    return sql_file("possible.sql").format(
        named_columns=named_columns,
        brings_others=brings_others,
        rewritten=rewritten,
        tables=tables,
        personal=personal,
        subject_columns=subjects,
    )


def possible_values(of: Meaning) -> dict[str, Any]:
    """The values of the parameters in possible.sql."""
    return {
        "tables": of.tables,
        "personal": sorted(of.personal),
        "subject_columns": list(of.subject_columns),
    }


def direct_rows(question: Question) -> tuple[list[str], dict[str, Any]]:
    """The conditions of direct rows and their values."""
    where, values = filters(question)
    if question.tokens:
        where.append("list_has_any(list_transform(subjects, lambda s: s.token), $tokens)")
        values["tokens"] = [token for _, token in question.tokens]
    return where, values


def _possible_rows(con: duckdb.DuckDBPyConnection, question: Question) -> Source:
    if not question.tokens:
        return Source("audit", ["false"], {})
    where, values = filters(question)
    tokens = [token for _, token in question.tokens]
    found = source_of(con, _meanings(question))
    every = [*where, *found.where, sql_file("not_direct.sql")]
    return Source(found.rows, every, values | found.values | {"tokens": tokens})


def _meanings(question: Question) -> list[Meaning]:
    declared = Meaning(AS_DECLARED, question.personal_columns, question.subject_columns)
    return [_of_subject(one) for one in (declared, *question.carried)]


def _of_subject(one: Meaning) -> Meaning:
    """The personal columns of the subject's tables alone."""
    tables = {column.rpartition(".")[0] for column in one.subject_columns}
    personal = {*one.personal, *one.subject_columns}
    mine = tuple(column for column in personal if column.rpartition(".")[0] in tables)
    return Meaning(one.names, mine, one.subject_columns)


def _is_quick(question: Question) -> bool:
    """Roles and addresses stand in no digest."""
    return bool(question.tokens) and question.role is None and question.address is None


def _quick_rows(
    con: duckdb.DuckDBPyConnection, quick: Quick, question: Question
) -> tuple[str, dict[str, Any]]:
    """A SELECT of the possible rows by number, and its values."""
    direct, values = direct_rows(question)
    places = quick.places_naming(values["tokens"], " AND ".join(direct), values)
    make_table(con, "direct_places", {"place": (BIGINT, places)})
    quick.load_facts(con)
    rows, of_rows = filters(Question(period=question.period))
    people, of_people = filters(Question(actor=question.actor))
    statements, of_statements = filters(Question(table=question.table))
    meanings = _meanings(question)
    asked = {"asked": "statements", "names": "", "same_names": ""}
    of_meaning = {} if question.carried else possible_values(meanings[0])
    made = ("named_columns", "brings_others", "rewritten")
    if question.carried:
        register_meanings(con, meanings)
        statements.append(possible_sql(*made, *_BESIDE))
        asked = {
            "asked": "statements, asked_names",
            "names": "names, ",
            "same_names": " AND s.names = f.names",
        }
    else:
        statements.append(possible_sql(*made))
    sql = sql_file("possible_facts.sql").format(
        by_statement=", ".join(_BY_STATEMENT),
        by_person=", ".join(_BY_PERSON),
        statements=" AND ".join(statements),
        people=" AND ".join(people) or "true",
        rows=" AND ".join(rows) or "true",
        **asked,
    )
    return sql, of_rows | of_people | of_statements | of_meaning


def _quick_groups(
    con: duckdb.DuckDBPyConnection, quick: Quick, question: Question, most: int | None
) -> Groups:
    facts, values = _quick_rows(con, quick, question)
    con.execute(sql_file("possible_groups_quick.sql").format(facts=facts), values)
    totals = "SELECT count(*), coalesce(sum(times), 0)::BIGINT FROM possible_groups"
    groups, times = con.execute(totals).fetchall()[0]
    limit = "" if most is None else f"LIMIT {most}"
    top = rows_of(
        con,
        f"SELECT {', '.join(GROUP)}, times, first, last, rows, place FROM possible_groups g "
        'JOIN statements s ON s.code = g."statement" JOIN people p ON p.code = g.person '
        f"ORDER BY times DESC, first, place {limit}",
        {},
    )
    samples = quick.in_order([one["place"] for one in top], ", ".join(SAMPLE))
    shown = (*GROUP, *SAMPLE, "times", "first", "last", "rows")
    rows = [{**one, **sample} for one, sample in zip(top, samples, strict=True)]
    return Groups([{name: one[name] for name in shown} for one in rows], int(groups), int(times))
