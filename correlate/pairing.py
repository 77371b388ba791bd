"""Which client a server connection served, from the pooler's own log at `verbose=2`, joined in sequence.

Enters: the transactions of every server connection as the pooler saw them, in order, and the records of
the backend session at its other end. Leaves: per record the pooler's transaction that it belongs to.

Times alone tell few of them apart: many transactions fit into a millisecond. But PostgreSQL numbers the
virtual transactions of a backend one by one, and the pooler notes each of them: from one to the next the
place in the pooler's log rises by one, or stays where both may have stood in one message (behind the end
of a block, within a procedure). So each record has a range of places, which times make narrower; where
numbers and times disagree, or a line of the pooler's log must be missing, the range begins anew.
"""

import itertools
import re
from dataclasses import dataclass, field

import duckdb
import numpy as np

from scalple.correlate.logbatch import Bools, Ints

_SEVERAL = re.compile(r";\s*\S.*", re.DOTALL)
_ENDS = re.compile(r"\b(?:commit|rollback|end|abort|prepare|call)\b", re.IGNORECASE)
_SINGLE = re.compile(
    r"(?:\s|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*"
    r"(?:select|insert|update|delete|merge|with|values|table|copy|execute|explain|declare|fetch|move|close"
    r"|set|reset|show|discard|begin|start|savepoint|release|prepare(?!\s+transaction)|deallocate|lock"
    r"|listen|unlisten|notify)\b",
    re.IGNORECASE,
)
"""What leaves the transaction open, or ends with its message. Not what ends a block: in a pipeline, and after
AND CHAIN, the next one stands in the same message. Not VACUUM and the like: they make several by themselves."""
_NEVER = 2**62
_NOWHERE = -2
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
    """What is known at the end of a session's last batch, of the place of its last transaction: places are
    counted from the server connection's first one."""

    transaction: int = -1
    """PostgreSQL's number of it."""
    least: int = -_NEVER
    most: int = _NEVER
    stretch: int = 0
    """The stretch of the pooler's log that this holds for."""
    several: bool = False
    """The next one may be in the same of the pooler's transactions."""
    statement: int = -1
    """pgAudit's number of the last statement."""
    tells_ends: bool = False
    """The session's commands are logged, so that what ends a transaction is."""

    @classmethod
    def begun(cls, authorized: int) -> "Chain":
        """Of a session whose client was authorized in that transaction: the pooler's first is the next one."""
        return cls(authorized, -1, -1)


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
    """Another transaction may follow in the same of the pooler's."""
    continues: Bools
    """It is of the same statement as the record before it."""
    texts: list[str | None]
    """The records' statements."""
    slack_us: int
    """By how much the two clocks may differ."""


