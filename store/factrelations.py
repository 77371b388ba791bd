"""The relations `facts`, `statements` and `people` of a store, over its digests.

Enters: a connection that may read the digests, the commits behind it, and rows that have to be read
themselves (commits of earlier versions, rows that were revised). Leaves: the relations, which DuckDB
reads as they are asked, for all cursors of the connection; in Python nothing happens per row. Knows
no question.

`facts` has `statement`, `person`, `log_time`, `rows_returned` and `place` of each row; `statements`
and `people` have `code` and the members of what it stands for.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from scalple.correlate.recordcolumns import AUDIT
from scalple.ingest.columntypes import BIGINT, BOOLEAN, INTEGER, TEXT, TEXTS
from scalple.ingest.errors import VerificationError
from scalple.store.digestnames import FACTS, MEASURES, PERSON, ROWS, SINCE, STATEMENT
from scalple.store.reader import AuditCommit
from scalple.store.rows import make_table
from scalple.store.sqlfile import sql_file
from scalple.store.views import path_list

if TYPE_CHECKING:  # most stores have no rows without a digest, and one name for each thing
    from scalple.store.addedfacts import AddedFacts, Rows
    from scalple.store.namesobject import Codes

_KINDS = {
    "statements": ("statement", (*STATEMENT, "named_columns", "brings_others", "rewritten")),
    "people": ("person", PERSON),
}
_TYPES = {
    **dict.fromkeys((*STATEMENT, *PERSON), TEXT),
    **dict.fromkeys(("affected_tables", "columns_accessed", "named_columns"), TEXTS),
    **dict.fromkeys(("attribution_candidates", "findings"), TEXTS),
    "brings_others": BOOLEAN,
    "rewritten": TEXTS,
}
_FACTS = {
    "statement": INTEGER,
    "person": INTEGER,
    **{name: kind for name, kind in AUDIT if name in MEASURES},
    "place": BIGINT,
}


class Variables:
    """What the relations read of a session's variables, of which each cursor has its own."""

    def __init__(self) -> None:
        self._values: dict[str, list[int | None]] = {}

    def set(
        self, con: duckdb.DuckDBPyConnection, name: str, kind: str, value: Sequence[int | None]
    ) -> None:
        """Sets one here, and later wherever `tell` is called."""
        statement = f"SET VARIABLE {name} = $1::{kind}"
        self._values[statement] = list(value)
        con.execute(statement, [self._values[statement]])

    def tell(self, con: duckdb.DuckDBPyConnection) -> None:
        """Sets all of them in a session."""
        for statement, value in self._values.items():
            con.execute(statement, [value])


def make_relations(
    con: duckdb.DuckDBPyConnection,
    commits: Sequence[AuditCommit],
    outdated: Sequence[int],
    more: Iterable["Rows"],
    names: Sequence["Codes"] | None = None,
) -> Variables:
    """Makes the three relations; returns the variables that a cursor needs in order to read them.

    Args:
        con: may read the digests.
        commits: all of them; those without a digest must be in `more`.
        outdated: places of rows whose facts in a digest don't count.
        more: rows that count as well.
        names: per commit and row the number of the names that it was written under; with them
            `facts` has a column `names`.

    Raises:
        VerificationError: the digests don't fit together.
    """
    told = [n for n, one in enumerate(commits) if one.digest]
    variables = Variables()
    digests = _Digests(con, [commits[n] for n in told], variables)
    added = _added(more)
    sizes = {"statement": 0, "person": 0}
    is_once = digests.is_one and added is None
    for name, (of, members) in _KINDS.items():
        texts = added.texts(of) if added else []
        if not is_once:
            columns = {"code": (INTEGER, range(len(texts))), "fact": (TEXT, texts)}
            make_table(con, "more_meanings", columns)
        text = sql_file("meanings_once.sql" if is_once else "meanings.sql")
        made = text.format(told=digests.meanings(of), members=_structure(members))
        con.execute(f"CREATE TABLE {name} AS {made}")
        if not is_once:
            count = con.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
            sizes[of] = count - len(texts)
    parts = []
    if added:
        con.register("added_facts", added.facts(sizes, names))
        con.execute("CREATE TABLE more_facts AS FROM added_facts")  # for all cursors
        con.unregister("added_facts")
        parts.append("FROM more_facts")
    elif not told:
        columns = {name: (kind, ()) for name, kind in _FACTS.items()}
        beside = {} if names is None else {"names": (INTEGER, ())}
        make_table(con, "more_facts", columns | beside, temporary=False)
        parts.append("FROM more_facts")
    if told:
        parts.append(_told(con, commits, told, digests, outdated, names, variables))
    con.execute(f"CREATE VIEW facts AS {' UNION ALL '.join(parts)}")
    return variables


def _told(
    con: duckdb.DuckDBPyConnection,
    commits: Sequence[AuditCommit],
    told: list[int],
    digests: "_Digests",
    outdated: Sequence[int],
    names: Sequence["Codes"] | None,
    variables: Variables,
) -> str:
    """A SELECT of the facts of digests."""
    variables.set(con, "commit_of", "BIGINT[]", told)
    of_commits = "file_index" if told == [*range(len(told))] else _looked_up("commit_of")
    place = f"(({of_commits})::BIGINT << 32 | file_row_number)"
    conditions = []
    if outdated:
        make_table(con, "outdated", {"place": (BIGINT, outdated)}, temporary=False)
        conditions.append(f"{place} NOT IN (SELECT place FROM outdated)")
    if any(one.is_cut for one in commits):
        variables.set(con, "rows_of", "BIGINT[]", [commits[n].rows for n in told])
        conditions.append(f"file_row_number < {_looked_up('rows_of')}")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    named, beside = "", ""
    if names is not None:
        named, beside = _named(con, [names[n] for n in told], told, variables)
    beside = beside.replace("PLACE", place)
    return (
        f'SELECT {digests.code("statement")} AS "statement", {digests.code("person")} AS person, '
        f"{', '.join(MEASURES)}, {place} AS place{named} FROM {digests.rows} {beside} {where}"
    )


