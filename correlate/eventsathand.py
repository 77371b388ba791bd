"""The events at hand while logs are followed: few for what comes in order, more for what comes late.

Enters: events (columns of EVIDENCE) as they become known. Leaves: those that statements from a horizon on can
depend on. The horizon follows the newest statement closely, so that deriving evidence costs as much as the
last seconds hold; for whatever turns up behind it, it is set back, up to `FAR`, and nobody can tell the
difference. Derives nothing; what matters from a horizon on is said in `present`.
"""

import datetime as dt
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.evidence import link_slack
from scalple.correlate.present import present
from scalple.correlate.record import EVIDENCE
from scalple.correlate.remembering import FAR
from scalple.correlate.rules import Rules
from scalple.ingest.epoch import moment_of

NEAR = dt.timedelta(seconds=5)
"""By so much what is logged mostly lies behind the newest statement; `FAR` at most."""
SPACING = dt.timedelta(minutes=1)
"""Horizons that are kept to be set back to lie so far apart."""
KEPT = 4_000
"""With more events than that, those that nothing to come can depend on are left out."""
ROUNDS = 10
"""After so many, events that lie far behind the statements are taken for late, not the statements for early."""
MERGED = 10_000
"""Tables of more events are left as they are."""
MOMENT = dt.timedelta(seconds=1)
"""A record's time may be cut to whole seconds."""


@dataclass(frozen=True, slots=True)
class _View:
    """What matters from a horizon on."""

    horizon: dt.datetime | None
    events: pa.Table
    after: int
    """So many events had become known by then."""


@dataclass(slots=True)
class _Raw:
    """Events as they became known, in few tables: a small one takes 30 kB, whatever it holds."""

    begin: int = 0
    """So many came before those that are left."""
    end: int = 0
    """So many ever came."""
    _parts: list[pa.Table] = field(default_factory=list)

    def add(self, events: pa.Table) -> None:
        """Some more."""
        self.end += events.num_rows
        self._parts.append(events.combine_chunks())
        while len(self._parts) > 1 and self._parts[-2].num_rows <= min(
            2 * self._parts[-1].num_rows, MERGED
        ):
            self._parts[-2:] = [pa.concat_tables(self._parts[-2:]).combine_chunks()]

    def since(self, count: int) -> list[pa.Table]:
        """All but the first `count` that ever came."""
        found, at = [], self.begin
        for part in self._parts:
            if at + part.num_rows > count:
                found.append(part.slice(max(0, count - at)))
            at += part.num_rows
        return found

    def drop(self, count: int) -> None:
        """Let go of tables that hold none but the first `count` that ever came."""
        while self._parts and self.begin + self._parts[0].num_rows <= count:
            self.begin += self._parts.pop(0).num_rows


