"""Which value an application's identity variable had when a statement ran, and whether it was the
statement's own client that had set it.

Enters: records with their runs, and the texts of those that may set such a variable. Leaves: per pgAudit
record the value that its own client put in force, and whether another client's was in force instead.
PgBouncer resets nothing in transaction pooling, so a plain `SET` stays on the backend, and whoever comes
next is taken for somebody else by whatever reads it: that is a finding, never an attribution.

A value holds for its transaction; beyond that only in the run that it was set in, or to the session's end
if there is no pooler. A client that comes back to a backend may have said something else meanwhile, on
another one. What a rollback or an error may have taken back holds no longer. numpy throughout: no loop over statements.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from scalple.correlate.claimants import Claimants
from scalple.correlate.logbatch import Bools, Ints, LogBatch, codes_of, dictionary_encoded
from scalple.correlate.parameters import split_text
from scalple.ingest.pgaudit import NO_PARAMETERS, NOT_LOGGED
from scalple.ingest.variables import Parameter, Setting, Variables, read_truth

RESET, UNCLEAR, NOTHING = -1, -2, -3
"""Effects of a text that sets no value: it takes it away, may have done anything, does nothing."""
_NOBODY = -1


@dataclass(frozen=True, slots=True)
class Clients:
    """Who was served, per pgAudit record."""

    whose: Ints
    """A number per client, the same wherever its name was replayed; negative outside any run."""
    label: Ints
    opened_us: Ints
    """The run: the name replayed for it, and when it was opened; the same throughout a session without
    a pooler."""
    sure: Bools
    """The name tells clients apart, and nothing makes it doubtful; or there is no pooler."""


@dataclass(frozen=True, slots=True)
class InForce:
    """What was in force, per pgAudit record."""

    value: Ints
    """Code of the claimant that the record's own client named, or -1."""
    stale: Bools
    """Another client's value was still in force."""


@dataclass(slots=True)
class _Act:
    """The last text that changed a session's variables."""

    value: int
    local: bool
    transaction: int
    taken: bool
    """A rollback in its transaction came after it."""
    void: bool
    """That, or an error."""
    whose: int
    label: int
    opened_us: int
    sure: bool


