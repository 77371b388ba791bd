"""Cuts backend sessions into runs: which pooled client a backend served, record by record.

Enters: all log records of a batch (not pgAudit's alone: the line numbers must be gapless), in file
order. Leaves: for each record, the name that the pooler replayed for the run it stands in, and
whether anything since then makes that name doubtful. State of open sessions carries over to the
next batch, so that the size of batches changes nothing.

A run opens with the pooler's replay (exact form, in a virtual transaction of its own), or with the
same form anywhere if it sets a later tag of the connection that the run is. A name that changes otherwise stays with the run's client while its transaction lasts; afterwards the pooler
may have served whoever bears that name without a replay, so nothing is certain. A hole in the
line numbers or statement ids ends the run.

numpy throughout: a scan per column, no loop over records.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Records:
    """The columns that runs are cut from, one element per record, in file order."""

    session: Ints
    """Code of the session."""
    line: Ints
    """session_line_num, or 0 where the container gives none."""
    lines: Ints
    """How many such numbers the record takes."""
    begins: Bools
    """Certainly the first record of its session."""
    transaction: Ints
    """Local number of the virtual transaction; negative where the record stands in none."""
    name: Ints
    """Code of the record's application_name; negative where the container doesn't say it."""
    statement: Ints
    """pgAudit's statement_id, or -1 for other records."""
    label: Ints
    """Code of the name that a replay-form SET sets; -1 if not one, -2 if it sets no name."""
    connection: Ints
    """Code of the connection whose tag that label begins with, or -1."""
    announcing: Bools
    """The sidecar's own SET of a new tag: it says nothing about who is served next."""
    renames: Bools
    """The text changes the application_name, and hasn't the replay's form."""
    time_us: Ints
    """log_time, in microseconds."""


@dataclass(slots=True)
class Runs:
    """What is known of each record, in file order."""

    replay: Bools
    """The pooler wrote it: it replays a client's settings."""
    label: Ints
    """Code of the name replayed for the run, or -1 outside any run."""
    doubtful: Bools
    """In a run, but another client of that pool may have been served since."""
    fresh: Bools
    """The record's transaction is the one right after a replay: none in between, not even one
    that logged nothing."""
    drift: Bools
    """In this transaction the client changed its name."""
    missing: Ints
    """How many records of the session are missing right before this one."""
    begins_unseen: Bools
    """First record of its session here, but not the session's first."""
    idle_us: Ints
    """Time since the session's record before, or -1 if there was none."""
    opens_transaction: Bools
    opened_us: Ints
    """When the record's run was opened; its own time outside any run."""


@dataclass(slots=True)
class OpenSession:
    """What has to be remembered of one session between batches."""

    line: int
    """The last number that its last record took."""
    transaction: int
    name: int
    statement: int
    time_us: int
    replay: bool
    label: int
    """-1 when no run is open."""
    connection: int
    """The connection that the run is, or -1."""
    opened_us: int
    """When the run was opened."""
    doubtful_before: bool
    """Doubtful when the current transaction began, or made so by how it began."""
    drift: bool
    fresh: bool
    pure: bool
    """All records of the current transaction so far have the replay's form."""
    opener_form: bool
    """The current transaction's first record has it, and isn't the sidecar's own."""


@dataclass(slots=True)
class RunCutter:
    """Holds the open sessions between batches."""

    open_sessions: dict[int, OpenSession] = field(default_factory=dict)

    def cut(self, records: Records, ended: Bools) -> Runs:
        """Cut one batch.

        Args:
            records: the batch's records.
            ended: which of them end their session (it won't be remembered).
        """
        order = np.argsort(records.session, kind="stable")
        scan = _Scan(records, order, self.open_sessions)
        runs = scan.runs()
        scan.remember(self.open_sessions, ended)
        return runs


