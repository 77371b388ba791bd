"""Statements ⋈ evidence -> attributed statements, batch by batch.

Enters: log records (LOG_SCHEMA) and, for those that are pgAudit's, their payload. Leaves: the
attribution columns of AUDIT for the pgAudit records, and the holes in the sessions' numbering.
Touches no file, socket, clock or environment; between batches it remembers open sessions only.
"""

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate import attribution as rules_of
from scalple.correlate.answers import Answers
from scalple.correlate.attribution import Known, attribute
from scalple.correlate.claimants import Claimants
from scalple.correlate.claims import Claimed, Claims
from scalple.correlate.closedpool import DRIFTED, UNANNOUNCED, UNSEEN
from scalple.correlate.evidence import Evidence
from scalple.correlate.identitysettings import Clients
from scalple.correlate.labels import EMPTY_NAME, Labels, texts_of_settings
from scalple.correlate.linked import Linked, Links
from scalple.correlate.logbatch import (
    Bools,
    Ints,
    LogBatch,
    codes_of,
    dictionary_encoded,
    numbers,
    take,
    transactions,
    where_in,
    where_true,
)
from scalple.correlate.outcome import is_error
from scalple.correlate.processes import ENDED, Processes
from scalple.correlate.repeats import Repeats
from scalple.correlate.resets import PoolDoubts
from scalple.correlate.rollbacks import Rollbacks, TakenBack
from scalple.correlate.rules import Rules
from scalple.correlate.runs import Records, RunCutter, Runs
from scalple.correlate.served import Served
from scalple.correlate.sessionbook import SessionBook
from scalple.correlate.sessions import UNKNOWN, UNPOOLED, Session
from scalple.correlate.takeovers import Takeovers
from scalple.correlate.workers import adopt_runs, follow
from scalple.ingest.pgaudit import NOT_LOGGED, PREVIOUSLY_LOGGED
from scalple.ingest.records import TEXT, Lacks

HEALTH_CHECK = "select 1"
"""server_check_query's default up to PgBouncer 1.24 (src/main.c)."""
HEALTH_CHECK_IDLE_US = 30_000_000
"""server_check_delay's default."""
AUTH_QUERIES = frozenset(
    {
        "SELECT usename, passwd FROM pg_shadow WHERE usename=$1",
        (
            "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END "
            "FROM pg_authid WHERE rolname=$1 AND rolcanlogin"
        ),
    }
)
_AUDITING = (
    r"(?i)\b(?:pgaudit\.\w+|log_min_messages|log_min_error_statement|log_connections"
    r"|log_disconnections|log_line_prefix|log_destination|shared_preload_libraries)\b"
)
"""Settings that decide what is logged."""
_SETS = pa.array(["SET", "RESET", "ALTER SYSTEM", "ALTER ROLE", "ALTER DATABASE"], TEXT)
UNTOLD = frozenset({None, NOT_LOGGED, PREVIOUSLY_LOGGED})
UNNUMBERED = -(1 << 60)


@dataclass(frozen=True, slots=True)
class Attributed:
    """One batch's results."""

    columns: pa.Table
    """Attribution columns of AUDIT, one row per pgAudit record, in order."""
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


def _setting(message: str) -> str | None:
    """The first setting that the message names, of those that decide what is logged."""
    found = re.search(_AUDITING, message)
    return found[0].lower() if found else None