@dataclass(slots=True)
class IdentitySettings:
    """Remembers, per open session, the last setting.

    Args:
        variables: the identity variables.
        claimants: gives values their codes.
    """

    variables: Variables
    claimants: Claimants
    _acts: dict[int, _Act] = field(default_factory=dict)

    def find(
        self,
        batch: LogBatch,
        changes: Ints,
        texts: pa.DictionaryArray,
        session_of: Ints,
        transaction: Ints,
        clients: Clients,
        failed: Bools,
    ) -> InForce:
        """What was in force for each pgAudit record.

        Args:
            batch: the records.
            changes, texts: as `labels.texts_of_settings` found them.
            session_of: a code per session, for each record.
            transaction: number of the virtual transaction, for each record; -1 if unknown.
            clients: who was served.
            failed: which records report an error.
        """
        rows = batch.audit_rows
        n = len(rows)
        errors = {  # the last of each transaction
            (int(session_of[row]), int(transaction[row])): row
            for row in np.flatnonzero(failed).tolist()
        }
        for one, number in errors:
            act = self._acts.get(one)
            if act is not None and act.transaction == number:
                act.void = True
        value, local = self._effects(batch, changes, texts)
        value, local = value[rows], local[rows]
        if not n or (not self._acts and not (value != NOTHING).any()):
            return InForce(np.full(n, _NOBODY), np.zeros(n, bool))
        order = np.argsort(session_of[rows], kind="stable")
        back = np.empty(n, np.int64)
        back[order] = np.arange(n)
        scan = _Scan(
            session_of[rows][order],
            transaction[rows][order],
            rows[order],
            value[order],
            local[order],
            clients.whose[order],
            clients.label[order],
            clients.opened_us[order],
            clients.sure[order],
            self._rollbacks(batch)[order],
        )
        found = scan.run(self._acts, errors)
        return InForce(found.value[back], found.stale[back])

    def held(self) -> tuple[set[int], set[int]]:
        """(labels, numbers of clients) that it remembers."""
        acts = self._acts.values()
        return {one.label for one in acts}, {one.whose for one in acts}

    def forget(self, session_of: Ints, ended: Bools) -> None:
        """Sessions that are over."""
        for code in np.unique(session_of[ended]).tolist():
            self._acts.pop(code, None)

    def _rollbacks(self, batch: LogBatch) -> Bools:
        encoded = dictionary_encoded(batch.payload.column("command"))
        words = encoded.dictionary.to_pylist()
        takes_back = [(one or "").startswith(("ROLLBACK", "ABORT")) for one in words]
        return np.array([*takes_back, False], bool)[codes_of(encoded)]

    def _effects(
        self, batch: LogBatch, changes: Ints, texts: pa.DictionaryArray
    ) -> tuple[Ints, Bools]:
        """Per record the value that its text sets (or RESET, UNCLEAR, NOTHING), and whether only for
        the transaction."""
        value = np.full(batch.log.num_rows, NOTHING)
        local = np.zeros(batch.log.num_rows, bool)
        if not len(changes):
            return value, local
        effects = [self._settings(one) for one in texts.dictionary.to_pylist()]
        index = codes_of(texts)
        touching = np.array([one is None or len(one) > 0 for one in effects], bool)[index]
        if not touching.any():
            return value, local
        place = np.full(batch.log.num_rows, -1)
        place[batch.audit_rows] = np.arange(len(batch.audit_rows))
        at, code = changes[touching], index[touching]
        given = dictionary_encoded(
            batch.payload.column("parameter").cast(pa.string()).take(pa.array(place[at]))
        )
        said = codes_of(given, null=len(given.dictionary))
        parameters = [*given.dictionary.to_pylist(), None]
        pairs, position = np.unique(np.stack([code, said]), axis=1, return_inverse=True)
        known = [
            self._resolved(effects[text], parameters[which]) for text, which in pairs.T.tolist()
        ]
        value[at] = np.array([one[0] for one in known])[position]
        local[at] = np.array([one[1] for one in known], bool)[position]
        return value, local

    def _settings(self, text: str | None) -> tuple[Setting, ...] | None:
        """The settings that a text makes; None if it may make some that can't be read."""
        if text is None:
            return ()
        data = text.encode("utf-8", "surrogatepass")
        effect = self.variables.read(data) if self.variables.may_matter(data) else None
        if effect is None:
            return ()
        return None if effect.unclear else effect.settings

    def _resolved(
        self, settings: tuple[Setting, ...] | None, parameters: str | None
    ) -> tuple[int, bool]:
        """(value, only for the transaction) once bind parameters are filled in."""
        if settings is None:
            return UNCLEAR, False
        given = None
        if parameters is not None and parameters not in (NO_PARAMETERS, NOT_LOGGED):
            given = split_text(parameters)
        found: set[tuple[int, bool]] = set()
        for one in settings:
            found.add(self._one(one, given))
        found.discard((NOTHING, False))
        if len(found) != 1:
            # Several values in one text: which of them held for which statement isn't known.
            return (UNCLEAR, False) if found else (NOTHING, False)
        return found.pop()

    def _one(self, setting: Setting, given: list[str] | None) -> tuple[int, bool]:
        def bound(parameter: Parameter) -> str | None:
            known = given is not None and parameter.index < len(given)
            return given[parameter.index] if known and given is not None else None

        if setting.name is not None:
            name = bound(setting.name)
            if name is None:
                return UNCLEAR, False
            if not self.variables.knows(name):
                return NOTHING, False
        local = setting.local
        if isinstance(local, Parameter):
            truth = read_truth((bound(local) or "").encode(), False)
            if truth is None:
                return UNCLEAR, False
            local = truth
        value = setting.value
        if isinstance(value, Parameter):
            value = bound(value)
            if value is None:
                return UNCLEAR, local
        if not value:
            return RESET, local
        code = self.claimants.code(value)
        return (UNCLEAR if code < 0 else code), local


