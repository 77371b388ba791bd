"""Which client each statement's server connection served, batch by batch.

Enters: a batch's records, their sessions and runs. Leaves: per pgAudit record the client whom the
pooler's log shows, if `pairing` could join the two, and the number of that event. Keeps a chain per open
session.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc

from scalple.correlate.evidence import Evidence
from scalple.correlate.logbatch import (
    Bools,
    Ints,
    LogBatch,
    codes_of,
    dictionary_encoded,
    take,
    where_true,
)
from scalple.correlate.pairing import Chain, SessionRecords, may_end_several, pair
from scalple.correlate.served import Served
from scalple.correlate.sessions import Session


@dataclass(frozen=True, slots=True)
class Links:
    """Per pgAudit record."""

    client: Ints
    """Client, or -1."""
    seq: Ints
    """Number of the event in the view `evidence`, or -1."""
    held: Bools
    """The server connection was that client's before the statement and after it."""
    person: Bools
    """Who is behind the client at that moment is known as well."""


@dataclass(slots=True)
class Linked:
    """Joins statements with the pooler's pairing lines.

    Args:
        evidence: the pooler's transactions.
        served: clients by endpoint and time.
    """

    evidence: Evidence
    served: Served
    _chains: dict[int, Chain] = field(default_factory=dict)

    def renew(self, evidence: Evidence, served: Served) -> None:
        """Go on with what is known by now: transactions that were known keep their places."""
        self.evidence, self.served = evidence, served

    def find(
        self,
        batch: LogBatch,
        session_of: Ints,
        sessions: dict[int, Session],
        transaction: Ints,
        replay: Bools,
        pool: Ints,
        name_key: Ints,
    ) -> Links:
        """Clients of the batch's pgAudit records.

        Args:
            batch: the records.
            session_of: a code per session, for each record.
            sessions: the open sessions.
            transaction: number of the virtual transaction, for each record; -1 if unknown.
            replay: which records have the form in which the pooler applies settings.
            pool: pool of each pgAudit record; negative if there is none.
            name_key: key of the application_name that each pgAudit record bears, or -1.
        """
        rows = batch.audit_rows
        n = len(rows)
        nothing = np.full(n, -1)
        if not self.evidence.pairing:
            return Links(nothing, nothing, np.zeros(n, bool), np.zeros(n, bool))
        key, seq, held = nothing, nothing.copy(), np.zeros(n, bool)
        until, at_us = np.full(n, 2**62), nothing.copy()
        self._begin(batch, session_of, transaction)
        place = np.full(batch.log.num_rows, -1)
        place[rows] = np.arange(n)
        several, texts, index = self._several(batch)
        wanted = np.union1d(rows, np.flatnonzero(several))
        for code in np.unique(session_of[wanted]).tolist():
            server = sessions[code].server
            if server < 0:
                continue
            here = wanted[session_of[wanted] == code]
            connection = self.evidence.pairing.of(server)
            records = SessionRecords(
                transaction[here],
                batch.time_us[here],
                batch.time_end_us[here],
                replay[here],
                several[here],
                [texts[one] for one in index[here].tolist()],
                sessions[code].slack_us,
            )
            found = pair(connection, records, self._chains.setdefault(code, Chain()))
            at = place[here]
            joined = (found >= 0) & (at >= 0)
            key[at[joined]] = connection.key[found[joined]]
            seq[at[joined]] = connection.seq[found[joined]]
            until[at[joined]] = connection.until_us[found[joined]]
            at_us[at[joined]] = connection.noted_us[found[joined]]
            before = connection.held_since_us[found] + records.slack_us < records.time_us
            after = records.time_end_us + records.slack_us < connection.held_until_us[found]
            held[at[joined]] = (before & after)[joined]
        # A statement may be logged after its client was seen to leave.
        times = np.minimum(batch.time_us[rows], until)
        ends = np.minimum(batch.time_end_us[rows], until)
        client, matches = self.served.join(key, pool, times, ends, at_us)
        found = np.where(matches >= 1, client, -1)
        person = self._by_tag(key, found, matches, pool, times, ends, name_key)
        joined = found >= 0
        return Links(found, np.where(joined, seq, -1), held & joined, person)

    def _by_tag(
        self,
        key: Ints,
        client: Ints,
        matches: Ints,
        pool: Ints,
        times: Ints,
        ends: Ints,
        name_key: Ints,
    ) -> Bools:
        """Whether it is known who was behind each client; a tagged one is found by its tag.

        Times only tell the connection: the person may have changed in that very millisecond, or the
        event that says so may be missing. The name that the record bears tells the person, if it is a
        tag of that endpoint.
        """
        evidence = self.evidence
        tagged = take(evidence.client_tag >= 0, np.maximum(client, 0))
        person: Bools = (client >= 0) & (matches == 1) & ~tagged
        same = (client >= 0) & (evidence.connection_of.of(name_key) >= 0)
        rows = np.flatnonzero(same & (evidence.endpoint_of(name_key) == key))
        found, count = self.served.join(name_key[rows], pool[rows], times[rows], ends[rows])
        sure = count == 1
        client[rows[sure]], person[rows[sure]] = found[sure], True
        return person

    def _begin(self, batch: LogBatch, session_of: Ints, transaction: Ints) -> None:
        """Where the numbering starts: a client is authorized in the session's very first transaction
        (postinit.c, InitPostgres()), and the pooler's first one is the next."""
        authorized = batch.begins("connection authorized: ") & (transaction >= 0)
        for row in np.flatnonzero(authorized).tolist():
            self._chains.setdefault(int(session_of[row]), Chain(int(transaction[row]) + 1))

    def _several(self, batch: LogBatch) -> tuple[Bools, list[str | None], Ints]:
        """Which records may have ended several transactions; the distinct texts, and each one's."""
        encoded = dictionary_encoded(batch.payload.column("statement"))
        distinct = encoded.dictionary.to_pylist()
        several = np.zeros(batch.log.num_rows, bool)
        by_text = np.array([*(may_end_several(one) for one in distinct), True], bool)
        several[batch.audit_rows] = by_text[codes_of(encoded)]
        quoted = np.flatnonzero(where_true(pc.is_valid(batch.log.column("query"))))
        for row in quoted.tolist():
            several[row] |= may_end_several(batch.log.column("query")[row].as_py())
        return several, [*distinct, None], batch.spread(codes_of(encoded), -1)

    def forget(self, session_of: Ints, ended: Bools) -> None:
        """Sessions that are over."""
        for code in np.unique(session_of[ended]).tolist():
            self._chains.pop(code, None)
