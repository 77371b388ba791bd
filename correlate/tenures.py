"""Who was one of us at which time: periods of people, as an HR export gives them.

Enters: `Person`s, one per period. Leaves: for an actor and a moment the groups and kind of then, and
whether the moment lies outside the actor's periods. Of an actor who isn't listed nothing is known.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from scalple.correlate.logbatch import Ints
from scalple.correlate.policyrules import Person
from scalple.ingest.epoch import microseconds

_EVER, _NEVER = -(2**62), 2**62


@dataclass(frozen=True, slots=True)
class Tenure:
    """What is known of an actor at a moment."""

    groups: tuple[str, ...] | None = None
    kind: str | None = None
    is_listed: bool = False
    is_after: bool = False
    """A period has ended before, and none goes on."""
    is_before: bool = False
    """No period has begun yet."""


_UNLISTED = Tenure()


class Tenures:
    """All periods of all people.

    Args:
        people: one per period. Raises ValueError where one of its times is none.
    """

    def __init__(self, people: tuple[Person, ...]) -> None:
        self._periods: dict[str, list[tuple[int, int, Person]]] = {}
        for one in people:
            span = (_moment(one.valid_from, _EVER), _moment(one.valid_until, _NEVER), one)
            self._periods.setdefault(one.actor, []).append(span)
        edges = {edge for spans in self._periods.values() for span in spans for edge in span[:2]}
        self._edges = np.array(sorted(edges - {_EVER, _NEVER}), np.int64)

    def epochs(self, time_us: Ints) -> Ints:
        """A code per moment: within one code nobody's period begins or ends."""
        return np.searchsorted(self._edges, time_us, side="right")

    def at(self, actor: str, epoch: int) -> Tenure:
        """What is known of that actor throughout an epoch."""
        spans = self._periods.get(actor)
        if spans is None:
            return _UNLISTED
        moment = int(self._edges[epoch - 1]) if epoch else _EVER
        valid = [one for since, until, one in spans if since <= moment < until]
        lines = valid or [one for *_, one in spans]
        told = [one.groups for one in lines if one.groups is not None]
        ended = not valid and any(until <= moment for _, until, _ in spans)
        return Tenure(
            # Whoever isn't here any more is in no group.
            tuple(sorted({group for groups in told for group in groups if valid}))
            if told
            else None,
            next((one.kind for one in lines if one.kind), None),
            is_listed=True,
            is_after=ended,
            is_before=not valid and not ended,
        )


def _moment(text: str | None, missing: int) -> int:
    """Microseconds since 1970."""
    if text is None:
        return missing
    moment = datetime.fromisoformat(text)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return microseconds(aware)
