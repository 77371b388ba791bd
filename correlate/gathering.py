"""What is known of each statement: everything that the rules decide by, gathered from where it comes.

Enters: a batch's records with their sessions and runs. Leaves: `Known`, and the client that each
statement's name stands for. Decides nothing.
"""

import numpy as np

from scalple.correlate import attribution as rules_of
from scalple.correlate.attribution import Known
from scalple.correlate.closedpool import DRIFTED, UNANNOUNCED, UNSEEN
from scalple.correlate.evidence import Evidence
from scalple.correlate.labels import EMPTY_NAME, Labels
from scalple.correlate.logbatch import (
    Bools,
    Ints,
    LogBatch,
    codes_of,
    dictionary_encoded,
    take,
)
from scalple.correlate.resets import PoolDoubts
from scalple.correlate.rules import Rules
from scalple.correlate.runs import Runs
from scalple.correlate.served import Served
from scalple.correlate.sessionbook import SessionBook
from scalple.correlate.sessions import UNKNOWN, UNPOOLED, Session
from scalple.correlate.takeovers import Takeovers
from scalple.ingest.records import Lacks

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


class Gatherer:
    """Gathers, batch by batch; remembers doubts about pools.

    Args:
        rules: actors and the pooler, as the operator declared them.
        evidence: everything known about connections.
        labels: the names seen so far.
        served: the clients that names stand for.
        sessions: the open sessions.
    """

    def __init__(
        self,
        rules: Rules,
        evidence: Evidence,
        labels: Labels,
        served: Served,
        sessions: SessionBook,
    ) -> None:
        self._rules = rules
        self._evidence = evidence
        self._labels = labels
        self._served = served
        self._sessions = sessions
        self._doubts = PoolDoubts(evidence)
        self._takeovers = Takeovers(evidence)

    def renew(self, evidence: Evidence, served: Served, now_us: int) -> None:
        """Go on with what is known by now; `now_us` is the time of the last record."""
        self._evidence, self._served = evidence, served
        self._doubts.renew(evidence, now_us)
        self._takeovers.renew(evidence, now_us)

    def held(self) -> set[int]:
        """Keys that it remembers."""
        return self._takeovers.held()

    def forget(self, before_us: int) -> None:
        """Let go of what was over by then: nothing to come began before."""
        self._doubts.forget(before_us)

    def known(
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
        own = np.array(
            [
                -1 if one.endpoint is None else self._evidence.endpoints.get(one.endpoint, -1)
                for one in sessions
            ],
            np.int64,
        )[position]
        keys = self._labels.keys
        # A name that the pooler gives its clients: its note of this session must be missing.
        named = keys(np.where(runs.label[rows] >= 0, runs.label[rows], name_of[rows]))
        odd = (pool == UNPOOLED) & (named >= 0)
        odd &= self._evidence.is_pooled(named)
        pool = np.where(odd, UNKNOWN, pool)
        unpooled = pool == UNPOOLED
        labelled = (runs.label[rows] >= 0) & ~unpooled
        name = np.where(labelled, runs.label[rows], name_of[rows])
        key = np.where(unpooled, own, keys(name))
        times, ends = batch.time_us[rows], batch.time_end_us[rows]
        client, matches = self._served.join(key, pool, times, ends)
        by_tag = self._evidence.connection_of.of(key) >= 0
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
        self._by_own_tag(unpooled, key, keys(name), times, ends, client, matches)
        cut = self._join_cut_names(batch, np.where(unpooled, -1, name), pool, client, matches)
        client, matches = self._served.same_database(sessions, position, unpooled, client, matches)
        gone = np.flatnonzero(labelled & (matches == 0) & (key >= 0) & (pool >= 0))
        if len(gone):
            found, last = self._served.last_gone(
                gone, key[gone], pool[gone], batch.time_us[rows[gone]]
            )
            # Its run was opened while it was there; a later one is somebody else's.
            then = runs.opened_us[rows[found]] <= self._evidence.client_until_us[last]
            client[found[then]] = last[then]
        at = np.maximum(client, 0)
        served = client >= 0
        # A tag that no event tells of: the connection is the run's, but who is behind it since isn't said.
        renewed = labelled & by_tag & self._labels.unknown_tags(name_of[rows])
        # Or didn't when it was set, so that the run went on as if the client had set it.
        whose = self._labels.connections(name_of[rows])
        same = (whose >= 0) & (whose == self._labels.connections(name))
        renewed |= labelled & by_tag & same & (keys(name_of[rows]) != key)
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
            client_named=served & take(self._served.named, at) & ~renewed,
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
            link_elsewhere=np.zeros(len(rows), bool),
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
        rows = rows[self._evidence.endpoint_of(borne[rows]) == own[rows]]
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
        forms_of = self._labels.cut_forms(name)
        parts = [np.flatnonzero((name >= 0) & (forms >= 0)) for forms in forms_of]
        rows = np.concatenate(parts)
        if not len(rows):
            return found
        forms = np.concatenate([one[at] for one, at in zip(forms_of, parts, strict=True)])
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