@dataclass(slots=True)
class _Scan:
    """One pass over a batch's pgAudit records in session order."""

    session: Ints
    transaction: Ints
    record: Ints
    """Position among all records."""
    value: Ints
    local: Bools
    whose: Ints
    label: Ints
    opened_us: Ints
    sure: Bools
    rollback: Bools

    def run(self, acts: dict[int, _Act], errors: dict[tuple[int, int], int]) -> InForce:
        """What was in force; `acts` is brought up to date."""
        n = len(self.session)
        index = np.arange(n)
        first = np.ones(n, bool)
        first[1:] = self.session[1:] != self.session[:-1]
        heads = np.flatnonzero(first)
        begin = np.maximum.accumulate(np.where(first, index, 0))
        carried = [acts.get(int(code)) for code in self.session[heads]]
        which_head = np.cumsum(first) - 1

        def last_of(mark: Bools) -> Ints:
            last = np.maximum.accumulate(np.where(mark, index, -1))
            return np.where(last >= begin, last, -1)

        last = last_of(self.value != NOTHING)
        # An act of this batch, or the one that was remembered (behind all of them).
        at = np.where(last >= 0, last, n + which_head)

        def both(values: "Ints | Bools", attribute: str, default: int) -> Ints:
            rest = [default if one is None else int(getattr(one, attribute)) for one in carried]
            return np.concatenate([values, np.array(rest, np.int64)]).astype(np.int64)

        act_value = both(self.value, "value", NOTHING)
        act_local = both(self.local, "local", 0).astype(bool)
        act_transaction = both(self.transaction, "transaction", -1)
        act_whose = both(self.whose, "whose", -1)
        act_label = both(self.label, "label", -1)
        act_opened = both(self.opened_us, "opened_us", -1)
        act_sure = both(self.sure, "sure", 0).astype(bool)
        act_void = both(np.zeros(n, bool), "void", 0).astype(bool)
        act_record = np.concatenate([self.record, np.full(len(heads), -1)])
        act_session = np.concatenate([self.session, self.session[heads]])
        if errors:
            # Only acts that matter are looked up: they are few.
            for one in np.unique(at).tolist():
                error = errors.get((int(act_session[one]), int(act_transaction[one])), -1)
                act_void[one] |= error > act_record[one]

        same = (self.transaction == act_transaction[at]) & (self.transaction >= 0)
        taken = both(np.zeros(n, bool), "taken", 0).astype(bool)[at]
        taken |= self._rolled_back(index, begin, at, act_transaction)
        void = act_void[at] | taken
        own = self.sure & act_sure[at] & (self.whose == act_whose[at])
        own &= (self.label == act_label[at]) & (self.opened_us == act_opened[at])
        lasting = ~act_local[at] & ~void & own
        value = np.where((act_value[at] >= 0) & ((same & ~taken) | lasting), act_value[at], _NOBODY)
        stale = (act_value[at] >= 0) & ~act_local[at] & ~void & (self.value == NOTHING)
        stale &= (self.whose >= 0) & (act_whose[at] >= 0) & (self.whose != act_whose[at])
        tails = np.append(heads[1:], n) - 1
        for head, tail in enumerate(tails.tolist()):
            code, one = int(self.session[tail]), int(at[tail])
            if one >= n and carried[head] is None:
                continue
            acts[code] = _Act(
                int(act_value[one]),
                bool(act_local[one]),
                int(act_transaction[one]),
                bool(taken[tail]),
                bool(void[tail]),
                int(act_whose[one]),
                int(act_label[one]),
                int(act_opened[one]),
                bool(act_sure[one]),
            )
        return InForce(np.asarray(value, np.int64), np.asarray(stale, bool))

    def _rolled_back(self, index: Ints, begin: Ints, at: Ints, act_transaction: Ints) -> Bools:
        """Whether a rollback of the act's own transaction stands between the act and the record."""
        n = len(index)
        hits = self.rollback & (self.transaction == act_transaction[at]) & (self.transaction >= 0)
        last = np.maximum.accumulate(np.where(hits, index, -1))
        inside = (last >= begin) & (last >= 0)
        # The rollback's own act must be the record's: none has come in between.
        return np.asarray(inside & (at[np.maximum(last, 0)] == at), bool) if n else hits
