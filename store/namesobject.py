"""The object `audit-names` of a commit (docs/FORMAT.md): which number each row has, and what it stands for.

Enters: codes of rows, or such an object's bytes. Leaves: bytes, or codes. Most stores have no such
object: whoever asks a question loads this only if there is one.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scalple.correlate import calledby
from scalple.ingest.errors import VerificationError
from scalple.store.bare import bare
from scalple.store.digestnames import CALLED
from scalple.store.question import AS_DECLARED

Codes = npt.NDArray[np.int32]

_LINEAGES = b"scalple.lineages"


def to_bytes(called: pa.ChunkedArray) -> bytes:
    """The object of a commit.

    Args:
        called: per audit row, in order of seq, a JSON text, or NULL where there is nothing to say.
    """
    import pyarrow.compute as pc

    texts = pa.chunked_array(called.chunks, called.type).cast(pa.string()).combine_chunks()
    coded = texts.dictionary_encode()
    codes = pc.add(pc.fill_null(coded.indices, -1), pa.scalar(1, pa.int32()))
    return written(codes, coded.dictionary.to_pylist())


def written(codes: pa.Array, lineages: Sequence[str]) -> bytes:
    """The object that gives each row its number; what the numbers from 1 on stand for, as JSON."""
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    table = pa.table({"names": codes})
    with pq.ParquetWriter(sink, table.schema, compression="zstd", store_schema=False) as writer:
        writer.add_key_value_metadata({_LINEAGES: f"[{','.join(lineages)}]"})
        writer.write_table(table)
    return bytes(sink.getvalue())


def check(
    source: Path | pa.NativeFile, rows: int, *, is_cut: bool = False
) -> tuple[Codes, list[str]]:
    """(per row its number, what the numbers from 1 on stand for), of a commit of so many rows.

    `is_cut`: it may speak of later ones as well, which are left out.

    Raises:
        VerificationError: it says nothing of these rows, or nothing that can be read.
    """
    codes, told = read(source)
    found = _elements(told)
    if is_cut:
        codes = codes[:rows]
    if len(codes) != rows or ((codes < 0) | (codes > len(found))).any():
        raise VerificationError(f"{CALLED} isn't about the rows of its commit")
    return codes, found


def read(source: Path | pa.NativeFile) -> tuple[Codes, str]:
    """(per row its number, a JSON list of what the numbers from 1 on stand for).

    Raises:
        VerificationError: it is no such object.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(source)
        told = (table.schema.metadata or {})[_LINEAGES].decode()
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise VerificationError(f"{CALLED}: it can't be read: {error}") from error
    if table.schema.names != ["names"] or table.schema.types != [pa.int32()]:
        raise VerificationError(f"{CALLED}: columns are {table.schema.names}")
    return np.asarray(table["names"], np.int32), told


def as_declared(rows: int) -> Codes:
    """Of a commit without such an object."""
    return np.full(rows, AS_DECLARED, np.int32)


def renumbered(codes: Codes, numbers: Sequence[int]) -> Codes:
    """Each code as the number that stands in its place."""
    return np.array(numbers, np.int32)[codes]


def runs(codes: Codes) -> Iterator[tuple[int, int, int]]:
    """(first row, the one after the last, number) of rows that follow one another and have one number."""
    begins = np.flatnonzero(np.diff(codes, prepend=np.int32(-1)))
    ends = np.append(begins[1:], len(codes))
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        yield begin, end, int(codes[begin])


def as_texts(codes: pa.ChunkedArray, lineages: Sequence[str]) -> pa.DictionaryArray:
    """What the numbers of rows stand for."""
    numbers = np.asarray(codes, np.int32) - 1
    return pa.DictionaryArray.from_arrays(
        bare(numbers, numbers < 0), pa.array(lineages, pa.string())
    )


def only_used(codes: Codes, told: Sequence[str]) -> tuple[Codes, list[str]]:
    """Without what only rows that were left out have."""
    used = np.unique(codes[codes > 0])
    numbers = np.where(codes > 0, np.searchsorted(used, codes) + 1, 0)
    return numbers.astype(np.int32), [told[number - 1] for number in used.tolist()]


def _elements(told: str) -> list[str]:
    """The elements of a JSON list, each in one spelling."""
    try:
        found = [
            json.dumps(one, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            for one in json.loads(told)
        ]
        for text in found:
            calledby.from_text(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"{CALLED}: what it stands for can't be read") from error
    return found
