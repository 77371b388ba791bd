"""Which rights were missing, and of which statements that can't be said: for `policy`.

Enters: rows with what rules say of them. Leaves: counts of rows, by rule, actor, role and right, and by rule
and reason. Evaluates nothing.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from scalple.correlate.codes import coded_texts, combined
from scalple.correlate.entitledrows import Judgements
from scalple.correlate.logbatch import Ints, numbers
from scalple.correlate.policies import BROKEN, UNTOLD, Answers, Policies
from scalple.correlate.policyterms import UNKNOWN, YES
from scalple.correlate.rightstimeline import RightsTimeline
from scalple.ingest.records import TEXT, TIME

_MISSING = pa.schema(
    [
        ("finding", TEXT),
        ("actor", TEXT),
        ("db_role", TEXT),
        ("roles", pa.list_(TEXT)),
        ("privilege", TEXT),
        ("relation", TEXT),
        ("columns", pa.list_(TEXT)),
        ("snapshot", TEXT),
        ("found", pa.int64()),
        ("first", TIME),
        ("last", TIME),
    ]
)
_UNJUDGED = pa.schema([("finding", TEXT), ("why", TEXT), ("found", pa.int64())])


@dataclass(slots=True)
class _Count:
    first: int
    """Microseconds since 1970."""
    last: int
    found: int = 0
    columns: set[str | None] = field(default_factory=set)


@dataclass(slots=True)
class RightsFound:
    """Counts over all origins."""

    _missing: dict[tuple[Any, ...], _Count] = field(default_factory=dict)
    _unjudged: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, policies: Policies, timeline: RightsTimeline, rows: pa.Table) -> None:
        """A batch."""
        for rule, answers, judged in policies.judgements(rows):
            self._add_missing(BROKEN + rule.name, timeline, rows, answers, judged)
            self._add_unjudged(UNTOLD + rule.name, answers, judged)

    def _add_missing(
        self,
        finding: str,
        timeline: RightsTimeline,
        rows: pa.Table,
        answers: Answers,
        judged: Judgements,
    ) -> None:
        at = np.flatnonzero(answers == YES)
        if not len(at):
            return
        found = rows.take(pa.array(at))
        texts = [coded_texts(found.column(name)) for name in ("session_user_id", "db_role")]
        distinct, place = combined([judged.place[at], *(codes for codes, _ in texts)])
        times = numbers(found.column("log_time").cast(pa.int64()), 0)
        for number, (which, *codes) in enumerate(distinct):
            one = judged.distinct[which]
            mine = times[place == number]
            who = [v[c] if c >= 0 else None for c, (_, v) in zip(codes, texts, strict=True)]
            taken = timeline.rights[one.snapshot].taken_at
            for what in dict.fromkeys((right.privilege, right.relation) for right in one.missing):
                columns = {r.column for r in one.missing if (r.privilege, r.relation) == what}
                self._count((finding, *who, one.roles, *what, taken), columns - {None}, mine)

    def _count(self, key: tuple[Any, ...], columns: set[str | None], times: Ints) -> None:
        first, last = int(times.min()), int(times.max())
        if key not in self._missing:
            self._missing[key] = _Count(first=first, last=last)
        one = self._missing[key]
        one.columns |= columns
        one.found += len(times)
        one.first, one.last = min(one.first, first), max(one.last, last)

    def _add_unjudged(self, finding: str, answers: Answers, judged: Judgements) -> None:
        asked = judged.place[(answers == UNKNOWN) & (judged.place >= 0)]
        for which, count in zip(*np.unique(asked, return_counts=True), strict=True):
            why = judged.distinct[which].why_unknown
            if why:
                key = (finding, why)
                self._unjudged[key] = self._unjudged.get(key, 0) + int(count)

    def missing(self) -> pa.Table:
        """By rule, actor, role, right and snapshot; the most frequent first."""
        rows = []
        for key, one in sorted(
            self._missing.items(), key=lambda row: (row[0][0], -row[1].found, str(row[0]))
        ):
            *before, snapshot = key
            columns = sorted(name for name in one.columns if name is not None)
            rows.append((*before, columns, snapshot, one.found, one.first, one.last))
        arrays = [
            pa.array([row[at] for row in rows], pa.int64() if kind == TIME else kind).cast(kind)
            for at, kind in enumerate(_MISSING.types)
        ]
        return pa.table(arrays, _MISSING)

    def unjudged(self) -> pa.Table:
        """By rule and reason."""
        rows = [(*key, count) for key, count in sorted(self._unjudged.items())]
        columns = [[row[at] for row in rows] for at in range(len(_UNJUDGED.names))]
        return pa.table(columns, _UNJUDGED)