class EventsAtHand:
    """Events, at the horizon in force and at some before it.

    Args:
        events: columns of EVIDENCE.
        horizon: they are complete from then on; None: from the beginning.
        rules: by how much clocks may differ.
        near: how closely the horizon follows.
        kept: so many events are always at hand.
    """

    def __init__(
        self,
        events: pa.Table,
        horizon: dt.datetime | None,
        rules: Rules,
        near: dt.timedelta = NEAR,
        kept: int = KEPT,
    ) -> None:
        self.events = events
        """Those that matter from the horizon in force on."""
        self.horizon = horizon
        self._link_slack = link_slack(rules)
        self._skew = dt.timedelta(milliseconds=rules.clocks.skew_ms)
        self._nearest = self._near = near
        self._near_again: dt.datetime | None = None
        """Up to then the horizon follows less closely, after it was set back."""
        self._reached: dt.datetime | None = None
        """When the last of the records was logged that came last."""
        self._behind = 0
        """So many rounds in turn all events lay far behind the statements."""
        self._kept = self._most = kept
        self._raw = _Raw()
        self._views = [_View(horizon, events, 0)]
        self._view = self._views[0]

    def all(self) -> tuple[pa.Table, dt.datetime | None]:
        """The events at the earliest horizon, and that horizon."""
        first = self._views[0]
        return self._since(first), first.horizon

    def learn(self, fresh: pa.Table, newest: dt.datetime | None) -> None:
        """Events that became known, and when the newest statement was logged that was attributed."""
        if newest is not None and fresh.num_rows:
            times = pc.min_max(fresh.column("ts")).as_py()
            newest = self._recent(newest)
            self._set_back(times["min"], newest - self._skew)
            self._follow(newest - self._skew, times["min"], times["max"])
        self._raw.add(fresh.cast(EVIDENCE))
        self._use(self._view)

    def reach(self, log: pa.Table, newest: dt.datetime | None, since_us: int | None = None) -> bool:
        """Whether the horizon was set back for these records, which are the next to be attributed: evidence is
        to be derived anew then.

        Args:
            log: LOG_SCHEMA.
            newest: when the newest statement was logged that was attributed.
            since_us: they need events from then on (`Correlator.leads_back`); None: from their own time on.
        """
        if not log.num_rows:
            return False
        recent = None if newest is None else self._recent(newest)
        self._reached = log.column("log_time")[-1].as_py()
        if recent is None:
            return False
        first = pc.min(log.column("log_time")).as_py()
        if since_us is not None:
            first = min(first, moment_of(since_us))
        return self._set_back(first - self._skew - MOMENT, recent - self._skew)

    def _recent(self, newest: dt.datetime) -> dt.datetime:
        """Where the log is: a clock that was ahead for a while says nothing about what is to come."""
        return newest if self._reached is None else min(newest, self._reached)

    def _set_back(self, moment: dt.datetime, newest: dt.datetime) -> bool:
        """Set the horizon back, unless it lies before that moment."""
        if self.horizon is None or self.horizon <= moment:
            return False
        before = [one for one in self._views if not _is_after(one.horizon, moment)]
        found = before[-1] if before else self._views[0]
        if found.horizon == self.horizon:
            return False
        self._use(found)
        self._most = self._kept
        # Whoever is late once may be late again.
        self._near = max(self._near, min(FAR, 2 * (newest - moment)))
        self._near_again = newest + max(SPACING, self._near)
        return True

    def _follow(self, newest: dt.datetime, first: dt.datetime, last: dt.datetime) -> None:
        """Leave out what nothing to come can depend on, if it is worth it.

        It is done before the events that come next, the first of which happened at `first`, the last at
        `last`: all that is left out has been in evidence before, which goes on from it.
        """
        again = self._near_again
        # If it is further away than it ever is set, the clock was ahead by then.
        if again is not None and not newest <= again <= newest + FAR:
            self._near, self._most, self._near_again = self._nearest, self._kept, None
        now = self._now(newest, last)
        horizon = min(now - self._near, max(first, now - FAR))
        if self.events.num_rows <= self._most or not _is_after(horizon, self.horizon):
            return
        view = _View(horizon, present(self.events, horizon, self._link_slack), self._raw.end)
        self._views = [one for one in self._views if _is_after(horizon, one.horizon)]
        self._thin(horizon)
        self._views.append(view)
        self._use(view)
        self._most = max(self._kept, 2 * self.events.num_rows)

    def _now(self, newest: dt.datetime, last: dt.datetime) -> dt.datetime:
        """Where the logs are: a record of another age takes no evidence along, and whoever's clock is wrong
        for long stops nothing."""
        self._behind = self._behind + 1 if last < newest - FAR else 0
        return newest if self._behind > ROUNDS else min(newest, last)

    def _thin(self, horizon: dt.datetime) -> None:
        """Let go of views that lie close to others, or of which a later one reaches as far back as is needed."""
        views = self._views
        if len(views) > 1 and not _is_after(views[-1].horizon, views[-2].horizon, SPACING):
            views.pop()
        far = [at for at, one in enumerate(views) if not _is_after(one.horizon, horizon - FAR)]
        del views[: far[-1] if far else 0]
        if views:
            self._raw.drop(views[0].after)

    def _use(self, view: _View) -> None:
        self._view, self.horizon, self.events = view, view.horizon, self._since(view)

    def _since(self, view: _View) -> pa.Table:
        return pa.concat_tables([view.events, *self._raw.since(view.after)])


def _is_after(
    one: dt.datetime | None, other: dt.datetime | None, by: dt.timedelta = dt.timedelta(0)
) -> bool:
    """Whether a horizon lies after another by more than that; None lies before all."""
    if one is None or other is None:
        return one is not None
    return one > other + by
