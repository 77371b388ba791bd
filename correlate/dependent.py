"""What was worked out of a text under a schema, kept until the schema changes in what it rests on.

In: a text, a catalog, and who works it out. Out: what was worked out, anew only if a relation that
was asked for has changed since. Bounded: the texts used least recently are forgotten.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from scalple.correlate.catalog import Catalog

_T = TypeVar("_T")
_AT_ONCE = 4
"""So many states of the schema are remembered for one text."""


@dataclass(slots=True)
class _Kept(Generic[_T]):
    value: _T
    epoch: int
    rests_on: dict[str, int]
    serial: int
    """Of the catalog under which it was found to hold last."""

    def holds(self, catalog: Catalog) -> bool:
        stamps = catalog.stamps
        return self.epoch == catalog.epoch and all(
            stamps.get(name, 0) == stamp for name, stamp in self.rests_on.items()
        )


class Dependent(Generic[_T]):
    """Remembers one kind of value."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, list[_Kept[_T]]] = OrderedDict()

    def get(
        self, text: str, catalog: Catalog, make: Callable[[str, Catalog], _T], *, keep: bool = True
    ) -> _T:
        """What `make` gives for these two."""
        known = self._kept.get(text)
        if known is not None:
            self._kept.move_to_end(text)
            if known[0].serial == catalog.serial:
                return known[0].value
            for at, one in enumerate(known):
                if one.holds(catalog):
                    one.serial = catalog.serial
                    known.insert(0, known.pop(at))
                    return one.value
        before, catalog.asked = catalog.asked, set()
        try:
            value = make(text, catalog)
            rests_on = {name: catalog.stamps.get(name, 0) for name in catalog.asked}
        finally:
            if before is not None:
                before |= catalog.asked
            catalog.asked = before
        if keep:
            made = _Kept(value, catalog.epoch, rests_on, catalog.serial)
            return self._keep(text, made, known or [])
        return value

    def _keep(self, text: str, made: _Kept[_T], known: list[_Kept[_T]]) -> _T:
        for one in known:
            if one.value == made.value:
                made.value = one.value  # the same object, so that nothing is done twice for both
        self._kept[text] = [made, *known][:_AT_ONCE]
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return made.value
