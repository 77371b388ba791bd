"""What is missing of followed logs, as rows of `gaps`.

Enters: losses that a follower noticed, and statements whose log is gone. Leaves: columns of GAPS without
numbers.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from scalple.correlate.record import GAPS
from scalple.ingest.sourcegap import SourceGap

_SCHEMA = pa.schema([GAPS.field(n) for n in GAPS.names[2:]])


def gap_rows(gaps: Sequence[SourceGap]) -> pa.Table:
    """What is missing of files."""
    now = dt.datetime.now(dt.UTC)
    rows = [
        {
            "log_time": now,
            "since": one.since_ns and dt.datetime.fromtimestamp(one.since_ns / 1e9, dt.UTC),
            "reason": one.reason,
            "detail": f"{one.path}: {one.detail}",
            "source_file": one.path.name,
            "source_offset": one.after,
        }
        for one in gaps
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def unrevised_rows(
    reason: str, since: dt.datetime, until: dt.datetime | None, statements: int | None
) -> pa.Table:
    """Statements that couldn't be attributed anew."""
    row: dict[str, Any] = {
        "log_time": until or since,
        "since": since,
        "reason": reason,
        "detail": "evidence came later than revisions go back (revise_days): run reprocess --revise"
        if statements is None
        else f"evidence came late, and the log of {statements:,} statements is gone: "
        "they keep their attribution",
    }
    return pa.Table.from_pylist([row], schema=_SCHEMA)
