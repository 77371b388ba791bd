"""Which session a record belongs to, and whose it is, where the log names only the process.

Enters: batches of log records, of which some lack session id, role, database, endpoint. Leaves: a
key per session, and those fields filled in from what the server itself said when the connection came
and was let in (`connection received`, `connection authorized`). A process id is used again: a life
of it begins when a connection comes, when pgAudit's numbering begins anew, or after the session
before has ended. Nothing is filled in from what comes later in the log, so that the size of batches
changes nothing. Records that name their session pass unchanged.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.logbatch import (
    Bools,
    Ints,
    codes_of,
    dictionary_encoded,
    is_log,
    where_in,
    where_true,
)
from scalple.ingest.localised import SEVERITIES
from scalple.ingest.records import TEXT, Lacks

RECEIVED = "connection received: "
AUTHORIZED = "connection authorized: "
ENDED = "disconnection: "

# src/backend/utils/init/postinit.c and postmaster.c. Whoever is authorized is a role of the server:
# what a client may choose, its application_name, comes last.
_RECEIVED = re.compile(r"connection received: host=(?P<host>\S+)(?: port=(?P<port>\d{1,5}))?\Z")
_AUTHORIZED = re.compile(
    r"connection authorized: user=(?P<role>.*?) database=(?P<database>.*?)"
    r"(?: application_name=.*?)?(?: SSL enabled \(.*\))?(?: GSS \(.*\))?\Z",
    re.DOTALL,
)
_BREAKS = (
    r"^(?:starting PostgreSQL |database system is shut down|database system was |"
    r"all server processes terminated|terminating any other active server processes|"
    r"server process \(PID |parameter \"log_(?:dis)?connections\" changed to )"
)
_FATAL = pa.array([*SEVERITIES["FATAL"].split(), *SEVERITIES["PANIC"].split()], TEXT)
_COLUMNS = (
    ("user_name", Lacks.USER),
    ("database_name", Lacks.DATABASE),
    ("connection_from", Lacks.ENDPOINT | Lacks.PORT),
)
_ENDPOINT = 2
_FILLED = Lacks.SESSION | Lacks.USER | Lacks.DATABASE | Lacks.ENDPOINT | Lacks.PORT


@dataclass(slots=True)
class Life:
    """One session of a process, as its last record left it."""

    key: str
    statement: int = 0
    """pgAudit's last statement id."""
    substatement: int = 0
    text: int = -1
    told: tuple[str | None, ...] = (None, None, None)
    """Role, database, endpoint."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A batch in which every record has its session."""

    log: pa.Table
    session: pa.DictionaryArray
    """The session's id, or a key of ours that no session id looks like."""
    begins: Bools
    """The record is its session's first, and that is certain."""
    alone: Bools
    """The log names neither its session nor its process: nothing else belongs to it."""


@dataclass(slots=True)
class Processes:
    """Remembers the life that each process is in."""

    _lives: dict[int, Life] = field(default_factory=dict)
    _count: int = 0

    def complete(self, log: pa.Table, statement: Ints, substatement: Ints, text: Ints) -> Completed:
        """Find the sessions of a batch.

        Args:
            log: LOG_SCHEMA, in file order.
            statement, substatement: pgAudit's ids of each record, or -1.
            text: a code that is the same for records of the same statement text; across batches
                too, as far as there are few.
        """
        session = dictionary_encoded(log.column("session_id"))
        line = np.asarray(pc.fill_null(log.column("session_line_num"), 0).to_numpy(), np.int64)
        lacks = np.asarray(pc.fill_null(log.column("lacks"), 0).to_numpy(), np.int64)
        begins = line == 1
        begins |= (line == 0) & where_true(pc.starts_with(log.column("message"), RECEIVED))
        if not (lacks & int(_FILLED)).any():
            self._forget(log)
            return Completed(log, session, begins, np.zeros(log.num_rows, bool))
        scan = _Scan(log, statement, substatement, text, self._lives)
        keys = self._keys(scan)
        keyless = (codes_of(session) < 0) & ((lacks & int(Lacks.SESSION)) > 0)
        for place, (column, bits) in enumerate(_COLUMNS):
            wanting = (lacks & int(bits)) > 0
            if wanting.any():
                log = _fill(log, column, wanting, scan.told(place))
        self._remember(scan, keys)
        if keyless.any():
            numbers = scan.life[scan.back]
            ours = pa.DictionaryArray.from_arrays(pa.array(numbers), pa.array(keys, TEXT))
            session = dictionary_encoded(
                pc.if_else(pa.array(keyless), ours.cast(TEXT), session.cast(TEXT))
            )
        return Completed(log, session, begins, keyless & scan.unnamed)

    def _forget(self, log: pa.Table) -> None:
        """Another form of the log tells of the same processes: their lives here have ended."""
        if self._lives:
            for pid in log.column("process_id").unique().to_pylist():
                self._lives.pop(pid, None)

    def _keys(self, scan: "_Scan") -> list[str]:
        """A key for each life of the batch."""
        keys = []
        for life, pid in zip(scan.carried_lives, scan.pid_of_life, strict=True):
            if life is None:
                self._count += 1
                keys.append(f"process {pid} life {self._count}")
            else:
                keys.append(life.key)
        return keys

    def _remember(self, scan: "_Scan", keys: list[str]) -> None:
        told = [scan.told_at(place) for place in range(len(_COLUMNS))]
        if scan.restarted:
            self._lives.clear()
        for at, pid, goes_on, last in scan.lasts():
            if pid < 0 or not goes_on:
                self._lives.pop(pid, None)
                continue
            values = tuple(column[at] for column in told)
            self._lives[pid] = Life(keys[int(scan.life[at])], *last, told=values)


