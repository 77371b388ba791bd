"""Columns as codes of their distinct values, so that Python runs once per distinct value.

Enters: text columns and columns of lists of texts, dictionary-encoded or not. Leaves: a code per row and
the values. Decides nothing.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.logbatch import Ints, codes_of, dictionary_encoded
from scalple.correlate.record import TEXTS

_SEPARATOR = "\x1f"
_LARGE = 1 << 31
"""Codes above this are numbered first, so that no product of two overflows."""
_SLOTS_A_ROW = 8
"""So many slots per row may be looked through; with more, sorting is quicker."""


def coded_texts(column: pa.ChunkedArray) -> tuple[Ints, list[str | None]]:
    """Codes of a text column, -1 for NULL, and the texts."""
    encoded = dictionary_encoded(column)
    values = encoded.dictionary.to_pylist()
    codes = codes_of(encoded)
    null = [at for at, one in enumerate(values) if one is None]
    return (np.where(np.isin(codes, null), -1, codes) if null else codes), values


def coded_lists(column: pa.ChunkedArray) -> tuple[Ints, list[tuple[str, ...]]]:
    """Codes of a column of lists of texts, -1 for NULL, and the lists."""
    if pa.types.is_dictionary(column.type):
        encoded = dictionary_encoded(column)
        lists = [None if one is None else tuple(one) for one in encoded.dictionary.to_pylist()]
        absent = np.array([one is None for one in lists] + [False], bool)
        codes = codes_of(encoded)
        return np.where(absent[codes], -1, codes), [one or () for one in lists]
    # An empty list and a list of one empty text are one here; no column has the latter.
    codes, texts = coded_texts(pc.binary_join(column.cast(TEXTS), _SEPARATOR))
    return codes, [tuple(one.split(_SEPARATOR)) if one else () for one in texts]


def combined(columns: list[Ints]) -> tuple[list[tuple[int, ...]], Ints]:
    """The distinct combinations of codes (from -1 on), and which of them each row has."""
    key = np.zeros(len(columns[0]), np.int64)
    distinct = np.zeros((1, 0), np.int64)
    for column in columns:
        codes, values = column, None
        if int(codes.max(initial=-1)) > _LARGE:
            values, codes = np.unique(column, return_inverse=True)
        size = int(codes.max(initial=-1)) + 2
        found, key = compact(key * size + codes + 1, len(distinct) * size)
        before, mine = np.divmod(found, size)
        mine = mine - 1 if values is None else values[mine - 1]
        distinct = np.hstack([distinct[before], mine[:, None]])
    return [tuple(one) for one in distinct.tolist()], key


def compact(key: Ints, size: int) -> tuple[Ints, Ints]:
    """The distinct keys, which are all below `size`, in order; and the place of each row's."""
    if size > _SLOTS_A_ROW * len(key):
        return np.unique(key, return_inverse=True)
    present = np.zeros(size, bool)
    present[key] = True
    return np.flatnonzero(present), (np.cumsum(present) - 1)[key]
