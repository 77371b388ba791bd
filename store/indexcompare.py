"""Files of an index that are made again from the log, held against those that it has.

What an index says of its files enters, and files as they should be, one after the other; faults leave, each
with the file's name. The bytes of files may differ where another version of a library wrote them; what
they hold may not.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scalple.ingest.errors import VerificationError
from scalple.store.chain import read_bytes
from scalple.store.digestnames import FACTS
from scalple.store.index import NUMBERING_FACTS, Index, IndexFile, Run
from scalple.store.layout import OriginLayout
from scalple.store.manifest import sha256_hex

HINT = "the index is derived: deleting index/ loses nothing, and `compact` makes it again"


def differences(
    layout: OriginLayout, what: str, found: Mapping[str, Any], expected: Mapping[str, Any]
) -> Iterator[VerificationError]:
    """A fault for everything that a part of the head should say and doesn't."""
    for name, value in expected.items():
        if found[name] != value:
            yield VerificationError(
                f"index, {what}: {name} differs",
                place=str(layout.index_head),
                hint=HINT,
                expected=value,
                found=found[name],
            )


def without_files(said: Index | Run) -> dict[str, Any]:
    """All else that a head says."""
    plain: dict[str, Any] = json.loads(said.model_dump_json())
    plain.pop("runs", None)
    for one in (plain, plain.get("numbering") or {}):
        one.pop("files", None)
        one.pop("positions", None)
    return plain


def read_file(layout: OriginLayout, file: IndexFile) -> bytes:
    """The bytes of a file.

    Raises:
        VerificationError: it is missing, or they are others.
    """
    path = layout.index / file.name
    stored = read_bytes(path)
    if sha256_hex(stored) != file.sha256:
        raise VerificationError(
            "SHA-256 differs",
            place=str(path),
            hint=HINT,
            expected=file.sha256,
            found=sha256_hex(stored),
        )
    return stored


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
