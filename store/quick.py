"""The rows that a question is about, found through digests rather than by looking at every row.

Enters: a connection with the store's views, and the commits behind it. Leaves: rows that name a
subject, and the relations of `factrelations`. What digests can't tell (commits of earlier versions,
rows that were revised) is read from the rows themselves, so that an answer made here equals the one
made from `audit`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import duckdb

from scalple.ingest.columntypes import BIGINT, TEXT, UBIGINT
from scalple.store.digestnames import MEASURES, NEEDED, SUBJECTS, token_half
from scalple.store.factrelations import Variables, make_relations
from scalple.store.reader import StoreReader
from scalple.store.rownames import RowNames
from scalple.store.rows import make_table, rows_of
from scalple.store.views import audit_sql, connect_reader, path_list

if TYPE_CHECKING:  # most stores have digests of all rows
    from scalple.store.addedfacts import Rows

_COMMIT = 32
_ROW = (1 << _COMMIT) - 1
_EVENTS = """
CREATE TEMP TABLE events AS
SELECT id, origin, seq, source, event, ts, detail, sidecar, sidecar_seq FROM evidence
WHERE source IN ('pgbouncer', 'identity')
"""

Places = list[int]
"""Rows, each by the number of its commit times 2**32 and its number in it."""


class Quick:
    """What a store's digests know; `con` has the store's views.

    Rows are looked up, and relations made, on cursors of their own, so that another thread may use `con`
    meanwhile.

    Args:
        reader: the store.
        as_of: leave out what was committed later.
    """

    def __init__(self, reader: StoreReader, as_of: datetime | None = None) -> None:
        self._commits = reader.audit_commits(as_of)
        digests = [path for one in self._commits for path in one.digest.values()]
        self.con = connect_reader(reader, as_of, digests=digests)
        self.names = RowNames(self._commits)
        """Under which names the rows were written."""
        self.names.register(self.con)
        self._revised = bool(reader.segments("revisions", as_of))
        self._making = Lock()
        self._variables: Variables | None = None
        self._has_events = False
        self._found: dict[str, Places] = {}
        self._held: dict[str, tuple[list[int], list[int]]] = {}
        """Of each origin its commits by number, and their first rows."""
        for n, one in enumerate(self._commits):
            at, firsts = self._held.setdefault(one.origin, ([], []))
            at.append(n)
            firsts.append(one.first_seq)

    def naming(
        self, tokens: Iterable[int], where: str, values: dict[str, Any], columns: str = "*"
    ) -> list[dict[str, Any]]:
        """Those rows of `audit` that fit, if only rows that name one of these tokens can."""
        found = self.rows(self._candidates(tokens), where, values, columns)
        self._found[repr((where, values))] = self.places((x["origin"], x["seq"]) for x in found)
        return found

    def places_naming(self, tokens: Iterable[int], where: str, values: dict[str, Any]) -> Places:
        """The places of those rows; they are looked up once."""
        if repr((where, values)) not in self._found:
            self.naming(tokens, where, values, "origin, seq")
        return self._found[repr((where, values))]

    def rows(
        self, places: Places, where: str, values: dict[str, Any], columns: str = "*"
    ) -> list[dict[str, Any]]:
        """Those of these rows that fit, by time."""
        con, holding = self._holding(places)
        return rows_of(con, _fitting(holding, where, columns), values)

    def in_order(self, places: Places, columns: str) -> list[dict[str, Any]]:
        """These rows, as they are named."""
        con, holding = self._holding(places)
        sql = f"SELECT {columns} FROM ({holding}) JOIN wanted USING (origin, seq) ORDER BY nth"
        return rows_of(con, sql, {})

    def _holding(self, places: Places) -> tuple[duckdb.DuckDBPyConnection, str]:
        """A cursor with the relation `wanted`, which names these, and the rows of files that hold them."""
        held = [self._commits[place >> _COMMIT] for place in places]
        commits = sorted({place >> _COMMIT for place in places})
        paths = [str(path.absolute()) for n in commits for path in self._commits[n].segments]
        con = self.con.cursor()
        seqs = [one.first_seq + (at & _ROW) for one, at in zip(held, places, strict=True)]
        columns = {
            "nth": (BIGINT, range(len(places))),
            "origin": (TEXT, [one.origin for one in held]),
            "seq": (UBIGINT, seqs),
        }
        make_table(con, "wanted", columns)
        revised = self._revised and bool(paths)
        return con, audit_sql(paths, "seq IN (SELECT seq FROM wanted)", revised=revised)

    def places(self, rows: Iterable[tuple[str, int]]) -> Places:
        """Where rows are, each given by its origin and seq."""
        found = []
        for origin, seq in rows:
            at, firsts = self._held[origin]
            n = bisect_right(firsts, seq) - 1
            found.append(at[n] << _COMMIT | seq - firsts[n])
        return found

    def _candidates(self, tokens: Iterable[int]) -> Places:
        """Rows of which a digest says that they may name one; those that no digest tells of."""
        told = [n for n, one in enumerate(self._commits) if SUBJECTS in one.digest]
        found = set(self._revised_places)
        for n in self._untold():
            found.update(self._all_of(n))
        if told:
            halves = ", ".join(str(token_half(token)) for token in tokens)
            paths = [str(self._commits[n].digest[SUBJECTS].absolute()) for n in told]
            sql = (
                f"SELECT file_index, seq FROM read_parquet({path_list(paths)}) "
                f"WHERE token_half IN ({halves})"
            )
            for file_index, seq in self.con.cursor().execute(sql).fetchall():
                n = told[file_index]
                row = seq - self._commits[n].first_seq
                if row < self._commits[n].rows:  # known at the time that is asked about
                    found.add(n << _COMMIT | row)
        return sorted(found)

    def _untold(self) -> list[int]:
        """Commits that have no digest."""
        return [n for n, one in enumerate(self._commits) if not one.digest]

    def _all_of(self, n: int) -> range:
        return range(n << _COMMIT, (n << _COMMIT) + self._commits[n].rows)

    @cached_property
    def _revised_places(self) -> Places:
        """Rows that some revision changes."""
        if not self._revised:
            return []
        sql = "SELECT DISTINCT r.origin, r.audit_seq AS seq FROM revisions r"
        revised = self.con.cursor().execute(sql).fetchall()
        return sorted(self.places(one for one in revised if self._is_known(*one)))

    def _is_known(self, origin: str, seq: int) -> bool:
        """A revision may speak of a row that isn't there: not yet, or not any more."""
        at, firsts = self._held.get(origin, ([], []))
        n = bisect_right(firsts, seq) - 1
        return n >= 0 and seq < firsts[n] + self._commits[at[n]].rows

    @property
    def origins(self) -> list[str]:
        """Those that have audit rows, in the order of their places."""
        return list(dict.fromkeys(one.origin for one in self._commits))

    @property
    def origin_number(self) -> str:
        """SQL of a row of `facts`: which of `origins` it is of."""
        begins: dict[str, int] = {}
        for n, one in enumerate(self._commits):
            begins.setdefault(one.origin, n << _COMMIT)
        if len(begins) < 2:
            return "0"
        cases = [f"WHEN place >= {at} THEN {n}" for n, at in enumerate(begins.values())]
        return f"CASE {' '.join(reversed(cases))} END"

    def load_events(self) -> str:
        """Makes the table `events` if it isn't there yet, and names it: what several questions read
        of the evidence, and more than once."""
        if not self._has_events:
            self.con.execute(_EVENTS)
            self._has_events = True
        return "events"

    def load_facts(self, con: duckdb.DuckDBPyConnection) -> None:
        """Makes the relations of `factrelations`, if they aren't there yet, and lets a cursor read them."""
        with self._making:
            if self._variables is None:
                self._variables = self._made()
        self._variables.tell(con)

    def _made(self) -> Variables:
        names = None
        if self.names.lineages:
            names = [self.names.of(at) for at in range(len(self._commits))]
        con, revised = self.con.cursor(), self._revised_places
        return make_relations(con, self._commits, revised, self._read_anew(), names)

    def _read_anew(self) -> Iterator["Rows"]:
        """The rows that no digest tells of, and those that were revised since."""
        revised = self._revised_places
        for n in self._untold():
            aside = {place for place in revised if place >> _COMMIT == n}
            yield self._read([place for place in self._all_of(n) if place not in aside])
        if revised:
            yield self._read(revised)

    def _read(self, places: Places) -> "Rows":
        from scalple.store.addedfacts import Rows

        con, holding = self._holding(places)
        columns = ", ".join((*NEEDED, *MEASURES, "origin", "seq"))
        rows = con.sql(_fitting(holding, "true", columns)).to_arrow_table()
        pairs = zip(rows["origin"].to_pylist(), rows["seq"].to_pylist(), strict=True)
        return Rows(rows, self.places(pairs))


def _fitting(holding: str, where: str, columns: str) -> str:
    """A SELECT of the rows that are wanted and fit, by time."""
    return (
        f"SELECT {columns} FROM ({holding}) WHERE ({where}) "
        "AND (origin, seq) IN (SELECT (origin, seq) FROM wanted) "
        "ORDER BY log_time, origin, seq"
    )
