"""Which actors were alive on a pool at a moment: the most that can be said without a label.

Enters: clients with their pools and intervals, and moments. Leaves: for each moment the sorted
actors alive, and whether a client was alive of whom nobody knows the actor. The set is constant
between two events, so it is computed once per such span that is asked for.
"""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scalple.correlate.evidence import Evidence

CANDIDATES_MAX = 64
"""Above this a list of people says nothing; the row says how many there were."""


@dataclass(frozen=True, slots=True)
class Alive:
    """Who was alive on a pool during one span."""

    actors: tuple[str, ...]
    unidentified: int
    """Clients alive whose actor isn't known."""
    distinct: int
    """How many distinct actors there were, also when the list was too long to keep."""


@dataclass(slots=True)
class Candidates:
    """Answers for all pools; keeps what it computed."""

    evidence: Evidence
    _bounds: dict[int, list[int]] = field(default_factory=dict)
    _known: dict[tuple[int, int], Alive] = field(default_factory=dict)

    def at(
        self, pool: int, times_us: npt.NDArray[np.int64], ends_us: npt.NDArray[np.int64]
    ) -> list[Alive]:
        """Who was alive on `pool` at some time from each of `times_us` to its end."""
        bounds = self._bounds.get(pool)
        if bounds is None:
            bounds = self._bounds[pool] = self._boundaries(pool)
        spans = [
            range(bisect_right(bounds, begin), bisect_right(bounds, end) + 1)
            for begin, end in zip(times_us.tolist(), ends_us.tolist(), strict=True)
        ]
        missing = {one for span in spans for one in span if (pool, one) not in self._known}
        if missing:
            self._sweep(pool, bounds, missing)
        return [_together([self._known[(pool, one)] for one in span]) for span in spans]

    def _members(self, pool: int) -> npt.NDArray[np.int64]:
        return np.flatnonzero(self.evidence.client_pool == pool)

    def _boundaries(self, pool: int) -> list[int]:
        members = self._members(pool)
        begins = self.evidence.client_since_us[members]
        ends = self.evidence.client_until_us[members] + 1
        return [int(one) for one in np.unique(np.concatenate([begins, ends]))]

    def _sweep(self, pool: int, bounds: list[int], wanted: set[int]) -> None:
        """Walk through the pool's connects and disconnects, noting the spans asked for."""
        evidence = self.evidence
        moves: dict[int, list[tuple[str | None, int]]] = {}
        for client in self._members(pool).tolist():
            begin = int(evidence.client_since_us[client])
            end = int(evidence.client_until_us[client]) + 1
            if end > begin:
                actor = evidence.client_actor[client]
                moves.setdefault(begin, []).append((actor, 1))
                moves.setdefault(end, []).append((actor, -1))
        alive: Counter[str | None] = Counter()
        if 0 in wanted:
            self._known[(pool, 0)] = Alive((), 0, 0)
        for span, moment in enumerate(bounds, start=1):
            for actor, step in moves.get(moment, ()):
                alive[actor] += step
                if not alive[actor]:
                    del alive[actor]
            if span in wanted:
                self._known[(pool, span)] = _summary(alive)


def _together(spans: list[Alive]) -> Alive:
    """Who was alive in any of them."""
    if len(spans) == 1:
        return spans[0]
    actors = sorted({actor for one in spans for actor in one.actors})
    too_many = any(one.distinct > len(one.actors) for one in spans)
    too_many |= len(actors) > CANDIDATES_MAX
    distinct = max(len(actors), *(one.distinct for one in spans))
    unidentified = max(one.unidentified for one in spans)
    return Alive(() if too_many else tuple(actors), unidentified, distinct)


def _summary(alive: Counter[str | None]) -> Alive:
    actors = [actor for actor in alive if actor is not None]
    kept = tuple(sorted(actors)) if len(actors) <= CANDIDATES_MAX else ()
    return Alive(kept, alive.get(None, 0), len(actors))
