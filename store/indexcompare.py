"""Files of an index that are made again from the log, held against those that it has.

What an index says of its files enters, and files as they should be, one after the other; faults leave, each
with the file's name. The bytes of files may differ where another version of a library wrote them; what
they hold may not.
"""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from scalple.ingest.errors import VerificationError
from scalple.store.digestnames import FACTS
from scalple.store.index import NUMBERING_FACTS, IndexFile
from scalple.store.indexfile import HINT, read_file
from scalple.store.layout import OriginLayout
from scalple.store.manifest import sha256_hex


class Comparison:
    """A sink for files that are made again: each must be the next one of its kind."""

    def __init__(
        self, layout: OriginLayout, files: list[IndexFile], faults: list[VerificationError]
    ) -> None:
        self._layout = layout
        self._left = list(files)
        self._faults = faults

    def __call__(self, holds: str, data: bytes, first_seq: int, rows: int) -> None:
        try:
            self._compare(holds, data, first_seq, rows)
        except VerificationError as error:
            self._faults.append(error)

    def _compare(self, holds: str, data: bytes, first_seq: int, rows: int) -> None:
        file = next((one for one in self._left if one.holds == holds), None)
        if file is None:
            raise VerificationError(
                f"index: a file of {holds} is missing",
                place=str(self._layout.index_head),
                hint=HINT,
            )
        self._left.remove(file)
        stored = read_file(self._layout, file)
        is_same = stored == data or _same(holds, stored, data)
        if not is_same or (file.first_seq, file.rows) != (first_seq, rows):
            raise VerificationError(
                f"isn't what the log says of {holds}",
                place=str(self._layout.index / file.name),
                hint=HINT,
                expected=f"{rows} rows from {first_seq}, SHA-256 {sha256_hex(data)}",
                found=f"{file.rows} rows from {file.first_seq}, SHA-256 {file.sha256}",
            )

    def finish(self) -> None:
        """None may be left."""
        for file in self._left:
            place = str(self._layout.index / file.name)
            self._faults.append(
                VerificationError("the log makes no such file", place=place, hint=HINT)
            )


def _same(holds: str, stored: bytes, made: bytes) -> bool:
    """The same rows in the same order; facts by their values."""
    try:
        one, other = (pq.read_table(pa.BufferReader(data)) for data in (stored, made))
    except (pa.ArrowException, OSError):
        return False
    if holds not in (FACTS, NUMBERING_FACTS) or one.num_columns != 2:
        return bool(one.equals(other))
    try:
        facts = [[json.loads(fact) for fact in table[1].to_pylist()] for table in (one, other)]
    except (ValueError, TypeError):
        return False
    return facts[0] == facts[1] and bool(one[0].equals(other[0]))
