"""Who could do what at which second: snapshots of a database's privileges over time.

In: snapshots with their times, and when rights can have changed between them. Out: for a database and a
moment the newest snapshot that isn't later, and of which relations its word is stale. Nothing is known
before the first snapshot; of one from before the log was read; and of one that doesn't say that pgAudit
logs every change of roles, privileges and relations.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from scalple.correlate.grants import Entitlements
from scalple.correlate.logbatch import Ints
from scalple.correlate.rightschanges import Changed, RightsChanges
from scalple.correlate.rightsscope import EVERYTHING
from scalple.correlate.snapshot import Snapshot

NO_SNAPSHOT = "no-snapshot"
CHANGES_UNLOGGED = "changes-not-logged"
LOG_BEGINS_LATER = "log-begins-later"
_NEEDED = frozenset({"role", "ddl"})
_CLASSES = _NEEDED | {"read", "write", "function", "misc", "misc_set"}


@dataclass(frozen=True, slots=True)
class DatedRights:
    """A snapshot and its times.

    Attributes:
        snapshot: what it says.
        since_us: from when on it holds, microseconds since 1970.
        taken_us: when it was taken.
    """

    snapshot: Snapshot
    since_us: int
    taken_us: int

    @property
    def clear_us(self) -> int:
        """What had ended before is in it."""
        return min(self.since_us, self.taken_us)


class Rights:
    """What one snapshot says."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.taken_at = snapshot.taken_at.isoformat().replace("+00:00", "Z")
        self.entitled = Entitlements.of(snapshot)
        self.columns = {
            one.name: frozenset(column.name for column in one.columns) for one in snapshot.relations
        }
        self.views = frozenset(
            one.name for one in snapshot.relations if one.kind in ("view", "matview")
        )
        self.parents = {
            one.name: one.parent
            for one in snapshot.relations
            if one.kind == "partition" and one.parent
        }
        self._owned = frozenset(snapshot.owners)
        self._roles = (
            {one.name for one in snapshot.roles}
            | {one.role for one in snapshot.grants}
            | {name for one in snapshot.memberships for name in (one.role, one.member)}
            | set(snapshot.owners.values())
        )

    def tells(self, relation: str) -> bool:
        """Whether it says everything of a relation: its columns, and who owns it."""
        return relation in self.columns and relation in self._owned

    def knows(self, role: str) -> bool:
        """Whether there was such a role."""
        return role in self._roles

    def partitions(self, relation: str) -> frozenset[str]:
        """Of a table, at whatever depth."""
        found = {relation}
        while more := {one for one, parent in self.parents.items() if parent in found} - found:
            found |= more
        return frozenset(found - {relation})


@dataclass(frozen=True, slots=True)
class State:
    """What is known at a moment.

    Attributes:
        number: of the snapshot among all; -1 for none.
        why_unknown: why nothing is known; empty if something is.
        stale: what may have changed since.
    """

    number: int
    why_unknown: str = ""
    stale: frozenset[str] = frozenset()

    def is_stale(self, relation: str) -> bool:
        """Whether that relation's rights may have changed since."""
        name = relation.partition(".")[2]
        return not self.stale.isdisjoint({EVERYTHING, relation, f".{name}"})


class RightsTimeline:
    """All snapshots of an origin.

    Args:
        dated: snapshots; those without any owner say nothing of rights.
        changes: what the log has told; it may grow.
    """

    def __init__(self, dated: Iterable[DatedRights], changes: RightsChanges) -> None:
        telling = [one for one in dated if says_rights(one.snapshot)]
        self._dated = sorted(telling, key=lambda one: one.since_us)
        self.rights = [Rights(one.snapshot) for one in self._dated]
        self._changes = changes
        self._built: dict[str | None, tuple[Ints, list[State]]] = {}
        self._revision = changes.revision

    def __bool__(self) -> bool:
        return bool(self._dated)

    def states(self, database: str | None, times_us: Ints) -> tuple[Ints, list[State]]:
        """(a code per time, what was known then)."""
        if self._revision != self._changes.revision:
            self._built.clear()
            self._revision = self._changes.revision
        if database not in self._built:
            self._built[database] = self._build(database)
        edges, states = self._built[database]
        return np.searchsorted(edges, times_us, side="right"), states

    def _build(self, database: str | None) -> tuple[Ints, list[State]]:
        of = self._known(database)
        steps: list[tuple[int, int, Changed | None]] = [
            (one.since_us, number, None)
            for number, one in enumerate(self._dated)
            if one.snapshot.database == of
        ]
        steps += [
            (one.begin_us, len(self._dated), one)
            for one in self._changes.changes
            if one.database is None or of is None or one.database == of
        ]
        edges, states = [], [State(-1, NO_SNAPSHOT)]
        number, active = -1, list[Changed]()
        for time, at, change in sorted(steps, key=lambda one: one[:2]):
            if change is None:
                number = at
                clear = self._dated[at].clear_us
                active = [one for one in active if one.end_us is None or one.end_us >= clear]
            else:
                active.append(change)
            edges.append(time)
            states.append(self._state(number, active))
        return np.array(edges, np.int64), states

    def _state(self, number: int, active: list[Changed]) -> State:
        if number < 0:
            return State(-1, NO_SNAPSHOT)
        one = self._dated[number]
        if not one.snapshot.audited or not all(map(_is_enough, one.snapshot.audited)):
            return State(number, CHANGES_UNLOGGED)
        begun = self._changes.since_us
        if begun is None or begun > one.clear_us:
            return State(number, LOG_BEGINS_LATER)
        return State(number, "", frozenset(change.scope for change in active))

    def _known(self, database: str | None) -> str | None:
        """A log that doesn't say the database is of the one that there are snapshots of."""
        told = {one.snapshot.database for one in self._dated}
        return next(iter(told)) if database is None and len(told) == 1 else database


def says_rights(snapshot: Snapshot) -> bool:
    """Whether a snapshot says who may do what: without owners, nobody's right is known to be missing."""
    return bool(snapshot.owners)


def _is_enough(setting: str) -> bool:
    """Whether a value of `pgaudit.log` logs every change of rights; read as pgAudit reads it."""
    logged: set[str] = set()
    for word in setting.lower().replace('"', "").split(","):
        name = word.strip()
        said = _CLASSES if name.lstrip("-") == "all" else {name.lstrip("-")}
        logged = logged - said if name.startswith("-") else logged | said
    return logged >= _NEEDED
