"""The transaction that each session was in last, from batch to batch.

In: batches of log records. Out: per session what is known of its records so far. Bounded: the
sessions seen least recently are forgotten. One step of Python per session and batch.
"""

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scalple.correlate import ddlbatch
from scalple.correlate.ddlbatch import DdlBatch

SESSIONS_MAX = 20_000


class Seen(NamedTuple):
    """Of a session's records so far."""

    transaction: str
    """Of the last."""
    audited: str
    """Of the last of pgAudit's."""
    is_block: bool
    """That one is open, and was begun by a BEGIN."""


class SeenSessions:
    """What is remembered of sessions."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Seen] = OrderedDict()

    def get(self, name: str) -> Seen | None:
        """What is known of a session's records in the batches so far."""
        return self._sessions.get(name)

    def note(self, batch: DdlBatch) -> None:
        """The transaction that each session was in last."""
        if not batch.log.num_rows:
            return
        names = batch.sessions.dictionary.to_pylist()
        begins = batch.of_kind(ddlbatch.BEGINS)
        ends = batch.of_kind(ddlbatch.COMMITS, ddlbatch.ROLLS_BACK, ddlbatch.PREPARES)
        last = batch.last_of(np.arange(batch.log.num_rows))
        audited, begun, ended = (batch.last_of(one) for one in (batch.rows, begins, ends))
        present = np.flatnonzero(last[:-1] >= 0)
        column = batch.log.column("virtual_transaction_id")
        where = np.concatenate([one[present] for one in (last, audited, begun)])
        found = column.take(pa.array(np.maximum(where, 0))).to_pylist()
        seen, count = self._sessions, len(present)
        for at, code in enumerate(present.tolist()):
            name = names[code]
            known = seen.pop(name, None)
            now = (
                (found[count + at] or "") if audited[code] >= 0 else known.audited if known else ""
            )
            is_block = begun[code] > ended[code] and found[2 * count + at] == now
            goes_on = known is not None and known.is_block and known.audited == now
            is_block |= goes_on and ended[code] < 0
            seen[name] = Seen(found[at] or "", now, bool(is_block))
        while len(seen) > SESSIONS_MAX:
            seen.popitem(last=False)