def _added(more: Iterable["Rows"]) -> "AddedFacts | None":
    """None where there are none."""
    added = None
    for rows in more:
        from scalple.store.addedfacts import AddedFacts

        added = added or AddedFacts()
        added.add(rows)
    return added


def _named(
    con: duckdb.DuckDBPyConnection,
    names: Sequence["Codes"],
    commits: Sequence[int],
    variables: Variables,
) -> tuple[str, str]:
    """The column `names`, and what is joined for it: most commits have one number for all rows."""
    same = [int(one[0]) if len(set(one.tolist())) == 1 else None for one in names]
    variables.set(con, "names_of", "INTEGER[]", same)
    mixed = [at for at, number in enumerate(same) if number is None]
    if not mixed:
        return f", {_looked_up('names_of')} AS names", ""
    columns = {
        "mixed_place": (
            BIGINT,
            [commits[at] << 32 | row for at in mixed for row in range(len(names[at]))],
        ),
        "mixed_names": (INTEGER, [number for at in mixed for number in names[at].tolist()]),
    }
    make_table(con, "mixed_names", columns, temporary=False)
    column = f", coalesce({_looked_up('names_of')}, mixed_names) AS names"
    return column, "LEFT JOIN mixed_names ON mixed_place = PLACE"


class _Digests:
    """The digests of commits, and how the numbers in them become one numbering.

    Numbers begin at 0 with every numbering; here each numbering's follow the one's before.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        commits: Sequence[AuditCommit],
        variables: Variables,
    ) -> None:
        self.rows = f"read_parquet({_paths(commits, ROWS)})"
        self._commits = commits
        numberings = _numberings(con, commits) if commits else [0]
        self.is_one = numberings[-1] == 0
        """All is numbered in one."""
        if commits:
            con.execute(
                "CREATE TABLE told_facts AS SELECT *, file_index, file_row_number "
                f"FROM read_parquet({_paths(commits, FACTS)})"
            )
        if not self.is_one:
            self._number(con, numberings, variables)

    def _number(
        self, con: duckdb.DuckDBPyConnection, numberings: list[int], variables: Variables
    ) -> None:
        """Where the numbers of each commit's numbering begin."""
        variables.set(con, "numbering", "INTEGER[]", numberings)
        for of in ("statement", "person"):
            found = con.execute(
                f"SELECT file_index, count(*) FROM told_facts WHERE \"of\" = '{of}' GROUP BY 1"
            ).fetchall()
            counts: Counter[int] = Counter()
            for at, count in found:
                counts[numberings[at]] += count
            begins = [0, *accumulate(counts[n] for n in range(numberings[-1]))]
            variables.set(con, f"first_{of}", "INTEGER[]", [begins[n] for n in numberings])

    def code(self, of: str) -> str:
        """The number of a row's fact, among all."""
        return f'"{of}"' if self.is_one else f'"{of}" + {_looked_up(f"first_{of}")}'

    def meanings(self, of: str) -> str:
        """A SELECT of `code` and `fact` of what the numbers stand for."""
        if not self._commits:
            return "SELECT 0 AS code, '' AS fact WHERE false"
        order = "file_index, file_row_number"
        if not self.is_one:
            order = f"{_looked_up('numbering')}, {order}"
        return (
            f"SELECT (row_number() OVER (ORDER BY {order}) - 1)::INTEGER AS code, fact "
            f"FROM told_facts WHERE \"of\" = '{of}'"
        )


def _numberings(con: duckdb.DuckDBPyConnection, commits: Sequence[AuditCommit]) -> list[int]:
    """Per commit the number of its numbering."""
    told = con.execute(
        f"SELECT file_name, decode(value) FROM parquet_kv_metadata({_paths(commits, ROWS)}) "
        f"WHERE decode(key) = '{SINCE.decode()}'"
    ).fetchall()
    since = dict(told)
    known: dict[tuple[str, str], int] = {}
    numberings = []
    for one in commits:
        path = _path(one.digest[ROWS])
        begun = since.get(path, "nothing")
        if (one.origin, begun) not in known and begun != one.numbering:
            raise VerificationError(f"facts are numbered since {begun}, which has none", place=path)
        numberings.append(known.setdefault((one.origin, begun), len(known)))
    if numberings != sorted(numberings):
        raise VerificationError("a numbering of facts goes on behind the next one")
    return numberings


def _structure(members: Sequence[str]) -> str:
    """What from_json makes of a fact."""
    told = ", ".join(f'"{name}":"{_TYPES[name]}"' for name in members)
    return "{" + told.replace('"VARCHAR[]"', '["VARCHAR"]') + "}"


def _looked_up(name: str) -> str:
    """What a list says of the file that a row is in."""
    return f"getvariable('{name}')[file_index::BIGINT + 1]"


def _paths(commits: Sequence[AuditCommit], name: str) -> str:
    return path_list([_path(one.digest[name]) for one in commits])


def _path(path: Path) -> str:
    return str(path.absolute())
