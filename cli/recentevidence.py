"""The evidence of a store that statements to come can depend on, without holding all of it.

Enters: evidence in the order of its numbers, part by part, and when the first record to come can have been
logged. Leaves: what matters from then on (`correlate/present`), and the sessions that PostgreSQL named since.
"""

import datetime as dt
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from scalple.cli.smallmemory import give_back
from scalple.correlate.present import present
from scalple.correlate.record import EVIDENCE

EVENTS_KEPT = 10_000
"""With more of them from before, those that nothing to come can depend on are left out."""


def recent(
    parts: Iterable[pa.Table], horizon: dt.datetime | None, link_slack: dt.timedelta
) -> tuple[pa.Table, pa.Table]:
    """(events, sessions), columns of EVIDENCE.

    Args:
        parts: tables with the columns of EVIDENCE, of one origin.
        horizon: nothing to come began before; None: nothing is left out.
        link_slack: as of `present`.
    """
    events = sessions = EVIDENCE.empty_table()
    most = EVENTS_KEPT
    passed = 0
    for part in parts:
        table = part.cast(EVIDENCE)
        ours = pc.equal(table.column("source"), "postgresql")
        named = table.filter(ours)
        if horizon is not None:
            named = named.filter(pc.greater_equal(named.column("ts"), horizon))
        sessions = pa.concat_tables([sessions, named])
        told = table.filter(pc.invert(ours))
        events = pa.concat_tables([events, told])
        if horizon is None:
            continue
        passed += _before(told, horizon)
        if passed > most:
            events = present(events, horizon, link_slack)
            give_back()
            passed = _before(events, horizon)
            most = max(EVENTS_KEPT, 2 * passed)
    return events, sessions


def _before(events: pa.Table, horizon: dt.datetime) -> int:
    """How many happened before."""
    return pc.sum(pc.less(events.column("ts"), horizon)).as_py() or 0