class _Scan:
    """One pass over a batch in the order of processes; arrays are in that order if not said."""

    def __init__(
        self,
        log: pa.Table,
        statement: Ints,
        substatement: Ints,
        text: Ints,
        known: dict[int, Life],
    ) -> None:
        n = self.n = log.num_rows
        pid = np.asarray(pc.fill_null(log.column("process_id"), -1).to_numpy(), np.int64)
        self.unnamed = pid < 0
        # Without a process every record is a session of its own.
        pid = np.where(pid < 0, -1 - np.arange(n), pid)
        self.order = np.argsort(pid, kind="stable")
        self.back = np.empty(n, np.int64)
        self.back[self.order] = np.arange(n)
        self.pid, self.statement = pid[self.order], statement[self.order]
        self.substatement, self.text = substatement[self.order], text[self.order]
        self.message = log.column("message").combine_chunks()
        raised = where_true(pc.is_valid(log.column("context")))
        raised |= where_true(pc.is_valid(log.column("query")))
        self.received, self.authorized, self.ended = (
            where_true(pc.starts_with(self.message, begin)) & ~raised & is_log(log)
            for begin in (RECEIVED, AUTHORIZED, ENDED)
        )
        # A connection that is refused, or ends so, says no goodbye; no client can raise this.
        self.ended |= where_in(log.column("error_severity"), _FATAL)
        # From here on nothing that was known of processes holds.
        breaks = where_true(pc.match_substring_regex(self.message, _BREAKS)) & ~raised & is_log(log)
        self.restarted = bool(breaks.any())
        self.epoch = np.cumsum(breaks)[self.order]
        self._cut(known)
        self._read()

    def _cut(self, known: dict[int, Life]) -> None:
        """Where lives begin."""
        index = np.arange(self.n)
        first = np.ones(self.n, bool)
        first[1:] = self.pid[1:] != self.pid[:-1]
        heads = np.flatnonzero(first)
        before = [known.get(int(one)) for one in self.pid[heads]]
        fresh = np.ones(self.n, bool)
        fresh[heads] = [one is None for one in before]
        ended = self.ended[self.order]
        authorized = self.authorized[self.order]
        starts = self.received[self.order] | (first & fresh)
        starts[1:] |= (self.epoch[1:] != self.epoch[:-1]) & ~first[1:]
        starts |= first & (self.epoch > 0)
        starts[1:] |= ended[:-1] & ~first[1:]
        group = np.maximum.accumulate(np.where(first, index, 0))

        def last(marks: Bools) -> Ints:
            """Place of the last mark before each row, in its process; -1 if there is none."""
            found = np.maximum.accumulate(np.where(marks, index, -1))
            found = np.concatenate([[-1], found[:-1]])
            return np.where(found >= group, found, -1)

        # Let in twice: what came between was not logged.
        let_in = np.zeros(self.n, bool)
        let_in[heads] = [one is not None and one.told[0] is not None for one in before]
        again = authorized & (last(authorized) >= 0) & (last(authorized) >= last(starts))
        again |= authorized & let_in[group] & (last(authorized) < 0) & (last(starts) < 0) & ~starts
        starts |= again & ~self.received[self.order]
        # A numbering that goes back is another session's.
        held = last(self.statement >= 0)

        def earlier(values: Ints, attribute: str, default: int) -> Ints:
            """What pgAudit's record before said."""
            carried = np.full(self.n, default, np.int64)
            carried[heads] = [default if one is None else getattr(one, attribute) for one in before]
            return np.where(held >= 0, values[np.maximum(held, 0)], carried[group])

        number = earlier(self.statement, "statement", 0)
        same_life = held >= last(starts)
        same_number = (self.statement == number) & (number > 0)
        jumps = (self.statement < number) | (self.statement > number + 1)
        # The same number again is the same statement, or one inside it.
        jumps |= (
            same_number
            & (self.substatement == earlier(self.substatement, "substatement", 0))
            & (self.text != earlier(self.text, "text", -1))
        )
        # The first number of a session whose beginning wasn't seen needn't follow anything.
        jumps &= (number > 0) | self._was_received(starts)
        starts |= (self.statement >= 0) & jumps & same_life & ~starts
        starts |= first & fresh
        goes_on = first & ~starts
        self.life = np.cumsum(starts | goes_on) - 1
        begun = np.flatnonzero(starts | goes_on)
        self.life_begin = begun[self.life]
        lookup = dict(zip(heads.tolist(), before, strict=True))
        self.carried_lives = [lookup.get(at) if goes_on[at] else None for at in begun.tolist()]
        self.pid_of_life = self.pid[begun].tolist()
        held = np.maximum.accumulate(np.where(self.statement >= 0, index, -1))
        self._held = np.where(held >= self.life_begin, held, -1)
        self._before = lookup
        self._goes_on, self._group = goes_on, group

    def _was_received(self, starts: Bools) -> Bools:
        """Which records' lives began with a connection that was seen to come."""
        index = np.arange(self.n)
        begun = np.maximum.accumulate(np.where(starts, index, -1))
        return np.where(begun >= 0, self.received[self.order][np.maximum(begun, 0)], False)

    def _read(self) -> None:
        """What the server said when connections came and were let in, by row of the log."""
        values: list[tuple[str | None, ...]] = []
        self._came, self._let_in = np.full(self.n, -1, np.int64), np.full(self.n, -1, np.int64)
        for row in np.flatnonzero(self.received).tolist():
            told = _RECEIVED.match(self.message[row].as_py())
            if told is not None:
                host, port = told["host"], told["port"]
                self._came[self.back[row]] = len(values)
                values.append((None, None, f"{host}:{port}" if port else host))
        for row in np.flatnonzero(self.authorized).tolist():
            told = _AUTHORIZED.match(self.message[row].as_py())
            # An application_name, or a role's own name, may look like the rest of the line.
            if told is not None and self.message[row].as_py().count(" database=") <= 1:
                self._let_in[self.back[row]] = len(values)
                values.append((told["role"], told["database"], None))
        self._values = values

    def told_at(self, place: int) -> list[str | None]:
        """Role, database or endpoint as known at each row, in the order of processes."""
        marks = self._came if place == _ENDPOINT else self._let_in
        last = np.maximum.accumulate(np.where(marks >= 0, np.arange(self.n), -1))
        here = last >= self.life_begin
        words = [value[place] for value in self._values]
        carried = [None if one is None else one.told[place] for one in self.carried_lives]
        codes = np.where(here, marks[np.maximum(last, 0)], len(words) + self.life)
        every = np.array([*words, *carried], object)
        return list(every[codes])

    def told(self, place: int) -> pa.DictionaryArray:
        """The same, as a column in the order of the log."""
        return pa.array(self.told_at(place), TEXT).dictionary_encode().take(pa.array(self.back))

    def lasts(self) -> Iterator[tuple[int, int, bool, tuple[int, int, int]]]:
        """(place, process, whether its session goes on, pgAudit's last) of each process."""
        ends = np.ones(self.n, bool)
        ends[:-1] = self.pid[1:] != self.pid[:-1]
        ended = self.ended[self.order]
        for at in np.flatnonzero(ends).tolist():
            yield at, int(self.pid[at]), not ended[at], self._last_of(at)

    def _last_of(self, at: int) -> tuple[int, int, int]:
        """pgAudit's last ids, and the text, of the life at this place."""
        held = int(self._held[at])
        if held >= 0:
            return int(self.statement[held]), int(self.substatement[held]), int(self.text[held])
        life = self._before.get(int(self._group[at]))
        if life is None or not self._goes_on[self.life_begin[at]]:
            return 0, 0, -1
        return life.statement, life.substatement, life.text


def _fill(log: pa.Table, column: str, wanting: Bools, told: pa.DictionaryArray) -> pa.Table:
    given = log.column(column).cast(TEXT).combine_chunks()
    words = told.cast(TEXT)
    # An address that the record itself gives must be the connection's.
    address = pc.replace_substring_regex(words, r":\d+$", "")
    fits = pc.or_(pc.is_null(given), pc.fill_null(pc.equal(given, address), False))
    use = pc.and_(pc.and_(pa.array(wanting), fits), pc.is_valid(words))
    filled = pc.if_else(use, words, given).dictionary_encode()
    return log.set_column(log.schema.get_field_index(column), column, filled)
