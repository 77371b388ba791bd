"""Growing log files -> committed batches, round by round: what a daemon does for months.

Enters: a plan, the patterns of its files, an open store. Leaves: manifests. In each round the sizes of the
server logs are noted first, then identity events and pooler logs are read to their ends, then the
server logs up to the noted sizes, as in `pipeline`, so that no timeouts decide an attribution. What a
round read is one commit, unless it is much. Nothing but the store remembers anything.

Doesn't wait. Statements that evidence came late for are attributed anew between rounds (`revisions`).
"""

import base64
import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from scalple.cli import schemarecord
from scalple.cli.batch import BatchBuilder, RowNumbers, reject_rows
from scalple.cli.committer import Committer
from scalple.cli.declarations import row_names
from scalple.cli.gaprows import gap_rows
from scalple.cli.laterevision import Known as KnownNow
from scalple.cli.outcome import Outcome
from scalple.cli.pipeline import Plan, ahead, open_plan, position_of, reader_of
from scalple.cli.reading import Records
from scalple.cli.recentevidence import recent
from scalple.cli.revisions import Revisions
from scalple.cli.smallmemory import give_back
from scalple.cli.sources import Opened, anchors_of, open_one
from scalple.cli.storedrows import StoredRows
from scalple.cli.warmup import WarmUp, begins_at, window
from scalple.correlate.correlator import Correlator
from scalple.correlate.eventsathand import EventsAtHand
from scalple.correlate.evidence import Evidence, link_slack
from scalple.correlate.record import EVIDENCE, GAPS
from scalple.correlate.remembering import FAR
from scalple.correlate.rightschanges import RightsChanges
from scalple.correlate.undeclared import Sightings
from scalple.ingest.errors import InputError
from scalple.ingest.follower import Follower
from scalple.ingest.generations import Generation, Known
from scalple.ingest.records import TEXT
from scalple.ingest.sourcefile import Anchors, Piece
from scalple.store.manifest import Position
from scalple.store.writer import StoreWriter

FOLLOWED = "followed"
"""Object of a commit: which files aren't read to their ends (`Follower.state`, by kind of source)."""
SOURCES = ("postgres", "pgbouncer", "identity")
LARGE_BYTES = 16 << 20
"""From so much on a file is parsed ahead."""
LOG_BLOCK_BYTES = 3 << 20
EVENTS_BLOCK_BYTES = 1 << 20
"""So much is parsed at once: a daemon's memory is to stay small beside a database."""
STILL_S = 0.02
"""Lines of one message are written one right after the other."""


@dataclass(slots=True)
class Round:
    """What is read and not committed yet."""

    tables: dict[str, list[pa.Table]] = field(default_factory=dict)
    positions: list[Position] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    sightings: Sightings = field(default_factory=Sightings)
    reached: list[tuple[Generation, Anchors]] = field(default_factory=list)

    def add(self, source: str, generation: Generation, piece: Piece) -> None:
        """A piece of a file whose rows are added."""
        self.positions.append(position_of(source, generation.path, piece, generation.incarnation))
        self.reached.append((generation, piece.anchors))

    def rows(self, tables: Mapping[str, pa.Table]) -> None:
        """Rows by kind, numbered in the order in which they are added."""
        for kind, table in tables.items():
            if table.num_rows:
                parts = self.tables.setdefault(kind, [])
                # Some come with a dictionary, some without.
                parts.append(table.cast(parts[0].schema) if parts else table)

    def has(self, generation: Generation) -> bool:
        """Whether a piece of that file is in it already."""
        return any(one is generation for one, _ in self.reached)


