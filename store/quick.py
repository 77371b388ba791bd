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
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scalple.correlate.record import AUDIT
from scalple.ingest.errors import VerificationError
from scalple.store.digest import (
    MEASURES,
    NEEDED,
    PERSON,
    STATEMENT,
    Digester,
    Meaning,
    Numbered,
    read_meaning,
    read_rows,
    token_half,
)
from scalple.store.digestnames import FACTS, ROWS, SUBJECTS
from scalple.store.reader import AuditCommit, StoreReader
from scalple.store.rownames import RowNames
from scalple.store.views import audit_sql, connect_reader, path_list

Places = npt.NDArray[np.int64]
"""Rows by their place among all audit rows, in order of origin and seq."""

_MEASURED = pa.schema([AUDIT.field(name) for name in MEASURES])
_TEXT, _TEXTS = "VARCHAR", "VARCHAR[]"
_TYPES = {
    **dict.fromkeys((*STATEMENT, *PERSON), _TEXT),
    **dict.fromkeys(("affected_tables", "columns_accessed", "named_columns"), _TEXTS),
    **dict.fromkeys(("attribution_candidates", "findings"), _TEXTS),
    "brings_others": "BOOLEAN",
    "rewritten": _TEXTS,
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
        self.names = RowNames(self._commits)
        """Under which names the rows were written."""
        self.names.register(self.con)
        self._revised = bool(reader.segments("revisions", as_of))
        self._loaded = False
        self._found: dict[str, Places] = {}
        sizes = [one.rows for one in self._commits]
        self._begins = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

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

    @property
    def origin_sql(self) -> str:
        """The origin of a row of `facts`."""
        begins: dict[str, int] = {}
        for one, begin in zip(self._commits, self._begins.tolist(), strict=False):
            begins.setdefault(one.origin, begin)
        if len(begins) == 1:
            return f"'{next(iter(begins))}'"
        cases = [f"WHEN place >= {at} THEN '{name}'" for name, at in reversed(begins.items())]
        return f"CASE {' '.join(cases)} END" if cases else "NULL"

    def load_facts(self) -> None:
        """Makes the relations, if they aren't there yet.

        `facts` has `statement`, `person`, `log_time`, `rows_returned` and `place` of each row, and
        `names` where there are several (`rownames`);
        `statements` and `people` have `code` and what it stands for.
        """
        if not self._loaded:
            self._load_facts()
            self._loaded = True

    def _load_facts(self) -> None:
        facts = _FactsOf()
        self._add_commits(facts)
        # Ten million rows: half the width is half the time that fresh memory takes.
        width = np.int32 if self._begins[-1] < 2**31 else np.int64
        places = np.arange(self._begins[-1], dtype=width)
        revised = self._revised_places
        if len(revised):
            columns = ", ".join((*NEEDED, *MEASURES, "origin", "seq"))
            rows = self.rows(revised, "true", {}, columns)
            facts.add_rows(rows)
            places = np.concatenate([places, self.places(rows).astype(width)])
        statement, statements = facts.statements.united()
        person, people = facts.people.united()
        measures = pa.concat_tables([_MEASURED.empty_table(), *facts.measures])
        relation = pa.table(
            {
                "statement": statement,
                "person": person,
                **{name: measures[name] for name in MEASURES},
                "place": pa.array(places),
            }
        )
        if self.names.lineages:
            every = [self.names.of(at) for at in range(len(self._commits))]
            codes = np.concatenate([np.zeros(0, np.int32), *every])
            relation = relation.append_column("names", pa.array(codes[places]))
        if len(revised):  # as they were committed they don't count
            kept = np.ones(len(places), bool)
            kept[revised] = False
            relation = relation.filter(pa.array(kept))
        self.con.register("facts", relation)
        self._table(
            "statements", statements, (*STATEMENT, "named_columns", "brings_others", "rewritten")
        )
        self._table("people", people, PERSON)

    def _add_commits(self, facts: "_FactsOf") -> None:
        with ThreadPoolExecutor(2) as pool:
            read = list(pool.map(_numbered, self._commits))
        for commit, found in zip(self._commits, read, strict=True):
            if found is None:
                facts.add_rows(self._rows_of(commit))
            else:
                facts.add_numbered(commit, *found)

    def _rows_of(self, commit: AuditCommit) -> pa.Table:
        paths = [str(path.absolute()) for path in commit.segments]
        committed = audit_sql(paths, revised=False)
        columns = ", ".join(f'"{name}"' for name in (*NEEDED, *MEASURES))
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


def _numbered(commit: AuditCommit) -> tuple[Numbered, Meaning] | None:
    if not commit.digest:
        return None
    return read_rows(commit.digest[ROWS]), read_meaning(commit.digest[FACTS])


class _United:
    """Numbers of facts from several numberings -> one numbering, in which each fact stands once."""

    def __init__(self) -> None:
        self._codes: list[pa.Array] = []
        self._numbering: list[int] = []
        self._facts: list[list[str]] = []

    def add(self, codes: pa.Array, numbering: int | None, facts: list[str]) -> int:
        """Rows, and facts that a numbering (None: a new one) gets in addition; returns its number."""
        if numbering is None:
            numbering = len(self._facts)
            self._facts.append([])
        self._facts[numbering] += facts
        self._codes.append(codes)
        self._numbering.append(numbering)
        return numbering

    def united(self) -> tuple[pa.ChunkedArray, pa.Array]:
        """Per row its code; what the codes stand for."""
        texts = pa.array([fact for facts in self._facts for fact in facts], pa.string())
        coded = texts.dictionary_encode()
        ends = np.cumsum([len(facts) for facts in self._facts[:-1]], dtype=np.int64)
        new = np.split(np.asarray(coded.indices), ends)
        chunks = [
            codes if len(self._facts) == 1 else pa.array(new[numbering][np.asarray(codes)])
            for codes, numbering in zip(self._codes, self._numbering, strict=True)
        ]
        return pa.chunked_array(chunks, pa.int32()), coded.dictionary


class _FactsOf:
    """Collects the facts of rows, from digests or from the rows themselves."""

    def __init__(self) -> None:
        self.statements, self.people = _United(), _United()
        self.measures: list[pa.Table] = []
        self._known: dict[tuple[str, int], int] = {}

    @cached_property
    def _digester(self) -> Digester:
        return Digester()

    def add_numbered(self, commit: AuditCommit, rows: Numbered, meaning: Meaning) -> None:
        """The rows of a commit that has a digest."""
        numbering = self._known.get((commit.origin, rows.since))
        if numbering is None and rows.since != commit.n:
            raise VerificationError(
                f"facts are numbered since {rows.since}, which has none",
                place=str(commit.digest[ROWS]),
            )
        found = self.statements.add(rows.statement, numbering, meaning.statements)
        self.people.add(rows.person, numbering, meaning.people)
        self._known[commit.origin, rows.since] = found
        self.measures.append(rows.measures)

    def add_rows(self, rows: pa.Table) -> None:
        """Rows that have the columns NEEDED and MEASURES."""
        self.measures.append(rows.select(MEASURES))
        facts = self._digester.facts(rows)
        self.statements.add(facts.statement.indices, None, facts.statement.dictionary.to_pylist())
        self.people.add(facts.person.indices, None, facts.person.dictionary.to_pylist())
