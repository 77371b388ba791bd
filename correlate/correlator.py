"""Statements ⋈ evidence -> attributed statements, batch by batch.

Enters: log records (LOG_SCHEMA) and, for those that are pgAudit's, their payload. Leaves: the
attribution columns of AUDIT for the pgAudit records, and the holes in the sessions' numbering.
Touches no file, socket, clock or environment; between batches it remembers open sessions only.
"""

from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate import attribution as rules_of
from scalple.correlate.attribution import Attribution, Known, attribute
from scalple.correlate.candidates import Candidates
from scalple.correlate.evidence import Evidence, read_sql
from scalple.correlate.poolertext import Writing, is_cut, read_setting, suffix_endpoint
from scalple.correlate.record import TEXT, TEXTS, TIME
from scalple.correlate.resets import PoolDoubts
from scalple.correlate.rules import Rules
from scalple.correlate.runs import Records, RunCutter, Runs
from scalple.correlate.sessions import (
    UNKNOWN,
    UNPOOLED,
    Session,
    client_endpoint,
    name_actor,
    place,
    read_authenticated,
    started_us,
)
from scalple.correlate.workers import adopt_runs, follow

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HEALTH_CHECK = "select 1"
"""server_check_query's default up to PgBouncer 1.24 (src/main.c)."""
HEALTH_CHECK_IDLE_US = 30_000_000
"""server_check_delay's default."""
AUTH_QUERIES = frozenset(
    {
        "SELECT usename, passwd FROM pg_shadow WHERE usename=$1",
        "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END "
        "FROM pg_authid WHERE rolname=$1 AND rolcanlogin",
    }
)


@dataclass(frozen=True, slots=True)
class Attributed:
    """One batch's results."""

    columns: pa.Table
    """Attribution columns of AUDIT, one row per pgAudit record, in order."""
    gaps: pa.Table
    """log_time, session_id, missing, reason, source_offset."""
    sessions: pa.Table
    """New evidence from the server's own log: one row per session it authenticated by name."""


