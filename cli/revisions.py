"""When statements are attributed anew while logs are followed, and what becomes of it.

Enters: events as they become known. Leaves: rows to be committed, the object that says what still waits,
and now and then a correlator that has caught up. One revision at a time, a little of it in each round; the
next one begins some time after, however many events come late.
"""

import datetime as dt
import time
from collections.abc import Callable, Sequence

import duckdb
import pyarrow as pa

from scalple.cli.batch import RowNumbers
from scalple.cli.gaprows import unrevised_rows
from scalple.cli.lateness import LATE, NOTHING, Lateness
from scalple.cli.laterevision import UNREVISED, Known, LateRevision
from scalple.cli.storedrows import Stored
from scalple.correlate.correlator import Correlator
from scalple.correlate.evidence import Evidence
from scalple.correlate.record import GAPS, REVISIONS
from scalple.correlate.rules import Actors
from scalple.ingest.errors import ScalpleError
from scalple.ingest.lognames import LogNames
from scalple.ingest.servicelog import say
from scalple.store.manifest import Position

PATIENCE = 10
"""For lines that follow what they tell of, though in time, so many intervals pass."""
TOO_LATE = "too-late"
"""Reason of a gap: statements older than a revision goes, which late evidence may speak of."""
STEP_S = 1.0
"""So long a round goes on with a revision, and one block longer."""
FIRST_S = 10.0
"""So long after its start a process may begin with one."""
Whole = tuple[pa.Table, Evidence, Correlator]


class Revisions:
    """The revisions of one store that is followed.

    Args:
        state: the newest object LATE of the store.
        stored: opens the store as it is.
        patterns: what the server logs are called.
        positions: how far the store has read them, now.
        interval_s: so long after one the next may begin.
        days: statements that are older than the newest one by more are left as they are.
        skew_ms: by so much two clocks may differ.
    """

    def __init__(
        self,
        state: bytes | None,
        stored: Callable[[], Stored],
        patterns: Sequence[str],
        positions: Callable[[], Sequence[Position]],
        interval_s: float,
        days: float,
        skew_ms: int = 0,
    ) -> None:
        self._late = Lateness(state, dt.timedelta(milliseconds=skew_ms))
        self._committed = state or NOTHING
        self._stored = stored
        self._names = LogNames(patterns)
        self._positions = positions
        self._interval_s, self._most = interval_s, dt.timedelta(days=days)
        # A process that doesn't last is spared what it wouldn't end.
        self._ended = time.monotonic() - interval_s + min(interval_s, FIRST_S)
        self._going: LateRevision | None = None
        self._missing = 0
        self._whole: Whole | None = None
        self._passed: tuple[dt.datetime, dt.datetime] | None = None
        """From when to when statements are too old for the revision that is going on."""
        self._told: dict[str, tuple[dt.datetime, int]] = {}

    @property
    def is_waiting(self) -> bool:
        """Something is to be attributed anew."""
        return self._going is not None or self._late.waiting is not None

    def close(self) -> None:
        """Let go of the store and the logs; what isn't done begins anew."""
        if self._going is not None:
            self._going.close()

    def note(
        self, events: pa.Table, newest: dt.datetime | None, known: Callable[[], pa.Table]
    ) -> None:
        """New events, as `Lateness.note`."""
        self._late.note(events, newest, known)
        if self._going is not None:
            self._going.learn(events)

    def note_statements(self, audit: pa.Table, evidence: Evidence, actors: Actors) -> None:
        """Rows of AUDIT that were attributed by this evidence."""
        self._late.unheard.note(audit, evidence, actors)

    def note_taken_back(self, revisions: pa.Table) -> None:
        """Rows of REVISIONS that a log has just made."""
        if self._going is not None and revisions.num_rows:
            self._going.taken_back.update(revisions.column("audit_seq").to_pylist())

    def step(
        self, known: Callable[[], Known], numbers: RowNumbers, goes_on: Callable[[], bool]
    ) -> dict[str, pa.Table]:
        """Go on for a while, if it is time: rows by kind. Call it when all that was read is committed.

        What can't be read delays a revision; it is no reason not to go on following.
        """
        if self._going is None and not self._is_due():
            return {}
        try:
            going = self._going or self._begin(known())
            found = going.step(goes_on, STEP_S)
        except (ScalpleError, OSError, duckdb.Error) as error:
            say("revision failed", why=str(error), again_in_s=self._interval_s)
            self._end(is_done=False)
            return {}
        tables = {}
        if found:
            tables["revisions"] = numbers.give("revisions", pa.concat_tables(found), REVISIONS)
        if going.is_done:
            tables |= self._finish(going, numbers)
        return tables

    def take_whole(self) -> Whole | None:
        """Events, evidence and a correlator that know what they would have known in time: once, after a
        revision that has caught up with all that is committed."""
        whole, self._whole = self._whole, None
        return whole

    def take_count(self) -> int:
        """Events that came late since they were last taken."""
        events, self._late.events = self._late.events, 0
        return events

    def take_missing(self) -> int:
        """Statements whose log was gone, since they were last taken."""
        missing, self._missing = self._missing, 0
        return missing

    def news(self) -> dict[str, bytes]:
        """What a commit has to record, if it isn't recorded."""
        state = self._late.state()
        return {} if state == self._committed else {LATE: state}

    def committed(self, news: dict[str, bytes]) -> None:
        """It is recorded."""
        self._committed = news.get(LATE, self._committed)

    def _is_due(self) -> bool:
        if self._late.waiting is None:
            return False
        interval_s = self._interval_s * (1 if self._late.is_urgent else PATIENCE)
        return time.monotonic() - self._ended >= interval_s

    def _begin(self, known: Known) -> LateRevision:
        since, wanted = self._late.begin(self._most)
        self._passed = (wanted, since) if wanted < since else None
        say("revising", since=since.isoformat())
        self._going = LateRevision(since, known, self._stored, self._names.paths, self._positions)
        return self._going

    def _finish(self, going: LateRevision, numbers: RowNumbers) -> dict[str, pa.Table]:
        if going.is_whole and going.correlator is not None and going.evidence is not None:
            self._whole = going.events, going.evidence, going.correlator
        self._end(is_done=True)
        self._missing += going.missing
        say("revised", without_log=going.missing, unreadable=len(going.problems))
        gaps = []
        if self._passed is not None:
            gaps += self._once(TOO_LATE, *self._passed, None)
        if going.missing:
            gaps += self._once(UNREVISED, going.since, going.until, going.missing)
        return {"gaps": numbers.give("gaps", pa.concat_tables(gaps), GAPS)} if gaps else {}

    def _once(
        self, reason: str, since: dt.datetime, until: dt.datetime | None, count: int | None
    ) -> list[pa.Table]:
        """A gap, unless the one that was told last says as much."""
        told = self._told.get(reason)
        if told is not None and told[0] <= since and (count or 0) <= told[1]:
            return []
        self._told[reason] = (since, count or 0)
        return [unrevised_rows(reason, since, until, count)]

    def _end(self, *, is_done: bool) -> None:
        self.close()
        self._going = None
        self._ended = time.monotonic()
        self._late.end(is_done=is_done)
