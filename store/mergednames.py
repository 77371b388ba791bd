"""Under which names the rows of many commits were written, as one object.

The objects `audit-names` of commits enter in order (see `namesobject`), or such as were made here
before; one leaves that says the same of all their rows. Which names come first depends on the rows
alone, however often they were merged on the way. Opens no file.
"""

import numpy as np
import pyarrow as pa

from scalple.store import namesobject


class NamesPile:
    """The numbers of rows so far, and what they stand for."""

    def __init__(self) -> None:
        self._codes: list[namesobject.Codes] = []
        self._known: dict[str, int] = {}

    def add(self, rows: int, said: bytes | None) -> None:
        """So many more rows, and the object that speaks of them, if there is one.

        Raises:
            VerificationError: it isn't about so many rows, or can't be read.
        """
        if said is None:
            self._codes.append(np.zeros(rows, np.int32))
            return
        codes, told = namesobject.check(pa.BufferReader(said), rows)
        numbers = [0, *(self._known.setdefault(text, len(self._known) + 1) for text in told)]
        self._codes.append(np.array(numbers, np.int32)[codes])

    def to_bytes(self) -> bytes | None:
        """The object; None when all rows were written under the names that things have."""
        if not self._known:
            return None
        codes = np.concatenate(self._codes)
        texts = pa.array(list(self._known), pa.string())
        return namesobject.written(pa.array(codes, pa.int32()), texts.to_pylist())
