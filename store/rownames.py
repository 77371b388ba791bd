"""Under which names rows were written: declarations follow renamed tables and columns.

Enters: the objects `audit-names` of commits (`namesobject`). Leaves: per row a number, and what it
stands for; and for questions a source of rows that has beside each the declared columns in the names
of its time. Knows no rules: what is declared comes with the question.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import duckdb

from scalple.correlate import calledby
from scalple.ingest.columntypes import INTEGER, TEXT, TEXTS, UBIGINT
from scalple.store.question import AS_DECLARED, Meaning
from scalple.store.reader import AuditCommit
from scalple.store.rows import make_table
from scalple.store.sqlfile import sql_file

if TYPE_CHECKING:  # most stores have no such object
    import pyarrow as pa

    from scalple.store.namesobject import Codes

NUMBERED = "audit_numbered"
"""The rows of `audit` with `names`, the number of the names that each was written under."""
FEW_RUNS = 32


class RowNames:
    """Those of all rows of a store.

    Args:
        commits: all that is asked of, by origin and seq.
    """

    def __init__(self, commits: Sequence[AuditCommit]) -> None:
        self._commits = commits
        self._codes: dict[int, Codes] = {}
        self.lineages: list[str] = []
        """What the numbers from 1 on stand for: JSON texts."""
        self._origins: list[set[str]] = []
        """Of each, the origins whose rows have it."""
        known: dict[str, int] = {}
        for at, commit in enumerate(commits):
            if commit.names is None:
                continue
            from scalple.store import namesobject

            codes, told = namesobject.check(commit.names, commit.rows, is_cut=commit.is_cut)
            if commit.is_cut:
                codes, told = namesobject.only_used(codes, told)
            numbers = [AS_DECLARED, *self._numbers(told, known)]
            self._codes[at] = namesobject.renumbered(codes, numbers)
            for number in set(self._codes[at].tolist()) - {AS_DECLARED}:
                self._origins[number - 1].add(commit.origin)

    def _numbers(self, told: list[str], known: dict[str, int]) -> list[int]:
        numbers = []
        for text in told:
            if text not in known:
                self.lineages.append(text)
                self._origins.append(set())
                known[text] = len(self.lineages)
            numbers.append(known[text])
        return numbers

    def lineages_of(self, origin: str) -> list[str]:
        """Those that rows of one origin have."""
        pairs = zip(self.lineages, self._origins, strict=True)
        return [text for text, origins in pairs if origin in origins]

    def of(self, at: int) -> "Codes":
        """The numbers of the rows of a commit, by its place."""
        from scalple.store.namesobject import as_declared

        found = self._codes.get(at)
        return as_declared(self._commits[at].rows) if found is None else found

    @property
    def source(self) -> str:
        """Where the rows of `audit` stand, with `names` beside them if they have several."""
        return NUMBERED if self.lineages else "audit"

    def called(self, rows: "pa.Table") -> "pa.Table":
        """Rows of that source with the column `called` instead of `names`."""
        if "names" not in rows.column_names:
            return rows
        from scalple.store.namesobject import as_texts

        texts = as_texts(rows["names"], self.lineages)
        return rows.drop_columns(["names"]).append_column(calledby.CALLED, texts)

    def register(self, con: duckdb.DuckDBPyConnection, few: int = FEW_RUNS) -> None:
        """Makes the view `audit_numbered` if rows have several names; of up to `few` runs quickly."""
        if not self.lineages:
            return
        origins, firsts, lasts, names = zip(*self._runs(), strict=True)
        columns: dict[str, tuple[str, Sequence[Any]]] = {
            "origin": (TEXT, origins),
            "first": (UBIGINT, firsts),
            "last": (UBIGINT, lasts),
            "names": (INTEGER, names),
        }
        make_table(con, "name_runs", columns, temporary=False)
        made = "audit_numbered" if len(names) <= few else "audit_numbered_often"
        con.execute(f"CREATE OR REPLACE VIEW {NUMBERED} AS {sql_file(f'{made}.sql')}")

    def _runs(self) -> list[tuple[str, int, int, int]]:
        """(origin, first, last, number) of rows that follow one another and have one number."""
        from scalple.store.namesobject import runs

        found: list[tuple[str, int, int, int]] = []
        for at, commit in enumerate(self._commits):
            for begin, end, number in runs(self.of(at)):
                first, last = commit.first_seq + begin, commit.first_seq + end - 1
                if found and (found[-1][0], found[-1][3]) == (commit.origin, number):
                    first = found.pop()[1]
                found.append((commit.origin, first, last, number))
        return found


def register_meanings(con: duckdb.DuckDBPyConnection, meanings: Sequence[Meaning]) -> None:
    """Makes the relation `asked_names`: what is asked, by the numbers of rows."""
    columns: dict[str, tuple[str, Sequence[Any]]] = {
        "names": (INTEGER, [one.names for one in meanings]),
        "of_tables": (TEXTS, [one.tables for one in meanings]),
        "of_personal": (TEXTS, [sorted(one.personal) for one in meanings]),
        "of_subjects": (TEXTS, [sorted(one.subject_columns) for one in meanings]),
    }
    make_table(con, "asked_names", columns)


def audit_as_asked(con: duckdb.DuckDBPyConnection, meanings: Sequence[Meaning]) -> str:
    """A source of the rows of `audit` with `of_tables`, `of_personal` and `of_subjects` beside them.

    `meanings` has one for every number that rows have; `RowNames.register` was called.
    """
    register_meanings(con, meanings)
    return f"({sql_file('audit_as_asked.sql')})"
