"""Statements ⋈ evidence -> attributed statements, batch by batch.

Enters: log records (LOG_SCHEMA) and, for those that are pgAudit's, their payload. Leaves: the
attribution columns of AUDIT for the pgAudit records, and the holes in the sessions' numbering.
Touches no file, socket, clock or environment; between batches it remembers open sessions only.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from scalple.correlate import attribution as rules_of
from scalple.correlate.answers import ROLLED_BACK, Answers
from scalple.correlate.attribution import Known, attribute
from scalple.correlate.calledby import CALLED
from scalple.correlate.claimants import Claimants
from scalple.correlate.claims import Claimed, Claims
from scalple.correlate.endings import Endings
from scalple.correlate.entitledstatements import outer_missing, with_finding, with_statements
from scalple.correlate.evidence import Evidence
from scalple.correlate.gaps import gaps
from scalple.correlate.gathering import Gatherer
from scalple.correlate.goingon import going_on, is_gone
from scalple.correlate.identitysettings import Clients
from scalple.correlate.labels import Labels, texts_of_settings
from scalple.correlate.linked import Linked, Links
from scalple.correlate.logbatch import (
    Bools,
    Ints,
    LogBatch,
    codes_of,
    dictionary_encoded,
    numbers,
    transactions,
    where_true,
)
from scalple.correlate.outcome import is_error, refused_statements
from scalple.correlate.policies import OF_ACCESS, Policies, with_policies
from scalple.correlate.processes import ENDED, Processes
from scalple.correlate.remembering import DOUBTS_KEPT_US
from scalple.correlate.repeats import Repeats, filled_in
from scalple.correlate.rightschanges import RightsChanges
from scalple.correlate.rightstimeline import DatedRights, RightsTimeline
from scalple.correlate.rollbacks import Rollbacks, TakenBack
from scalple.correlate.rules import Rules
from scalple.correlate.runs import Records, RunCutter, Runs
from scalple.correlate.served import Served
from scalple.correlate.sessionbook import SessionBook
from scalple.correlate.workers import adopt_runs, follow
from scalple.ingest.pgaudit import NOT_LOGGED, PREVIOUSLY_LOGGED
from scalple.ingest.records import Lacks

UNTOLD = frozenset({None, NOT_LOGGED, PREVIOUSLY_LOGGED})
UNNUMBERED = -(1 << 60)
NOTHING: Ints = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Attributed:
    """One batch's results."""

    columns: pa.Table
    """Attribution columns of AUDIT, one row per pgAudit record, in order."""
    refused: pa.Table
    """The same columns, one row per record of a refused statement; a login that was refused is nobody's."""
    gaps: pa.Table
    """log_time, session_id, missing, reason, source_offset."""
    sessions: pa.Table
    """New evidence from the server's own log: one row per session it authenticated by name."""
    log: pa.Table
    """The batch's records, with role, database and endpoint where only their session told them."""
    session: Ints
    """A code per session, for each record."""
    repeats: Ints
    """Per pgAudit record the number of the one that it repeats, or -1."""
    taken_back: TakenBack
    """Records of earlier batches whose transaction turned out to be rolled back."""


