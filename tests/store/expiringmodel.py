"""A plain model of a log from which rows expire: lists of rows, and the rules said once more.

Knows nothing of files. `tests/store/test_expiry.py` holds a store against it.
"""

from dataclasses import dataclass, field
from datetime import datetime

OWN_TIME = ("audit", "evidence", "denied", "gaps")


@dataclass
class Row:
    """One row; `time` is None where it has none of its own."""

    kind: str
    seq: int
    commit: int
    time: datetime | None = None
    cites: frozenset[int] = frozenset()
    """Evidence."""
    revises: int | None = None


@dataclass
class HoldOf:
    """One hold."""

    since: datetime | None
    until: datetime | None
    in_force: bool = True

    def covers(self, rows: list[Row], committed: datetime) -> bool:
        times = [row.time or committed for row in rows]
        after = self.since is None or max(times) >= self.since
        return after and (self.until is None or min(times) < self.until)


@dataclass
class Model:
    """What is in the log."""

    rows: list[Row] = field(default_factory=list)
    gone: list[Row] = field(default_factory=list)
    committed: list[datetime] = field(default_factory=list)
    holds: dict[str, HoldOf] = field(default_factory=dict)

    def next_seq(self, kind: str) -> int:
        return sum(row.kind == kind for row in (*self.rows, *self.gone))

    def seqs(self, kind: str) -> list[int]:
        return sorted(row.seq for row in self.rows if row.kind == kind)

    def _groups(self, kind: str) -> dict[int, list[Row]]:
        found: dict[int, list[Row]] = {}
        for row in self.rows:
            if row.kind == kind:
                found.setdefault(row.commit, []).append(row)
        return found

    def _too_old(self, rows: list[Row], commit: int, before: datetime) -> bool:
        committed = self.committed[commit]
        held = any(one.in_force and one.covers(rows, committed) for one in self.holds.values())
        return not held and all((row.time or committed) < before for row in rows)

    def expire(self, before: datetime) -> None:
        """Everything goes that is too old, and isn't needed by what stays."""
        going: set[int] = set()
        for kind in OWN_TIME:
            for commit, rows in self._groups(kind).items():
                if self._too_old(rows, commit, before):
                    going.update(map(id, rows))
        audit = {row.commit for row in (*self.rows, *self.gone) if row.kind == "audit"}
        staying = {r.commit for r in self.rows if r.kind == "audit" and id(r) not in going}
        for commit, rows in self._groups("unparsed").items():
            if commit not in staying and (commit in audit or self._too_old(rows, commit, before)):
                going.update(map(id, rows))
        there = {r.seq for r in self.rows if r.kind == "audit" and id(r) not in going}
        for rows in self._groups("revisions").values():
            if not any(row.revises in there for row in rows):
                going.update(map(id, rows))
        cited = {at for row in self.rows if id(row) not in going for at in row.cites}
        for rows in self._groups("evidence").values():
            if any(row.seq in cited for row in rows):
                going.difference_update(map(id, rows))
        self.gone += [row for row in self.rows if id(row) in going]
        self.rows = [row for row in self.rows if id(row) not in going]
