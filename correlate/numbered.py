"""Numbers of things that keep theirs for as long as they are remembered.

Enters: things that can be told apart. Leaves: a number for each. None is ever given twice, so what was forgotten
and is still written somewhere stands for nobody.
"""

from collections.abc import Container, Hashable, ItemsView
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Numbered(Generic[T]):
    """Things and their numbers: 0, 1, 2 and so on, as they come."""

    def __init__(self) -> None:
        self._number_of: dict[T, int] = {}
        self._next = 0

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._number_of)

    def __contains__(self, one: T) -> bool:
        """Whether it is remembered."""
        return one in self._number_of

    def of(self, one: T) -> int:
        """The number of one; a new one if it isn't remembered."""
        number = self._number_of.get(one)
        if number is None:
            number = self._number_of[one] = self._next
            self._next += 1
        return number

    def items(self) -> ItemsView[T, int]:
        """Whatever is remembered, with its number."""
        return self._number_of.items()

    def keep(self, numbers: Container[int]) -> None:
        """Forget all but these."""
        self._number_of = {one: n for one, n in self._number_of.items() if n in numbers}
