"""Which client a server connection served, from the pooler's own log at `verbose=2`, joined in sequence.

Enters: the transactions of every server connection as the pooler saw them, in order, and the records of
the backend session at its other end. Leaves: per record the pooler's transaction that it belongs to.

Times alone tell few of them apart: many transactions fit into a millisecond. But PostgreSQL numbers the
virtual transactions of a backend one by one, and the pooler notes each of them, so that the difference
between the two counts stays what it is. A record whose time fits one transaction only fixes it; from
there on the numbers tell, and the times only have to agree. Where they don't, or where a statement may
have ended several transactions (`COMMIT` among others in one message, procedures), nothing is joined
until a time fixes the difference anew.
"""

import itertools
import re
from dataclasses import dataclass, field

import duckdb
import numpy as np

from scalple.correlate.logbatch import Bools, Ints

_SEVERAL = re.compile(r";\s*\S.*", re.DOTALL)
_ENDS = re.compile(r"\b(?:commit|rollback|end|abort|prepare|call)\b", re.IGNORECASE)
_CALLS = re.compile(r"\b(?:call|do)\b", re.IGNORECASE)
_NEVER = 2**62
SOON_US = 20_000
"""Within so much after the pooler's connect a session begins; otherwise the clocks differ."""
UNSEEN_SLACK_US = 5_000
"""Where a session's beginning wasn't seen, the clocks may differ by this."""


@dataclass(frozen=True, slots=True)
class ServerConnection:
    """The transactions of one server connection, in the order of the pooler's log."""

    since_us: Ints
    until_us: Ints
    is_client: Bools
    """A client's, rather than the pooler's own (settings, checks, resets)."""
    key: Ints
    """Key of the client's endpoint, or -1."""
    seq: Ints
    """Number of the event in the view `evidence`."""
    noted_us: Ints
    """When the pooler said so: then its client was there."""
    stretch: Ints
    """Changes where a line of the pooler's log must be missing."""
    applied: list[str | None]
    """The pooler's own text: the settings that it applied, a check, a reset."""
    held_since_us: Ints
    held_until_us: Ints
    """For how long the connection was that client's without a break."""
    connected_us: int
    """When it was opened."""
    links: bool
    """The pooler notes when it gives the connection to a client (1.21 and later)."""
    passed: int = 0
    """So many transactions came before these, and nothing to come belongs to them."""
    own_texts: frozenset[str] = frozenset()
    """What the pooler ever said there by itself."""


@dataclass(slots=True)
class Chain:
    """What is known at the end of a session's last batch."""

    offset: int | None = None
    """PostgreSQL's number of a transaction less the pooler's."""
    stretch: int = 0
    """The stretch of the pooler's log that it holds for."""
    barriers: tuple[int, ...] = ()
    """Beyond these virtual transactions the offset may be another one: the last two, ascending."""


@dataclass(slots=True)
class Pairing:
    """All server connections of the pooler's logs.

    Args:
        con: a DuckDB connection in which pairing.sql has run.
        endpoints: keys of endpoints.
    """

    _lives: dict[tuple[str, int], list[tuple[int, int]]] = field(default_factory=dict)
    _connections: dict[int, ServerConnection] = field(default_factory=dict)

    @classmethod
    def read(
        cls, con: duckdb.DuckDBPyConnection, endpoints: dict[tuple[str, int], int]
    ) -> "Pairing":
        """From what pairing.sql wrote."""
        self = cls()
        connected: dict[int, tuple[int, int]] = {
            server: (ts_us, passed)
            for server, ts_us, passed in con.sql(
                "SELECT server, epoch_us(ts), passed FROM server_lives"
            ).fetchall()
        }
        own_texts: dict[int, set[str]] = {}
        for server, text in con.sql("FROM own_texts").fetchall():
            own_texts.setdefault(server, set()).add(text)
        rows = con.sql(
            "SELECT server, client_addr, client_port, epoch_us(ts) FROM server_lives "
            "WHERE client_port IS NOT NULL AND server IN (SELECT server FROM transactions)"
        ).fetchall()
        for server, address, port, ts_us in rows:
            self._lives.setdefault((address, port), []).append((ts_us, server))
        table = con.sql(
            "SELECT server, kind = 'client' AS is_client, stretch, seq, client_addr, client_port, applied, "
            "epoch_us(noted) AS noted, epoch_us(since) AS since, coalesce(epoch_us(until), 1::BIGINT << 62) AS until "
            "FROM transactions ORDER BY server, ordinal"
        ).to_arrow_table()
        if not table.num_rows:
            return self
        server = table.column("server").to_numpy()
        known: dict[tuple[str | None, int | None], int] = {(None, None): -1}
        pairs = zip(
            table.column("client_addr").to_pylist(),
            table.column("client_port").to_pylist(),
            strict=True,
        )
        key = np.array(
            [known.setdefault(one, endpoints.get(one, -1)) for one in pairs],
            np.int64,
        )
        linking = {row[0] for row in con.sql("FROM linking").fetchall()}
        bounds = [*np.flatnonzero(np.diff(server, prepend=-1)).tolist(), len(server)]
        for begin, end in itertools.pairwise(bounds):
            part = table.slice(begin, end - begin)
            one = int(server[begin])
            since = np.maximum.accumulate(part.column("since").to_numpy())
            until = np.maximum.accumulate(part.column("until").to_numpy())
            self._connections[one] = ServerConnection(
                since,
                until,
                np.asarray(part.column("is_client").to_numpy(), bool),
                key[begin:end],
                part.column("seq").to_numpy().astype(np.int64),
                part.column("noted").to_numpy(),
                part.column("stretch").to_numpy().astype(np.int64),
                part.column("applied").to_pylist(),
                *_held(key[begin:end], since, until),
                connected[one][0],
                one in linking,
                connected[one][1],
                frozenset(own_texts.get(one, ())),
            )
        return self

    def __bool__(self) -> bool:
        return bool(self._connections)

    def connection(self, endpoint: tuple[str, int], begun_us: int, slack_us: int) -> int:
        """The pooler's server connection that a session is the other end of, or -1."""
        fits = [
            server
            for ts_us, server in self._lives.get(endpoint, ())
            if abs(ts_us - begun_us) <= slack_us
        ]
        return fits[0] if len(fits) == 1 else -1

    def slack_us(self, server: int, begun_us: int, begun_until_us: int, skew_us: int) -> int:
        """By how much two clocks may differ: what is declared, or what a session's beginning shows."""
        if server < 0:
            return 0
        if begun_us != begun_until_us:
            return UNSEEN_SLACK_US + skew_us
        late = begun_us - self._connections[server].connected_us
        return max(0 if 0 <= late <= SOON_US else abs(late) + 1000, skew_us)

    def of(self, server: int) -> ServerConnection:
        """That connection's transactions."""
        return self._connections[server]


