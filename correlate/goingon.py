"""Transactions that go on after their client has left: the server works off what it was sent.

Enters: the records to come, the open sessions with their runs, evidence. Leaves: the runs of which the evidence
doesn't tell any more who the client was, so that a horizon has to be set back for them. Attributes nothing.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.evidence import Evidence
from scalple.correlate.labels import Labels
from scalple.correlate.logbatch import transactions
from scalple.correlate.runs import OpenSession
from scalple.ingest.records import TEXT


def going_on(
    log: pa.Table, runs: Mapping[int, OpenSession], sessions: Mapping[int, str]
) -> list[OpenSession]:
    """Runs whose transaction goes on in these records.

    Args:
        log: LOG_SCHEMA; where it doesn't name sessions, none is found.
        runs: what is remembered of open sessions, by code.
        sessions: their ids.
    """
    open_runs = {
        sessions[code]: one
        for code, one in runs.items()
        if one.label >= 0 and one.transaction >= 0 and code in sessions
    }
    if not open_runs:
        return []
    mine = log.filter(pc.is_in(log.column("session_id").cast(TEXT), pa.array(open_runs, TEXT)))
    at = transactions(mine.column("virtual_transaction_id")).tolist()
    pairs = set(zip(mine.column("session_id").to_pylist(), at, strict=True))
    return [run for one, run in open_runs.items() if (one, run.transaction) in pairs]


def is_gone(run: OpenSession, labels: Labels, evidence: Evidence, now_us: int) -> bool:
    """Whether a run's client has left, and the evidence doesn't say any more who that was.

    Args:
        run: of an open session, with a label.
        labels: whose names are.
        evidence: what is at hand.
        now_us: the time of the last record.
    """
    key = int(labels.keys(np.array([run.label]))[0])
    if run.label in labels.lost or key < 0:
        return run.label in labels.lost
    there = (evidence.client_endpoint == key) | (evidence.client_tag == key)
    there &= evidence.client_since_us <= run.opened_us
    there &= evidence.client_until_us >= run.opened_us
    clients = np.flatnonzero(there).tolist()
    return not any(
        evidence.client_actor[one] is not None or evidence.client_until_us[one] >= now_us
        for one in clients
    )
