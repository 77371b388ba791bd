"""Whether a pool is closed at a moment: every client of it speaks through a sidecar that tags it.

Enters: spans of time, per pool, in which that was not so. Leaves: for statements, the reason why a tag
proves nothing at their time, or none. A tag is no secret: whoever else is on the pool could set it, or
be served under it without a name of its own. Touches no rows, knows no names.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CLOSED, UNANNOUNCED, DRIFTED, UNSEEN = range(4)
"""Closed; a client that no sidecar speaks of; one whose name isn't the sidecar's; not known, because
the pooler's log doesn't cover that time."""

Spans = dict[int, tuple[Ints, Ints]]
"""Per pool: begins and ends of spans that don't overlap, ascending, both inclusive, in µs."""

_LAST = 2**62
_NOTHING: Ints = np.zeros(0, np.int64)
NO_SPANS = (_NOTHING, _NOTHING)


def spans_of(rows: Iterable[tuple[int, int | None, int | None]]) -> Spans:
    """Spans of (pool, begin, end), with those that overlap made one; None is without bound."""
    by_pool: dict[int, list[tuple[int, int]]] = {}
    for pool, begin, end in rows:
        whole = (-_LAST if begin is None else begin, _LAST if end is None else end)
        by_pool.setdefault(pool, []).append(whole)
    return {pool: _merged(spans) for pool, spans in by_pool.items()}


def _merged(spans: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    begins: list[int] = []
    ends: list[int] = []
    for begin, end in sorted(spans):
        if end < begin:
            continue
        if ends and begin <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            begins.append(begin)
            ends.append(end)
    return np.array(begins, np.int64), np.array(ends, np.int64)


def joined(before: Spans, after: Spans, at_us: int) -> Spans:
    """The spans of one up to a moment, those of the other from then on."""
    rows = [
        (pool, begin, min(end, at_us))
        for one in before
        for pool, begin, end in rows_of(before, one)
        if begin <= at_us
    ]
    rows += [
        (pool, max(begin, at_us), end)
        for one in after
        for pool, begin, end in rows_of(after, one)
        if end >= at_us
    ]
    return spans_of(rows)


def not_over(spans: Spans, at_us: int) -> Spans:
    """Those that weren't over by a moment."""
    kept = {}
    for pool, (begins, ends) in spans.items():
        first = int(np.searchsorted(ends, at_us))
        if first < len(ends):
            kept[pool] = (begins[first:], ends[first:])
    return kept


def rows_of(spans: Spans, pool: int) -> list[tuple[int, int, int]]:
    """(pool, begin, end) of each span of a pool."""
    begins, ends = spans.get(pool, NO_SPANS)
    return [(pool, *span) for span in zip(begins.tolist(), ends.tolist(), strict=True)]


def touched(spans: tuple[Ints, Ints], time_us: Ints, time_end_us: Ints) -> Bools:
    """Which moments, each from `time_us` to at most `time_end_us`, touch a span."""
    begins, ends = spans
    if not len(begins):
        return np.zeros(len(time_us), bool)
    # The last span that begins before the moment ends.
    at = np.searchsorted(begins, time_end_us, side="right") - 1
    return np.asarray((at >= 0) & (ends[np.maximum(at, 0)] >= time_us))


@dataclass(frozen=True, slots=True)
class ClosedPools:
    """When which pool wasn't closed."""

    unannounced: Spans
    drifted: Spans
    tails: dict[int, Ints]
    """Per pool, ascending, when drifted clients ended whose statements may have gone on: that concerns
    the server sessions that were there."""
    seen: tuple[int, int] | None
    """From when to when the pooler's log shows all clients; None if never."""

    def since(self, before: "ClosedPools", at_us: int) -> "ClosedPools":
        """The same from a moment on; up to it, what was known before."""
        tails = {}
        for pool in {*before.tails, *self.tails}:
            old, new = (one.get(pool, _NOTHING) for one in (before.tails, self.tails))
            whole = np.concatenate([old[old < at_us], new[new >= at_us]])
            if len(whole):
                tails[pool] = whole
        return ClosedPools(
            joined(before.unannounced, self.unannounced, at_us),
            joined(before.drifted, self.drifted, at_us),
            tails,
            self.seen,
        )

    def forgetting(self, before_us: int) -> "ClosedPools":
        """Without what was over by then; no statement to come can have begun before."""
        tails = {}
        for pool, all_tails in self.tails.items():
            # Of those before, a session can only be concerned by the last.
            first = max(0, int(np.searchsorted(all_tails, before_us)) - 1)
            tails[pool] = all_tails[first:]
        return ClosedPools(
            not_over(self.unannounced, before_us),
            not_over(self.drifted, before_us),
            tails,
            self.seen,
        )

    def why_open(self, pool: Ints, time_us: Ints, time_end_us: Ints, session_us: Ints) -> Ints:
        """CLOSED or the reason why not, for each statement of a pool (negative: none).

        Args:
            pool: pool of each statement.
            time_us, time_end_us: from when to when it can have run.
            session_us: when its session began at the earliest.
        """
        reason = np.full(len(pool), UNSEEN, np.int64)
        if self.seen is None:
            return reason
        # The server cuts its times to milliseconds, the pooler as well.
        seen = (time_us >= self.seen[0] // 1000 * 1000) & (time_end_us <= self.seen[1])
        for one in np.unique(pool[pool >= 0]).tolist():
            here = np.flatnonzero((pool == one) & seen)
            begin, end = time_us[here], time_end_us[here]
            found = np.full(len(here), CLOSED, np.int64)
            for spans, why in ((self.drifted, DRIFTED), (self.unannounced, UNANNOUNCED)):
                if one in spans:
                    found[touched(spans[one], begin, end)] = why
            if one in self.tails:
                tails = self.tails[one]
                last = np.searchsorted(tails, end, side="right") - 1
                lasting = (last >= 0) & (tails[np.maximum(last, 0)] >= session_us[here])
                found[lasting & (found == CLOSED)] = DRIFTED
            reason[here] = found
        return reason