class Correlator:
    """Attributes batches in the order in which they were logged.

    Args:
        origin: the log's name, which evidence ids begin with.
        rules: actors and the pooler, as the operator declared them.
        evidence: everything known about connections.
    """

    def __init__(self, origin: str, rules: Rules, evidence: Evidence) -> None:
        self._rules = rules
        self._evidence = evidence
        self._processes = Processes()
        self._runs = RunCutter()
        self._doubts = PoolDoubts(evidence)
        self._takeovers = Takeovers(evidence)
        self._labels = Labels(evidence)

        self._claimants = Claimants(rules.actors)
        self._claims = Claims(rules, self._claimants)
        self._sessions = SessionBook(evidence, rules)
        self._served = Served(origin, evidence)
        self._repeats = Repeats()
        self._rollbacks = Rollbacks()
        self._linked = Linked(evidence, self._served)
        self._answers = Answers(
            origin, rules, evidence, self._served, self._sessions, self._claimants
        )

    def attribute(
        self,
        log: pa.Table,
        audit_rows: Ints,
        payload: pa.Table,
        next_evidence_seq: int,
        next_audit_seq: int = UNNUMBERED,
    ) -> Attributed:
        """Attribute one batch.

        Args:
            log: all records of the batch (LOG_SCHEMA), in file order.
            audit_rows: positions in `log` of the pgAudit records.
            payload: PAYLOAD_SCHEMA, one row per element of `audit_rows`.
            next_evidence_seq: number of the next row of evidence in the store.
            next_audit_seq: number of the batch's first pgAudit record in the store; without it
                nothing is said to repeat the batch's records.
        """
        batch = LogBatch(log, audit_rows, payload)
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
            connection=self._labels.connections()[np.maximum(set_label, 0)],
            announcing=self._labels.announcing(set_label),
            renames=renames,
            time_us=batch.time_us,
        )
        ended = batch.begins(ENDED) | whole.alone
        before = dict(self._runs.open_sessions)
        runs = self._runs.cut(records, ended)
        gaps = self._gaps(batch, runs)
        texts = dictionary_encoded(payload.column("statement"))
        logged = np.array([one not in UNTOLD for one in texts.dictionary.to_pylist()] or [False])
        text = codes_of(texts)
        text_of = batch.spread(np.where(logged[text], text, -1), -1)
        unsure = adopt_runs(session_of, served_as, runs, before, text_of)
        unsure |= self._contradicted(served_as != session_of, name_of, runs)
        borne = np.where(nameless, mentioned, self._labels.keys()[name_of])
        known, client = self._known(batch, served_as, name_of, borne, runs, empties, unsure)
        links = self._linked.find(
            batch,
            session_of,
            self._sessions.open,
            transaction,
            runs.replay,
            known.pool,
            self._labels.keys()[name_of[batch.audit_rows]],
        )
        self._linked.forget(session_of, ended)
        self._note_links(known, client, links)
        failed = where_true(is_error(log))
        in_force = self._claims.settings.find(
            batch,
            *settings,
            session_of,
            transaction,
            self._clients(batch, session_of, known, runs),
            failed,
        )
        claimed = self._claims.find(batch, in_force)
        self._claims.settings.forget(session_of, ended)
        self._compare(batch, served_as, known, client, claimed)
        decided = attribute(known)
        rolled_back, taken_back = self._rollbacks.find(
            batch, session_of, transaction, failed, ended, next_audit_seq
        )
        columns = self._answers.columns(
            batch, served_as, known, client, decided, runs, claimed, links, rolled_back
        )
        self._rollbacks.remember(columns.column("findings").combine_chunks(), next_audit_seq)
        repeats = self._repeats.find(batch, session_of, served_as, transaction, next_audit_seq)
        self._repeats.forget(session_of, ended)
        self._sessions.forget(session_of, ended)
        return Attributed(columns, gaps, new_evidence, log, session_of, repeats, taken_back)

    def _contradicted(self, borrowed: Bools, name_of: Ints, runs: Runs) -> Bools:
        """Which workers' own names are another client's than their leader's run."""
        keys = self._labels.keys()
        own, run = keys[name_of], keys[np.maximum(runs.label, 0)]
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
        named = self._labels.whose()
        whose = np.where(label >= 0, named[np.maximum(label, 0)], -1)
        doubt = known.doubtful | known.unsure_worker | known.leaked | known.overlong | known.unnamed
        sure = known.labelled & known.has_key & (known.matches == 1) & ~doubt
        return Clients(
            np.where(known.unpooled, -2 - session_of[rows], whose), known.unpooled | sure
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

    def _known(
        self,
        batch: LogBatch,
        session_of: Ints,
        name_of: Ints,
        borne: Ints,
        runs: Runs,
        empties: Bools,
        unsure: Bools,
    ) -> tuple[Known, Ints]:
        rows = batch.audit_rows
        codes, position = np.unique(session_of[rows], return_inverse=True)
        sessions = [self._sessions.open[int(code)] for code in codes]
        pool = np.array([self._pool(one) for one in sessions], np.int64)[position]
        unpooled = pool == UNPOOLED
        own = np.array(
            [
                -1 if one.endpoint is None else self._evidence.endpoints.get(one.endpoint, -1)
                for one in sessions
            ],
            np.int64,
        )[position]
        labelled = (runs.label[rows] >= 0) & ~unpooled
        name = np.where(labelled, runs.label[rows], name_of[rows])
        key = np.where(unpooled, own, self._labels.keys()[name])
        times, ends = batch.time_us[rows], batch.time_end_us[rows]
        client, matches = self._served.join(key, pool, times, ends)
        by_tag = take(self._evidence.connection_of >= 0, np.maximum(key, 0)) & (key >= 0)
        # A name that was replayed before its client connected is another's, who had that port before.
        older = labelled & (client >= 0)
        if older.any():
            connected = self._evidence.client_connected_us[np.maximum(client, 0)]
            older &= runs.opened_us[rows] + (ends - times) < connected
        client[older], matches[older] = -1, 0
        # A sidecar's client has its tag in front of every name that is its own.
        untagged = (client >= 0) & ~by_tag & ~unpooled
        untagged &= take(self._evidence.client_tag >= 0, np.maximum(client, 0))
        client[untagged], matches[untagged] = -1, 0
        self._by_own_tag(unpooled, key, self._labels.keys()[name], times, ends, client, matches)
        cut = self._join_cut_names(batch, np.where(unpooled, -1, name), pool, client, matches)
        client, matches = self._served.same_database(sessions, position, unpooled, client, matches)
        gone = np.flatnonzero(labelled & (matches == 0) & (key >= 0) & (pool >= 0))
        if len(gone):
            found, last = self._served.last_gone(
                gone, key[gone], pool[gone], batch.time_us[rows[gone]]
            )
            client[found] = last
        at = np.maximum(client, 0)
        served = client >= 0
        pooler_method = self._pooler_method(batch, runs, unpooled, pool)
        # A statement without any name is a nameless client's, whenever it dropped its name.
        nameless = (name_of[rows] == EMPTY_NAME) & (pooler_method == rules_of.NONE)
        nameless |= empties[rows] & (pooler_method != rules_of.RESET_QUERY)
        sure = (matches == 1) & labelled & ~runs.doubtful[rows] & ~unsure[rows]
        # Whoever was served may have gone before the statement was logged. All that is sure is that
        # it began after its run was opened.
        since = np.minimum(runs.opened_us[rows], times)
        begun = np.array([one.begun_us for one in sessions], np.int64)[position]
        unplaced = np.array([one.pool == UNKNOWN for one in sessions], bool)[position]
        leaked, overlong, unnamed = self._doubts.apply(
            rows,
            pool,
            times,
            since,
            ends,
            np.where(sure, client, -1),
            runs.fresh[rows],
            nameless & (pool >= 0),
            np.where(labelled & (matches == 1) & ~by_tag, client, -1),
        )
        unnamed &= self._rules.pooler.mode != "session"
        methods = {name: code for code, name in enumerate(rules_of.METHODS)}
        session_method = np.array(
            [methods[one.method] if one.method else -1 for one in sessions], np.int64
        )[position]
        taken = self._takeovers.apply(
            pool,
            batch.time_us[rows],
            np.where(labelled, key, -1),
            borne[rows],
            np.where(sure, client, -1),
        )
        known = Known(
            forged=batch.forged,
            ambiguous=batch.ambiguous,
            unproven=batch.unproven,
            unpooled=unpooled,
            pool=pool,
            background=np.array([one.role is None for one in sessions], bool)[position]
            & ~batch.lacking(Lacks.USER)[rows],
            pooler_method=pooler_method,
            labelled=labelled,
            has_key=(key >= 0) | cut,
            by_tag=by_tag & ~unpooled,
            pool_open=self._why_open(batch, unplaced, pool, since, ends, begun),
            matches=matches,
            client=client,
            client_named=served & take(self._served.named, at),
            client_by_role=served & take(self._served.by_role, at),
            client_contradicted=served & take(self._served.contradicted, at),
            doubtful=runs.doubtful[rows] | (taken & labelled),
            unsure_worker=unsure[rows],
            leaked=leaked,
            overlong=overlong,
            unnamed=unnamed,
            session_method=session_method,
            session_contradicted=np.array([one.contradicted for one in sessions], bool)[position],
            same_actor=self._served.same_actor(sessions, position, client),
            told=batch.lacking(Lacks.MARKS)[rows]
            & (
                batch.lacking(Lacks.SESSION | Lacks.USER | Lacks.ENDPOINT | Lacks.PORT)[rows]
                | (session_method == methods["external-identity"])
            ),
            linked=np.full(len(rows), rules_of.NONE),
            link_named=np.zeros(len(rows), bool),
            link_agrees=np.zeros(len(rows), bool),
            link_held=np.zeros(len(rows), bool),
            claim=np.full(len(rows), rules_of.NONE),
            claim_agrees=np.zeros(len(rows), bool),
            claim_disputed=np.zeros(len(rows), bool),
        )
        return known, client

    def _by_own_tag(
        self,
        unpooled: Bools,
        own: Ints,
        borne: Ints,
        time_us: Ints,
        time_end_us: Ints,
        client: Ints,
        matches: Ints,
    ) -> None:
        """Unpooled, and the endpoint's actor changed in that very millisecond: the tag tells."""
        rows = np.flatnonzero(unpooled & (matches > 1) & (borne >= 0))
        rows = rows[self._evidence.endpoint_of[borne[rows]] == own[rows]]
        if len(rows):
            nobody = np.full(len(rows), UNPOOLED)
            client[rows], matches[rows] = self._served.join(
                borne[rows], nobody, time_us[rows], time_end_us[rows]
            )

    def _why_open(
        self,
        batch: LogBatch,
        unplaced: Bools,
        pool: Ints,
        time_us: Ints,
        time_end_us: Ints,
        session_us: Ints,
    ) -> Ints:
        """The reason why a tag proves nothing there, or NONE.

        Args:
            batch: the records.
            unplaced: nothing but its names says that the session is the pool's.
            pool: pool of each statement.
            time_us: when the statement can have begun at the earliest.
            time_end_us: when it was logged at the latest.
            session_us: when its session began at the earliest.
        """
        reason = self._evidence.closed.why_open(pool, time_us, time_end_us, session_us)
        reasons = np.full(UNSEEN + 1, rules_of.NONE)
        reasons[UNANNOUNCED] = rules_of.UNANNOUNCED_CLIENT
        reasons[DRIFTED] = rules_of.DRIFTED_CLIENT
        reasons[UNSEEN] = rules_of.POOL_NOT_SEEN
        # A run may have been left unseen, or made up.
        blind = batch.lacking(Lacks.NAME | Lacks.TRANSACTION | Lacks.LINE | Lacks.MARKS)[
            batch.audit_rows
        ]
        found = reasons[np.where(unplaced, UNSEEN, reason)]
        return np.where((found == rules_of.NONE) & blind, rules_of.LOG_LACKS_FIELDS, found)

    def _join_cut_names(
        self, batch: LogBatch, name: Ints, pool: Ints, client: Ints, matches: Ints
    ) -> Bools:
        """Fill in clients of statements under a cut name; which statements that found any."""
        found = np.zeros(len(name), bool)
        forms_of = self._labels.cut_forms()
        parts = [np.flatnonzero((name >= 0) & (forms[name] >= 0)) for forms in forms_of]
        rows = np.concatenate(parts)
        if not len(rows):
            return found
        forms = np.concatenate([one[name[at]] for one, at in zip(forms_of, parts, strict=True)])
        times, ordinals = batch.time_us[batch.audit_rows], self._labels.ordinals(batch)
        ends = batch.time_end_us[batch.audit_rows]
        self._labels.wholes.forget(int(times.min()))
        row, one, count = self._served.join_cut(
            rows,
            forms,
            pool[rows],
            times[rows],
            ends[rows],
            ordinals[rows],
            self._labels.wholes.table(),
        )
        client[row], matches[row], found[row] = one, count, True
        return found

    def _pool(self, session: Session) -> int:
        if session.pool == UNKNOWN and session.database and session.role:
            # Its beginning lies outside the pooler's log; PostgreSQL's own names may still be
            # those of a pool, but never prove that there is no pooler.
            return self._evidence.pools.get((session.database, session.role), UNKNOWN)
        return session.pool

    def _pooler_method(self, batch: LogBatch, runs: Runs, unpooled: Bools, pool: Ints) -> Ints:
        """What PgBouncer writes on its own account."""
        rows = batch.audit_rows
        method = np.full(len(rows), -1, np.int64)
        if self._rules.pooler.kind == "none":
            return method
        encoded = dictionary_encoded(batch.payload.column("statement"))
        texts = encoded.dictionary.to_pylist()
        index = codes_of(encoded, null=len(texts))

        def is_one_of(wanted: frozenset[str]) -> Bools:
            return np.array([*(text in wanted for text in texts), False], bool)[index]

        behind = ~unpooled
        method[behind & runs.replay[rows]] = rules_of.REPLAYED
        if self._evidence.checks_idle_servers:
            idle = (runs.idle_us[rows] >= HEALTH_CHECK_IDLE_US) & runs.opens_transaction[rows]
            check = behind & (pool >= 0) & idle & is_one_of(frozenset({HEALTH_CHECK}))
            method[check] = rules_of.HEALTH_CHECK
        method[behind & (pool >= 0) & is_one_of(AUTH_QUERIES)] = rules_of.AUTH_QUERY
        if self._rules.pooler.mode == "session":
            method[behind & is_one_of(frozenset({"DISCARD ALL"}))] = rules_of.RESET_QUERY
        return method

    def _changes_of_auditing(self, batch: LogBatch) -> Bools:
        """Records of a setting's change that decides what is logged: `SIGHUP`s, and SETs."""
        named = pc.match_substring_regex(batch.message, _AUDITING)
        said = where_true(named)
        by_server = batch.begins('parameter "') & said
        settings = np.zeros(batch.log.num_rows, bool)
        commands = where_in(batch.payload.column("command"), _SETS) & ~batch.forged
        settings[batch.audit_rows] = commands
        return by_server | (settings & said)

    def _gaps(self, batch: LogBatch, runs: Runs) -> pa.Table:
        """Holes in the numbering of sessions, sessions whose beginning isn't here, and changes of
        what is logged at all."""
        changed = self._changes_of_auditing(batch)
        hole = (runs.missing > 0) | runs.begins_unseen
        at = np.flatnonzero(hole | changed)
        where = pa.array(at)
        unseen = runs.begins_unseen[at]
        reason = np.where(unseen, "session-begins-before-log", "hole-in-session")
        reason = np.where(hole[at], reason, "auditing-changed")
        return pa.table(
            {
                "log_time": batch.log.column("log_time").take(where).combine_chunks(),
                "reason": pa.array(reason, TEXT),
                "session_id": batch.log.column("session_id")
                .take(where)
                .cast(TEXT)
                .combine_chunks(),
                "missing": pa.array(runs.missing[at], pa.int64(), mask=unseen | ~hole[at]),
                "detail": pa.array(
                    [_setting(batch.message[row].as_py()) if changed[row] else None for row in at],
                    TEXT,
                ),
                "source_offset": batch.log.column("source_offset").take(where).combine_chunks(),
            }
        )
