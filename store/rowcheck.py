"""Are the rows of segments what their records say?

A record and the bytes of its segment enter, or the records of many small commits that follow one another;
rows leave, or an error. Opening a Parquet file of some rows, encoding and hashing them costs a hundred times
what a row does: for many together that is paid once per kind. Then an error doesn't say which one is
wrong: who gets it looks at each by itself (`commitcheck`).
"""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from scalple.ingest.errors import VerificationError
from scalple.store import merkle, segments
from scalple.store.chain import read_named
from scalple.store.layout import OriginLayout
from scalple.store.manifest import Manifest, SegmentRecord, sha256_hex
from scalple.store.rowtree import hashes_of_parts, row_hashes

ROWS_MAX = 1 << 15
"""So many rows are read at once, as many as are encoded at once."""
SMALL_ROWS = 1 << 13
"""A commit of more rows is looked at by itself."""


def groups(manifests: Sequence[Manifest]) -> Iterator[int]:
    """How many commits go together, and then how many of those that follow."""
    count = together = 0
    for manifest in manifests:
        rows = sum(record.rows for record in manifest.segments)
        if count and (rows > SMALL_ROWS or together + rows > ROWS_MAX):
            yield count
            count = together = 0
        count += 1
        together += rows if rows <= SMALL_ROWS else ROWS_MAX
    if count:
        yield count


def rows_of(layout: OriginLayout, record: SegmentRecord, data: bytes) -> pa.Table:
    """The rows of one segment.

    Raises:
        VerificationError: it isn't what its record says.
        ArrowException, ValueError, KeyError, TypeError, IndexError: likewise.
    """
    segment = segments.from_parquet(data)
    segments.check_rows(segment.kind, segment.table, layout.origin, record.first_seq)
    if (segment.kind, segment.table.num_rows) != (record.kind, record.rows):
        raise VerificationError(
            "rows differ from their record",
            expected=f"{record.rows} rows of {record.kind}",
            found=f"{segment.table.num_rows} of {segment.kind}",
        )
    root = merkle.root(row_hashes(segment.table, segment.salt_key)).hex()
    if root != record.rows_root:
        raise VerificationError("row root differs", expected=record.rows_root, found=root)
    return segment.table


def rows_of_many(layout: OriginLayout, records: Sequence[SegmentRecord]) -> Mapping[str, pa.Table]:
    """The rows of segments that follow one another, by kind.

    Raises:
        VerificationError: one of them isn't what its record says.
        ArrowException, ValueError, KeyError, TypeError, IndexError: likewise.
    """
    kinds: dict[str, list[SegmentRecord]] = {}
    for record in records:
        kinds.setdefault(record.kind, []).append(record)
    return {kind: _rows(layout, kind, some) for kind, some in kinds.items()}


def _rows(layout: OriginLayout, kind: str, records: Sequence[SegmentRecord]) -> pa.Table:
    files = [_bytes(layout, record) for record in records]
    table, parts = segments.joined_from_parquet(kind, files)
    segments.check_rows(kind, table, layout.origin, seq := records[0].first_seq)
    hashes, at = hashes_of_parts(table, parts), 0
    for record, (_, rows) in zip(records, parts, strict=True):
        end = at + rows * merkle.HASH_BYTES
        root = merkle.root(hashes[at:end]).hex()
        if (record.first_seq, record.rows, record.rows_root) != (seq, rows, root):
            raise VerificationError(f"rows of {record.file} differ from their record")
        seq, at = seq + rows, end
    return table


def _bytes(layout: OriginLayout, record: SegmentRecord) -> bytes:
    data = read_named(layout, layout.segments / record.file, record.sha256)
    if (len(data), sha256_hex(data)) != (record.bytes, record.sha256):
        raise VerificationError(f"bytes of {record.file} differ from their record")
    return data
