"""Transactions that were taken back: their statements ran, and nothing of them remained.

Enters: a batch's records by session and virtual transaction. Leaves: which pgAudit records belong to a
transaction that is known to have been rolled back, and the numbers of records of earlier batches that
turn out to. pgAudit logs ROLLBACK as a command, but nothing in a transaction that has failed: there the
error is the last word. A transaction whose client left is taken back as well.

What a ROLLBACK TO a savepoint takes back isn't told. State of open transactions carries over.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.logbatch import Bools, Ints, LogBatch, codes_of, dictionary_encoded
from scalple.correlate.outcome import had_ended

_OTHER, _COMMITS, _TAKES_BACK, _FAILS = range(4)
_WORDS = {
    "COMMIT": _COMMITS,
    "END": _COMMITS,
    "PREPARE TRANSACTION": _COMMITS,
    "ROLLBACK": _TAKES_BACK,
    "ABORT": _TAKES_BACK,
}
_BEGINS = frozenset({"BEGIN", "START TRANSACTION"})
_ENDS_ALL = re.compile(
    r"(?:\s|/\*[^*]*\*/|;)*(?:ROLLBACK|ABORT)(?:\s+(?:WORK|TRANSACTION))?(?:\s+AND\s+(?:NO\s+)?CHAIN)?"
    r"(?:\s|/\*[^*]*\*/|;)*",
    re.IGNORECASE,
)
"""Not to a savepoint: pgAudit names both commands alike."""


@dataclass(slots=True)
class _Open:
    """A transaction that goes on."""

    transaction: int
    last: int
    is_block: bool
    had_ended: bool
    """A statement of it had ended well when it was logged."""
    seqs: list[int]
    findings: dict[int, list[str] | None] = field(default_factory=dict)
    """What was found of each of them."""

    @property
    def is_taken_back(self) -> bool:
        """Its last word says so. A statement that failed alone is told by its outcome."""
        alone = not self.is_block and len(self.seqs) <= 1 and not self.had_ended
        return self.last == _TAKES_BACK or (self.last == _FAILS and not alone)


TakenBack = dict[int, list[str] | None]
"""Numbers of records, and what was found of each when it was attributed."""


@dataclass(slots=True)
class Rollbacks:
    """Remembers, per open session, its open transaction."""

    _open: dict[int, _Open] = field(default_factory=dict)

    def find(
        self,
        batch: LogBatch,
        session_of: Ints,
        transaction: Ints,
        failed: Bools,
        ended: Bools,
        first_seq: int,
    ) -> tuple[Bools, TakenBack]:
        """(which pgAudit records were taken back, earlier ones that turn out to be).

        Args:
            batch: the records.
            session_of: a code per session, for each record.
            transaction: number of the virtual transaction, for each record; -1 outside any.
            failed: which records report an error.
            ended: which records end their session.
            first_seq: number of the batch's first pgAudit record in the store.
        """
        n = batch.log.num_rows
        back = np.zeros(len(batch.audit_rows), bool)
        earlier: TakenBack = {}
        if not n:
            return back, earlier
        kind, begins, audited = self._kinds(batch, failed)
        place = np.full(n, -1)
        place[batch.audit_rows] = np.arange(len(batch.audit_rows))
        order = np.argsort(session_of, kind="stable")
        inside = order[(transaction[order] >= 0) & ((kind[order] != _OTHER) | audited[order])]
        session, number = session_of[inside], transaction[inside]
        new = np.ones(len(inside), bool)
        new[1:] = (session[1:] != session[:-1]) | (number[1:] != number[:-1])
        starts = np.flatnonzero(new)
        ends = np.append(starts[1:], len(inside))
        gone = set(np.unique(session_of[ended]).tolist())
        is_block = np.logical_or.reduceat(begins[inside], starts) if len(starts) else new
        last = kind[inside[ends - 1]] if len(starts) else kind[:0]
        follows = (
            np.append(session[starts[1:]] == session[starts[:-1]], False) if len(starts) else new
        )
        first = np.append(True, session[starts[1:]] != session[starts[:-1]]) if len(starts) else new
        over = follows | np.isin(session[starts], list(gone)) if len(starts) else new
        if len(starts):
            over |= self._final(batch)[inside[ends - 1]]
        lengths = ends - starts
        counts = (
            np.add.reduceat(audited[inside].astype(np.int64), starts) if len(starts) else starts
        )
        ended_well = np.zeros(n, bool)
        ended_well[batch.audit_rows] = np.asarray(had_ended(batch.payload)) & ~batch.forged
        had = np.logical_or.reduceat(ended_well[inside], starts) if len(starts) else new
        several = counts > 1
        for at in np.flatnonzero(first).tolist():
            known = self._open.get(int(session[starts[at]]))
            if known is not None and known.transaction == int(number[starts[at]]):
                is_block[at] |= known.is_block
                had[at] |= known.had_ended
                several[at] |= len(known.seqs) + int(counts[at]) > 1
        # A statement that failed alone is told by its outcome.
        taken = (last == _TAKES_BACK) | ((last == _FAILS) & (is_block | several | had))
        taken |= is_block & ~follows & (last != _COMMITS)
        taken &= over
        spread = np.repeat(taken, lengths)
        here = place[inside]
        back[here[spread & (here >= 0)]] = True
        for at in np.flatnonzero(first | ~over).tolist():
            code, one = int(session[starts[at]]), int(number[starts[at]])
            known = self._open.pop(code, None)
            goes_on = known is not None and known.transaction == one
            if known is not None and (taken[at] if goes_on else known.is_taken_back):
                earlier |= known.findings
            if not over[at]:
                part = here[starts[at] : ends[at]]
                self._open[code] = now = _Open(
                    one, int(last[at]), bool(is_block[at]), bool(had[at]), []
                )
                if known is not None and goes_on:
                    now.seqs, now.findings = known.seqs, known.findings
                now.seqs += (first_seq + part[part >= 0]).tolist()
        for code in gone:
            known = self._open.pop(code, None)
            if known is not None and (
                known.is_taken_back or (known.is_block and known.last != _COMMITS)
            ):
                earlier |= known.findings
        return back, {seq: found for seq, found in earlier.items() if seq >= 0}

    def remember(self, findings: pa.Array, first_seq: int) -> None:
        """What was found of the batch's records, for those whose transaction goes on."""
        for one in self._open.values():
            for seq in one.seqs:
                if seq >= first_seq and seq not in one.findings:
                    one.findings[seq] = findings[seq - first_seq].as_py()

    def _final(self, batch: LogBatch) -> Bools:
        """After which records, of all, their transaction is over, whatever follows."""
        final = np.zeros(batch.log.num_rows, bool)
        commands = pc.is_in(
            batch.payload.column("command").cast("string"), pa.array(["ROLLBACK", "ABORT"])
        )
        rows = np.flatnonzero(np.asarray(commands) & ~batch.forged)
        texts = batch.payload.column("statement").take(pa.array(rows)).to_pylist()
        final[batch.audit_rows[rows]] = [
            text is not None and _ENDS_ALL.fullmatch(text) is not None for text in texts
        ]
        return final

    def _kinds(self, batch: LogBatch, failed: Bools) -> tuple[Ints, Bools, Bools]:
        """(what each record does to its transaction, whether it begins a block, is pgAudit's)."""
        n = batch.log.num_rows
        kind, begins, audited = np.full(n, _OTHER), np.zeros(n, bool), np.zeros(n, bool)
        commands = dictionary_encoded(batch.payload.column("command"))
        words = [*commands.dictionary.to_pylist(), None]
        index = codes_of(commands, null=len(words) - 1)
        real = ~batch.forged
        kind[batch.audit_rows] = np.where(
            real, np.array([_WORDS.get(one or "", _OTHER) for one in words])[index], _OTHER
        )
        begins[batch.audit_rows] = np.array([one in _BEGINS for one in words])[index] & real
        audited[batch.audit_rows] = real
        kind[failed] = _FAILS
        return kind, begins, audited
