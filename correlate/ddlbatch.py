"""One batch of log records, as far as the schema's changes are concerned.

Enters: a batch's records and the payloads of those that are pgAudit's. Leaves: what each record does
to its session's transaction, as arrays, and the records session by session. Decides nothing.
"""

import re
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate import auditedddl, savepoints
from scalple.correlate.logbatch import (
    Bools,
    Ints,
    codes_of,
    dictionary_encoded,
    is_log,
    numbers,
    session_names,
    where_in,
    where_true,
)
from scalple.correlate.outcome import is_error
from scalple.ingest.records import AMBIGUOUS, FORGED, TEXT, UNPROVEN

NOTHING, DDL, BEGINS, COMMITS, PREPARES, ROLLS_BACK, ROLLS_BACK_TO, MARKS, DISCARDS, DOES = range(
    10
)
FAILS, LEAVES, RELEASES = 10, 11, 12

_WORDS = {
    "BEGIN": BEGINS,
    "START TRANSACTION": BEGINS,
    "COMMIT": COMMITS,
    "END": COMMITS,
    "PREPARE TRANSACTION": PREPARES,
    "ROLLBACK": ROLLS_BACK,
    "ABORT": ROLLS_BACK,
    "SAVEPOINT": MARKS,
    "RELEASE": RELEASES,
    "DISCARD ALL": DISCARDS,
    "DISCARD TEMP": DISCARDS,
    "DO": DOES,
}
TELLING = (BEGINS, COMMITS, ROLLS_BACK, ROLLS_BACK_TO, MARKS)
"""Where one of these is logged, a BEGIN would be as well."""
_CATCHES = re.compile(r"\bexception\b", re.IGNORECASE)
_NOT_ITS_OWN = pa.array([AMBIGUOUS, FORGED], TEXT)
_LEFT = "disconnection: session time"


