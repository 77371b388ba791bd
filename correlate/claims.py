"""Whom a statement's own client names: in a comment, in an identity variable, in its application_name.

Enters: a batch of records with their runs. Leaves: per pgAudit record the one who is named, by which
means, and whether the means disagree. These are the client's words: they never make more than `claimed`,
and where they disagree they make nothing.

A prepared statement keeps its comment for everyone who executes it later. Recognised are the text of a
PREPARE that is logged again at EXECUTE, and a comment with a mark of its request (`traceparent`) that
comes back long after the request.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc

from scalple.correlate import attribution as rules_of
from scalple.correlate.claimants import Claimants
from scalple.correlate.identitysettings import IdentitySettings, InForce
from scalple.correlate.logbatch import (
    Bools,
    Ints,
    LogBatch,
    codes_of,
    dictionary_encoded,
    where_true,
)
from scalple.correlate.rules import Rules
from scalple.correlate.sqlcomments import CommentReader, Said, is_prepared
from scalple.ingest.variables import Variables

REQUEST_US = 10_000_000
"""How long after its first statement a request may still run the same one."""
FORGOTTEN_US = 900_000_000
"""A text that wasn't seen for so long counts as new."""
_NOBODY = -1


@dataclass(frozen=True, slots=True)
class Claimed:
    """What was claimed of each pgAudit record."""

    who: Ints
    """Code of the claimant, or -1."""
    method: Ints
    """Code into METHODS, the most specific of those that agree."""
    disputed: Bools
    """Several were named."""
    others: Ints
    """Code of another who was named where it is disputed."""
    stale_comment: Bools
    """Its comment is an earlier request's."""
    stale_setting: Bools
    """Another client's identity variable was in force."""


