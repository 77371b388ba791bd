"""Reads a log's DDL as it comes, and says for each record which schema it was run under.

In: batches of log records in the order of the log, and a timeline per database. Out: per record the
catalog of its time: what everybody saw then, and what its own session saw, whose uncommitted
changes and temporary relations nobody else sees. What a batch doesn't settle is remembered, so
that the size of batches changes nothing. A change of which it isn't known whether it lasted counts
on the safe side (`schemachanges`).
"""

from collections import OrderedDict

import numpy as np
import pyarrow as pa

from scalple.correlate import ddlbatch, resolving, savepoints, schemachanges, tempcopies
from scalple.correlate.auditedddl import changes_of, is_temporary
from scalple.correlate.catalog import Catalog
from scalple.correlate.change import Change
from scalple.correlate.ddlbatch import DdlBatch
from scalple.correlate.ddlsession import DdlSession, Item, Step, Transaction, What
from scalple.correlate.logbatch import Ints
from scalple.correlate.schematimeline import BEGINNING, DatedSchema, SchemaTimeline
from scalple.correlate.seensessions import SESSIONS_MAX, Seen, SeenSessions
from scalple.correlate.versions import Numbered, Versions

_CATALOGS = 256


class SchemaWatch:
    """Goes over the batches of one origin's logs.

    Args:
        schemas: what files say of the schema.
    """

    def __init__(self, schemas: tuple[DatedSchema, ...] = ()) -> None:
        self._schemas = schemas
        self._common = SchemaTimeline(one for one in schemas if one.database is None)
        self._timelines: dict[str | None, SchemaTimeline] = {}
        """Of the databases that have more to tell than the others."""
        for database in {one.database for one in schemas if one.database is not None}:
            self.timeline(database)
        self.sessions: dict[str, DdlSession] = {}
        """Those in which something is unsettled."""
        self._seen = SeenSessions()
        self._catching: OrderedDict[tuple[str, object], None] = OrderedDict()
        self.naming: set[str | None] = set()
        """Databases whose records of DDL name their objects: they have pgAudit's extension."""
        self._first_named: dict[str | None, int] = {}
        self.is_telling = False
        """Transactions' beginnings and ends are logged."""
        self.revision = 0
        """Grows with everything that is to be kept for the next run."""
        self._own: OrderedDict[tuple[int, tuple[tuple[int, bool], ...]], Catalog] = OrderedDict()
        self._before: dict[str, tuple[tuple[object, object], Catalog]] = {}

    def _known(self, database: str | None) -> str | None:
        """A log that doesn't say the database is of the one that there are snapshots of."""
        told = {one.database for one in self._schemas} - {None}
        return next(iter(told)) if database is None and len(told) == 1 else database

    def timeline(self, database: str | None) -> SchemaTimeline:
        """The timeline of a database, from now on its own."""
        database = self._known(database)
        if database not in self._timelines:
            mine = (one for one in self._schemas if one.database in (None, database))
            self._timelines[database] = SchemaTimeline(mine)
        return self._timelines[database]

    @property
    def timelines(self) -> dict[str | None, SchemaTimeline]:
        """Those of single databases."""
        return self._timelines

    def read(self, log: pa.Table, rows: Ints, payload: pa.Table) -> Versions:
        """The catalog of each record.

        Args:
            log: LOG_SCHEMA.
            rows: positions of the pgAudit records.
            payload: PAYLOAD_SCHEMA, one row per element of `rows`.
        """
        batch = DdlBatch(log, rows, payload)
        steps: list[tuple[Step, str | None]] = []
        views: list[tuple[int, DdlSession]] = []
        if batch.has_ddl or self.sessions:
            steps, views = self._follow(batch)
        versions = self._everybodys(batch, steps)
        if batch.has_ddl or views:
            versions = self._with_own(batch, versions, views)
        self.is_telling |= bool(len(batch.of_kind(*ddlbatch.TELLING)))
        self._seen.note(batch)
        return versions

    # What sessions do

    def _follow(
        self, batch: DdlBatch
    ) -> tuple[list[tuple[Step, str | None]], list[tuple[int, DdlSession]]]:
        """(what happens to the schema, and to which database's; sessions that see more)."""
        self._catching.update(dict.fromkeys(batch.catching()))
        while len(self._catching) > SESSIONS_MAX:
            self._catching.popitem(last=False)
        names = batch.sessions.dictionary.to_pylist()
        codes = set(batch.session_of[batch.of_kind(ddlbatch.DDL)].tolist()) - {len(names)}
        codes |= {code for code, name in enumerate(names) if name in self.sessions}
        told = batch.of_kind(*ddlbatch.TELLING)
        first_told = -1 if self.is_telling else int(told[0]) if len(told) else batch.log.num_rows
        steps: list[tuple[Step, str | None]] = []
        views = []
        databases, database_of = batch.databases
        self._first_named = batch.first_named()
        for code in sorted(codes):
            session = self.sessions.setdefault(names[code], DdlSession())
            session.views.append((-1, session.seen()))
            self._follow_one(batch, code, names[code], session, first_told)
            own = batch.records_of(code)
            database = databases[database_of[own[-1]]] if len(own) else None
            steps += [(step, database) for step in session.steps]
            self.revision += len(session.views) > 1
            session.steps = []
            views.append((code, session))
            if session.is_idle:
                del self.sessions[names[code]]
        self.naming.update(self._first_named)
        steps.sort(key=lambda one: one[0].position)
        self.revision += bool(steps) or batch.has_ddl
        return steps, views

    def _follow_one(
        self, batch: DdlBatch, code: int, name: str, session: DdlSession, first_told: int
    ) -> None:
        positions = batch.records_of(code)
        transaction, names = batch.transactions(positions)
        kind = batch.kind[positions]
        before = self._seen.get(name)
        at, count = 0, len(positions)
        while at < count:
            if session.transaction is None:
                events = np.flatnonzero(
                    np.isin(kind[at:], (ddlbatch.DDL, ddlbatch.DISCARDS, ddlbatch.LEAVES))
                )
                if not len(events):
                    return
                at += int(events[0])
                if kind[at] != ddlbatch.DDL:
                    session.dropped_temporary(int(positions[at]))
                    at += 1
                    continue
                session.transaction = self._begun(
                    batch, positions, transaction, kind, names, at, before, first_told
                )
            end = self._end(session.transaction.name, transaction, names, kind, at)
            for i in (at + np.flatnonzero(kind[at:end])).tolist():
                self._act(batch, name, session, int(positions[i]), int(kind[i]))
            done = session.transaction
            done.has_company |= batch.has_other(positions[at:end], done.statement)
            if end == count and done.name:
                return
            is_gone = end < count and kind[end] == ddlbatch.LEAVES
            last = int(positions[end - 1]) if end else -1
            session.over(
                last, is_gone=bool(is_gone), is_told=bool(done.name) and first_told <= last
            )
            at = end + is_gone

    @staticmethod
    def _end(name: str, transaction: Ints, names: list[str], kind: Ints, at: int) -> int:
        """Where a session's next transaction begins, or it leaves."""
        if not name:
            return at + 1  # which records are of one transaction can't be told
        same = transaction[at:] == (names.index(name) if name in names else -2)
        other = (~same & (transaction[at:] >= 0)) | (kind[at:] == ddlbatch.LEAVES)
        found = np.flatnonzero(other)
        return at + int(found[0]) if len(found) else len(transaction)

    def _begun(
        self,
        batch: DdlBatch,
        positions: Ints,
        transaction: Ints,
        kind: Ints,
        names: list[str],
        at: int,
        before: Seen | None,
        first_told: int,
    ) -> Transaction:
        """The transaction in which a record of DDL stands."""
        statement = batch.said(int(positions[at]), "statement_id")
        if transaction[at] < 0:
            return Transaction("", is_block=False, is_sure=False, statement=statement)
        name = names[transaction[at]]
        earlier = np.flatnonzero(transaction[:at] == transaction[at])
        known = before or Seen("", "", False)
        is_block = bool((kind[earlier] == ddlbatch.BEGINS).any()) or (
            known.is_block and known.audited == name
        )
        is_known = (
            len(earlier) < at
            or (before is not None and known.transaction != name)
            or batch.log.column("session_line_num")[int(positions[0])].as_py() == 1
        )
        has_company = known.audited == name or batch.has_other(positions[earlier], statement)
        is_sure = is_known and (first_told < int(positions[at]) or not has_company)
        return Transaction(
            name,
            is_block=is_block,
            is_sure=is_sure,
            statement=statement,
            has_company=has_company,
        )

    def _act(
        self, batch: DdlBatch, name: str, session: DdlSession, position: int, kind: int
    ) -> None:
        self.revision += 1
        if kind == ddlbatch.DDL:
            self._changed(batch, name, session, position)
        elif kind == ddlbatch.COMMITS:
            session.committed(position)
        elif kind == ddlbatch.PREPARES:
            session.committed(position, is_certain=False)
        elif kind == ddlbatch.ROLLS_BACK:
            session.rolled_back(position)
        elif kind == ddlbatch.FAILS:
            session.failed()
        elif kind == ddlbatch.DISCARDS:
            session.dropped_temporary(position)
        elif kind == ddlbatch.MARKS:
            session.savepoint(savepoints.name(batch.text(position), savepoints.SETS))
        elif kind == ddlbatch.RELEASES:
            session.released(savepoints.name(batch.text(position), savepoints.RELEASES))
        elif kind == ddlbatch.ROLLS_BACK_TO:
            mark = savepoints.name(batch.text(position), savepoints.GOES_BACK)
            session.rolled_back_to(position, mark)

    def _changed(self, batch: DdlBatch, name: str, session: DdlSession, position: int) -> None:
        command, object_type, object_name = (
            batch.said(position, field) for field in ("command", "object_type", "object_name")
        )
        block = (name, batch.said(position, "statement_id"))
        text = batch.text(position)
        if text is not None:
            session.text = (batch.statement(position), text)
        elif session.text is not None and session.text[0] == batch.statement(position):
            text = session.text[1]  # pgaudit.log_statement_once
        names, database_of = batch.databases
        database = names[database_of[position]]
        is_naming = database in self.naming or self._first_named.get(database, position) < position
        if is_naming and not object_type:
            return  # IF EXISTS, IF NOT EXISTS: there was nothing to do
        changes = changes_of(
            str(command),
            str(object_type) if object_type else None,
            str(object_name) if object_name else None,
            text,
        )
        if not object_type:
            changes = tuple(session.own_if_shadowed(change) for change in changes)
        doubtful = bool(batch.unproven[position]) or block in self._catching
        for own in (True, False):
            some = tuple(one for one in changes if is_temporary(one) is own)
            if some:
                session.changed(position, Item(some, doubtful))

    # Which catalog

    def _everybodys(self, batch: DdlBatch, steps: list[tuple[Step, str | None]]) -> Versions:
        """The catalogs without what single sessions see, and the timelines after the batch."""
        numbered = Numbered()
        count = batch.log.num_rows
        codes = np.zeros(count, np.int64)
        for _, database in steps:
            self.timeline(database)
        begin = 0
        for step, database in steps:
            self._fill(batch, codes, numbered, begin, step.position + 1)
            begin = step.position + 1
            self._take(step, self.timeline(database), int(batch.time_us[max(step.position, 0)]))
        self._fill(batch, codes, numbered, begin, count)
        if not numbered.catalogs:
            numbered.code(self._common.newest())
        return Versions(codes, numbered.catalogs)

    def _fill(self, batch: DdlBatch, codes: Ints, numbered: Numbered, begin: int, end: int) -> None:
        if begin >= end:
            return
        if not self._timelines:
            self._fill_from(self._common, batch, codes, numbered, np.arange(begin, end))
            return
        names, database_of = batch.databases
        database = database_of[begin:end]
        for code in np.unique(database).tolist():
            timeline = self._timelines.get(self._known(names[code]), self._common)
            at = begin + np.flatnonzero(database == code)
            self._fill_from(timeline, batch, codes, numbered, at)

    @staticmethod
    def _fill_from(
        timeline: SchemaTimeline, batch: DdlBatch, codes: Ints, numbered: Numbered, at: Ints
    ) -> None:
        if timeline.newest_us == BEGINNING:
            codes[at] = numbered.code(timeline.newest())
            return
        times = batch.time_us[at]
        if times.min() >= timeline.newest_us:
            codes[at] = numbered.code(timeline.newest())
            return
        ends = np.array([one.time_us for one in timeline.entries])
        places = np.searchsorted(ends, times, side="right")
        for place in np.unique(places).tolist():
            codes[at[places == place]] = numbered.code(timeline.at(place))

    def _take(self, step: Step, timeline: SchemaTimeline, time_us: int) -> None:
        item = step.item
        if step.what is What.ADD:
            if item.context:
                everybodys = timeline.at(timeline.place(time_us))
                own = self._catalog_with(everybodys, item.context).copy()
                item.changes = tuple(self._applied(own, one, item) for one in item.changes)
                item.context = ()
            item.entry = timeline.add(time_us, item.changes, is_certain=step.is_certain)
        elif item.entry is not None:
            if step.what is What.WITHDRAW:
                timeline.withdraw(item.entry)
            elif step.what is What.CLOSE:
                item.entry.is_open = False
            else:
                timeline.settle(item.entry, is_certain=step.what is What.SETTLE)

    def _with_own(
        self, batch: DdlBatch, versions: Versions, views: list[tuple[int, DdlSession]]
    ) -> Versions:
        """The same, where sessions see what others don't."""
        numbered = Numbered()
        for catalog in versions.catalogs:
            numbered.code(catalog)
        codes = versions.codes
        for code, session in views:
            for position, items in session.views:
                if position >= 0:
                    self._settle_copies(numbered.catalogs[codes[position]], items)
            positions = batch.records_of(code)
            starts = np.array([position for position, _ in session.views])
            which = np.searchsorted(starts, positions, side="left") - 1
            for at in np.unique(which).tolist():
                items = session.views[at][1]
                if not items:
                    continue
                mine = positions[which == at]
                for everybodys in np.unique(codes[mine]).tolist():
                    own = self._catalog_with(numbered.catalogs[everybodys], items)
                    codes[mine[codes[mine] == everybodys]] = numbered.code(own)
            session.views = []
        self._lines_of_one_statement(batch, codes, numbered)
        return Versions(codes, numbered.catalogs)

    def _catalog_with(self, everybodys: Catalog, items: tuple[Item, ...]) -> Catalog:
        key = (everybodys.serial, tuple((one.number, one.is_doubtful) for one in items))
        found = self._own.get(key)
        if found is None:
            found = everybodys.copy()
            for item in items:
                item.changes = tuple(self._applied(found, change, item) for change in item.changes)
            self._own[key] = found
            if len(self._own) > _CATALOGS:
                self._own.popitem(last=False)
        return found

    def _settle_copies(self, everybodys: Catalog, items: tuple[Item, ...]) -> None:
        """What temporary copies are made of is kept, as it is when they are made."""
        for at, item in enumerate(items):
            if item.sources is None and any(map(tempcopies.is_copy, item.changes)):
                before = self._catalog_with(everybodys, items[:at]).copy()
                item.changes = tuple(self._applied(before, one, item) for one in item.changes)
                found = Catalog()
                for change in filter(tempcopies.is_copy, item.changes):
                    tempcopies.sources(change, before, found)
                item.sources = found

    @staticmethod
    def _applied(catalog: Catalog, change: Change, item: Item) -> Change:
        if not (change.kind == "derive" and change.sourced):
            change = resolving.resolved(change, catalog)
        followed = change
        if item.sources is not None and tempcopies.is_copy(change):
            followed = tempcopies.read_from(change, catalog, item.sources)
        # The same change marks the same names alike, whichever session makes it.
        schemachanges.apply(catalog, followed, hash(followed), is_certain=not item.is_doubtful)
        if item.sources is not None and tempcopies.is_copy(change):
            tempcopies.doubt(change, catalog, item.sources)
        return change

    def _lines_of_one_statement(self, batch: DdlBatch, codes: Ints, numbered: Numbered) -> None:
        """All lines of one statement are read under the schema before it."""
        for position in batch.of_kind(ddlbatch.DDL).tolist():
            name = batch.session_name(position)
            statement = batch.statement(position)
            known = self._before.get(name)
            if known is None or known[0] != statement:
                known = self._before[name] = (statement, numbered.catalogs[codes[position]])
            codes[position] = numbered.code(known[1])
        for name in [name for name in self._before if name not in self.sessions]:
            del self._before[name]
