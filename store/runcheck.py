"""Is one run of an index what the log makes of its commits?

A run and its manifests enter, whose chain was checked; faults leave. The run is made again and compared.
Its rows needn't be read from thousands of segments for that: rows of the index that make, with the salt
keys of the index, the roots that the manifests name are the log's. Where they don't, the segments
say what is wrong. A check can be carried out in another process.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from scalple.correlate.record import KINDS
from scalple.ingest.errors import VerificationError
from scalple.store import compaction, merkle, segments
from scalple.store.index import PARTS, Run
from scalple.store.indexcompare import Comparison
from scalple.store.indexfile import differences, read_file, without_files
from scalple.store.layout import OriginLayout
from scalple.store.manifest import Manifest, SegmentRecord
from scalple.store.merging import RunMaker
from scalple.store.merkle import leaf_hash
from scalple.store.rowtree import hashes_of_parts
from scalple.store.verifyreport import Fault

UNREADABLE = (
    VerificationError,
    pa.ArrowException,
    duckdb.Error,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What rows raise that no writer of ours made."""
Part = tuple[SegmentRecord, bytes]
"""A segment, and the salt key that its rows are said to have."""


@dataclass(frozen=True, slots=True)
class RunCheck:
    """One run of an index, to be compared with the log.

    Attributes:
        layout: the origin.
        run: as the index's head has it.
        manifests: those of the run.
        left: the same with what hasn't expired of each.
        begins: per kind the seq of its first row.
    """

    layout: OriginLayout
    run: Run
    manifests: Sequence[Manifest]
    left: Sequence[Manifest]
    begins: Mapping[str, int]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.bytes for file in self.run.files)

    def __call__(self) -> list[Fault]:
        """What isn't as the log says. Whether the log is intact isn't known yet: what a reader of ours
        stumbles over is a fault, whatever it is."""
        try:
            faults = self._compared(by_index=True)
        except UNREADABLE:  # its rows aren't the log's, or can't be read
            faults = self._by_log()
        return [Fault.of(error, str(self.layout.index)) for error in faults]

    def _by_log(self) -> list[VerificationError]:
        try:
            return self._compared(by_index=False)
        except VerificationError as error:
            return [error]
        except UNREADABLE as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            return [VerificationError(f"the run can't be made again: {what}")]

    def _compared(self, *, by_index: bool) -> list[VerificationError]:
        """The run is made of the rows of its own files, once these are shown to be the log's, or else
        of the segments.

        Raises:
            VerificationError: the rows of the files aren't the log's, or the log can't be read.
        """
        faults: list[VerificationError] = []
        compare = Comparison(self.layout, self.run.files, faults)
        maker = RunMaker(self.run.first, self.begins, compare)
        if by_index:
            self._add_indexed(maker)
        else:
            for manifest, left in zip(self.manifests, self.left, strict=True):
                leaf = leaf_hash(manifest.to_bytes())
                compaction.add_logged(maker, self.layout, manifest, left, leaf)
        made = maker.finish()
        compare.finish()
        what = f"manifests {self.run.first} to {self.run.end - 1}"
        return faults + list(
            differences(self.layout, what, without_files(self.run), without_files(made))
        )

    def _add_indexed(self, maker: RunMaker) -> None:
        parts = self._parts()
        keys = iter(salt_key for _, salt_key in parts)
        ends = dict(self.begins)
        for manifest, left in zip(self.manifests, self.left, strict=True):
            held = [next(keys) for _ in left.segments]
            leaf = leaf_hash(manifest.to_bytes())
            compaction.add_manifest(maker, self.layout, manifest, left, leaf, held)
            ends |= {one.kind: one.first_seq + one.rows for one in manifest.segments}
        for kind in KINDS:
            for table in self._rows(kind, [one for one in parts if one[0].kind == kind]):
                maker.add_rows(kind, table)
            maker.skip_to(kind, ends[kind])

    def _parts(self) -> list[Part]:
        """Every segment of the run that is left. That the salt key is the right one its root shows."""
        (file,) = self.run.holding(PARTS)
        said = pq.read_table(pa.BufferReader(read_file(self.layout, file)))
        records = [(m.n, record) for m in self.left for record in m.segments]
        expected = [(one.kind, n, one.first_seq, one.rows) for n, one in records]
        columns = (said[name].to_pylist() for name in ("kind", "n", "first_seq", "rows"))
        if list(zip(*columns, strict=True)) != expected:
            raise VerificationError("parts of the run are others")
        keys = said["salt_key"].to_pylist()
        return [(record, key) for (_, record), key in zip(records, keys, strict=True)]

    def _rows(self, kind: str, parts: Sequence[Part]) -> Iterator[pa.Table]:
        """The rows of a kind as far as they are shown to be the log's, file by file.

        Raises:
            VerificationError: they are others, or not all.
        """
        left, hashes = list(reversed(parts)), b""
        seq = known = self.begins[kind]
        rows = KINDS[kind].empty_table()
        for file in self.run.holding(kind):
            if file.first_seq != seq and not rows.num_rows:  # those between have expired
                seq = known = file.first_seq
            table = segments.rows_from_parquet(kind, read_file(self.layout, file))
            segments.check_rows(kind, table, self.layout.origin, seq)
            hashes += _hashes(table, seq, left)
            rows = pa.concat_tables([rows, table]) if rows.num_rows else table
            seq, shown = seq + table.num_rows, known
            while left and (end := left[-1][0].first_seq + left[-1][0].rows) <= seq:
                hashes = _expect_root(left.pop()[0], hashes)
                shown = end
            if shown > known:
                yield rows.slice(0, shown - known)
            rows, known = rows.slice(shown - known), shown
        if left:
            raise VerificationError(f"rows of {kind} aren't all there")


def _expect_root(record: SegmentRecord, hashes: bytes) -> bytes:
    """What is left of the hashes behind those of the segment, which make its root."""
    length = record.rows * merkle.HASH_BYTES
    if merkle.root(hashes[:length]).hex() != record.rows_root:
        raise VerificationError(f"rows of {record.file} are others")
    return hashes[length:]


def _hashes(table: pa.Table, seq: int, left: Sequence[Part]) -> bytes:
    """The leaf hashes of rows from `seq` on; `left`: their segments, the first one last."""
    end, at, parts = seq + table.num_rows, seq, []
    for record, key in reversed(left):
        rows = min(end, record.first_seq + record.rows) - at
        if rows <= 0:
            break
        parts.append((key, rows))
        at += rows
    if at < end:
        raise VerificationError("more rows than the log has")
    return hashes_of_parts(table, parts, seq - left[-1][0].first_seq) if parts else b""
