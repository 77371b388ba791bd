"""Statements attributed anew while logs are followed, because evidence came later than they did.

Enters: since when; the store; server logs that are still there. Leaves: revisions, piece by piece, as many
as there is time for, and in the end a correlator that knows what it would have known with all evidence in
time. It reads what the store has read, with a correlator of its own, until it has caught up with the one
that goes on meanwhile. The records are those of the logs: rows of the store don't hold all that decides.

Statements whose log is gone keep their attribution; how many they are is a gap.
"""

import datetime as dt
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from scalple.cli.recentevidence import recent
from scalple.cli.recordrows import ATTRIBUTED
from scalple.cli.revising import changed, matched
from scalple.cli.smallmemory import give_back
from scalple.cli.storedlogs import Generation, Paths, StoredLog, StoredLogs, generation_of
from scalple.cli.storedrows import Stored, StoredRows
from scalple.cli.warmup import BYTES_MAX, WarmUp
from scalple.correlate.correlator import Correlator
from scalple.correlate.evidence import Evidence, link_slack
from scalple.correlate.record import EVIDENCE
from scalple.correlate.rightschanges import RightsChanges
from scalple.correlate.rightstimeline import DatedRights
from scalple.correlate.rules import Rules
from scalple.ingest.container import ReadOptions
from scalple.ingest.records import TIME
from scalple.store.manifest import Position

UNREVISED = "log-gone"
"""Reason of a gap: statements that late evidence may speak of, and whose log isn't there any more."""
Part = tuple[StoredLog, int, int]
"""A log, and which bytes of it."""
CLOSE_BYTES = 16 * 1024 * 1024
"""So much is read in one step: some seconds' work."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a revision begins with."""

    origin: str
    rules: Rules
    rights: tuple[DatedRights, ...]
    rights_changes: bytes
    options: ReadOptions
    events: pa.Table
    """Columns of EVIDENCE, at hand."""
    events_since: dt.datetime | None
    """From when on they are complete; None: from the beginning."""
    long_before: Callable[[dt.datetime], dt.datetime]
    """Nothing that is logged from a moment on depends on what was over by then."""