class Following:
    """Follows the files of a plan; make one anew after any error.

    Args:
        plan: as of a run; its paths are those that there are now.
        patterns: paths and globs by kind of source.
        writer: the open store.
        known: positions of the store, in their order.
        state: the object FOLLOWED of the newest commit that has one.
        evidence: what earlier runs committed (columns of EVIDENCE), part by part.
        newest: log_time of the newest statement that they committed.
        rows: the store as it is now.
        revisions: statements to be attributed anew.
        between: called after each piece of a log; whether to go on.
    """

    def __init__(
        self,
        plan: Plan,
        patterns: Mapping[str, Sequence[str]],
        writer: StoreWriter,
        known: Sequence[Position],
        state: bytes | None,
        evidence: Iterable[pa.Table],
        newest: dt.datetime | None,
        rows: StoredRows,
        revisions: Revisions,
        between: Callable[[], bool] = lambda: True,
    ) -> None:
        self._plan = plan
        self._between = between
        self.revisions = revisions
        self.outcome = Outcome()
        self.grades: Counter[str] = Counter()
        """Statements by the grade of their attribution."""
        self.problems: dict[str, str] = {}
        """Files that can't be read, and why."""
        self.unlike: set[Path] = set()
        """Those of them that aren't what they were given for."""
        self.newest = newest
        """When the newest statement was logged."""
        self._numbers = RowNumbers(plan.origin, dict(writer.next_seq))
        self._reader, self._forms = reader_of(plan)
        self._rights = RightsChanges.from_bytes(plan.rights_changes)
        self._rights_recorded = self._rights.revision
        logs = window(_logs_read(plan, known))
        begun = begins_at(logs) or newest
        horizon = None if begun is None else self._long_before(begun)
        events, sessions = recent(evidence, horizon, link_slack(plan.rules))
        self._at_hand = EventsAtHand(events, horizon, plan.rules)
        self._evidence = Evidence(events, plan.rules, None, horizon)
        self._correlator = Correlator(
            plan.origin, plan.rules, self._evidence, plan.rights, self._rights
        )
        self._builder = BatchBuilder(self._numbers, self._correlator)
        WarmUp(self._correlator, sessions).run(logs, rows)
        states = {} if state is None else json.loads(state)
        self.followers = {
            source: Follower(
                patterns[source],
                [known_of(one) for one in known if one.source == source],
                state=base64.b64decode(states[source]) if source in states else None,
            )
            for source in SOURCES
        }
        self._state = state
        self._opened: dict[Generation, Opened] = {}
        self._round = Round()
        self._committer = Committer(writer, plan.objects, self.outcome)

    @property
    def is_behind(self) -> bool:
        """More can be read at once."""
        return any(one.lag().bytes >= LARGE_BYTES for one in self.followers.values())

    @property
    def folders(self) -> list[Path]:
        """Where something may change."""
        return [folder for one in self.followers.values() for folder in one.folders]

    def take_counts(self) -> tuple[dict[str, int], Counter[str], int]:
        """Rows by kind, statements by grade, late events: since they were last taken."""
        rows, self.outcome.rows = self.outcome.rows, {}
        grades, self.grades = self.grades, Counter()
        return rows, grades, self.revisions.take_count()

    def close(self) -> None:
        """Let go of the files; what wasn't committed will be read again."""
        for one in self.followers.values():
            one.close()
        self.revisions.close()
        self._committer.close()
        self._forms.save()

    def round(self) -> int:
        """Read and commit what is there now; the number of bytes that were read.

        Raises:
            ScalpleError, OSError: it can't be read or committed; go on with a new `Following`.
        """
        before = self.outcome.bytes_read
        self.problems, self.unlike = {}, set()
        logs = self.followers["postgres"].scan()
        fresh = [*self._read_events("pgbouncer"), *self._read_events("identity")]
        if fresh:
            self._learn(fresh)
        for generation in logs:
            if not self._read_log(generation):
                break
        self._note_gaps()
        self._flush()
        self._committer.wait()
        if not self.is_behind:
            self._revise()
        for follower in self.followers.values():
            self.problems |= {str(path): why for path, why in follower.problems.items()}
        self._opened = {one: how for one, how in self._opened.items() if not one.is_finished}
        return self.outcome.bytes_read - before

    def _long_before(self, moment: dt.datetime) -> dt.datetime:
        """Nothing that is logged from that moment on depends on what was over by then."""
        return moment - FAR - dt.timedelta(milliseconds=self._plan.rules.clocks.skew_ms)

    def _open(self, source: str, generation: Generation) -> Opened | None:
        """How a file is read; None as long as that can't be told."""
        opened = self._opened.get(generation)
        if opened is None:
            assert generation.file is not None
            try:
                opened = open_one(source, generation.file, self._plan.options)
            except InputError as error:
                self.problems[str(generation.path)] = str(error)
                self.unlike.add(generation.path)
                return None
            self._opened[generation] = opened
        return opened

    # -- evidence -----------------------------------------------------------------------------

    def _read_events(self, source: str) -> Iterator[pa.Table]:
        follower = self.followers[source]
        for generation in follower.scan():
            yield from self._events_of(source, generation)
        # A message may go on in the next line, so the last one waits for it. But who came with it may have
        # run statements that the server has logged: it is read now, once nobody is writing at it.
        waiting = [one for one in follower.following if one.file and one.end < one.size]
        if not waiting:
            return
        sizes = [one.size for one in waiting]
        time.sleep(STILL_S)
        for generation in follower.scan():
            yield from self._events_of(source, generation)
        for generation, size in zip(waiting, sizes, strict=True):
            file = generation.file
            if file is not None and file.is_open and generation.size == size:
                file.is_settled = True
                yield from self._events_of(source, generation)

    def _events_of(self, source: str, generation: Generation) -> Iterator[pa.Table]:
        opened = self._open(source, generation)
        for piece in generation.pieces(opened.parse, EVENTS_BLOCK_BYTES) if opened else ():
            self._make_room(generation)
            table = self._numbers.give("evidence", piece.block.table, EVIDENCE)
            rejects = reject_rows(self._numbers, piece.block.rejects, generation.path.name)
            self._round.rows({"evidence": table, "unparsed": rejects})
            self._round.add(source, generation, piece)
            self.outcome.bytes_read += piece.block.consumed
            self.revisions.note(table, self.newest, lambda: self._at_hand.all()[0])
            yield table

    def _learn(self, fresh: list[pa.Table]) -> None:
        """Go on with what is known by now."""
        give_back()  # it takes much for a moment
        self._at_hand.learn(pa.concat_tables(fresh), self.newest)
        self._renew()

    def _renew(self) -> None:
        rules, horizon = self._plan.rules, self._at_hand.horizon
        self._evidence = Evidence(self._at_hand.events, rules, self._evidence, horizon)
        self._correlator.renew(self._evidence)

    # -- statements ---------------------------------------------------------------------------

    def _read_log(self, generation: Generation) -> bool:
        """Read what there is of a file; False if that was broken off."""
        opened = self._open("postgres", generation)
        if opened is None:
            return True
        pieces: Iterator[tuple[Piece, Records]] = (
            (piece, self._reader.read(piece.data, piece.begin, piece.block))
            for piece in generation.pieces(opened.parse, LOG_BLOCK_BYTES)
        )
        if generation.size - generation.end >= LARGE_BYTES:
            pieces = ahead(pieces)
        for piece, records in pieces:
            self._make_room(generation, log=True)
            since_us = self._correlator.leads_back(records.log)
            if self._at_hand.reach(records.log, self.newest, since_us):
                self._renew()
            tables, called = self._builder.build(records, generation.path.name)
            self._round.rows(tables)
            self._round.add("postgres", generation, piece)
            self._round.objects |= schemarecord.schema_changes(records.schema) | row_names(called)
            if self._rights.revision != self._rights_recorded:
                self._rights_recorded = self._rights.revision
                self._round.objects[schemarecord.RIGHTS_CHANGES] = self._rights.to_bytes()
            self._round.sightings.add(records.sightings)
            self.outcome.bytes_read += piece.block.consumed
            self._note_statements(tables["audit"])
            self.revisions.note_statements(tables["audit"], self._evidence, self._plan.rules.actors)
            self.revisions.note_taken_back(tables["revisions"])
            if not self._between():
                return False
        return True

    def _note_statements(self, audit: pa.Table) -> None:
        if audit.num_rows:
            latest = pc.max(audit.column("log_time")).as_py()
            self.newest = latest if self.newest is None else max(latest, self.newest)
            grades = audit.column("attribution_grade").cast(TEXT).value_counts()
            for one in grades.to_pylist():
                self.grades[one["values"]] += one["counts"]

    # -- late evidence ------------------------------------------------------------------------

    def _revise(self) -> None:
        """Attribute anew for a while what evidence came late for."""
        self._round.rows(self.revisions.step(self._revisable, self._numbers, self._between))
        self._flush()
        if done := self.revisions.take_whole():
            events, self._evidence, self._correlator = done
            self._at_hand = EventsAtHand(events, self._evidence.horizon, self._plan.rules)
            self._builder = BatchBuilder(self._numbers, self._correlator)
            self._rights, self._rights_recorded = self._correlator.rights_changes, -1

    def _revisable(self) -> KnownNow:
        plan = self._plan
        events, horizon = self._at_hand.all()
        return KnownNow(
            plan.origin,
            plan.rules,
            plan.rights,
            self._rights.to_bytes(),
            plan.options,
            events,
            horizon,
            self._long_before,
        )

    # -- commits ------------------------------------------------------------------------------

    def _note_gaps(self) -> None:
        gaps = [one for follower in self.followers.values() for one in follower.take_gaps()]
        if gaps:
            self._round.rows({"gaps": self._numbers.give("gaps", gap_rows(gaps), GAPS)})

    def _make_room(self, generation: Generation, *, log: bool = False) -> None:
        """Commit what was read before, unless it goes into one commit with what comes next."""
        if self._round.has(generation) or (log and "audit" in self._round.tables):
            self._flush()

    def _flush(self) -> None:
        """Commit what was read; a file's state alone is reason enough, as it says that one has ended."""
        state = {
            source: base64.b64encode(one.state()).decode() for source, one in self.followers.items()
        }
        said = json.dumps(state, sort_keys=True).encode()
        late = self.revisions.news()
        done, self._round = self._round, Round()
        if not done.positions and not done.tables and said == self._state and not late:
            return
        tables = {kind: pa.concat_tables(parts) for kind, parts in done.tables.items()}
        objects = done.objects | {FOLLOWED: said} | late
        self._committer.submit(tables, done.positions, objects, done.sightings)
        self._committer.wait()
        give_back()
        self._state = said
        self.revisions.committed(late)
        for generation, anchors in done.reached:
            generation.commit(anchors)


def _logs_read(plan: Plan, known: Sequence[Position]) -> list[Opened]:
    """Server logs of which the store has something, those there still are, in the order of time."""
    try:
        logs = open_plan(plan, known).logs
    except InputError:
        return []  # nothing that was read is there any more
    return [one for one in logs if one.file.end]


def known_of(position: Position) -> Known:
    """A position as a follower knows it."""
    return Known(Path(position.path), anchors_of(position), position.incarnation)