class DdlBatch:
    """A batch's columns in the forms that the schema's rules need."""

    def __init__(self, log: pa.Table, rows: Ints, payload: pa.Table) -> None:
        self.log = log
        self.rows = rows
        self._payload = payload
        commands = dictionary_encoded(payload.column("command"))
        self._commands: list[str | None] = [*commands.dictionary.to_pylist(), None]
        self._command_of = codes_of(commands, null=len(self._commands) - 1)
        changing = [auditedddl.tells(one) for one in self._commands]
        kinds = [
            DDL if is_ddl else _WORDS.get(word or "", NOTHING)
            for is_ddl, word in zip(changing, self._commands, strict=True)
        ]
        self.audit_kind = np.array(kinds)[self._command_of]
        if self.audit_kind.any():
            marked = pc.or_(pc.is_valid(log.column("context")), pc.is_valid(log.column("query")))
            raised = where_true(marked) | where_in(log.column("remark"), _NOT_ITS_OWN)
            self.audit_kind[raised[rows]] = NOTHING
        back = np.flatnonzero(self.audit_kind == ROLLS_BACK)
        if len(back):
            texts = payload.column("statement").take(pa.array(back)).cast(TEXT).to_pylist()
            partly = np.array([savepoints.is_partial(text or "") for text in texts])
            self.audit_kind[back[partly]] = ROLLS_BACK_TO

    @property
    def has_ddl(self) -> bool:
        """Whether some record tells of a change."""
        return bool((self.audit_kind == DDL).any())

    def of_kind(self, *kinds: int) -> Ints:
        """Records (positions in the log) that do that."""
        found: Ints = self.rows[np.isin(self.audit_kind, kinds)]
        return found

    # Sessions

    @cached_property
    def sessions(self) -> pa.DictionaryArray:
        """A name for each record's session."""
        return session_names(self.log)

    @cached_property
    def session_of(self) -> Ints:
        """Codes of `sessions`; one more than there are for none."""
        return codes_of(self.sessions, null=len(self.sessions.dictionary))

    def last_of(self, positions: Ints) -> Ints:
        """Of each session, and one more for none, the last of these records; -1 without any."""
        last = np.full(len(self.sessions.dictionary) + 1, -1)
        last[self.session_of[positions]] = positions
        return last

    @cached_property
    def _by_session(self) -> tuple[Ints, Ints]:
        order = np.argsort(self.session_of, kind="stable")
        return order, self.session_of[order]

    def records_of(self, session: int) -> Ints:
        """Positions of a session's records, in order."""
        order, codes = self._by_session
        begin, end = np.searchsorted(codes, [session, session + 1])
        found: Ints = order[begin:end]
        return found

    @cached_property
    def kind(self) -> Ints:
        """What each record does, those included that aren't pgAudit's."""
        kind = np.zeros(self.log.num_rows, np.int64)
        kind[self.rows] = self.audit_kind
        marked = pc.or_(
            pc.is_valid(self.log.column("context")), pc.is_valid(self.log.column("query"))
        )
        left = where_true(pc.starts_with(self.log.column("message").combine_chunks(), _LEFT))
        kind[left & ~where_true(marked) & is_log(self.log)] = LEAVES
        kind[where_true(is_error(self.log))] = FAILS
        return kind

    @cached_property
    def place(self) -> Ints:
        """Of each record, its place among pgAudit's; -1 for others."""
        place = np.full(self.log.num_rows, -1)
        place[self.rows] = np.arange(len(self.rows))
        return place

    @cached_property
    def time_us(self) -> Ints:
        """When each record was written."""
        return numbers(self.log.column("log_time").cast(pa.int64()), np.iinfo(np.int64).max)

    @cached_property
    def unproven(self) -> Bools:
        """Records that a client may have raised without its showing."""
        return where_in(self.log.column("remark"), pa.array([UNPROVEN], TEXT))

    @cached_property
    def databases(self) -> tuple[list[str | None], Ints]:
        """Names, and a code for each record; the last name is None."""
        encoded = dictionary_encoded(self.log.column("database_name"))
        names = [*encoded.dictionary.to_pylist(), None]
        return names, codes_of(encoded, null=len(names) - 1)

    def first_named(self) -> dict[str | None, int]:
        """Per database the first record of DDL that names its object: the others do so as well."""
        names, database_of = self.databases
        found: dict[str | None, int] = {}
        for position in reversed(self.of_kind(DDL).tolist()):
            if self.said(position, "object_type"):
                found[names[database_of[position]]] = position
        return found

    # Single records

    def said(self, position: int, name: str) -> object:
        """A field of the payload of the pgAudit record at a position."""
        return self._payload.column(name)[int(self.place[position])].as_py()

    def text(self, position: int) -> str | None:
        """The statement, if it was logged."""
        found = self.said(position, "statement")
        is_told = found not in ("<not logged>", "<previously logged>")
        return str(found) if found is not None and is_told else None

    def statement(self, position: int) -> tuple[object, object]:
        """Numbers of the statement and of the one within it."""
        return self.said(position, "statement_id"), self.said(position, "substatement_id")

    def catching(self) -> Iterator[tuple[str, object]]:
        """(session, statement) of blocks that may take back what they did, and go on."""
        for position in self.of_kind(DOES).tolist():
            if _CATCHES.search(self.text(position) or "exception"):
                yield self.session_name(position), self.said(position, "statement_id")

    def session_name(self, position: int) -> str:
        """The name of a record's session."""
        code = int(self.session_of[position])
        known = self.sessions.dictionary
        return str(known[code].as_py()) if code < len(known) else ""

    def has_other(self, positions: Ints, statement: object) -> bool:
        """Whether some of these records are pgAudit's of another statement."""
        places = self.place[positions]
        numbers_ = self._statements[places[places >= 0]]
        return bool((numbers_ != statement).any())

    @cached_property
    def _statements(self) -> Ints:
        return numbers(self._payload.column("statement_id"), -1)

    def transactions(self, positions: Ints) -> tuple[Ints, list[str]]:
        """Codes of the records' transactions, -1 outside any, and their names."""
        column = self.log.column("virtual_transaction_id").take(pa.array(positions))
        encoded = dictionary_encoded(column.cast(TEXT))
        names = [str(name) for name in encoded.dictionary.to_pylist()]
        codes = codes_of(encoded)
        outside = np.array([*(name == "" for name in names), True])
        return np.where(outside[codes], -1, codes), names
