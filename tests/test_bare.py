"""An Arrow array over a numpy array's memory is the one that pyarrow makes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from scalple.store.bare import bare

KINDS = st.sampled_from([np.int32, np.int64, np.uint64])
ARRAYS = KINDS.flatmap(lambda kind: of_numpy.arrays(kind, st.integers(0, 40)))


@given(ARRAYS, st.integers(1, 3), st.data())
def test_a_bare_array_is_what_pyarrow_makes(
    values: npt.NDArray[Any], step: int, data: st.DataObject
) -> None:
    given_ = values[::step]
    missing = data.draw(st.none() | of_numpy.arrays(np.bool_, len(given_)))
    made = bare(given_, missing)
    made.validate(full=True)
    assert made.equals(pa.array(given_, mask=missing))