@dataclass(slots=True)
class Claims:
    """Reads what clients say.

    Args:
        rules: which words are believed.
        claimants: gives names their codes.
    """

    rules: Rules
    claimants: Claimants
    settings: IdentitySettings = field(init=False)
    _comments: CommentReader = field(init=False)
    _patterns: list[re.Pattern[str]] = field(init=False)
    _requests: dict[tuple[str, int], tuple[int, int]] = field(init=False, default_factory=dict)
    """Per text with a mark of its request: when it was first seen, and last."""

    def __post_init__(self) -> None:
        claims = self.rules.claims
        self.settings = IdentitySettings(Variables(claims.variables), self.claimants)
        self._comments = CommentReader(claims)
        self._patterns = [re.compile(one, re.DOTALL) for one in claims.name_patterns]

    def find(self, batch: LogBatch, in_force: InForce) -> Claimed:
        """What is claimed of each pgAudit record.

        Args:
            batch: the records.
            in_force: what the identity variables said.
        """
        comment, disputed, stale = self._by_comment(batch)
        name = self._by_name(batch)
        n = len(comment)
        who, other = np.full(n, _NOBODY), np.full(n, _NOBODY)
        method = np.full(n, rules_of.NONE)
        for code, means in (
            (name, rules_of.NAME_PATTERN),
            (in_force.value, rules_of.VARIABLE),
            (comment, rules_of.COMMENT),
        ):
            said = code >= 0
            differs = said & (who >= 0) & (code != who)
            other[differs] = who[differs]
            disputed |= differs
            who[said], method[said] = code[said], means
        return Claimed(who, method, disputed, other, stale, in_force.stale)

    def _by_comment(self, batch: LogBatch) -> tuple[Ints, Bools, Bools]:
        """(claimant, contradictory, stale) per pgAudit record."""
        n = len(batch.audit_rows)
        nobody = np.full(n, _NOBODY), np.zeros(n, bool), np.zeros(n, bool)
        if not self.rules.claims.comments and not self.rules.claims.comment_patterns:
            return nobody
        encoded = dictionary_encoded(batch.payload.column("statement"))
        distinct = encoded.dictionary
        marked = pc.or_(pc.match_substring(distinct, "--"), pc.match_substring(distinct, "/*"))
        if self._comments.hint is not None:
            marked = pc.and_(marked, pc.match_substring_regex(distinct, self._comments.hint))
        candidates = np.flatnonzero(where_true(marked))
        if not len(candidates):
            return nobody
        texts = distinct.to_pylist()
        said: list[Said | None] = [None] * len(texts)
        for at in candidates.tolist():
            said[at] = self._comments.read(texts[at])
        if not any(said):
            return nobody
        index = codes_of(encoded, null=len(texts))
        whom = [
            _NOBODY if one is None or one.actor is None else self.claimants.code(one.actor)
            for one in said
        ]
        who = np.array([*whom, _NOBODY])[index]
        torn = [one is not None and one.actor is None for one in said]
        disputed = np.array([*torn, False], bool)[index]
        stale = self._executed(batch, texts, index, who) | self._repeated(batch, texts, said, index)
        return np.where(stale, _NOBODY, who), disputed & ~stale, stale

    def _executed(self, batch: LogBatch, texts: list[str | None], index: Ints, who: Ints) -> Bools:
        """The text is a PREPARE's, and the record another command's."""
        at = np.unique(index[who >= 0])
        prepared = np.zeros(len(texts) + 1, bool)
        for one in at.tolist():
            prepared[one] = is_prepared(texts[one] or "")
        if not prepared.any():
            return prepared[index]
        commands = dictionary_encoded(batch.payload.column("command"))
        is_prepare = np.array(
            [*(one == "PREPARE" for one in commands.dictionary.to_pylist()), False], bool
        )[codes_of(commands)]
        return np.asarray(prepared[index] & ~is_prepare)

    def _repeated(
        self, batch: LogBatch, texts: list[str | None], said: list[Said | None], index: Ints
    ) -> Bools:
        """A request's mark that comes back after the request must be over."""
        stale = np.zeros(len(index), bool)
        marked = [at for at, one in enumerate(said) if one is not None and one.request is not None]
        if not marked:
            return stale
        times = batch.time_us[batch.audit_rows]
        self._forget(int(times.max()))
        wanted = np.zeros(len(texts) + 1, bool)
        wanted[marked] = True
        rows = np.flatnonzero(wanted[index])
        rows = rows[np.argsort(index[rows], kind="stable")]
        bounds = np.flatnonzero(np.diff(index[rows], prepend=-1))
        for begin, end in zip(bounds.tolist(), [*bounds[1:].tolist(), len(rows)], strict=True):
            here = rows[begin:end]
            one = said[int(index[here[0]])]
            assert one is not None and one.request is not None
            key = (one.request, hash(texts[int(index[here[0]])]))
            first, last = self._requests.get(key, (int(times[here[0]]), int(times[here[0]])))
            for row in here.tolist():
                now = int(times[row])
                if now - last > FORGOTTEN_US:
                    first = now
                stale[row] = now - first > REQUEST_US
                last = max(last, now)
            self._requests[key] = (first, last)
        return stale

    def _forget(self, now_us: int) -> None:
        """Drop what counts as new by now; not at every batch."""
        if len(self._requests) > 100_000:
            self._requests = {
                key: span
                for key, span in self._requests.items()
                if now_us - span[1] <= 2 * FORGOTTEN_US
            }

    def _by_name(self, batch: LogBatch) -> Ints:
        """Claimant by the patterns for application names, per pgAudit record."""
        if not self._patterns:
            return np.full(len(batch.audit_rows), _NOBODY)
        names = dictionary_encoded(batch.log.column("application_name"))
        whom = [self._named(one) for one in names.dictionary.to_pylist()]
        return np.array([*whom, _NOBODY])[codes_of(names)][batch.audit_rows]

    def _named(self, name: str | None) -> int:
        for pattern in self._patterns:
            if name and (found := pattern.search(name)) and found["actor"]:
                return self.claimants.code(found["actor"])
        return _NOBODY