class Correlator:
    """Attributes batches in the order in which they were logged.

    Args:
        origin: the log's name, which evidence ids begin with.
        rules: actors and the pooler, as the operator declared them.
        evidence: everything known about connections.
        rights: snapshots of who may do what, for policies.
        changes: what the log has told of changes of these; without it, nothing was read yet.
    """

    def __init__(
        self,
        origin: str,
        rules: Rules,
        evidence: Evidence,
        rights: tuple[DatedRights, ...] = (),
        changes: RightsChanges | None = None,
    ) -> None:
        self._origin = origin
        self._rules = rules
        self._evidence = evidence
        self._latest_us = 0
        self._processes = Processes()
        self._runs = RunCutter()
        self._labels = Labels(evidence)
        self._claimants = Claimants(rules.actors)
        self._claims = Claims(rules, self._claimants)
        self._sessions = SessionBook(evidence, rules)
        self._served = Served(origin, evidence)
        self._repeats = Repeats()
        self._rollbacks = Rollbacks()
        self._endings = Endings()
        self.rights_changes = changes if changes is not None else RightsChanges()
        """When rights can have changed, as far as the log was read."""
        timeline = RightsTimeline(rights, self.rights_changes)
        self._policies = Policies(rules, evidence.events, timeline)
        self._linked = Linked(evidence, self._served)
        self._gatherer = Gatherer(rules, evidence, self._labels, self._served, self._sessions)
        self._answers = Answers(
            origin, rules, evidence, self._served, self._sessions, self._claimants
        )

    def renew(self, evidence: Evidence) -> None:
        """Go on with what is known by now; what was attributed stays as it is.

        Args:
            evidence: made of the one before (`Evidence(events, rules, before)`), so that keys and pools
                keep their numbers.
        """
        before, self._evidence = self._evidence, evidence
        self._labels.renew(evidence)
        self._sessions.renew(evidence)
        self._served = Served(self._origin, evidence)
        self._policies.renew(evidence.events)
        self._linked.renew(evidence, self._served)
        self._gatherer.renew(evidence, self._served, self._latest_us)
        self._answers = Answers(
            self._origin, self._rules, evidence, self._served, self._sessions, self._claimants
        )
        if evidence.horizon_us is not None and evidence.horizon_us != before.horizon_us:
            self._forget(evidence.horizon_us)

    def _forget(self, horizon_us: int) -> None:
        """Let go of names and numbers that nothing refers to, and of doubts that are over.

        Without it a daemon would read more names at each renewal, for as long as it runs.
        """
        self._forget_names(horizon_us)
        open_runs = self._runs.open_sessions.values()
        begun = min((one.opened_us for one in open_runs if one.label >= 0), default=horizon_us)
        before_us = min(begun, horizon_us - DOUBTS_KEPT_US)
        held = self._gatherer.held() | self._labels.wholes.held()
        self._evidence.forget(held, before_us)
        self._gatherer.forget(before_us)

    def _forget_names(self, horizon_us: int | None = None) -> None:
        open_runs = self._runs.open_sessions.values()
        names = {code for one in open_runs for code in (one.name, one.label)}
        labels, clients = self._claims.settings.held()
        names |= labels | {Labels.code_of(one) for one in clients}
        self._labels.forget(names, horizon_us)

    def leads_back(self, log: pa.Table) -> int | None:
        """Since when events are needed for these records (LOG_SCHEMA), which are the next to be attributed, if
        their own time doesn't say so; in µs."""
        sessions = {code: one.session_id for code, one in self._sessions.open.items()}
        going = going_on(log, self._runs.open_sessions, sessions)
        gone = [one for one in going if is_gone(one, self._labels, self._evidence, self._latest_us)]
        return min((one.opened_us for one in gone), default=None)

    def attribute(
        self,
        log: pa.Table,
        audit_rows: Ints,
        payload: pa.Table,
        next_evidence_seq: int,
        next_audit_seq: int = UNNUMBERED,
        denied: Ints = NOTHING,
        touched: pa.Table | None = None,
    ) -> Attributed:
        """Attribute one batch.

        Args:
            log: all records of the batch (LOG_SCHEMA), in file order.
            audit_rows: positions in `log` of the pgAudit records.
            payload: PAYLOAD_SCHEMA, one row per element of `audit_rows`.
            next_evidence_seq: number of the next row of evidence in the store.
            next_audit_seq: number of the batch's first pgAudit record in the store; without it
                nothing is said to repeat the batch's records.
            denied: positions in `log` of the records that report a refused statement.
            touched: the columns OF_ACCESS, one row per pgAudit record, for policies; without them what
                was touched isn't known.
        """
        if self._labels.has_many:
            self._forget_names()
        batch = LogBatch(log, audit_rows, payload)
        self._latest_us = max(self._latest_us, int(batch.time_us.max(initial=0)))
        # A forged line's id says nothing about what is missing.
        statement = batch.spread(
            np.where(batch.forged, -1, numbers(payload.column("statement_id"), -1)), -1
        )
        encoded = dictionary_encoded(payload.column("statement"))
        hashes = np.array([hash(one) for one in encoded.dictionary.to_pylist()] or [0], np.int64)
        whole = self._processes.complete(
            log,
            statement,
            batch.spread(numbers(payload.column("substatement_id"), -1), -1),
            batch.spread(hashes[codes_of(encoded)], -1),
        )
        batch.log = log = whole.log
        session_of = self._sessions.number(batch, whole)
        served_as = follow(batch, session_of, self._sessions.open)
        new_evidence = self._sessions.learn(batch, session_of, next_evidence_seq)
        nameless = batch.lacking(Lacks.NAME)
        name_of = self._labels.number(batch.log.column("application_name"), nameless)
        settings = texts_of_settings(batch)
        set_label, renames, empties, mentioned = self._labels.read_settings(batch, *settings)
        set_label = self._labels.borne(set_label, name_of)
        transaction = transactions(log.column("virtual_transaction_id"))
        records = Records(
            session=session_of,
            line=numbers(log.column("session_line_num"), 0),
            lines=numbers(log.column("lines"), 1),
            begins=whole.begins,
            transaction=transaction,
            name=np.where(nameless, -1, name_of),
            statement=statement,
            label=set_label,
            connection=self._labels.connections(np.maximum(set_label, 0)),
            announcing=self._labels.announcing(set_label),
            renames=renames,
            time_us=batch.time_us,
        )
        ended = batch.begins(ENDED) | whole.alone
        self.rights_changes.note(batch, ended)
        before = dict(self._runs.open_sessions)
        runs = self._runs.cut(records, ended)
        unfinished = self._endings.find(batch, session_of, ended, self._sessions.open)
        missing = gaps(batch, runs, unfinished)
        texts = dictionary_encoded(payload.column("statement"))
        logged = np.array([one not in UNTOLD for one in texts.dictionary.to_pylist()] or [False])
        text = codes_of(texts)
        text_of = batch.spread(np.where(logged[text], text, -1), -1)
        unsure = adopt_runs(session_of, served_as, runs, before, text_of)
        unsure |= self._contradicted(served_as != session_of, name_of, runs)
        borne = np.where(nameless, mentioned, self._labels.keys(name_of))
        # Refused statements are attributed among the others: what they share goes on in one order.
        refused = refused_statements(log, denied)
        every = batch.joined_by(refused)
        known, client = self._gatherer.known(
            every, served_as, name_of, borne, runs, empties, unsure
        )
        links = self._linked.find(
            every,
            session_of,
            self._sessions.open,
            transaction,
            runs.replay,
            known.pool,
            self._labels.keys(name_of[every.audit_rows]),
        )
        self._linked.forget(session_of, ended)
        self._note_links(known, client, links)
        failed = where_true(is_error(log))
        in_force = self._claims.settings.find(
            every,
            *settings,
            session_of,
            transaction,
            self._clients(every, session_of, known, runs),
            failed,
        )
        claimed = self._claims.find(every, in_force)
        self._claims.settings.forget(session_of, ended)
        self._compare(every, served_as, known, client, claimed)
        decided = attribute(known)
        rolled_back, taken_back = self._rollbacks.find(
            batch, session_of, transaction, failed, ended, next_audit_seq
        )
        answers = self._answers.columns(
            every,
            served_as,
            known,
            client,
            decided,
            runs,
            claimed,
            links,
            batch.spread(rolled_back.astype(np.int64), 0)[every.audit_rows] > 0,
        )
        columns, of_refused = _split(answers, every.audit_rows, audit_rows, denied, log.num_rows)
        orphaned = outer_missing(batch, session_of, statement, transaction, failed)
        columns = with_finding(columns, orphaned)
        repeats = self._repeats.find(batch, session_of, served_as, transaction, next_audit_seq)
        if self._policies.in_force:
            statements = payload.column("statement")
            read = (
                None if touched is None else filled_in(touched, statements, repeats, next_audit_seq)
            )
            said = _as_logged(batch, read)
            if self._policies.asks_rights:
                said = with_statements(said, batch, session_of, statement, orphaned, ended)
            columns = with_policies(self._policies, said, columns, ROLLED_BACK)
            of_refused = with_policies(
                self._policies, _of_records(log, denied), of_refused, ROLLED_BACK, people_only=True
            )
        self._rollbacks.remember(columns.column("findings").combine_chunks(), next_audit_seq)
        self._repeats.forget(session_of, ended)
        self._sessions.forget(session_of, ended)
        return Attributed(
            columns, of_refused, missing, new_evidence, log, session_of, repeats, taken_back
        )

    def _contradicted(self, borrowed: Bools, name_of: Ints, runs: Runs) -> Bools:
        """Which workers' own names are another client's than their leader's run."""
        own, run = (self._labels.keys(one) for one in (name_of, np.maximum(runs.label, 0)))
        return np.asarray(borrowed & (runs.label >= 0) & (own >= 0) & (own != run))

    def _note_links(self, known: Known, client: Ints, links: Links) -> None:
        """Note whom the pooler's log shows, and whether the run's name says the same."""
        known.linked = links.client
        found = links.client >= 0
        if not found.any():
            return
        at, other = np.maximum(links.client, 0), np.maximum(client, 0)
        known.link_named = found & self._served.named[at] & links.person
        known.link_held = links.held & (self._rules.pooler.mode == "session")
        # A living client whom the name tells, at another endpoint, whoever that is.
        elsewhere = (client >= 0) & (known.matches == 1) & (known.labelled | known.by_tag)
        elsewhere &= self._evidence.client_endpoint[at] != self._evidence.client_endpoint[other]
        known.link_elsewhere = found & elsewhere
        actors: dict[str | None, int] = {None: -1}
        of_client = np.array(
            [actors.setdefault(one, len(actors)) for one in self._evidence.client_actor]
        )
        same = (of_client[at] == of_client[other]) & (of_client[at] >= 0)
        same |= self._evidence.client_endpoint[at] == self._evidence.client_endpoint[other]
        known.link_agrees = found & (client >= 0) & same

    def _clients(self, batch: LogBatch, session_of: Ints, known: Known, runs: Runs) -> Clients:
        """Who was served, as far as identity variables have to know."""
        rows = batch.audit_rows
        label = runs.label[rows]
        whose = np.where(label >= 0, self._labels.whose(np.maximum(label, 0)), -1)
        doubt = known.doubtful | known.unsure_worker | known.leaked | known.overlong | known.unnamed
        sure = known.labelled & known.has_key & (known.matches == 1) & ~doubt
        return Clients(
            np.where(known.unpooled, -2 - session_of[rows], whose),
            np.where(known.unpooled, -1, label),
            np.where(known.unpooled, 0, runs.opened_us[rows]),
            known.unpooled | sure,
        )

    def _compare(
        self, batch: LogBatch, session_of: Ints, known: Known, client: Ints, claimed: Claimed
    ) -> None:
        """Note what the client's own words say, and whether they name the same person."""
        known.claim = np.where(claimed.who >= 0, claimed.method, rules_of.NONE)
        known.claim_disputed = claimed.disputed
        if not (claimed.who >= 0).any():
            return  # nor has it sessions to compare with
        of_client = np.array([*self._claimants.codes_of(self._evidence.client_actor), -1])
        codes, position = np.unique(session_of[batch.audit_rows], return_inverse=True)
        actors = [self._sessions.open[int(code)].actor for code in codes]
        of_session = np.array(self._claimants.codes_of(actors))[position]
        named = np.where(client >= 0, of_client[client], of_session)
        known.claim_agrees = (claimed.who >= 0) & (named == claimed.who)