def _held(key: Ints, since: Ints, until: Ints) -> tuple[Ints, Ints]:
    """Per transaction from when to when one client had the connection."""
    changes = np.flatnonzero(np.diff(key))
    firsts, lasts = np.append(0, changes + 1), np.append(changes, len(key) - 1)
    lengths = lasts - firsts + 1
    return np.repeat(since[firsts], lengths), np.repeat(until[lasts], lengths)


@dataclass(frozen=True, slots=True)
class SessionRecords:
    """The records of one session, in order."""

    transaction: Ints
    time_us: Ints
    time_end_us: Ints
    is_replay: Bools
    """It has the form in which the pooler applies settings."""
    several: Bools
    """It may have ended more than one transaction."""
    texts: list[str | None]
    """The records' statements."""
    slack_us: int
    """By how much the two clocks may differ."""


def pair(server: ServerConnection, records: SessionRecords, chain: Chain) -> Ints:
    """Per record the number of the transaction in `server`, or -1; `chain` is brought up to date."""
    n = len(records.transaction)
    total = len(server.since_us)
    inside = records.transaction >= 0
    lo = np.searchsorted(server.until_us, records.time_us - records.slack_us, side="left")
    hi = np.searchsorted(server.since_us, records.time_end_us + records.slack_us, side="right") - 1
    # The pooler's own statements, or a client's of the same form: nothing stops a client from sending one.
    own_form = records.is_replay.copy()
    own_form |= np.array([text in server.own_texts for text in records.texts], bool)
    only = _only(server, own_form, lo, hi)
    # A client that leaves in the middle leaves no note before 1.21: then a time at the very end of a
    # transaction may be that of one which isn't there.
    at = np.maximum(only, 0)
    sure = (only >= 0) & inside
    new = server.stretch[1:] != server.stretch[:-1]
    ends = _ends(server) if server.links else np.ones(total, bool)
    sure &= ~ends[at] | (records.time_end_us + records.slack_us < server.until_us[at])
    # A stretch may follow a transaction that isn't there.
    begun = np.maximum.accumulate(np.where(np.append(False, new), np.arange(total), 0))
    begun_us = np.where(begun > 0, server.since_us[begun], -_NEVER)
    sure &= records.time_us - records.slack_us > begun_us[at]
    only = np.where(sure, only, -1)
    own = records.transaction - only - server.passed
    barrier = records.several & inside
    stretch = server.stretch[np.maximum(only, 0)]
    broken = inside & (only >= 0) & ~_may_be(server, np.maximum(only, 0), records)
    witness = (only >= 0) & inside & ~records.several & ~broken
    fixed = _Fixed(witness, own, stretch, barrier)
    last, offset, holds, known = _offsets(records.transaction, fixed, broken, chain)
    number = records.transaction - offset - server.passed
    place = np.clip(number, 0, max(total - 1, 0))
    known &= inside & (server.stretch[place] == holds)
    fits = known & (number >= np.maximum(lo, 0)) & (number <= np.minimum(hi, total - 1))
    fits &= _may_be(server, place, records)
    # Where numbers and times disagree first, the numbers hold no longer.
    wrong = np.flatnonzero(known & ~fits)
    _, firsts = np.unique(last[wrong], return_index=True)
    broken[wrong[firsts]] = True
    after = np.maximum.accumulate(np.where(broken, np.arange(n), -1)) > last
    found = np.where(fits & ~after & ~broken, number, -1)
    # Several transactions in one message: they are all the client's whose time alone fits.
    alone = (found < 0) & (only >= 0) & records.several & ~broken
    found = np.where(alone, only, found)
    _carry(records.transaction, fixed, broken, chain)
    return found


