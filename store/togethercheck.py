"""The segments of many small commits read at once: are all of them what their records say?

Records that follow one another enter; their audit rows leave, or an error. Opening a Parquet file of some
rows, encoding and hashing them costs a hundred times what a row does: here that is paid once per kind for
all of them. It doesn't say which one is wrong: who gets an error looks at each by itself (`commitcheck`).
"""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from scalple.ingest.errors import VerificationError
from scalple.store import merkle, segments
from scalple.store.chain import read_named
from scalple.store.layout import OriginLayout
from scalple.store.manifest import Manifest, SegmentRecord, sha256_hex
from scalple.store.rowtree import hashes_of_parts

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


def check_rows(layout: OriginLayout, records: Sequence[SegmentRecord]) -> Mapping[str, pa.Table]:
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
    expect_rows(kind, table, parts, layout.origin, records)
    return table


def expect_rows(
    kind: str,
    table: pa.Table,
    parts: Sequence[tuple[bytes, int]],
    origin: str,
    records: Sequence[SegmentRecord],
) -> None:
    """Returns when these are the rows of the records, whose roots they make with these salt keys.

    Raises:
        VerificationError: they aren't.
    """
    seq = records[0].first_seq
    segments.check_rows(kind, table, origin, seq)
    hashes, at = hashes_of_parts(table, parts), 0
    for record, (_, rows) in zip(records, parts, strict=True):
        end = at + rows * merkle.HASH_BYTES
        root = merkle.root(hashes[at:end]).hex()
        if (record.kind, record.first_seq, record.rows, record.rows_root) != (
            kind,
            seq,
            rows,
            root,
        ):
            raise VerificationError(f"rows of {record.file} differ from their record")
        seq, at = seq + rows, end


def _bytes(layout: OriginLayout, record: SegmentRecord) -> bytes:
    data = read_named(layout, layout.segments / record.file, record.sha256)
    if (len(data), sha256_hex(data)) != (record.bytes, record.sha256):
        raise VerificationError(f"bytes of {record.file} differ from their record")
    return data