@dataclass(slots=True)
class LateRevision:
    """One revision, which goes on whenever there is time.

    Args:
        since: statements are attributed anew from then on.
        known: what there is to begin with.
        stored: opens the store as it is.
        paths: where server logs are now.
        positions: how far the store has read, now.
    """

    since: dt.datetime
    known: Known
    stored: Callable[[], Stored]
    paths: Paths
    positions: Callable[[], Sequence[Position]]
    correlator: Correlator | None = None
    evidence: Evidence | None = None
    events: pa.Table = field(default_factory=EVIDENCE.empty_table)
    is_done: bool = False
    """It has caught up."""
    is_whole: bool = True
    """No log was missed: `correlator` and `evidence` can take the place of those that went on."""
    missing: int = 0
    """So many statements have no log any more."""
    until: dt.datetime | None = None
    """When the newest of the statements was logged that were there at the beginning."""
    problems: dict[str, str] = field(default_factory=dict)
    """Files that can't be read, and why."""
    taken_back: set[int] = field(default_factory=set)
    """Numbers of rows that were committed as rolled back since the store was opened."""
    _fresh: list[pa.Table] = field(default_factory=list)
    _reached: dict[Generation, int] = field(default_factory=dict)
    _matched: int = 0
    _is_close: bool = False
    _feeder: WarmUp = field(init=False)
    _work: Generator[pa.Table, None, None] | None = None

    def learn(self, events: pa.Table) -> None:
        """Events that became known meanwhile."""
        self._fresh.append(events.cast(EVIDENCE))

    def close(self) -> None:
        """Let go of the store and the logs; what isn't done is lost."""
        if self._work is not None:
            self._work.close()

    def step(self, goes_on: Callable[[], bool], seconds: float) -> list[pa.Table]:
        """Go on for a while, at least by one block; revisions without numbers.

        Call it when all that was read is committed.

        Raises:
            ScalpleError: a log or the store can't be read; begin anew.
        """
        until = time.monotonic() + seconds
        self._work = self._work or self._run()
        found: list[pa.Table] = []
        for table in self._work:
            if table.num_rows:
                found.append(table)
            if (time.monotonic() >= until and not self._is_close) or not goes_on():
                return found
        self.is_done = True
        return found

    def _run(self) -> Generator[pa.Table, None, None]:
        """Until nothing is left that the store has."""
        parts = self._first_parts()
        with_store = self.stored()
        try:
            self._begin(with_store, parts)
            yield from self._leg(with_store, parts)
            self._count(with_store.views)
        finally:
            with_store.views.close()
        while parts := self._next_parts():
            # Between steps the log goes on: what is left has to be read in one, or it is never all of it.
            self._is_close = sum(end - begin for _, begin, end in parts) <= CLOSE_BYTES
            self._renew()
            with_store = self.stored()
            self.taken_back.clear()
            try:
                yield from self._leg(with_store, parts)
            finally:
                with_store.views.close()
        self._renew()

    # -- what is read -------------------------------------------------------------------------

    def _found(self, since: dt.datetime, spare_bytes: int) -> StoredLogs:
        found = StoredLogs.find(
            self.paths, self.positions(), self.known.options, since, spare_bytes
        )
        self.problems |= found.problems
        return found

    def _first_parts(self) -> list[Part]:
        """From the first statement in question on, and what sessions need that were open by then."""
        # A row may be logged a little later than its time says.
        begin = self.since - dt.timedelta(seconds=1, milliseconds=self.known.rules.clocks.skew_ms)
        self.since = begin
        for position in self.positions():
            self._reached[generation_of(position)] = position.end
        found = self._found(begin - dt.timedelta(minutes=15), BYTES_MAX)
        parts: list[Part] = []
        spare = BYTES_MAX
        for log in reversed(found.logs):
            with log.at_hand(self.paths) as is_there:
                if not is_there:
                    continue  # gone since it was found
                place = log.place_of(begin)
            first = max(0, place - spare)
            spare -= place - first
            if first < log.end:
                parts.append((log, first, log.end))
        return parts[::-1]

    def _next_parts(self) -> list[Part]:
        """What the store has read meanwhile."""
        behind = {
            generation_of(one): self._reached.get(generation_of(one), 0)
            for one in self.positions()
            if one.end > self._reached.get(generation_of(one), 0)
        }
        if not behind:
            return []
        logs = {generation_of(one.position): one for one in self._found(self.since, 0).logs}
        if behind.keys() - logs.keys():
            self.is_whole = False
        parts = [(log, behind[key], log.end) for key, log in logs.items() if key in behind]
        self._reached |= {generation_of(one): one.end for one in self.positions()}
        return parts

    # -- evidence -----------------------------------------------------------------------------

    def _begin(self, stored: Stored, parts: list[Part]) -> None:
        known = self.known
        begun = next((one for one in map(self._first_time, parts) if one is not None), self.since)
        horizon = known.long_before(min(begun, self.since))
        if known.events_since is None or known.events_since <= horizon:
            self.events = known.events
        else:
            self.events, _ = recent(stored.evidence(), horizon, link_slack(known.rules))
        self._fresh.clear()  # committed with what was read
        self.evidence = Evidence(self.events, known.rules, None, horizon)
        give_back()  # it takes much for a moment
        told = RightsChanges.from_bytes(known.rights_changes)
        self.correlator = Correlator(known.origin, known.rules, self.evidence, known.rights, told)
        sessions = stored.views.sql(
            f"SELECT {', '.join(EVIDENCE.names)} FROM evidence WHERE origin = $origin "
            "AND source = 'postgresql' AND ts >= $since ORDER BY seq",
            params={"origin": known.origin, "since": horizon},
        ).to_arrow_table()
        self._feeder = WarmUp(self.correlator, sessions.cast(EVIDENCE))

    def _renew(self) -> None:
        """Go on with what became known meanwhile."""
        if self._fresh and self.correlator is not None and self.evidence is not None:
            self.events = pa.concat_tables([self.events, *self._fresh])
            self._fresh.clear()
            before = self.evidence
            self.evidence = Evidence(self.events, self.known.rules, before, before.horizon)
            self.correlator.renew(self.evidence)
            give_back()

    def _first_time(self, part: Part) -> dt.datetime | None:
        log, begin, _ = part
        with log.at_hand(self.paths) as is_there:
            return log.logged_at(begin) if is_there else None

    # -- rows ---------------------------------------------------------------------------------

    def _leg(self, stored: Stored, parts: list[Part]) -> Iterator[pa.Table]:
        """Attribute them anew: the revisions of rows from `since` on, piece by piece."""
        rows = StoredRows(self.known.origin, self.known.rules, stored.views, stored.names)
        for fed in self._feeder.feed(self._blocks(parts), rows, ATTRIBUTED):
            old, now = matched(fed)
            wanted = pc.greater_equal(old.column("log_time"), pa.scalar(self.since, TIME))
            old = old.filter(wanted)
            self._matched += old.num_rows
            yield changed(old, now.filter(wanted), self.taken_back)

    def _blocks(self, parts: list[Part]) -> Iterator[pa.Table]:
        for log, begin, end in parts:
            with log.at_hand(self.paths) as is_there:
                if is_there:
                    yield from (one.table.combine_chunks() for one in log.records(begin, end))
                else:
                    self.is_whole = False

    def _count(self, views: duckdb.DuckDBPyConnection) -> None:
        """How many statements there are of which no log was found."""
        found = views.sql(
            "SELECT count(*) AS n, max(log_time) AS until FROM audit "
            "WHERE origin = $origin AND log_time >= $since",
            params={"origin": self.known.origin, "since": self.since},
        ).to_arrow_table()
        self.until = found.column("until")[0].as_py()
        self.missing = max(0, found.column("n")[0].as_py() - self._matched)
        self.is_whole = self.is_whole and not self.missing