def _of_records(log: pa.Table, rows: Ints) -> pa.Table:
    """What the log says of these records, under the names of the store's columns."""
    said = log.select(["log_time", "database_name", "user_name"]).take(pa.array(rows))
    return said.rename_columns(["log_time", "database", "db_role"])


def _as_logged(batch: LogBatch, touched: pa.Table | None) -> pa.Table:
    """What policies look at of the pgAudit records."""
    rows = _of_records(batch.log, batch.audit_rows)
    rows = rows.append_column("class", batch.payload.column("class"))
    rows = rows.append_column("rows_returned", batch.payload.column("rows"))
    if touched is not None:
        for name in (*OF_ACCESS, CALLED):
            if name in touched.column_names:
                rows = rows.append_column(name, touched.column(name))
    return rows


def _split(
    answers: pa.Table, rows: Ints, audit_rows: Ints, denied: Ints, records: int
) -> tuple[pa.Table, pa.Table]:
    """The answers for pgAudit's records, and those for the denied ones, NULL where there is none."""
    place = np.full(records, -1)
    place[rows] = np.arange(len(rows))
    whole = len(rows) == len(audit_rows)
    return (
        answers if whole else answers.take(pa.array(place[audit_rows])),
        answers.take(pa.array(place[denied], mask=place[denied] < 0)),
    )