class _Scan:
    """One pass over a batch in session order; every array below is in that order."""

    def __init__(self, records: Records, order: Ints, known: dict[int, OpenSession]) -> None:
        self.order = order
        self.n = len(order)
        self.session = records.session[order]
        self.line = records.line[order]
        self.line_end = np.where(self.line > 0, self.line + records.lines[order] - 1, 0)
        self.begins = records.begins[order]
        self.transaction = records.transaction[order]
        self.name = records.name[order]
        self.statement = records.statement[order]
        self.set_label = records.label[order]
        self.set_connection = np.where(self.set_label >= 0, records.connection[order], -1)
        self.announcing = records.announcing[order]
        self.time_us = records.time_us[order]
        self.explicit = records.renames[order]
        index = np.arange(self.n)
        self.index = index
        self.first = np.ones(self.n, bool)
        if self.n:
            self.first[1:] = self.session[1:] != self.session[:-1]
        self.begin = np.maximum.accumulate(np.where(self.first, index, 0))
        self._before(known)
        self._transactions()
        self._runs()

    def _before(self, known: dict[int, OpenSession]) -> None:
        """The record before each one; for a session's first, what was remembered."""
        heads = np.flatnonzero(self.first)
        self.carried = [known.get(int(code)) for code in self.session[heads]]
        self.heads = heads

        def shifted(values: Ints, attribute: str, default: int) -> Ints:
            before = np.empty_like(values)
            before[1:] = values[:-1]
            before[heads] = [
                default if one is None else getattr(one, attribute) for one in self.carried
            ]
            return before

        self.known = np.zeros(self.n, bool)
        self.known[heads] = [one is not None for one in self.carried]
        self.line_before = shifted(self.line_end, "line", 0)
        self.transaction_before = shifted(self.transaction, "transaction", -1)
        self.name_before = shifted(self.name, "name", 0)
        self.time_before = shifted(self.time_us, "time_us", -1)
        carried_statement = np.full(self.n, -1, np.int64)
        carried_statement[heads] = [0 if one is None else one.statement for one in self.carried]
        # The last statement id before each record, looking past records that have none.
        held = np.where(self.statement >= 0, self.index, -1)
        last = np.maximum.accumulate(held)
        before = np.concatenate([[-1], last[:-1]]) if self.n else last
        inside = before >= self.begin
        start = carried_statement[self.begin] if self.n else carried_statement
        self.statement_before = np.where(inside, self.statement[np.maximum(before, 0)], start)
        self.statement_last = np.where(
            last >= self.begin, self.statement[np.maximum(last, 0)], start
        )

    def _carry(self, attribute: str, default: int) -> Ints:
        """A remembered value, spread over its session's records."""
        values = np.full(self.n, default, np.int64)
        values[self.heads] = [
            default if one is None else int(getattr(one, attribute)) for one in self.carried
        ]
        return values[self.begin] if self.n else values

    def _transactions(self) -> None:
        same = (self.transaction == self.transaction_before) & (self.transaction >= 0)
        same &= ~self.first | self.known
        self.new_transaction = ~same
        # Where the transaction began; before the batch (-1) if it goes on from the one before.
        marks = np.where(self.new_transaction, self.index, -1)
        begun = np.maximum.accumulate(marks) if self.n else marks
        self.transaction_begin = np.where(begun >= self.begin, begun, -1)

        form = self.set_label != -1
        # A replay is in a transaction in which nothing else happened before it.
        others = np.concatenate([[0], np.cumsum(~form)])
        since = np.where(self.transaction_begin >= 0, self.transaction_begin, self.begin)
        pure = others[self.index + 1] == others[since]
        carried_pure = self._carry("pure", 1).astype(bool)
        self.pure = pure & ((self.transaction_begin >= 0) | carried_pure)
        self.replay = form & self.pure
        # Whether the transaction began with a replay's form: then what follows in it is no
        # pooler's doing, nor was the beginning.
        opener_form = np.where(
            self.transaction_begin >= 0,
            form[np.maximum(self.transaction_begin, 0)],
            self._carry("opener_form", 0).astype(bool),
        )
        self.opener_form = opener_form

    def _runs(self) -> None:
        index = self.index
        counted = (self.line > 0) & (self.line_before > 0)
        lost_lines = np.where(
            counted & ~(self.first & ~self.known), self.line - self.line_before - 1, 0
        )
        # Where lines aren't numbered, pgAudit's first statement shows as well that none is missing.
        whole = np.where(self.line > 0, self.line == 1, self.begins | (self.statement == 1))
        self.unseen = self.first & ~self.known & ~whole
        lost_statements = np.where(
            (self.statement >= 0) & ~self.unseen,
            self.statement - self.statement_before - 1,
            0,
        )
        # Statement ids may repeat (several lines a statement) but never jump; a session whose
        # beginning wasn't seen can't be checked before its second statement.
        lost_statements[self.begin_unseen_first_statement()] = 0
        self.missing = np.maximum(np.maximum(lost_lines, lost_statements), 0)
        hole = (self.missing > 0) | self.unseen | (lost_lines < 0)

        holes = np.maximum.accumulate(np.where(hole, index, -1)) if self.n else index
        holes = np.where(holes >= self.begin, holes, -1)
        self._switches(holes)
        named = (self.replay & (self.set_label >= 0)) | self.switch
        opened = np.maximum.accumulate(np.where(named, index, -1)) if self.n else index
        opened = np.where(opened >= self.begin, opened, -1)
        here = opened >= 0
        carried_label = self._carry("label", -1)
        label = np.where(here, self.set_label[np.maximum(opened, 0)], carried_label)
        self.label = np.where(holes > opened, -1, label)
        connection = np.where(
            here, self.set_connection[np.maximum(opened, 0)], self._carry("connection", -1)
        )
        self.connection = np.where(holes > opened, -1, connection)
        carried_us = self._carry("opened_us", 0)
        opened_us = np.where(here, self.time_us[np.maximum(opened, 0)], carried_us)
        self.opened_us = np.where(self.label >= 0, opened_us, self.time_us)
        mixed = self.opener_form & ~self.pure
        mixed &= ~self.switch[np.maximum(self.transaction_begin, 0)] | (self.transaction_begin < 0)

        set_so = self.replay | self.switch
        # The pooler's replay is alone in its transaction: one with company was a client's.
        company = mixed & ~set_so
        implicit = (self.name != self.name_before) & ~set_so
        implicit &= (self.name >= 0) & (self.name_before >= 0)
        implicit &= ~self.first | self.known
        changed = ((implicit | self.explicit) & ~set_so) | company
        total = np.concatenate([[0], np.cumsum(changed)])
        run_begin = np.where(here, opened + 1, self.begin)
        carried_drift = self._carry("drift", 0).astype(bool) & ~here
        carried_doubt = self._carry("doubtful_before", 0).astype(bool) & ~here

        in_batch = self.transaction_begin >= 0
        start = np.maximum(np.where(in_batch, self.transaction_begin, self.begin), run_begin)
        changed_before = total[start] - total[np.minimum(run_begin, start)] > 0
        # A drift carried from the last batch counts as "before" once its transaction is over.
        carried_before = carried_doubt | (carried_drift & in_batch)
        # The first record of a transaction already has another name, and nobody replayed it.
        opener = np.maximum(self.transaction_begin, 0)
        unannounced = in_batch & (implicit & ~self.explicit)[opener] & (opener >= run_begin)
        self.doubtful_before = (
            changed_before | carried_before | unannounced | (mixed & (self.label >= 0))
        )
        in_transaction = total[index + 1] - total[start] > 0
        self.drift = in_transaction | (carried_drift & ~in_batch)

        before_opener = np.maximum(self.transaction_begin - 1, 0)
        follows = in_batch & (self.transaction_begin > self.begin)
        next_one = (self.transaction == self.transaction_before + 1)[opener]
        opens = self.replay & ~self.announcing
        fresh_here = follows & next_one & opens[before_opener]
        carried_replay = self._carry("replay", 0).astype(bool)
        fresh_first = in_batch & (self.transaction_begin == self.begin) & carried_replay & next_one
        carried_fresh = self._carry("fresh", 0).astype(bool)
        self.fresh = fresh_here | fresh_first | (~in_batch & carried_fresh)

    def _switches(self, holes: Ints) -> None:
        """SETs to another tag of the connection that the run is: the sidecar's, wherever they are."""
        index = self.index
        pure = self.replay & (self.set_label >= 0)
        last = np.maximum.accumulate(np.where(pure, index, -1)) if self.n else index
        before = np.concatenate([[-1], last[:-1]]) if self.n else last
        inside = before >= self.begin
        held = np.where(
            inside, self.set_connection[np.maximum(before, 0)], self._carry("connection", -1)
        )
        held = np.where(holes > before, -1, held)
        self.switch = (self.set_connection >= 0) & (self.set_connection == held)

    def begin_unseen_first_statement(self) -> Bools:
        """First statement id of a session whose beginning wasn't seen."""
        unseen = self.unseen[self.begin] if self.n else self.unseen
        held = self.statement >= 0
        count = np.cumsum(held)
        before: Ints = count - held
        found: Bools = unseen & held & (before == before[self.begin]) if self.n else unseen
        return found

    def runs(self) -> Runs:
        """Results, back in file order."""
        back = np.empty(self.n, np.int64)
        back[self.order] = self.index
        idle = np.where(self.time_before >= 0, self.time_us - self.time_before, -1)
        return Runs(
            replay=(self.replay | self.switch)[back],
            label=self.label[back],
            doubtful=(self.doubtful_before & (self.label >= 0))[back],
            fresh=self.fresh[back],
            drift=(self.drift & (self.label >= 0))[back],
            missing=self.missing[back],
            begins_unseen=self.unseen[back],
            idle_us=idle[back],
            opens_transaction=self.new_transaction[back],
            opened_us=self.opened_us[back],
        )

    def remember(self, known: dict[int, OpenSession], ended: Bools) -> None:
        """Keep the last record of every session that goes on."""
        if not self.n:
            return
        lasts = np.append(self.heads[1:], self.n) - 1
        begun = self.transaction_begin
        ended_sessions = set(self.session[np.isin(self.order, np.flatnonzero(ended))].tolist())
        for at in lasts.tolist():
            code = int(self.session[at])
            if code in ended_sessions:
                known.pop(code, None)
                continue
            known[code] = OpenSession(
                line=int(self.line_end[at]),
                transaction=int(self.transaction[at]),
                name=int(self.name[at]),
                statement=int(self.statement_last[at]),
                time_us=int(self.time_us[at]),
                replay=bool(self.replay[at] and not self.announcing[at]),
                label=int(self.label[at]),
                connection=int(self.connection[at]),
                opened_us=int(self.opened_us[at]),
                doubtful_before=bool(self.doubtful_before[at]),
                drift=bool(self.drift[at]),
                fresh=bool(self.fresh[at]),
                pure=bool(self.pure[at]),
                opener_form=bool(
                    self.opener_form[at]
                    and not (begun[at] >= 0 and self.switch[max(int(begun[at]), 0)])
                ),
            )
