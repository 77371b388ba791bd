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
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scalple.correlate.record import AUDIT
from scalple.ingest.errors import VerificationError
from scalple.store.bare import bare
from scalple.store.digestnames import FACTS, MEASURES, PERSON, ROWS, SINCE, STATEMENT
from scalple.store.reader import AuditCommit
from scalple.store.sqlfile import sql_file
from scalple.store.views import path_list

if TYPE_CHECKING:
    from scalple.store.digest import Digester

Codes = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]
"""Rows, each by the number of its commit times 2**32 and its number in it."""

_KINDS = {
    "statements": ("statement", (*STATEMENT, "named_columns", "brings_others", "rewritten")),
    "people": ("person", PERSON),
}
_TEXT, _TEXTS = "VARCHAR", "VARCHAR[]"
_TYPES = {
    **dict.fromkeys((*STATEMENT, *PERSON), _TEXT),
    **dict.fromkeys(("affected_tables", "columns_accessed", "named_columns"), _TEXTS),
    **dict.fromkeys(("attribution_candidates", "findings"), _TEXTS),
    "brings_others": "BOOLEAN",
    "rewritten": _TEXTS,
}
_MORE = pa.schema(
    [
        ("statement", pa.int32()),
        ("person", pa.int32()),
        *((name, AUDIT.field(name).type) for name in MEASURES),
        ("place", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that no digest tells of, or other than they are now: columns NEEDED and MEASURES."""

    rows: pa.Table
    places: Places


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
    outdated: Places,
    more: Iterable[Rows],
    names: Sequence[Codes] | None = None,
) -> Variables:
    """Makes the three relations; returns the variables that a cursor needs in order to read them.

    Args:
        con: may read the digests.
        commits: all of them; those without a digest must be in `more`.
        outdated: rows whose facts in a digest don't count.
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
    is_once = digests.is_one and not added.has_rows
    for name, (of, members) in _KINDS.items():
        if not is_once:
            con.register("more_meanings", added.meanings[of])
        text = sql_file("meanings_once.sql" if is_once else "meanings.sql")
        made = text.format(told=digests.meanings(of), members=_structure(members))
        con.execute(f"CREATE TABLE {name} AS {made}")
        if not is_once:
            count = con.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
            sizes[of] = count - added.meanings[of].num_rows
    more_facts = added.facts(sizes)
    if names is not None:
        places = np.asarray(more_facts["place"], np.int64)
        of_rows = [names[place >> 32][place & 0xFFFFFFFF] for place in places.tolist()]
        more_facts = more_facts.append_column("names", pa.array(of_rows, pa.int32()))
    variables.set(con, "commit_of", "BIGINT[]", told)
    parts = []
    if more_facts.num_rows or not told:
        _keep(con, "more_facts", more_facts)
        parts.append("SELECT * FROM more_facts")
    if told:
        of_commits = "file_index" if told == [*range(len(told))] else _looked_up("commit_of")
        place = f"(({of_commits})::BIGINT << 32 | file_row_number)"
        conditions = []
        if len(outdated):
            _keep(con, "outdated", pa.table({"place": bare(outdated)}))
            conditions.append(f"{place} NOT IN (SELECT place FROM outdated)")
        if any(one.is_cut for one in commits):
            variables.set(con, "rows_of", "BIGINT[]", [commits[n].rows for n in told])
            conditions.append(f"file_row_number < {_looked_up('rows_of')}")
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        named, beside = "", ""
        if names is not None:
            named, beside = _named(con, [names[n] for n in told], told, variables)
        beside = beside.replace("PLACE", place)
        parts.append(
            f'SELECT {digests.code("statement")} AS "statement", {digests.code("person")} AS person, '
            f"{', '.join(MEASURES)}, {place} AS place{named} FROM {digests.rows} {beside} {where}"
        )
    con.execute(f"CREATE VIEW facts AS {' UNION ALL '.join(parts)}")
    return variables


def _keep(con: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """A table of these rows; what is registered only one cursor knows."""
    con.register("kept_rows", rows)
    con.execute(f"CREATE TABLE {name} AS FROM kept_rows")
    con.unregister("kept_rows")


def _named(
    con: duckdb.DuckDBPyConnection,
    names: Sequence[Codes],
    commits: Sequence[int],
    variables: Variables,
) -> tuple[str, str]:
    """The column `names`, and what is joined for it: most commits have one number for all rows."""
    same = [_only(one) for one in names]
    variables.set(con, "names_of", "INTEGER[]", same)
    rest = [at for at, number in enumerate(same) if number is None]
    places = [np.arange(len(names[at]), dtype=np.int64) | commits[at] << 32 for at in rest]
    mixed = {
        "mixed_place": bare(np.concatenate([np.zeros(0, np.int64), *places])),
        "mixed_names": bare(np.concatenate([np.zeros(0, np.int32), *(names[at] for at in rest)])),
    }
    _keep(con, "mixed_names", pa.table(mixed))
    column = f", coalesce({_looked_up('names_of')}, mixed_names) AS names"
    if not rest:
        return f", {_looked_up('names_of')} AS names", ""
    return column, "LEFT JOIN mixed_names ON mixed_place = PLACE"


def _only(codes: Codes) -> int | None:
    """The number that all rows have; of no rows any will do."""
    if not len(codes):
        return 0
    return int(codes[0]) if (codes == codes[0]).all() else None


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


class _Added:
    """The facts of rows that were read themselves, numbered after those of digests."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._texts: dict[str, dict[str, int]] = {"statement": {}, "person": {}}

    def add(self, given: Rows, digester: "Digester") -> None:
        facts = digester.facts(given.rows)
        columns = {
            of: self._codes(of, coded)
            for of, coded in (("statement", facts.statement), ("person", facts.person))
        }
        measures = {name: given.rows.column(name) for name in MEASURES}
        table = {**columns, **measures, "place": bare(given.places)}
        self._tables.append(pa.table(table).cast(_MORE))

    def _codes(self, of: str, coded: pa.DictionaryArray) -> pa.Array:
        known = self._texts[of]
        numbers = [known.setdefault(text, len(known)) for text in coded.dictionary.to_pylist()]
        return pa.array(numbers, pa.int32()).take(coded.indices)

    @property
    def has_rows(self) -> bool:
        """There are any."""
        return any(table.num_rows for table in self._tables)

    @property
    def meanings(self) -> dict[str, pa.Table]:
        """`statement`, `person` -> a table of `code`, from 0 on, and `fact`."""
        schema = pa.schema([("code", pa.int32()), ("fact", pa.string())])
        return {
            of: pa.table({"code": range(len(texts)), "fact": list(texts)}, schema)
            for of, texts in self._texts.items()
        }

    def facts(self, begins: dict[str, int]) -> pa.Table:
        """The rows, numbered from `begins` on."""
        table = pa.concat_tables([_MORE.empty_table(), *self._tables])
        for at, of in enumerate(("statement", "person")):
            moved = np.asarray(table[of]) + np.int32(begins[of])
            table = table.set_column(at, of, bare(moved))
        return table


def _added(more: Iterable[Rows]) -> _Added:
    added = _Added()
    digester: Digester | None = None
    for one in more:
        digester = digester or _digester()
        added.add(one, digester)
    return added


def _digester() -> "Digester":
    """Takes a moment, and most stores need none."""
    from scalple.store.digest import Digester

    return Digester()


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
