"""Records that repeat another one: which, and which one that is.

Enters: a batch's pgAudit records with their numbers in the store. Leaves: per record the number of the
one that it repeats, or none. Three things repeat: parallel workers log their leader's statement again
(before pgAudit 18); up to pgAudit 16 each statement of one message logs the whole message's text; with
`log_statement_once` a record refers to an earlier one's text. They are marked, never removed.

State of open sessions carries over to the next batch. A worker's record is compared with its leader's in
the same batch only. numpy throughout: Python per session and per distinct text.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from scalple.correlate.logbatch import (
    Bools,
    Ints,
    LogBatch,
    codes_of,
    dictionary_encoded,
    where_in,
)
from scalple.ingest.pgaudit import PREVIOUSLY_LOGGED
from scalple.ingest.sqltokens import read_tokens

NONE = -1
_MAY_BE_SEVERAL = re.compile(r";\s*[^\s;]")
_READ_CHARS_MAX = 1 << 18
_PREVIOUS = pa.array([PREVIOUSLY_LOGGED], pa.string())


@dataclass(frozen=True, slots=True)
class _Last:
    """The last record of a session that told its text."""

    text: str | None
    statement: int
    transaction: int
    seq: int
    first_statement: int
    first_seq: int
    """The first record of its message."""


@dataclass(slots=True)
class Repeats:
    """Remembers, per open session, the last record."""

    _last: dict[int, _Last] = field(default_factory=dict)

    def find(
        self,
        batch: LogBatch,
        session_of: Ints,
        served_as: Ints,
        transaction: Ints,
        first_seq: int,
    ) -> Ints:
        """Per pgAudit record the number of the one that it repeats, or NONE.

        Args:
            batch: the records.
            session_of: a code per session, for each record.
            served_as: the same, with workers' replaced by their leaders'.
            transaction: number of the virtual transaction, for each record; -1 if unknown.
            first_seq: number of the first pgAudit record in the store.
        """
        rows = batch.audit_rows
        n = len(rows)
        repeated = np.full(n, NONE)
        if not n:
            return repeated
        encoded = dictionary_encoded(batch.payload.column("statement"))
        texts = [*encoded.dictionary.to_pylist(), None]
        text = codes_of(encoded, null=len(texts) - 1)
        session, leader = session_of[rows], served_as[rows]
        statements = batch.payload.column("statement_id").fill_null(-1).to_numpy()
        told = np.array([one not in (None, PREVIOUSLY_LOGGED) for one in texts])[text]
        known = [
            (code, self._last[code]) for code in np.unique(session).tolist() if code in self._last
        ]
        places = _places(texts, known)
        scan = _Scan(
            np.concatenate([[code for code, _ in known], session]).astype(np.int64),
            np.concatenate([[places.get(one.text, -1) for _, one in known], text]).astype(np.int64),
            np.concatenate([np.ones(len(known), bool), told]),
            np.concatenate([[one.statement for _, one in known], statements]).astype(np.int64),
            np.concatenate([[one.transaction for _, one in known], transaction[rows]]).astype(
                np.int64
            ),
            np.concatenate([[one.seq for _, one in known], first_seq + np.arange(n)]).astype(
                np.int64
            ),
            np.array([_statements_in(one) for one in texts]),
            [one for _, one in known],
        )
        found, lasts = scan.run(texts)
        self._last |= lasts
        repeated = found[len(known) :]
        self._workers(session, leader, text, told, first_seq, repeated)
        return repeated

    def _workers(
        self, session: Ints, leader: Ints, text: Ints, told: Bools, first_seq: int, repeated: Ints
    ) -> None:
        """Parallel workers' records: the leader's nearest record with the same text."""
        for row in np.flatnonzero((leader != session) & told).tolist():
            same = np.flatnonzero((session == leader[row]) & (text == text[row]))
            if len(same):
                repeated[row] = first_seq + int(same[np.argmin(np.abs(same - row))])

    def forget(self, session_of: Ints, ended: Bools) -> None:
        """Sessions that are over."""
        for code in np.unique(session_of[ended]).tolist():
            self._last.pop(code, None)


def filled_in(
    enriched: pa.Table, statements: pa.ChunkedArray, repeats: Ints, first_seq: int
) -> pa.Table:
    """What was read from the texts; `<previously logged>` stands for an earlier record's.

    Args:
        enriched: one row per pgAudit record.
        statements: their texts, as logged.
        repeats: per record the number of the one that it repeats.
        first_seq: number of the first record.
    """
    untold = where_in(statements, _PREVIOUS)
    at = repeats - first_seq
    here = untold & (at >= 0) & (repeats >= 0)
    if not here.any():
        return enriched
    return enriched.take(pa.array(np.where(here, at, np.arange(len(repeats)))))


def _places(texts: list[str | None], known: list[tuple[int, _Last]]) -> dict[str | None, int]:
    """Codes of the remembered texts in this batch."""
    wanted = {one.text for _, one in known}
    return {text: at for at, text in enumerate(texts) if text in wanted} if wanted else {}


@dataclass(slots=True)
class _Scan:
    """Records in the order of the log, remembered ones in front."""

    session: Ints
    text: Ints
    told: Bools
    statement: Ints
    transaction: Ints
    seq: Ints
    several: Ints
    """Per text how many statements it holds."""
    known: list[_Last]

    def run(self, texts: list[str | None]) -> tuple[Ints, dict[int, _Last]]:
        """(what each repeats, the last record of each session)."""
        total = len(self.session)
        repeated = np.full(total, NONE)
        order = np.argsort(self.session, kind="stable")
        told = order[self.told[order]]
        session, statement = self.session[told], self.statement[told]
        text, number = self.text[told], self.transaction[told]
        size = self.several[text]
        index = np.arange(len(told))
        goes_on = np.zeros(len(told), bool)
        step = np.diff(statement)
        goes_on[1:] = (
            (session[1:] == session[:-1])
            & (text[1:] == text[:-1])
            & (size[1:] > 1)
            & (number[1:] == number[:-1])
            & (number[1:] >= 0)
            & ((step == 0) | (step == 1))
        )
        first_statement, first_seq = statement.copy(), self.seq[told].copy()
        # A remembered record may be one of a message that began before.
        remembered = np.flatnonzero(told < len(self.known))
        for at in remembered.tolist():
            first_statement[at] = self.known[int(told[at])].first_statement
            first_seq[at] = self.known[int(told[at])].first_seq
        start = np.maximum.accumulate(np.where(goes_on, 0, index)) if len(told) else index
        # A message of so many statements that came twice in a row is two messages.
        part = (statement - first_statement[start]) // np.maximum(size, 1)
        again = np.zeros(len(told), bool)
        again[1:] = goes_on[1:] & (part[1:] != part[:-1])
        lead = np.maximum.accumulate(np.where(goes_on & ~again, 0, index)) if len(told) else index
        later = statement > first_statement[lead]
        repeated[told] = np.where(later, first_seq[lead], NONE)
        self._refer(order, repeated)
        lasts = np.flatnonzero(np.append(session[1:] != session[:-1], True)) if len(told) else index
        found = {
            int(session[at]): _Last(
                texts[int(text[at])] if text[at] >= 0 else None,
                int(statement[at]),
                int(number[at]),
                int(self.seq[told[at]]),
                int(first_statement[lead[at]]),
                int(first_seq[lead[at]]),
            )
            for at in lasts.tolist()
        }
        return repeated, found

    def _refer(self, order: Ints, repeated: Ints) -> None:
        """Records whose text was logged before: the last one of that statement that told it."""
        index = np.arange(len(order))
        told = self.told[order]
        if told.all():
            return
        last = np.maximum.accumulate(np.where(told, index, -1))
        at = np.flatnonzero(~told & (last >= 0))
        here, there = order[at], order[last[at]]
        same = (self.session[here] == self.session[there]) & (
            self.statement[here] == self.statement[there]
        )
        repeated[here[same]] = self.seq[there[same]]


def _statements_in(text: str | None) -> int:
    """How many statements a text holds; 1 where that can't be told."""
    if text is None or len(text) > _READ_CHARS_MAX or not _MAY_BE_SEVERAL.search(text):
        return 1
    tokens = read_tokens(text)
    if tokens is None:
        return 1
    parts, empty = 0, True
    for token in tokens:
        if token.kind == "mark" and token.text == ";":
            empty = True
        elif empty:
            parts, empty = parts + 1, False
    return max(1, parts)
