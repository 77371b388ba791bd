"""From when on statements are to be attributed anew, because evidence came later than they did.

Enters: new events, and when the newest statement was logged. Leaves: a moment, kept as an object of each
commit, so that a crash forgets none. Attributes nothing.
"""

import datetime as dt
import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from scalple.cli.unheard import Unheard
from scalple.ingest.epoch import microseconds, moment_of
from scalple.ingest.errors import VerificationError
from scalple.ingest.records import TIME

LATE = "late"
"""Object of a commit: since when statements wait for being attributed anew; NULL if none do."""
GRACE = dt.timedelta(seconds=2)
"""So late may be written, on one host, what names nobody: an end, a heartbeat."""
BEFORE = dt.timedelta(hours=1)
"""Further back no writer's event is looked for: one that is silent for so long says nothing any more."""
REACH = dt.timedelta(minutes=1)
"""So far back statements are attributed anew for a line that tells, when it is over, who was served."""
PAIRING = pa.array(["link", "served"])
"""Events that may follow what they tell of, though they are written in time."""
NAMING = pa.array(["open", "identify", "drift", "client-login", "server-connect", "link", "served"])
"""Events that say who somebody is, or that he isn't."""


class Lateness:
    """What waits for being attributed anew.

    Args:
        state: the newest object LATE of the store.
        skew: by so much two clocks may differ.

    Raises:
        VerificationError: it isn't one.
    """

    def __init__(self, state: bytes | None = None, skew: dt.timedelta = dt.timedelta(0)) -> None:
        self._skew = skew
        self.is_urgent = state is not None
        """Some of what waits did come late, or was left by an earlier process."""
        self.waiting: dt.datetime | None = None
        """From then on; noted since the last revision began."""
        self.revising: dt.datetime | None = None
        """From then on statements are being revised."""
        self.newest: dt.datetime | None = None
        """When the newest statement was logged."""
        self.unheard = Unheard() if state is None else _unheard(state)
        """Statements that the pooler's log had not come to yet."""
        self.events = 0
        """So many came late, since they were last taken."""
        if state is not None:
            self.waiting = _since(state)

    def note(
        self, events: pa.Table, newest: dt.datetime | None, known: Callable[[], pa.Table]
    ) -> None:
        """Look at new events.

        Args:
            events: columns of EVIDENCE.
            newest: when the newest statement was logged that was attributed without them.
            known: gives the events at hand from before.
        """
        if newest is None or not events.num_rows:
            return
        self.newest = newest
        kinds, until = events.column("event").cast(pa.string()), newest + self._skew
        naming = pc.is_in(kinds, NAMING)
        limits = pc.if_else(naming, pa.scalar(until, TIME), pa.scalar(until - GRACE, TIME))
        late = events.filter(pc.less_equal(events.column("ts"), limits))
        if late.num_rows:
            self.events += late.num_rows
            self.is_urgent = True
            self.wait(_from(late, known()) - self._skew)
        pairing = events.column("ts").filter(pc.is_in(kinds, PAIRING))
        heard = self.unheard.heard(events)
        if heard is not None:
            self.is_urgent = True
            self.wait(moment_of(heard) - self._skew)
        first: dt.datetime | None = pc.min(pairing).as_py()
        if first is not None and first - REACH <= newest:
            self.wait(first - REACH)

    def wait(self, since: dt.datetime) -> None:
        """From then on statements are to be attributed anew."""
        self.waiting = since if self.waiting is None else min(since, self.waiting)

    def begin(self, most: dt.timedelta) -> tuple[dt.datetime, dt.datetime]:
        """Since when, now that it is done, and since when it should be: nothing that is older than the
        newest statement by more than `most`. What is noted from now on waits for the next time."""
        assert self.waiting is not None
        wanted = self.revising = self.waiting
        self.waiting, self.is_urgent = None, False
        since = wanted if self.newest is None else max(wanted, self.newest - most)
        return since, wanted

    def end(self, *, is_done: bool) -> None:
        """It was done, or has to be tried again."""
        again, self.revising = self.revising, None
        if not is_done and again is not None:
            self.is_urgent = True
            self.wait(again)

    def state(self) -> bytes:
        """What to keep with a commit."""
        moments = [one for one in (self.waiting, self.revising) if one is not None]
        since = microseconds(min(moments)) if moments else None
        unheard = self.unheard.plain()
        said = {"v": 1, "since_us": since} | ({"unheard": unheard} if unheard else {})
        return json.dumps(said).encode()


NOTHING = Lateness().state()


def _from(late: pa.Table, known: pa.Table) -> dt.datetime:
    """From when on these events may change what was known: from the ones before them on, of the same
    writers, since their absence was a hole or a silence."""
    first: dt.datetime = pc.min(late.column("ts")).as_py()
    writers = pc.unique(_writers(late))
    near = pc.and_(
        pc.less(known.column("ts"), pa.scalar(first, TIME)),
        pc.greater_equal(known.column("ts"), pa.scalar(first - BEFORE, TIME)),
    )
    earlier = pa.table({"writer": _writers(known), "ts": known.column("ts")})
    earlier = earlier.filter(pc.and_(near, pc.is_in(earlier.column("writer"), writers)))
    newest = earlier.group_by("writer").aggregate([("ts", "max")])
    before: dt.datetime | None = pc.min(newest.column("ts_max")).as_py()
    return first if before is None else before


def _writers(events: pa.Table) -> pa.ChunkedArray:
    return pc.fill_null(events.column("sidecar").cast(pa.string()), "")


def _since(state: bytes) -> dt.datetime | None:
    try:
        said = json.loads(state)
        since = said["since_us"]
        return None if since is None else moment_of(int(since))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise VerificationError(f"the recorded lateness can't be read: {error}") from error


def _unheard(state: bytes) -> Unheard:
    try:
        return Unheard(json.loads(state).get("unheard", ()))
    except (ValueError, TypeError, AttributeError) as error:
        raise VerificationError(f"the recorded lateness can't be read: {error}") from error
