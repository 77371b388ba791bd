"""What belongs to numbers that are given one after the other and forgotten again: a value for each that is left.

Enters: numbers with their values. Leaves: the values of others' numbers, a default where there is none. Memory goes
with how many are left, not with how many were ever given. Gives no numbers.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class PerNumber:
    """A value per number.

    Args:
        numbers: any numbers; of several values the last one counts.
        values: as many.
        default: the value of a number that isn't among them.
    """

    def __init__(self, numbers: Ints, values: Ints, default: int = -1) -> None:
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        last = np.ones(len(ordered), bool)
        last[:-1] = ordered[1:] != ordered[:-1]
        self._numbers, self._values = ordered[last], values[order][last]
        self._default = default

    def of(self, numbers: Ints) -> Ints:
        """The value of each."""
        if not len(self._numbers):
            return np.full(np.shape(numbers), self._default, np.int64)
        at = np.minimum(np.searchsorted(self._numbers, numbers), len(self._numbers) - 1)
        found = self._numbers[at] == numbers
        return np.where(found, self._values[at], self._default).astype(np.int64, copy=False)
