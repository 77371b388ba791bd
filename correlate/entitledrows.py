"""Rows -> whether a right was missing, once per distinct actor, statement and state of the rights.

Enters: rows with codes of who ran them and of what they touched, the rules that ask for rights. Leaves: per
row the judgement of a rule. Which rights were there says `rightstimeline`, what follows `entitled`.
"""

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.codes import coded_texts, combined
from scalple.correlate.entitled import Judge, Judged, Touch, touched_by
from scalple.correlate.logbatch import Bools, Ints, numbers, where_true
from scalple.correlate.policyaccess import Access
from scalple.correlate.policyactors import Someone
from scalple.correlate.policyrules import Policy
from scalple.correlate.rightstimeline import RightsTimeline, State

OF_STATEMENT: Final = {
    "command": pa.string(),
    "object_type": pa.string(),
    "object_name": pa.string(),
    "is_within": pa.bool_(),
    "is_mixed": pa.bool_(),
}
"""Columns that are looked at for rights alone; where they are missing, little can be said."""
MIXED = r"(?i);\s*\S|\b(?:insert|update|delete|merge|truncate|copy)\b"
"""A text of several statements, or one that may write; RE2."""
COPYING = ("CREATE TABLE AS", "SELECT INTO", "CREATE MATERIALIZED VIEW")
"""Commands whose own record comes behind that of the query that they run."""
_REMEMBERED = 1 << 16


@dataclass(slots=True)
class Judgements:
    """What one rule says of rows.

    Attributes:
        place: per row the number of its judgement; -1 where it wasn't asked for.
        distinct: the judgements.
    """

    place: Ints
    distinct: list[Judged]


@dataclass(slots=True)
class Statements:
    """Distinct statements under distinct states of the rights, and which of them each row is."""

    who: Ints
    what: Ints
    touches: list[Touch] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    people: list[Someone] = field(default_factory=list)
    state_of: Ints = field(default_factory=lambda: np.zeros(0, np.int64))


class EntitledRows:
    """Judges rows.

    Args:
        judge: by which rights.
        timeline: which rights there were when.
    """

    def __init__(self, judge: Judge, timeline: RightsTimeline) -> None:
        self._judge = judge
        self._timeline = timeline
        self._remembered: dict[tuple[object, ...], Judged] = {}

    def statements(
        self,
        rows: pa.Table,
        people: tuple[list[Someone], Ints],
        accesses: tuple[list[Access], Ints],
    ) -> Statements:
        """The rows' distinct statements.

        Args:
            rows: log_time, database, and the columns OF_STATEMENT.
            people: who ran them, and a code per row.
            accesses: what they touched, and a code per row.
        """
        texts = [coded_texts(rows.column(name)) for name in list(OF_STATEMENT)[:3]]
        within = numbers(rows.column("is_within").cast(pa.int64()), -1)
        mixed = ~where_true(pc.equal(rows.column("is_mixed"), False))
        codes = [accesses[1], *(codes for codes, _ in texts), within, mixed.astype(np.int64)]
        distinct, what = combined(codes)
        touches = [
            Touch(
                accesses[0][access],
                *_said(said, texts),
                None if is_within < 0 else bool(is_within),
                bool(is_mixed),
            )
            for access, *said, is_within, is_mixed in distinct
        ]
        states, state_of = self._states(rows)
        return Statements(people[1], what, touches, states, people[0], state_of)

    def _states(self, rows: pa.Table) -> tuple[list[State], Ints]:
        times = numbers(rows.column("log_time").cast(pa.int64()), 0)
        database, names = coded_texts(rows.column("database"))
        found: list[State] = []
        state_of = np.zeros(rows.num_rows, np.int64)
        for code in np.unique(database).tolist():
            at = np.flatnonzero(database == code)
            place, states = self._timeline.states(names[code] if code >= 0 else None, times[at])
            used, mine = np.unique(place, return_inverse=True)
            state_of[at] = len(found) + mine
            found += [states[one] for one in used.tolist()]
        return found, state_of

    def judged(self, policy: Policy, those: Statements, wanted: Bools) -> Judgements:
        """What a rule says of the rows that are `wanted`."""
        at = np.flatnonzero(wanted)
        place = np.full(len(wanted), -1)
        if not len(at):
            return Judgements(place, [])
        distinct, mine = combined([those.who[at], those.what[at], those.state_of[at]])
        place[at] = mine
        return Judgements(
            place,
            [
                self._one(policy, those.people[who], those.touches[what], those.states[state])
                for who, what, state in distinct
            ],
        )

    def _one(self, policy: Policy, someone: Someone, touch: Touch, state: State) -> Judged:
        # Of what has changed since, only what the statement touched matters.
        stale = frozenset(one for one in touched_by(touch) if state.is_stale(one))
        state = replace(state, stale=stale)
        key = (policy.name, someone, touch, state)
        if key not in self._remembered:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = self._judge.judged(policy, someone, touch, state)
        return self._remembered[key]


def _said(
    codes: list[int], texts: list[tuple[Ints, list[str | None]]]
) -> tuple[str | None, str | None, str | None]:
    command, kind, name = (
        values[code] if code >= 0 else None for code, (_, values) in zip(codes, texts, strict=True)
    )
    return command, kind, name
