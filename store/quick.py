"""The rows that a question is about, found through digests rather than by looking at every row.

Enters: a connection with the store's views, and the commits behind it. Leaves: rows that name a
subject, and the relations of `factrelations`. What digests can't tell (commits of earlier versions,
rows that were revised) is read from the rows themselves, so that an answer made here equals the one
made from `audit`.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from threading import Lock
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scalple.store.bare import bare
from scalple.store.digestnames import MEASURES, NEEDED, SUBJECTS, token_half
from scalple.store.factrelations import Places, Rows, Variables, make_relations
from scalple.store.reader import StoreReader
from scalple.store.rownames import RowNames
from scalple.store.views import audit_sql, connect_reader, path_list

_COMMIT = 32
_ROW = (1 << _COMMIT) - 1
_EVENTS = """
CREATE TEMP TABLE events AS
SELECT id, origin, seq, source, event, ts, detail, sidecar, sidecar_seq FROM evidence
WHERE source IN ('pgbouncer', 'identity')
"""


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

    def naming(
        self, tokens: Iterable[int], where: str, values: dict[str, Any], columns: str = "*"
    ) -> pa.Table:
        """Those rows of `audit` that fit, if only rows that name one of these tokens can."""
        found = self.rows(self._candidates(tokens), where, values, columns)
        self._found[repr((where, values))] = self.places(found)
        return found

    def places_naming(self, tokens: Iterable[int], where: str, values: dict[str, Any]) -> Places:
        """The places of those rows; they are looked up once."""
        if repr((where, values)) not in self._found:
            self.naming(tokens, where, values, "origin, seq")
        return self._found[repr((where, values))]

    def rows(
        self, places: Places, where: str, values: dict[str, Any], columns: str = "*"
    ) -> pa.Table:
        """Those of these rows that fit, by time."""
        con, holding = self._holding(places)
        sql = (
            f"SELECT {columns} FROM ({holding}) WHERE ({where}) "
            "AND (origin, seq) IN (SELECT (origin, seq) FROM wanted) "
            "ORDER BY log_time, origin, seq"
        )
        return con.sql(sql, params=values).to_arrow_table()

    def in_order(self, places: Places, columns: str) -> pa.Table:
        """These rows, as they are named."""
        con, holding = self._holding(places)
        sql = f"SELECT {columns} FROM ({holding}) JOIN wanted USING (origin, seq) ORDER BY nth"
        return con.sql(sql).to_arrow_table()

    def _holding(self, places: Places) -> tuple[duckdb.DuckDBPyConnection, str]:
        """A cursor with the relation `wanted`, which names these, and the rows of files that hold them."""
        held = sorted(set((places >> _COMMIT).tolist()))
        paths = [str(p.absolute()) for at in held for p in self._commits[at].segments]
        con = self.con.cursor()
        con.register("wanted", self._named(places))
        revised = self._revised and bool(paths)
        return con, audit_sql(paths, "seq IN (SELECT seq FROM wanted)", revised=revised)

    def places(self, rows: pa.Table) -> Places:
        """Where rows with `origin` and `seq` are."""
        origins = rows["origin"].to_pylist()
        seqs = np.asarray(rows["seq"], np.int64)
        found = np.empty(rows.num_rows, np.int64)
        for origin in set(origins):
            mine = np.array([one == origin for one in origins])
            at = [n for n, one in enumerate(self._commits) if one.origin == origin]
            firsts = np.array([self._commits[n].first_seq for n in at])
            held = np.searchsorted(firsts, seqs[mine], "right") - 1
            found[mine] = np.array(at)[held] << _COMMIT | (seqs[mine] - firsts[held])
        return found

    def _named(self, places: Places) -> pa.Table:
        held = places >> _COMMIT
        firsts = np.array([one.first_seq for one in self._commits], np.int64)
        seqs = (places & _ROW) + firsts[held]
        return pa.table(
            {
                "nth": bare(np.arange(len(places))),
                "origin": pa.array([self._commits[n].origin for n in held.tolist()], pa.string()),
                "seq": bare(seqs.astype(np.uint64)),
            }
        )

    def _candidates(self, tokens: Iterable[int]) -> Places:
        """Rows of which a digest says that they may name one; those that no digest tells of."""
        told = [n for n, one in enumerate(self._commits) if SUBJECTS in one.digest]
        found = [self._revised_places, *map(self._all_of, self._untold())]
        if told:
            halves = ", ".join(str(token_half(token)) for token in tokens)
            paths = [str(self._commits[n].digest[SUBJECTS].absolute()) for n in told]
            hits = (
                self.con.cursor()
                .sql(
                    f"SELECT file_index, seq FROM read_parquet({path_list(paths)}) "
                    f"WHERE token_half IN ({halves})"
                )
                .to_arrow_table()
            )
            at = np.array(told, np.int64)[np.asarray(hits["file_index"], np.int64)]
            firsts = np.array([one.first_seq for one in self._commits], np.int64)
            counts = np.array([one.rows for one in self._commits], np.int64)
            places = np.asarray(hits["seq"], np.int64) - firsts[at]
            known = places < counts[at]  # at the time that is asked about
            found.append((at << _COMMIT | places)[known])
        every = np.sort(np.concatenate(found))
        return every[np.diff(every, prepend=-1) > 0]  # np.unique would load numpy.ma for it

    def _untold(self) -> list[int]:
        """Commits that have no digest."""
        return [n for n, one in enumerate(self._commits) if not one.digest]

    def _all_of(self, n: int) -> Places:
        return np.arange(self._commits[n].rows, dtype=np.int64) | n << _COMMIT

    @cached_property
    def _revised_places(self) -> Places:
        """Rows that some revision changes."""
        if not self._revised:
            return np.zeros(0, np.int64)
        revised = (
            self.con.cursor()
            .sql("SELECT DISTINCT r.origin, r.audit_seq AS seq FROM revisions r")
            .to_arrow_table()
        )
        known = revised.filter(pa.array(self._is_known(revised)))
        return np.sort(self.places(known))

    def _is_known(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """A revision may speak of a row that isn't there: not yet, or not any more."""
        origins = np.array(rows["origin"].to_pylist(), object)
        seqs = np.asarray(rows["seq"], np.int64)
        found = np.zeros(rows.num_rows, np.bool_)
        for origin in set(origins.tolist()):
            mine = origins == origin
            held = [one for one in self._commits if one.origin == origin]
            firsts = np.array([one.first_seq for one in held], np.int64)
            ends = firsts + np.array([one.rows for one in held], np.int64)
            at = np.searchsorted(firsts, seqs[mine], "right") - 1
            found[mine] = (at >= 0) & (seqs[mine] < ends[at]) if held else False
        return found

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

    def _read_anew(self) -> Iterator[Rows]:
        """The rows that no digest tells of, and those that were revised since."""
        columns = ", ".join((*NEEDED, *MEASURES, "origin", "seq"))
        revised = self._revised_places
        for n in self._untold():
            places = np.setdiff1d(self._all_of(n), revised, assume_unique=True)
            yield self._read(places, columns)
        if len(revised):
            yield self._read(revised, columns)

    def _read(self, places: Places, columns: str) -> Rows:
        rows = self.rows(places, "true", {}, columns)
        return Rows(rows, self.places(rows))