class Correlator:
    """Attributes batches in the order in which they were logged.

    Args:
        origin: the log's name, which evidence ids begin with.
        rules: actors and the pooler, as the operator declared them.
        evidence: everything known about connections.
    """

    def __init__(self, origin: str, rules: Rules, evidence: Evidence) -> None:
        self._origin = origin
        self._rules = rules
        self._evidence = evidence
        self._candidates = Candidates(evidence)
        self._runs = RunCutter()
        self._doubts = PoolDoubts(evidence)
        self._names: dict[str, int] = {"": 0}
        self._name_endpoint: list[int] = [-1]
        self._uncut: dict[str, set[int]] = {}
        self._session_codes: dict[str, int] = {}
        self._sessions: dict[int, Session] = {}
        self._next_code = 0
        self._semicolons = False
        self._con = duckdb.connect(":memory:", config={"threads": 2})
        self._con.execute("SET TimeZone = 'UTC'")
        self._sql = read_sql("attribution.sql")
        self._serve()

    def _serve(self) -> None:
        evidence = self._evidence
        self._served = pa.table(
            {
                "client": np.arange(len(evidence.client_endpoint)),
                "endpoint": evidence.client_endpoint,
                "pool": evidence.client_pool,
                "since": evidence.client_since_us,
                "until": evidence.client_until_us,
            }
        )
        clients = evidence.clients
        self._client_texts = {
            name: clients.column(name).combine_chunks().cast(TEXT).dictionary_encode()
            for name in (
                "actor",
                "email",
                "actor_kind",
                "on_behalf_of",
                "peer_addr",
                "authn",
            )
        }
        self._client_peer_port = clients.column("peer_port").combine_chunks().cast(pa.int32())
        self._client_by_role = np.asarray(
            pc.fill_null(clients.column("by_role"), False).to_numpy(zero_copy_only=False)
            if clients.num_rows
            else [],
            bool,
        )
        self._client_contradicted = np.asarray(
            pc.fill_null(clients.column("contradicted"), False).to_numpy(zero_copy_only=False)
            if clients.num_rows
            else [],
            bool,
        )
        self._client_named = np.array([one is not None for one in evidence.client_actor], bool)
        ids = zip(
            clients.column("identity_seq").to_pylist(),
            clients.column("pooler_seq").to_pylist(),
            strict=True,
        )
        self._client_evidence = pa.array(
            [[self.evidence_id(int(seq)) for seq in pair if seq is not None] for pair in ids], TEXTS
        )

    def evidence_id(self, seq: int) -> str:
        """The id under which the view `evidence` shows that row."""
        return f"{self._origin}/evidence#{seq}"

    def attribute(
        self, log: pa.Table, audit_rows: Ints, payload: pa.Table, next_evidence_seq: int
    ) -> Attributed:
        """Attribute one batch.

        Args:
            log: all records of the batch (LOG_SCHEMA), in file order.
            audit_rows: positions in `log` of the pgAudit records.
            payload: PAYLOAD_SCHEMA, one row per element of `audit_rows`.
            next_evidence_seq: number of the next row of evidence in the store.
        """
        batch = _Batch(log, audit_rows, payload)
        session_of = self._number_sessions(batch)
        served_as = follow(batch, session_of, self._sessions)
        new_evidence = self._learn_sessions(batch, session_of, next_evidence_seq)
        name_of = self._number_names(batch.log.column("application_name"))
        set_label, renames, empties = self._read_settings(batch)
        records = Records(
            session=session_of,
            line=_numbers(log.column("session_line_num"), 0),
            transaction=_transactions(log.column("virtual_transaction_id")),
            name=name_of,
            statement=batch.spread(_numbers(payload.column("statement_id"), -1), -1),
            label=set_label,
            renames=renames,
            time_us=batch.time_us,
        )
        ended = _true(pc.starts_with(batch.message, "disconnection: "))
        before = dict(self._runs.open_sessions)
        runs = self._runs.cut(records, ended)
        gaps = self._gaps(batch, runs)
        adopt_runs(session_of, served_as, runs, before)
        known, client, decided = self._decide(batch, served_as, name_of, runs, empties)
        columns = self._columns(batch, served_as, known, client, decided, runs)
        self._forget(session_of, ended)
        return Attributed(columns, gaps, new_evidence)

    # -- sessions and names -------------------------------------------------------------------

    def _number_sessions(self, batch: "_Batch") -> Ints:
        """A code per session, the same in every batch until the session ends."""
        encoded = _encoded(batch.log.column("session_id"))
        index = _indices(encoded)
        present, first = np.unique(index, return_index=True)
        codes = np.full(len(encoded.dictionary), -1, np.int64)
        for at, row in zip(present.tolist(), first.tolist(), strict=True):
            session_id = encoded.dictionary[at].as_py()
            code = self._session_codes.get(session_id)
            if code is None:
                code = self._session_codes[session_id] = self._next_code
                self._next_code += 1
                whole = batch.log.column("session_line_num")[row].as_py() == 1
                begun = int(batch.time_us[row]) if whole else started_us(session_id)
                pid = batch.log.column("process_id")[row].as_py()
                self._sessions[code] = Session(session_id, begun, pid)
            codes[at] = code
        return codes[index]

    def _learn_sessions(self, batch: "_Batch", session_of: Ints, next_seq: int) -> pa.Table:
        """Endpoint, database and role of the sessions in this batch, and who they belong to."""
        log = batch.log
        with_role = np.flatnonzero(_true(pc.is_valid(log.column("user_name"))))
        codes, first = np.unique(session_of[with_role], return_index=True)
        fresh = [
            (int(code), int(with_role[at]))
            for code, at in zip(codes, first, strict=True)
            if self._sessions[int(code)].role is None
        ]
        for code, row in fresh:
            session = self._sessions[code]
            session.endpoint = client_endpoint(log.column("connection_from")[row].as_py())
            session.database = log.column("database_name")[row].as_py()
            session.role = log.column("user_name")[row].as_py()
            place(session, self._evidence, self._rules)
            name_actor(session, None, self._rules)
        rows = []
        said = np.flatnonzero(_true(pc.starts_with(batch.message, "connection authenticated: ")))
        for row in said.tolist():
            external = read_authenticated(batch.message[row].as_py())
            if external is None:
                continue
            session = self._sessions[int(session_of[row])]
            session.endpoint = client_endpoint(log.column("connection_from")[row].as_py())
            name_actor(session, external, self._rules)
            session.evidence_seq = next_seq + len(rows)
            rows.append(
                {
                    "source": "postgresql",
                    "event": "session-authenticated",
                    "ts": log.column("log_time")[row].as_py(),
                    "connection": session.session_id,
                    "client_addr": session.endpoint[0] if session.endpoint else None,
                    "client_port": session.endpoint[1] if session.endpoint else None,
                    "actor": session.actor,
                    "authn": f"pg:{external[1]}",
                    "detail": external[0],
                    "source_offset": log.column("source_offset")[row].as_py(),
                }
            )
        return pa.Table.from_pylist(rows, schema=_SESSION_EVIDENCE)

    def _number_names(self, column: pa.ChunkedArray) -> Ints:
        encoded = _encoded(pc.fill_null(column.cast(TEXT), ""))
        codes = np.array([self._name(one) for one in encoded.dictionary.to_pylist()], np.int64)
        return codes[_indices(encoded)] if len(codes) else np.empty(0, np.int64)

    def _name(self, text: str) -> int:
        code = self._names.get(text)
        if code is None:
            code = self._names[text] = len(self._names)
            endpoint = suffix_endpoint(text)
            self._name_endpoint.append(
                self._evidence.endpoints.get(endpoint, -1) if endpoint else -1
            )
        return code

    def _read_settings(self, batch: "_Batch") -> tuple[Ints, Bools, Bools]:
        """For each record: the label a replay-form SET sets; does it rename; does it empty."""
        n = batch.log.num_rows
        label = np.full(n, -1, np.int64)
        renames = np.zeros(n, bool)
        empties = np.zeros(n, bool)
        is_setting = _true(
            pc.is_in(batch.payload.column("command").cast(TEXT), pa.array(["SET", "RESET", "DISCARD", "DISCARD ALL"]))
        )
        rows = batch.audit_rows[is_setting]
        encoded = _encoded(batch.payload.column("statement").cast(TEXT).filter(pa.array(is_setting)))
        read = [read_setting(text) for text in encoded.dictionary.to_pylist()]
        self._semicolons |= any(one.writing is Writing.REPLAY for one in read)
        replay_forms = {Writing.REPLAY}
        if not self._semicolons:  # pgAudit 17 and later cut the semicolon
            replay_forms.add(Writing.REPLAY_WITHOUT_SEMICOLON)
        labels = np.full(len(read) + 1, -1, np.int64)
        changes = np.zeros(len(read) + 1, bool)
        clears = np.zeros(len(read) + 1, bool)
        for at, one in enumerate(read):
            if one.writing in replay_forms:
                labels[at] = -2 if one.name is None else self._replayed_name(one.name)
            elif one.writing is not Writing.OTHER:
                changes[at] = True
                clears[at] = one.writing is Writing.EMPTIES
        index = _indices(encoded)
        label[rows], renames[rows], empties[rows] = labels[index], changes[index], clears[index]
        # A replay of the empty name is a reset that is played again.
        empties |= label == 0
        return label, renames, empties

    def _replayed_name(self, name: str) -> int:
        """Code of a replayed name; remembers the whole of one that the server will cut."""
        code = self._name(name)
        if is_cut(name):
            cut = name.encode()[:63].decode("utf-8", "ignore")
            if name != cut:
                self._uncut.setdefault(cut, set()).add(code)
        return code

    def _endpoint_of_names(self) -> Ints:
        """Endpoint code per name code; a name that was cut counts for the one whole it had."""
        endpoints = np.array(self._name_endpoint, np.int64)
        for text, code in self._names.items():
            if is_cut(text) and len(text.encode()) == 63:
                wholes = self._uncut.get(text, set())
                endpoints[code] = endpoints[next(iter(wholes))] if len(wholes) == 1 else -1
        return endpoints

    # -- deciding -----------------------------------------------------------------------------

    def _decide(
        self, batch: "_Batch", session_of: Ints, name_of: Ints, runs: Runs, empties: Bools
    ) -> tuple[Known, Ints, Attribution]:
        rows = batch.audit_rows
        codes, position = np.unique(session_of[rows], return_inverse=True)
        sessions = [self._sessions[int(code)] for code in codes]
        pool = np.array([self._pool(one) for one in sessions], np.int64)[position]
        unpooled = pool == UNPOOLED
        own = np.array(
            [
                -1 if one.endpoint is None else self._evidence.endpoints.get(one.endpoint, -1)
                for one in sessions
            ],
            np.int64,
        )[position]
        by_name = self._endpoint_of_names()
        labelled = (runs.label[rows] >= 0) & ~unpooled
        name = np.where(labelled, runs.label[rows], name_of[rows])
        endpoint = np.where(unpooled, own, by_name[name])
        client, matches = self._join(endpoint, pool, batch.time_us[rows])
        client, matches = self._same_database(sessions, position, unpooled, client, matches)
        at = np.maximum(client, 0)
        served = client >= 0
        leaked, overlong = self._doubts.apply(
            rows, pool, batch.time_us[rows], client, runs.fresh[rows],
            empties[rows] & (pool >= 0),
        )
        methods = {name: code for code, name in enumerate(rules_of.METHODS)}
        session_method = np.array(
            [methods[one.method] if one.method else -1 for one in sessions], np.int64
        )[position]
        known = Known(
            forged=batch.forged,
            unpooled=unpooled,
            pool=pool,
            background=np.array([one.role is None for one in sessions], bool)[position],
            pooler_method=self._pooler_method(batch, runs, unpooled, pool),
            labelled=labelled,
            has_endpoint=endpoint >= 0,
            matches=matches,
            client=client,
            client_named=served & _take(self._client_named, at),
            client_by_role=served & _take(self._client_by_role, at),
            client_contradicted=served & _take(self._client_contradicted, at),
            doubtful=runs.doubtful[rows],
            leaked=leaked,
            overlong=overlong,
            session_method=session_method,
            session_contradicted=np.array([one.contradicted for one in sessions], bool)[position],
            same_actor=self._same_actor(sessions, position, client),
        )
        return known, client, attribute(known)

    def _pool(self, session: Session) -> int:
        if session.pool == UNKNOWN and session.database and session.role:
            # Its beginning lies outside the pooler's log; PostgreSQL's own names may still be
            # those of a pool, but never prove that there is no pooler.
            return self._evidence.pools.get((session.database, session.role), UNKNOWN)
        return session.pool

    def _join(self, endpoint: Ints, pool: Ints, time_us: Ints) -> tuple[Ints, Ints]:
        """(client, how many) of each statement's endpoint, pool and time."""
        n = len(endpoint)
        client = np.full(n, -1, np.int64)
        wanted = np.flatnonzero(endpoint >= 0)
        if not len(wanted) or not self._served.num_rows:
            return client, np.zeros(n, np.int64)
        self._con.register(
            "statements",
            pa.table(
                {
                    "row": wanted,
                    "endpoint": endpoint[wanted],
                    "pool": pool[wanted],
                    "log_time": time_us[wanted],
                }
            ),
        )
        self._con.register("served", self._served)
        found = self._con.sql(self._sql).to_arrow_table()
        rows = found.column("row").to_numpy()
        client[rows] = found.column("client").to_numpy()
        return client, np.bincount(rows, minlength=n)

    def _same_database(
        self, sessions: list[Session], position: Ints, unpooled: Bools, client: Ints, matches: Ints
    ) -> tuple[Ints, Ints]:
        """Unpooled: an identity event that names another database or role isn't this session's."""
        pairs = np.flatnonzero(unpooled & (client >= 0))
        if not len(pairs):
            return client, matches
        databases = self._evidence.clients.column("database")
        roles = self._evidence.clients.column("db_role")
        stride = len(self._client_named)
        distinct, back = np.unique(position[pairs] * stride + client[pairs], return_inverse=True)
        fits = []
        for pair in distinct.tolist():
            session, one = sessions[pair // stride], pair % stride
            fits.append(
                databases[one].as_py() in (None, session.database)
                and roles[one].as_py() in (None, session.role)
            )
        wrong = pairs[~np.array(fits, bool)[back]]
        client[wrong], matches[wrong] = -1, 0
        return client, matches

    def _same_actor(self, sessions: list[Session], position: Ints, client: Ints) -> Bools:
        actors: dict[str | None, int] = {None: -1}
        of_client = np.array(
            [actors.setdefault(one, len(actors)) for one in self._evidence.client_actor] or [-1]
        )
        of_session = np.array([actors.get(one.actor, -2) for one in sessions], np.int64)[position]
        return np.asarray(of_session == np.where(client >= 0, of_client[np.maximum(client, 0)], -3))

    def _pooler_method(
        self, batch: "_Batch", runs: Runs, unpooled: Bools, pool: Ints
    ) -> Ints:
        """What PgBouncer writes on its own account."""
        rows = batch.audit_rows
        method = np.full(len(rows), -1, np.int64)
        if self._rules.pooler.kind == "none":
            return method
        encoded = _encoded(batch.payload.column("statement").cast(TEXT))
        texts = encoded.dictionary.to_pylist()
        index = _indices(encoded, null=len(texts))

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

    # -- columns ------------------------------------------------------------------------------

    def _columns(
        self,
        batch: "_Batch",
        session_of: Ints,
        known: Known,
        client: Ints,
        decided: Attribution,
        runs: Runs,
    ) -> pa.Table:
        n = len(client)
        chosen = pa.array(client, pa.int64(), mask=~decided.by_client)
        texts = {name: pc.take(column, chosen) for name, column in self._client_texts.items()}
        peer_port = pc.take(self._client_peer_port, chosen)
        evidence = pc.take(self._client_evidence, chosen)
        candidates = pa.nulls(n, TEXTS)
        if decided.by_session.any():
            texts, evidence = self._add_sessions(batch, session_of, decided, texts, evidence)
        if (decided.grade == rules_of.CANDIDATES).any():
            candidates = self._name_candidates(batch, session_of, known, client, decided)
        texts["email"] = self._emails(texts["actor"], texts["email"])
        findings = self._findings(batch, decided, runs)
        return pa.table(
            {
                "session_user_id": texts["actor"],
                "session_email": texts["email"],
                "actor_kind": texts["actor_kind"],
                "on_behalf_of": texts["on_behalf_of"],
                "peer_addr": texts["peer_addr"],
                "peer_port": peer_port,
                "session_authn": texts["authn"],
                "attribution_grade": _words(decided.grade, rules_of.GRADES),
                "attribution_method": _words(decided.method, rules_of.METHODS),
                "attribution_reason": _words(decided.reason, rules_of.REASONS),
                "attribution_evidence": evidence,
                "attribution_candidates": candidates,
                "findings": findings,
            }
        )

    def _add_sessions(
        self,
        batch: "_Batch",
        session_of: Ints,
        decided: Attribution,
        texts: dict[str, pa.Array],
        evidence: pa.Array,
    ) -> tuple[dict[str, pa.Array], pa.Array]:
        codes, position = np.unique(session_of[batch.audit_rows], return_inverse=True)
        sessions = [self._sessions[int(code)] for code in codes]
        index = pa.array(position, pa.int64(), mask=~decided.by_session)

        def spread(values: list[str | None]) -> pa.Array:
            return pc.take(pa.array(values, TEXT), index)

        def merged(name: str, values: list[str | None]) -> pa.Array:
            column = pc.coalesce(texts[name].cast(TEXT), spread(values))
            return column.dictionary_encode()

        texts["actor"] = merged("actor", [one.actor for one in sessions])
        texts["authn"] = merged("authn", [one.authn for one in sessions])
        ids = [
            None if one.evidence_seq is None else [self.evidence_id(one.evidence_seq)]
            for one in sessions
        ]
        added = pc.take(pa.array(ids, TEXTS), index)
        return texts, pc.if_else(pa.array(decided.by_session), added, evidence)

    def _emails(self, actors: pa.Array, emails: pa.Array) -> pa.Array:
        """An e-mail the events didn't give, from the operator's map."""
        declared = self._rules.actors.emails
        if not declared:
            return emails
        encoded = _encoded(actors)
        found = pa.array([declared.get(one) for one in encoded.dictionary.to_pylist()], TEXT)
        return pc.coalesce(emails.cast(TEXT), pc.take(found, encoded.indices)).dictionary_encode()

    def _name_candidates(
        self,
        batch: "_Batch",
        session_of: Ints,
        known: Known,
        client: Ints,
        decided: Attribution,
    ) -> pa.Array:
        """Fill in who it may have been; where nobody is known, the grade falls."""
        n = len(client)
        lists: list[list[str] | None] = [None]
        which = np.zeros(n, np.int64)
        undecided = (decided.grade == rules_of.CANDIDATES) & ~decided.conflict
        times = batch.time_us[batch.audit_rows]
        for pool in np.unique(known.pool[undecided]).tolist():
            here = np.flatnonzero(undecided & (known.pool == pool))
            moments, back = np.unique(times[here], return_inverse=True)
            answers = self._candidates.at(pool, moments) if pool >= 0 else None
            if answers is None:
                decided.grade[here] = rules_of.UNATTRIBUTED
                continue
            offset = len(lists)
            lists += [list(one.actors) or None for one in answers]
            nobody = np.array([one.distinct == 0 for one in answers], bool)[back]
            many = np.array([one.distinct > 0 and not one.actors for one in answers], bool)[back]
            which[here] = offset + back
            gone = here[nobody]
            decided.grade[gone] = rules_of.UNATTRIBUTED
            decided.method[gone] = rules_of.NONE
            decided.reason[here[many]] = rules_of.TOO_MANY
            decided.reason[gone] = rules_of.NO_CLIENT
            unidentified = np.array([one.unidentified > 0 for one in answers], bool)[back]
            plain = np.isin(decided.reason[here], (rules_of.NO_NAME, rules_of.NO_ENDPOINT))
            decided.reason[here[unidentified & plain & ~nobody]] = rules_of.UNIDENTIFIED_ALIVE
        for row in np.flatnonzero(decided.conflict).tolist():
            session = self._sessions[int(session_of[batch.audit_rows[row]])]
            people = {session.actor}
            if client[row] >= 0:
                people.add(self._evidence.client_actor[int(client[row])])
                people.add(self._rules.actors.roles.get(session.role or ""))
            which[row] = len(lists)
            lists.append(sorted(one for one in people if one is not None))
        return pc.take(pa.array(lists, TEXTS), pa.array(which))

    def _findings(self, batch: "_Batch", decided: Attribution, runs: Runs) -> pa.Array:
        drift = runs.drift[batch.audit_rows] & (runs.label[batch.audit_rows] >= 0)
        code = batch.forged * 4 + drift * 2 + decided.conflict * 1
        names = ("identity-conflict", "drift", "forged-line")
        lists = [
            [name for bit, name in enumerate(names) if value >> bit & 1] or None
            for value in range(8)
        ]
        return pc.take(pa.array(lists, TEXTS), pa.array(code.astype(np.int64)))

    def _gaps(self, batch: "_Batch", runs: Runs) -> pa.Table:
        """Holes in the numbering of sessions, and sessions whose beginning isn't here."""
        at = np.flatnonzero((runs.missing > 0) | runs.begins_unseen)
        where = pa.array(at)
        unseen = runs.begins_unseen[at]
        return pa.table(
            {
                "log_time": batch.log.column("log_time").take(where).combine_chunks(),
                "reason": pa.array(
                    np.where(unseen, "session-begins-before-log", "hole-in-session"), TEXT
                ),
                "session_id": batch.log.column("session_id").take(where).cast(TEXT).combine_chunks(),
                "missing": pa.array(runs.missing[at], pa.int64(), mask=unseen),
                "source_offset": batch.log.column("source_offset").take(where).combine_chunks(),
            }
        )

    def _forget(self, session_of: Ints, ended: Bools) -> None:
        for code in np.unique(session_of[ended]).tolist():
            session = self._sessions.pop(code)
            self._session_codes.pop(session.session_id, None)


_SESSION_EVIDENCE = pa.schema(
    [
        ("source", TEXT),
        ("event", TEXT),
        ("ts", TIME),
        ("connection", TEXT),
        ("client_addr", TEXT),
        ("client_port", pa.int32()),
        ("actor", TEXT),
        ("authn", TEXT),
        ("detail", TEXT),
        ("source_offset", pa.uint64()),
    ]
)


class _Batch:
    """One batch's columns in the forms that the rules need."""

    def __init__(self, log: pa.Table, audit_rows: Ints, payload: pa.Table) -> None:
        self.log = log
        self.audit_rows = audit_rows
        self.payload = payload
        self.message = log.column("message").combine_chunks()
        self.time_us = _numbers(log.column("log_time").cast(pa.int64()), 0)
        marked = pc.or_(pc.is_valid(log.column("context")), pc.is_valid(log.column("query")))
        self.forged = _true(marked)[audit_rows]

    def spread(self, values: Ints, missing: int) -> Ints:
        """Values of the pgAudit records, put where those stand among all records."""
        everywhere = np.full(self.log.num_rows, missing, np.int64)
        everywhere[self.audit_rows] = values
        return everywhere


def _numbers(column: pa.ChunkedArray, null: int) -> Ints:
    filled = pc.fill_null(column, null) if column.null_count else column
    return np.asarray(filled.to_numpy(), np.int64)


def _true(column: pa.Array | pa.ChunkedArray) -> Bools:
    filled = pc.fill_null(column, False) if column.null_count else column
    if isinstance(filled, pa.ChunkedArray):
        return np.asarray(filled.to_numpy(), bool)
    return np.asarray(filled.to_numpy(zero_copy_only=False), bool)


def _encoded(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.unify_dictionaries().chunk(0) if whole.num_chunks else pa.array([], TEXT)
    return whole if isinstance(whole, pa.DictionaryArray) else whole.dictionary_encode()


def _indices(encoded: pa.DictionaryArray, null: int = -1) -> Ints:
    return np.asarray(pc.fill_null(encoded.indices, null).to_numpy(), np.int64)


def _words(codes: Ints, words: tuple[str, ...]) -> pa.DictionaryArray:
    index = pa.array(codes.astype(np.int32), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(index, pa.array(words, TEXT))


def _take(values: Bools, at: Ints) -> Bools:
    return values[at] if len(values) else np.zeros(len(at), bool)


def _transactions(column: pa.ChunkedArray) -> Ints:
    """A number per virtual transaction (`backend/local id`), -1 outside any.

    Only neighbours within one session are compared, and there the backend's part is fixed, so
    that the digits alone tell transactions apart.
    """
    text = column.combine_chunks()
    idle = pc.or_kleene(pc.is_null(text), pc.ends_with(text, "/0"))
    digits = pc.if_else(pc.fill_null(idle, True), "-1", pc.replace_substring(text, "/", ""))
    return np.asarray(digits.cast(pa.int64()).to_numpy(), np.int64)
