"""The rows that a question is about, found through digests rather than by looking at every row.

Enters: a connection with the store's views, and the commits behind it. Leaves: rows that name a
subject, and the relation `facts`: per row of `audit` which statement and which person it was, with
the tables `statements` and `people` that say what those are. What digests can't tell (commits of
earlier versions, rows that were revised) is read from the rows themselves, so that an answer made
here equals the one made from `audit`.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from scalple.store.digest import NEEDED, PERSON, STATEMENT, Digester, Facts, read_facts, token_half
from scalple.store.digestnames import FACTS, SUBJECTS
from scalple.store.reader import AuditCommit, StoreReader
from scalple.store.views import audit_sql, connect_reader, path_list

Places = npt.NDArray[np.int64]
"""Rows by their place among all audit rows, in order of origin and seq."""

_MEASURES = ("log_time", "rows_returned")
_TEXT, _TEXTS = "VARCHAR", "VARCHAR[]"
_TYPES = {
    **dict.fromkeys((*STATEMENT, *PERSON), _TEXT),
    **dict.fromkeys(("affected_tables", "columns_accessed", "named_columns"), _TEXTS),
    **dict.fromkeys(("attribution_candidates", "findings"), _TEXTS),
    "brings_others": "BOOLEAN",
}


class Quick:
    """What a store's digests know; `con` has the store's views.

    Args:
        reader: the store.
        as_of: leave out what was committed later.
    """

    def __init__(self, reader: StoreReader, as_of: datetime | None = None) -> None:
        self._commits = reader.audit_commits(as_of)
        digests = [path for one in self._commits for path in one.digest.values()]
        self.con = connect_reader(reader, as_of, digests=digests)
        self._revised = bool(reader.segments("revisions", as_of))
        sizes = [one.rows for one in self._commits]
        self._begins = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def naming(self, tokens: Iterable[int], where: str, values: dict[str, Any]) -> pa.Table:
        """The rows of `audit` that may name one of these tokens and fit: no other row names one."""
        return self.rows(self._candidates(tokens), where, values)

    def rows(
        self, places: Places, where: str, values: dict[str, Any], columns: str = "*"
    ) -> pa.Table:
        """Those of these rows that fit, by time."""
        held = sorted(set(np.searchsorted(self._begins, places, "right") - 1))
        paths = [str(p.absolute()) for at in held for p in self._commits[at].segments]
        self.con.register("wanted", self._named(places))
        committed = audit_sql(
            paths, "seq IN (SELECT seq FROM wanted)", revised=self._revised and bool(paths)
        )
        sql = (
            f"SELECT {columns} FROM ({committed}) WHERE ({where}) "
            "AND (origin, seq) IN (SELECT (origin, seq) FROM wanted) "
            "ORDER BY log_time, origin, seq"
        )
        return self.con.sql(sql, params=values).to_arrow_table()

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
            found[mine] = self._begins[at][held] + seqs[mine] - firsts[held]
        return found

    def _named(self, places: Places) -> pa.Table:
        held = np.searchsorted(self._begins, places, "right") - 1
        firsts = np.array([one.first_seq for one in self._commits], np.int64)
        seqs = places - self._begins[held] + firsts[held]
        origins = pa.array([one.origin for one in self._commits], pa.string())
        return pa.table(
            {
                "place": pa.array(places),
                "origin": origins.take(pa.array(held)),
                "seq": pa.array(seqs.astype(np.uint64)),
            }
        )

    def _candidates(self, tokens: Iterable[int]) -> Places:
        """Rows of which a digest says that they may name one; those that no digest tells of."""
        indexed = {
            str(one.digest[SUBJECTS].absolute()): n
            for n, one in enumerate(self._commits)
            if SUBJECTS in one.digest
        }
        found = [self._revised_places]
        found += [
            np.arange(self._begins[n], self._begins[n + 1])
            for n, one in enumerate(self._commits)
            if SUBJECTS not in one.digest
        ]
        if indexed:
            halves = ", ".join(str(token_half(token)) for token in tokens)
            hits = self.con.sql(
                f"SELECT filename, seq FROM read_parquet({path_list(list(indexed))}) "
                f"WHERE token_half IN ({halves})"
            ).to_arrow_table()
            at = np.array([indexed[name] for name in hits["filename"].to_pylist()], np.int64)
            firsts = np.array([one.first_seq for one in self._commits], np.int64)
            found.append(self._begins[at] + np.asarray(hits["seq"], np.int64) - firsts[at])
        return np.unique(np.concatenate(found))

    @cached_property
    def _revised_places(self) -> Places:
        """Rows that some revision changes."""
        if not self._revised:
            return np.zeros(0, np.int64)
        revised = self.con.sql(
            "SELECT DISTINCT r.origin, r.audit_seq AS seq FROM revisions r"
        ).to_arrow_table()
        known = revised.filter(pa.array(self._is_known(revised)))
        return np.sort(self.places(known))

    def _is_known(self, rows: pa.Table) -> list[bool]:
        """A revision may speak of a row that isn't there."""
        ends: dict[str, int] = {}
        for one in self._commits:
            ends[one.origin] = one.first_seq + one.rows
        pairs = zip(rows["origin"].to_pylist(), rows["seq"].to_pylist(), strict=True)
        return [seq < ends.get(origin, 0) for origin, seq in pairs]

    @cached_property
    def facts(self) -> str:
        """The name of the relation: `statement`, `person`, `log_time`, `rows_returned`, `place`.

        Made on first use, with `statements` and `people` (`code` and what it stands for) and
        `logs` (`origin`, from which `place` on).
        """
        with ThreadPoolExecutor(2) as pool:
            read = list(pool.map(_read, self._commits))
        digester = Digester()
        parts = [
            (found or digester.facts(self._rows_of(one)), measures)
            for one, (found, measures) in zip(self._commits, read, strict=True)
        ]
        places = np.arange(self._begins[-1])
        revised = self._revised_places
        if len(revised):
            keep = np.ones(len(places), bool)
            keep[revised] = False
            rows = self.rows(revised, "true", {}, ", ".join((*NEEDED, *_MEASURES, "origin", "seq")))
            parts.append((digester.facts(rows), rows.select(_MEASURES)))
            places = np.concatenate([places, self.places(rows)])
            keep = np.concatenate([keep, np.ones(rows.num_rows, bool)])
        else:
            keep = None
        statement, statements = _united([facts.statement for facts, _ in parts])
        person, people = _united([facts.person for facts, _ in parts])
        measures = pa.concat_tables([one for _, one in parts])
        relation = pa.table(
            {
                "statement": statement,
                "person": person,
                **{name: measures[name] for name in _MEASURES},
                "place": pa.array(places),
            }
        )
        self.con.register("facts", relation if keep is None else relation.filter(pa.array(keep)))
        self._table("statements", statements, (*STATEMENT, "named_columns", "brings_others"))
        self._table("people", people, PERSON)
        self._logs()
        return "facts"

    def _rows_of(self, commit: AuditCommit) -> pa.Table:
        paths = [str(path.absolute()) for path in commit.segments]
        committed = audit_sql(paths, revised=False)
        columns = ", ".join(f'"{name}"' for name in NEEDED)
        return self.con.sql(f"SELECT {columns} FROM ({committed}) ORDER BY seq").to_arrow_table()

    def _table(self, name: str, facts: pa.Array, fields: Sequence[str]) -> None:
        given = pa.table({"code": pa.array(np.arange(len(facts), dtype=np.int32)), "fact": facts})
        self.con.register("given", given)
        structure = ", ".join(f'"{field}":"{_TYPES[field]}"' for field in fields)
        structure = structure.replace('"VARCHAR[]"', '["VARCHAR"]')
        self.con.execute(
            f"CREATE TEMP TABLE {name} AS SELECT code, unnest(from_json(fact, '{{{structure}}}')) "
            "FROM given"
        )

    def _logs(self) -> None:
        first: dict[str, int] = {}
        for one, begin in zip(self._commits, self._begins.tolist(), strict=False):
            first.setdefault(one.origin, begin)
        logs = pa.table({"origin": list(first), "place": pa.array(list(first.values()), pa.int64())})
        self.con.register("logs", logs)


def _read(commit: AuditCommit) -> tuple[Facts | None, pa.Table]:
    """A commit's facts, if it has a digest, and what is measured of its rows."""
    measures = [_measures(path) for path in commit.segments]
    facts = read_facts(commit.digest[FACTS]) if FACTS in commit.digest else None
    return facts, pa.concat_tables(measures)


def _measures(path: Path) -> pa.Table:
    return pq.ParquetFile(path).read(columns=list(_MEASURES), use_threads=False)


def _united(parts: list[pa.DictionaryArray]) -> tuple[pa.ChunkedArray, pa.Array]:
    """Codes into one dictionary, in which every fact stands once."""
    if not parts:
        return pa.chunked_array([], pa.int32()), pa.array([], pa.string())
    whole = pa.chunked_array(parts).unify_dictionaries()
    codes = pa.chunked_array([chunk.indices for chunk in whole.chunks], pa.int32())
    return codes, whole.chunk(0).dictionary if whole.num_chunks else pa.array([], pa.string())