def pair(server: ServerConnection, records: SessionRecords, chain: Chain) -> Ints:
    """Per record the number of the transaction in `server`, or -1; `chain` is brought up to date.

    From one virtual transaction to the next the place rises by one, or stays where both may stand in one
    message. Times say where it can be at all. What is left is a range for each record; it is joined where all
    clients' transactions in it are one client's.
    """
    n = len(records.transaction)
    found = np.full(n, -1)
    rows = np.flatnonzero(records.transaction >= 0)
    if not len(rows) or not len(server.since_us):
        return found
    bounds = _Bounds.of(server, records, rows)
    least, most, anew = _steps(records, rows, chain)
    begin, stretch = 0, chain.stretch
    first, last = chain.least - server.passed, chain.most - server.passed
    while begin < len(rows):
        end = begin + _length(bounds.stretch[begin:], anew[begin:])
        if bounds.stretch[begin] != stretch or anew[begin]:
            stretch, first, last = int(bounds.stretch[begin]), -_NEVER, _NEVER
        part = slice(begin, end)
        before = begin - 1
        rise = least[part] - (least[before] if begin else 0)
        reach = most[part] - (most[before] if begin else 0)
        low = rise + np.maximum.accumulate(np.maximum(first, bounds.low[part] - rise))
        high = reach + np.minimum.accumulate(np.minimum(last, bounds.high[part] - reach))
        known = (low > -_NEVER // 2) & (high < _NEVER // 2)
        place = np.where(known, bounds.choose(server, part, low, high), -1)
        # Where numbers and times disagree, the numbers hold no longer.
        against = np.flatnonzero((low > high) | (place == _NOWHERE) | bounds.nowhere[part])
        if len(against):
            end = begin + int(against[0]) + 1
            place = place[: int(against[0])]
            found[rows[begin : end - 1]] = place
            first, last = -_NEVER, _NEVER
        else:
            found[rows[part]] = place
            first, last = int(low[-1]), int(high[-1])
        begin = end
    chain.least = max(first + server.passed, -_NEVER) if first > -_NEVER // 2 else -_NEVER
    chain.most = last + server.passed if last < _NEVER // 2 else _NEVER
    chain.stretch = stretch
    return found


def _length(stretch: Ints, anew: Bools) -> int:
    """How many of the first belong together."""
    other = np.flatnonzero((stretch != stretch[0])[1:] | anew[1:])
    return int(other[0]) + 1 if len(other) else len(stretch)


def _steps(records: SessionRecords, rows: Ints, chain: Chain) -> tuple[Ints, Ints, Bools]:
    """By how much the place has risen since the last batch, at least and at most, and where another numbering
    begins; brings the chain up to date."""
    number = records.transaction[rows]
    several = records.several[rows]
    before = np.append(chain.transaction, number[:-1])
    new = number != before
    # Whether any record of each transaction, of those so far, leaves it open what follows.
    group = np.cumsum(new)
    open_end = np.zeros(int(group[-1]) + 1, bool)
    open_end[0] = chain.several
    np.logical_or.at(open_end, group, several)
    step = np.maximum(number - before, 0)
    source = open_end[np.maximum(group - 1, 0)]
    sure = np.where(several, np.minimum(step, 1), step)
    sure = np.where(source | records.continues[rows], 0, sure)
    chain.transaction, chain.several = int(number[-1]), bool(open_end[int(group[-1])])
    return np.cumsum(sure), np.cumsum(step), number < before


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What times say of each record: where it can be, and what follows from it."""

    low: Ints
    """It is there or later; far below where it may be in a transaction that isn't noted."""
    high: Ints
    nowhere: Bools
    """No transaction fits."""
    stretch: Ints
    """Of the pooler's log; -1 where it may be in either of two."""
    first: Ints
    """The transactions whose time fits: from here to `last`."""
    last: Ints
    own_form: Bools
    """The pooler may have said it."""
    texts: list[str | None]
    next_client: Ints
    """Per place, the first of a client's from there on."""
    last_client: Ints
    """Per place, the last of a client's up to there; -1: none."""
    run: Ints
    """Per place, a number for the client whose transactions follow each other there."""

    @classmethod
    def of(cls, server: ServerConnection, records: SessionRecords, rows: Ints) -> "_Bounds":
        """Of the records in these rows."""
        total = len(server.since_us)
        time, time_end = records.time_us[rows], records.time_end_us[rows]
        slack = records.slack_us
        lo = np.searchsorted(server.until_us, time - slack, side="left")
        hi = np.searchsorted(server.since_us, time_end + slack, side="right") - 1
        texts = [records.texts[row] for row in rows.tolist()]
        # The pooler's own statements, or a client's of the same form: nothing stops one from sending it.
        own_form = records.is_replay[rows].copy()
        own_form |= np.array([text in server.own_texts for text in texts], bool)
        places = np.arange(total)
        after = np.where(server.is_client, places, total)
        next_client = np.append(np.minimum.accumulate(after[::-1])[::-1], total)
        last_client = np.maximum.accumulate(np.where(server.is_client, places, -1))
        low = np.where(own_form, lo, next_client[np.minimum(lo, total)])
        high = np.where(own_form, hi, np.where(hi >= 0, last_client[np.maximum(hi, 0)], -1))
        nowhere = low > high
        low_at, high_at = np.clip(low, 0, total - 1), np.clip(high, 0, total - 1)
        stretch = np.where(
            server.stretch[low_at] == server.stretch[high_at], server.stretch[low_at], -1
        )
        # A client that leaves in the middle leaves no note before 1.21, and a line may be missing where a
        # stretch ends: then a time at the very edge may be that of a transaction which isn't there.
        new = np.append(False, server.stretch[1:] != server.stretch[:-1])
        begun = np.maximum.accumulate(np.where(new, places, 0))
        begun_us = np.where(begun > 0, server.since_us[begun], -_NEVER)
        ends = _ends(server) if server.links else np.ones(total, bool)
        low = np.where(time - slack > begun_us[low_at], low, -_NEVER)
        inside = ~ends[high_at] | (time_end + slack < server.until_us[high_at])
        high = np.where(inside, high, _NEVER)
        keys = np.where(server.is_client, server.key, -2)
        shown = keys[np.maximum(last_client, 0)]
        run = np.cumsum(np.append(True, shown[1:] != shown[:-1]))
        return cls(
            low, high, nowhere, stretch, lo, hi, own_form, texts, next_client, last_client, run
        )

    def choose(self, server: ServerConnection, part: slice, low: Ints, high: Ints) -> Ints:
        """Of records whose place is from `low` to `high` the one that they are joined with; -1 where it may be
        several clients', `_NOWHERE` where there is none."""
        total = len(server.since_us)
        own_form = self.own_form[part]
        first = np.clip(np.maximum(low, self.first[part]), 0, total)
        last = np.clip(np.minimum(high, self.last[part]), -1, total - 1)
        begin = np.where(own_form, first, self.next_client[first])
        end = np.where(
            own_form, last, np.where(last >= 0, self.last_client[np.maximum(last, 0)], -1)
        )
        empty = begin > end
        begin, end = np.minimum(begin, total - 1), np.maximum(end, 0)
        one = np.where(own_form, begin == end, self.run[begin] == self.run[end])
        place = np.where(empty, _NOWHERE, np.where(one, begin, -1))
        texts = self.texts[part]
        for at in np.flatnonzero(own_form & (place >= 0)).tolist():
            where = int(place[at])
            if not server.is_client[where] and server.applied[where] != texts[at]:
                place[at] = _NOWHERE
        return place


def _ends(server: ServerConnection) -> Bools:
    """Transactions after which a client's may be missing: the next one is another stretch's, or isn't
    there."""
    total = len(server.stretch)
    later = np.where(server.is_client, np.arange(total), total)
    following = np.minimum.accumulate(later[::-1])[::-1]
    following = np.append(following[1:], total)
    stretch = np.append(server.stretch, -1)
    return np.asarray(stretch[following] != server.stretch)


def may_end_several(text: str | None) -> bool:
    """Whether another transaction may follow a statement's in the same of the pooler's."""
    if text is None or not _SINGLE.match(text):
        return True
    return bool(";" in text and _SEVERAL.search(text) and _ENDS.search(text))
