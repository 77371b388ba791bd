"""The sessions of the log so far: a number for each, and what is known of it as a whole.

Enters: batches of log records. Leaves: a code per record, the sessions behind the codes, and a row
of evidence for each session whose client PostgreSQL authenticated by name. Sessions are forgotten
when they end.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.evidence import Endpoint, Evidence
from scalple.correlate.logbatch import (
    Bools,
    Ints,
    LogBatch,
    codes_of,
    where_true,
)
from scalple.correlate.processes import Completed
from scalple.correlate.rules import Rules
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
from scalple.ingest.records import TEXT, TIME

SESSION_EVIDENCE = pa.schema(
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


class SessionBook:
    """Open sessions, by code.

    Args:
        evidence: which sessions are a pooler's.
        rules: who is behind PostgreSQL's own names.
    """

    def __init__(self, evidence: Evidence, rules: Rules) -> None:
        self._evidence = evidence
        self._rules = rules
        self._codes: dict[str, int] = {}
        self._next_code = 0
        self._begun: dict[Endpoint, int] = {}
        self.open: dict[int, Session] = {}

    def renew(self, evidence: Evidence) -> None:
        """Go on with what is known by now: of a session's pool, for example."""
        self._evidence = evidence
        for session in self.open.values():
            if session.role is not None:
                before = session.pool
                session.pool, session.server, session.slack_us = UNKNOWN, -1, 0
                place(session, evidence, self._rules)
                # The pooler's note of its beginning may be forgotten once it says that it ended it.
                if before >= 0 and session.pool < 0:
                    session.pool = before if session.pool == UNPOOLED else UNKNOWN

    def number(self, batch: LogBatch, whole: Completed) -> Ints:
        """A code per session, the same in every batch until the session ends."""
        encoded = whole.session
        index = codes_of(encoded)
        present, first = np.unique(index, return_index=True)
        codes = np.full(len(encoded.dictionary), -1, np.int64)
        for at, row in zip(present.tolist(), first.tolist(), strict=True):
            session_id = encoded.dictionary[at].as_py()
            code = self._codes.get(session_id)
            if code is None:
                code = self._codes[session_id] = self._next_code
                self._next_code += 1
                pid = batch.log.column("process_id")[row].as_py()
                begun, until = int(batch.time_us[row]), int(batch.time_end_us[row])
                if not whole.begins[row]:
                    begun, until = started_us(session_id)
                self.open[code] = Session(session_id, begun, until, pid)
            codes[at] = code
        return codes[index]

    def learn(self, batch: LogBatch, session_of: Ints, next_seq: int) -> pa.Table:
        """Endpoint, database and role of the sessions in this batch, and who they belong to."""
        log = batch.log
        with_role = np.flatnonzero(where_true(pc.is_valid(log.column("user_name"))))
        codes, first = np.unique(session_of[with_role], return_index=True)
        fresh = [
            (int(code), int(with_role[at]))
            for code, at in zip(codes, first, strict=True)
            if self.open[int(code)].role is None
        ]
        for code, row in fresh:
            session = self.open[code]
            came_from = log.column("connection_from")[row].as_py()
            session.endpoint = client_endpoint(came_from)
            session.local = (came_from or "").startswith("[local]")
            self._follows(session)
            session.database = log.column("database_name")[row].as_py()
            session.role = log.column("user_name")[row].as_py()
            place(session, self._evidence, self._rules)
            name_actor(session, None, self._rules)
        rows: list[dict[str, object]] = []
        said = np.flatnonzero(batch.begins("connection authenticated: "))
        for row in said.tolist():
            external = read_authenticated(batch.message[row].as_py())
            if external is None:
                continue
            session = self.open[int(session_of[row])]
            session.endpoint = client_endpoint(log.column("connection_from")[row].as_py())
            name_actor(session, external, self._rules)
            session.evidence_seq = next_seq + len(rows)
            rows.append(
                {
                    "source": "postgresql",
                    "event": "session-authenticated",
                    "ts": log.column("log_time")[row].as_py(),
                    "connection": batch.log.column("session_id")[row].as_py(),
                    "client_addr": session.endpoint[0] if session.endpoint else None,
                    "client_port": session.endpoint[1] if session.endpoint else None,
                    "actor": session.actor,
                    "authn": f"pg:{external[1]}",
                    "detail": external[0],
                    "source_offset": log.column("source_offset")[row].as_py(),
                }
            )
        return pa.Table.from_pylist(rows, schema=SESSION_EVIDENCE)

    def _follows(self, session: Session) -> None:
        """Note when the session before it at its endpoint began."""
        if session.endpoint is not None:
            session.begun_before_us = self._begun.get(session.endpoint)
            self._begun[session.endpoint] = session.begun_until_us

    def forget(self, session_of: Ints, ended: Bools) -> None:
        for code in np.unique(session_of[ended]).tolist():
            session = self.open.pop(code)
            self._codes.pop(session.session_id, None)
