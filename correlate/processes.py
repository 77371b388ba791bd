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

from scalple.correlate.logbatch import Bools, Ints, codes_of, dictionary_encoded, where_true
from scalple.ingest.records import TEXT, Lacks

RECEIVED = "connection received: "
AUTHORIZED = "connection authorized: "
ENDED = "disconnection: "

# src/backend/utils/init/postinit.c and postmaster.c. Whoever is authorized is a role of the server:
# what a client may choose, its application_name, comes last.
_RECEIVED = re.compile(r"connection received: host=(?P<host>\S+)(?: port=(?P<port>\d{1,5}))?\Z")
_AUTHORIZED = re.compile(
    r"connection authorized: user=(?P<role>.*?)(?: database=(?P<database>.*?))?"
    r"(?: application_name=.*?)?(?: SSL enabled \(.*\))?(?: GSS \(.*\))?\Z",
    re.DOTALL,
)
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

    def complete(self, log: pa.Table, statement: Ints) -> Completed:
        """Find the sessions of a batch.

        Args:
            log: LOG_SCHEMA, in file order.
            statement: pgAudit's statement_id of each record, or -1.
        """
        session = dictionary_encoded(log.column("session_id"))
        line = np.asarray(pc.fill_null(log.column("session_line_num"), 0).to_numpy(), np.int64)
        lacks = np.asarray(pc.fill_null(log.column("lacks"), 0).to_numpy(), np.int64)
        begins = line == 1
        begins |= (line == 0) & where_true(pc.starts_with(log.column("message"), RECEIVED))
        if not (lacks & int(_FILLED)).any():
            return Completed(log, session, begins, np.zeros(log.num_rows, bool))
        scan = _Scan(log, statement, self._lives)
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
        for at, pid, goes_on, statement in scan.lasts():
            if pid < 0 or not goes_on:
                self._lives.pop(pid, None)
                continue
            values = tuple(column[at] for column in told)
            self._lives[pid] = Life(keys[int(scan.life[at])], statement, values)


class _Scan:
    """One pass over a batch in the order of processes; arrays are in that order if not said."""

    def __init__(self, log: pa.Table, statement: Ints, known: dict[int, Life]) -> None:
        n = self.n = log.num_rows
        pid = np.asarray(pc.fill_null(log.column("process_id"), -1).to_numpy(), np.int64)
        self.unnamed = pid < 0
        # Without a process every record is a session of its own.
        pid = np.where(pid < 0, -1 - np.arange(n), pid)
        self.order = np.argsort(pid, kind="stable")
        self.back = np.empty(n, np.int64)
        self.back[self.order] = np.arange(n)
        self.pid, self.statement = pid[self.order], statement[self.order]
        self.message = log.column("message").combine_chunks()
        raised = where_true(pc.is_valid(log.column("context")))
        raised |= where_true(pc.is_valid(log.column("query")))
        self.received, self.authorized, self.ended = (
            where_true(pc.starts_with(self.message, text)) & ~raised
            for text in (RECEIVED, AUTHORIZED, ENDED)
        )
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
        starts[1:] |= ended[:-1] & ~first[1:]
        group = np.maximum.accumulate(np.where(first, index, 0))

        def last(marks: Bools) -> Ints:
            """Place of the last mark before each row, in its process; -1 if there is none."""
            found = np.maximum.accumulate(np.where(marks, index, -1))
            found = np.concatenate([[-1], found[:-1]])
            return np.where(found >= group, found, -1)

        # Let in twice: what came between was not logged.
        again = authorized & (last(authorized) >= 0) & (last(authorized) >= last(starts))
        starts |= again & ~self.received[self.order]
        # A numbering that goes back is another session's.
        held = last(self.statement >= 0)
        carried = np.zeros(self.n, np.int64)
        carried[heads] = [0 if one is None else one.statement for one in before]
        earlier = np.where(held >= 0, self.statement[np.maximum(held, 0)], carried[group])
        same_life = held >= last(starts)
        starts |= (self.statement >= 0) & (self.statement < earlier) & same_life & ~starts
        starts |= first & fresh
        goes_on = first & ~starts
        self.life = np.cumsum(starts | goes_on) - 1
        begun = np.flatnonzero(starts | goes_on)
        self.life_begin = begun[self.life]
        lookup = dict(zip(heads.tolist(), before, strict=True))
        self.carried_lives = [lookup.get(at) if goes_on[at] else None for at in begun.tolist()]
        self.pid_of_life = self.pid[begun].tolist()
        self._last_statement = np.where(
            self.statement >= 0,
            self.statement,
            np.where(
                held >= self.life_begin,
                self.statement[np.maximum(held, 0)],
                np.where(goes_on[self.life_begin], carried[group], 0),
            ),
        )

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
            if told is not None:
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

    def lasts(self) -> Iterator[tuple[int, int, bool, int]]:
        """(place, process, whether its session goes on, last statement id) of each process."""
        ends = np.ones(self.n, bool)
        ends[:-1] = self.pid[1:] != self.pid[:-1]
        ended = self.ended[self.order]
        for at in np.flatnonzero(ends).tolist():
            yield at, int(self.pid[at]), not ended[at], int(self._last_statement[at])


def _fill(log: pa.Table, column: str, wanting: Bools, told: pa.DictionaryArray) -> pa.Table:
    given = log.column(column).cast(TEXT).combine_chunks()
    words = told.cast(TEXT)
    # An address that the record itself gives must be the connection's.
    address = pc.replace_substring_regex(words, r":\d+$", "")
    fits = pc.or_(pc.is_null(given), pc.fill_null(pc.equal(given, address), False))
    use = pc.and_(pc.and_(pa.array(wanting), fits), pc.is_valid(words))
    filled = pc.if_else(use, words, given).dictionary_encode()
    return log.set_column(log.schema.get_field_index(column), column, filled)
