"""The segment that holds a row, as it was committed: what a proof of the row is made of.

The place of a segment enters, its rows with their salts leave, from its own file, or from the
merged files of an index where that file is gone: the leaves and the root are the same.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scalple.ingest.errors import VerificationError
from scalple.store import merkle, segments
from scalple.store.chain import placed, read_bytes, read_named
from scalple.store.index import Run
from scalple.store.indexed import Indexed
from scalple.store.layout import OriginLayout
from scalple.store.manifest import SegmentRecord, sha256_hex
from scalple.store.rowtree import row_hashes


@dataclass(frozen=True, slots=True)
class Part:
    """One segment of the log.

    Attributes:
        layout: of its origin.
        n: the manifest that commits it.
        record: what that says of it.
        merged: where its rows are as well, with the salt key.
    """

    layout: OriginLayout
    n: int
    record: SegmentRecord
    merged: tuple[Indexed, Run, bytes] | None = None

    def read(self) -> tuple[segments.Segment, merkle.Tree]:
        """Its rows, and the tree over them.

        Raises:
            VerificationError: it isn't what its manifest says.
        """
        path = self.layout.segments / self.record.file
        if self.merged is not None and not path.exists():
            place, segment = str(self.layout.index), self._from_merged(*self.merged)
        else:
            place, data = str(path), read_named(self.layout, path, self.record.sha256)
            with placed(path):
                if sha256_hex(data) != self.record.sha256:
                    raise VerificationError(f"SHA-256 differs: expected {self.record.sha256}")
                segment = segments.from_parquet(data)
        tree = merkle.Tree(row_hashes(segment.table, segment.salt_key))
        if tree.root(tree.size).hex() != self.record.rows_root:
            raise VerificationError("rows differ from their root", place=place)
        return segment, tree

    def _from_merged(self, indexed: Indexed, run: Run, salt_key: bytes) -> segments.Segment:
        kind, first = self.record.kind, self.record.first_seq
        end = first + self.record.rows
        found = []
        for file in run.holding(kind):
            if file.first_seq < end and first < file.first_seq + file.rows:
                table = segments.rows_from_parquet(kind, read_bytes(indexed.path(file)))
                seq = table["seq"]
                mine = pc.and_(pc.greater_equal(seq, first), pc.less(seq, end))
                found.append(table.filter(mine))
        return segments.Segment(kind, pa.concat_tables(found), salt_key)


def indexed_part(indexed: Indexed, run: Run, kind: str, seq: int) -> Part | None:
    """The segment that holds a row of a run, unless it has expired."""
    parts = indexed.parts(run)
    end = pc.add(parts["first_seq"], parts["rows"].cast(pa.uint64()))
    holding = pc.and_(pc.less_equal(parts["first_seq"], seq), pc.greater(end, seq))
    found = parts.filter(pc.and_(pc.equal(parts["kind"], kind), holding)).to_pylist()
    if not found:
        return None
    part = found[0]
    manifest = indexed.manifest(part["n"])
    record = next(
        one for one in manifest.segments if one.kind == kind and one.first_seq == part["first_seq"]
    )
    return Part(indexed.layout, manifest.n, record, (indexed, run, part["salt_key"]))
