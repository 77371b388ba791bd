"""Many commits as one run of an index: their manifests, rows and digest in few large files.

Manifests, and segments or rows that were merged before, enter in order; the bytes of files leave
through a sink, and at the end the `Run` that names them. Rows are cut at fixed numbers, so that a
run depends on its commits alone, however often it was merged on the way (docs/adr/0015). Opens no
file and knows no key.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scalple.store import segments
from scalple.store.digest import Numbering, to_objects
from scalple.store.digestnames import CALLED, FACTS, NAMES, ROWS, SUBJECTS
from scalple.store.index import MANIFESTS, PARTS, IndexFile, Run
from scalple.store.indexed import GROUP_ROWS
from scalple.store.keyedrows import KeyedRows, joined, of_manifest
from scalple.store.manifest import Manifest, sha256_hex
from scalple.store.mergednames import NamesPile

FILE_ROWS_MAX = 1 << 19
"""Rows of a kind in one file. The rows of a file are sorted, so more of them make a question read
fewer row groups, and need more memory when they are merged."""
HASHES_MAX = 4
"""Of how many objects of one name a run says the hashes itself."""

_MANIFESTS = pa.schema(
    [("n", pa.int64()), ("committed_at", pa.string()), ("leaf", pa.binary()), ("data", pa.binary())]
)
_PARTS = pa.schema(
    [
        ("kind", pa.string()),
        ("n", pa.int64()),
        ("first_seq", pa.uint64()),
        ("rows", pa.int64()),
        ("salt_key", pa.binary()),
    ]
)

Sink = Callable[[str, bytes, int, int], None]
"""Takes what a file holds, its bytes, and of rows the first seq and how many."""


class RunMaker:
    """Makes one run; `finish` is the last call."""

    def __init__(self, first: int, begins: Mapping[str, int], sink: Sink) -> None:
        self.rows = 0
        self._first = first
        self._end = first
        self._begins = dict(begins)
        self._ends = dict(begins)
        self._sink = sink
        self._files: list[IndexFile] = []
        self._manifests = _Lines(_MANIFESTS)
        self._parts = _Lines(_PARTS)
        self._piles: dict[str, _Pile] = {}
        self._committed_by = ""
        self._newest: dict[str, int] = {}
        self._hashes: dict[str, set[str]] = {}
        self._numbering: Numbering | None = None
        self._names = NamesPile()
        self._keyed: list[KeyedRows] = []
        self._digests: dict[str, list[pa.Table]] = {name: [] for name in NAMES}

    def add_commit(
        self,
        manifest: Manifest,
        leaf: bytes,
        left: Manifest,
        salt_keys: Sequence[bytes],
        names: bytes | None,
    ) -> None:
        """The next commit: its manifest with its leaf hash, what of it hasn't expired, the salt keys of those
        segments, and under which names its audit rows were written, if it says. The rows follow by
        `add_rows`."""
        self._manifests.add(manifest.n, manifest.committed_at, leaf, manifest.to_bytes())
        records = left.segments
        for one, key in zip(records, salt_keys, strict=True):
            self._parts.add(one.kind, manifest.n, one.first_seq, one.rows, key)
        self._say_objects(
            manifest.committed_at,
            dict.fromkeys(manifest.objects, manifest.n),
            {name: {sha256} for name, sha256 in manifest.objects.items()},
        )
        self._keyed = joined([*self._keyed, *of_manifest(left)])
        self._end = manifest.n + 1
        self._names.add(sum(one.rows for one in records if one.kind == "audit"), names)

    def add_run(self, run: Run, manifests: pa.Table, parts: pa.Table, names: bytes | None) -> None:
        """The next commits, merged before; their rows follow by `add_rows`."""
        self._manifests.add_table(manifests)
        self._parts.add_table(parts)
        hashes = {name: set(run.hashes.get(name, ())) for name in run.newest}
        self._say_objects(run.committed_by, run.newest, hashes)
        self._keyed = joined([*self._keyed, *run.keyed])
        self._end = run.end
        self._names.add(run.ends["audit"] - run.begins["audit"], names)

    def add_rows(self, kind: str, table: pa.Table) -> None:
        """The next rows of a kind; those between them and the ones before have expired."""
        self.skip_to(kind, table["seq"][0].as_py())
        pile = self._piles.setdefault(kind, _Pile())
        pile.add(table)
        self._ends[kind] += table.num_rows
        self.rows += table.num_rows
        while pile.rows >= FILE_ROWS_MAX:
            self._write_rows(kind, pile.take(FILE_ROWS_MAX))

    def skip_to(self, kind: str, seq: int) -> None:
        """No rows of a kind are left before this one. A file has no holes, of audit rows a run has none:
        whoever calls begins a new run there (`holds_audit`)."""
        if seq <= self._ends[kind]:
            return
        if self._begins[kind] == self._ends[kind]:
            self._begins[kind] = seq
        elif (pile := self._piles.get(kind)) is not None and pile.rows:
            self._write_rows(kind, pile.take(pile.rows))
        self._ends[kind] = seq

    @property
    def holds_audit(self) -> bool:
        """Whether the run has audit rows already."""
        return self._begins["audit"] < self._ends["audit"]

    @property
    def audit_end(self) -> int:
        """The seq behind its last audit row."""
        return self._ends["audit"]

    def finish(self) -> Run:
        """Writes what is left; the run."""
        for kind, pile in self._piles.items():
            if pile.rows:
                self._write_rows(kind, pile.take(pile.rows))
        self._write_digest()
        if (names := self._names.to_bytes()) is not None:
            self._write(CALLED, names)
        self._write(MANIFESTS, _to_bytes(self._manifests.whole(), GROUP_ROWS))
        self._write(PARTS, _to_bytes(self._parts.whole()))
        return Run(
            first=self._first,
            end=self._end,
            committed_by=self._committed_by,
            begins=self._begins,
            ends=self._ends,
            newest=self._newest,
            hashes={name: sorted(found) for name, found in self._hashes.items() if found},
            keyed=self._keyed,
            files=self._files,
        )

    def _say_objects(
        self, committed_at: str, newest: Mapping[str, int], hashes: Mapping[str, set[str]]
    ) -> None:
        """An empty set of hashes stands for too many."""
        times = [one for one in (self._committed_by, committed_at) if one]
        self._committed_by = max(times, key=datetime.fromisoformat)
        for name, found in hashes.items():
            known = self._hashes.get(name, found)
            both = known | found if known and found else set()
            self._hashes[name] = both if len(both) <= HASHES_MAX else set()
        self._newest.update(newest)

    def _write_rows(self, kind: str, table: pa.Table) -> None:
        if kind == "audit":
            self._numbering = self._numbering or Numbering()
            for name, made in self._numbering.tables(table).items():
                self._digests[name].append(made)
        self._write_file(kind, table)

    def _write_file(self, kind: str, table: pa.Table) -> None:
        """One file, or several when it would be too large."""
        order = _by_subject(table) if kind == "audit" else np.arange(table.num_rows)
        data = segments.rows_to_parquet(kind, _groups(table, order))
        if len(data) > segments.SEGMENT_BYTES_MAX and table.num_rows > 1:
            half = table.num_rows // 2
            self._write_file(kind, table.slice(0, half))
            self._write_file(kind, table.slice(half))
        else:
            self._write(kind, data, table["seq"][0].as_py(), table.num_rows)

    def _write_digest(self) -> None:
        if self._numbering is None:
            return
        whole = {name: pa.concat_tables(made) for name, made in self._digests.items()}
        whole[SUBJECTS] = whole[SUBJECTS].sort_by(
            [("token_half", "ascending"), ("seq", "ascending")]
        )
        since = f"{self._first}-{self._end}"
        for name in (SUBJECTS, ROWS, FACTS):
            data = to_objects({name: whole[name].combine_chunks()}, since)[name]
            self._write(name, data, 0, whole[name].num_rows if name == ROWS else 0)

    def _write(self, holds: str, data: bytes, first_seq: int = 0, rows: int = 0) -> None:
        self._sink(holds, data, first_seq, rows)
        file = IndexFile(
            holds=holds, sha256=sha256_hex(data), bytes=len(data), first_seq=first_seq, rows=rows
        )
        self._files.append(file)


class _Lines:
    """A table that grows by single rows, and by tables."""

    def __init__(self, schema: pa.Schema) -> None:
        self._tables = [schema.empty_table()]
        self._rows: list[tuple[object, ...]] = []
        self._schema = schema

    def add(self, *row: object) -> None:
        """One more row."""
        self._rows.append(row)

    def add_table(self, table: pa.Table) -> None:
        """More of them."""
        self._tables = [self.whole(), table.cast(self._schema)]

    def whole(self) -> pa.Table:
        """All of them."""
        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            self._tables.append(pa.table(columns, schema=self._schema))
            self._rows = []
        return pa.concat_tables(self._tables)


class _Pile:
    """Rows in their order: what came in many small tables is soon held in few."""

    def __init__(self) -> None:
        self.rows = 0
        self._small: list[pa.Table] = []
        self._small_rows = 0
        self._large: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """The next rows."""
        self._small.append(table)
        self._small_rows += table.num_rows
        self.rows += table.num_rows
        if self._small_rows >= segments.ROW_GROUP_ROWS:
            self._unite()

    def take(self, count: int) -> pa.Table:
        """The first so many rows, in one piece."""
        self._unite()
        whole = pa.concat_tables(self._large)
        rest = whole.slice(count)
        self._large = [rest] if rest.num_rows else []
        self.rows -= count
        columns = [whole.select([at]).slice(0, count) for at in range(whole.num_columns)]
        del whole
        return _in_one_piece(columns)

    def _unite(self) -> None:
        if not self._small_rows:
            return
        plain = [one for one in self._small if not _is_coded(one)]
        if len(plain) == len(self._small):
            self._large.append(segments.coded(pa.concat_tables(plain).combine_chunks()))
        else:
            self._large += map(segments.coded, self._small)
        self._small, self._small_rows = [], 0


def _in_one_piece(columns: list[pa.Table]) -> pa.Table:
    """Column by column, so that no more than one of them is in memory twice: a pile of rows is the most
    that a merge needs. Takes the columns out of the list."""
    done = []
    while columns:
        done.append(columns.pop().unify_dictionaries().combine_chunks())
    done.reverse()
    schema = pa.schema([one.field(0) for one in done])
    return pa.table([one.column(0) for one in done], schema=schema)


def _is_coded(table: pa.Table) -> bool:
    return any(pa.types.is_dictionary(field.type) for field in table.schema)


def _groups(table: pa.Table, order: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
    for at in range(0, len(order), segments.ROW_GROUP_ROWS):
        yield table.take(pa.array(order[at : at + segments.ROW_GROUP_ROWS]))


def _by_subject(table: pa.Table) -> npt.NDArray[np.int64]:
    """Rows by the first subject that they name, those that name nobody last; otherwise by seq."""
    subjects = table["subjects"].combine_chunks()
    lengths = np.asarray(pc.fill_null(pc.list_value_length(subjects), 0), np.int64)
    tokens = np.asarray(subjects.flatten().field("token"), np.uint64)
    naming = np.flatnonzero(lengths)
    firsts = tokens[(np.cumsum(lengths) - lengths)[naming]]
    return np.concatenate([naming[np.argsort(firsts, kind="stable")], np.flatnonzero(lengths == 0)])


def _to_bytes(table: pa.Table, group: int | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    # Hashes and signatures say little twice.
    pq.write_table(table, sink, group, compression="zstd", compression_level=3, store_schema=False)
    return bytes(sink.getvalue().to_pybytes())