def _ends(server: ServerConnection) -> Bools:
    """Transactions after which a client's may be missing: the next one is another stretch's, or isn't
    there."""
    total = len(server.stretch)
    later = np.where(server.is_client, np.arange(total), total)
    following = np.minimum.accumulate(later[::-1])[::-1]
    following = np.append(following[1:], total)
    stretch = np.append(server.stretch, -1)
    return np.asarray(stretch[following] != server.stretch)


def _may_be(server: ServerConnection, place: Ints, records: SessionRecords) -> Bools:
    """Whether each record can be one of that transaction's: a client may send anything, the pooler its own
    text."""
    fits = server.is_client[place].copy()
    for row in np.flatnonzero(~fits).tolist():
        fits[row] = server.applied[int(place[row])] == records.texts[row]
    return np.asarray(fits)


def _only(server: ServerConnection, own_form: Bools, lo: Ints, hi: Ints) -> Ints:
    """The one transaction whose time fits, or -1: of a client's, or of all where it may be either's."""
    total = len(server.since_us)
    found = np.full(len(lo), -1)
    everything = np.ones(total, bool)
    for kinds, of_kind in ((server.is_client, ~own_form), (everything, own_form)):
        places = np.flatnonzero(kinds)
        rows = np.flatnonzero(of_kind)
        if not len(places) or not len(rows):
            continue
        first = np.searchsorted(places, lo[rows], side="left")
        last = np.searchsorted(places, np.minimum(hi[rows], total - 1), side="right") - 1
        one = (first == last) & (first < len(places))
        found[rows[one]] = places[first[one]]
    return found


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What single records say of the offset."""

    witness: Bools
    """Its time or text fixes it."""
    own: Ints
    """The offset that it fixes."""
    stretch: Ints
    barrier: Bools
    """Beyond its transaction it may be another."""


def _offsets(
    transaction: Ints, fixed: "_Fixed", broken: Bools, chain: Chain
) -> tuple[Ints, Ints, Ints, Bools]:
    """Per record the last one that fixed the offset, the offset, the stretch that it holds for,
    and whether there is one."""
    index = np.arange(len(transaction))
    last = np.maximum.accumulate(np.where(fixed.witness & ~broken, index, -1))
    offset = np.where(last >= 0, fixed.own[np.maximum(last, 0)], chain.offset or 0)
    holds = np.where(last >= 0, fixed.stretch[np.maximum(last, 0)], chain.stretch)
    known = (last >= 0) | (chain.offset is not None)
    known &= np.maximum.accumulate(np.where(broken, index, -1)) <= last
    # A barrier bars what comes after its own transaction.
    beyond = np.maximum.accumulate(np.concatenate([[-1], np.where(fixed.barrier, transaction, -1)]))
    new = np.concatenate([[True], transaction[1:] != transaction[:-1]])
    begun = np.maximum.accumulate(np.where(new, index, 0))
    since = np.where(last >= 0, transaction[np.maximum(last, 0)], -1)
    barred = beyond[begun]
    for one in chain.barriers:
        barred = np.where(transaction > one, np.maximum(barred, one), barred)
    blocked = (barred >= 0) & (barred >= since)
    return last, offset, holds, known & ~(blocked & (last != index))


def _carry(transaction: Ints, fixed: "_Fixed", broken: Bools, chain: Chain) -> None:
    """What the next batch has to know."""
    places = np.flatnonzero(fixed.witness & ~broken)
    breaks = np.flatnonzero(broken)
    since = -1
    if len(places):
        chain.offset = int(fixed.own[places[-1]])
        chain.stretch = int(fixed.stretch[places[-1]])
        since = int(transaction[places[-1]])
    if len(breaks) and (not len(places) or breaks[-1] > places[-1]):
        chain.offset = None
    barred = {*transaction[fixed.barrier].tolist(), *chain.barriers}
    chain.barriers = tuple(sorted(one for one in barred if one >= since)[-2:])


def may_end_several(text: str | None) -> bool:
    """Whether a statement's message may have ended more than one transaction.

    Besides several statements in one message only code in a DO block or a procedure may.
    """
    if text is None:
        return True
    inside = _CALLS.search(text) or (";" in text and _SEVERAL.search(text))
    return bool(inside and _ENDS.search(text))
