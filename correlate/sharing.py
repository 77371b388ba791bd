"""Columns whose rows share few values: codes and distinct values -> one dictionary column.

What comes later (hashing, compressing) then works per distinct value. Text and lists alike.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


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
