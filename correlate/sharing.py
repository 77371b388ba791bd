"""Columns whose rows share few values: codes and distinct values -> one dictionary column.

What comes later (hashing, compressing) then works per distinct value. Text and lists alike.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def shared(codes: npt.NDArray[np.integer[Any]], values: pa.Array) -> pa.DictionaryArray:
    """Row i has `values[codes[i]]`; a negative code, or a NULL value, is NULL.

    Only values that some row has stay in the dictionary.
    """
    used = np.zeros(len(values) + 1, bool)
    used[codes] = True
    used[:-1] &= values.is_valid().to_numpy(zero_copy_only=False)
    used[-1] = False  # where negative codes (-1) look
    slot = np.cumsum(used) - 1
    return pa.DictionaryArray.from_arrays(
        pa.array(slot[codes].astype(np.int32), mask=~used[codes]),
        values.filter(pa.array(used[:-1])),
    )


def joined(columns: list[pa.ChunkedArray]) -> pa.Array:
    """Columns one after another; those with dictionaries (of text or lists) keep them."""
    arrays = [chunk for column in columns for chunk in column.chunks]
    if not all(isinstance(one, pa.DictionaryArray) for one in arrays):
        return pa.concat_arrays(arrays)
    sizes = np.cumsum([0, *(len(one.dictionary) for one in arrays)])
    indices = [
        pc.add(one.indices.cast(pa.int32()), pa.scalar(int(size), pa.int32()))
        for one, size in zip(arrays, sizes, strict=False)
    ]
    return pa.DictionaryArray.from_arrays(
        pa.concat_arrays(indices), pa.concat_arrays([one.dictionary for one in arrays])
    )
