"""Parallel workers' records -> the session of the backend that they worked for.

Enters: a batch's records and the sessions known. Leaves: for each record the session whose client
was served, and the leader's run for records of workers. Before pgAudit 18 every worker repeats
its leader's statement under a session id of its own, without role or endpoint, with the leader's
pid beside it (csvlog since PostgreSQL 14).
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.runs import OpenSession, Runs
from scalple.correlate.sessions import Session

Ints = npt.NDArray[np.int64]


class _HasLog(Protocol):
    log: pa.Table


def follow(batch: _HasLog, session_of: Ints, sessions: dict[int, Session]) -> Ints:
    """Session codes, with each worker's replaced by its leader's where that is known."""
    column = batch.log.column("leader_pid")
    if column.null_count == len(column):
        return session_of
    leader_pid = np.asarray(pc.fill_null(column, 0).to_numpy(), np.int64)
    working = np.flatnonzero(leader_pid > 0)
    served_as = session_of.copy()
    by_pid: dict[int, list[tuple[int, int]]] = {}
    for code, session in sessions.items():
        if session.process_id is not None:
            by_pid.setdefault(session.process_id, []).append((session.begun_us, code))
    workers, first = np.unique(session_of[working], return_index=True)
    for worker, at in zip(workers.tolist(), first.tolist(), strict=True):
        begun = sessions[worker].begun_us
        pid = int(leader_pid[working[at]])
        # Pids are used again: the leader is the youngest of that pid older than the worker.
        elder = [one for one in by_pid.get(pid, ()) if one[0] <= begun and one[1] != worker]
        if elder:
            served_as[working[session_of[working] == worker]] = max(elder)[1]
    return served_as


def adopt_runs(
    session_of: Ints, served_as: Ints, runs: Runs, before: dict[int, OpenSession]
) -> None:
    """Give workers' records the run in which their leader stood when they were logged.

    The pooler replays a name and waits before it lets a statement through, so that the leader's
    last record before a worker's belongs to the same client. Whether it is the same transaction
    can't be seen, so any doubt about that record counts for the worker's.
    """
    borrowed = np.flatnonzero(served_as != session_of)
    if not len(borrowed):
        return
    stride = len(session_of) + 1
    keys = np.sort(session_of * stride + np.arange(len(session_of)))
    leaders = served_as[borrowed]
    at = np.searchsorted(keys, leaders * stride + borrowed) - 1
    found = (at >= 0) & (keys[np.maximum(at, 0)] // stride == leaders)
    last = keys[np.maximum(at, 0)] % stride
    runs.label[borrowed] = np.where(found, runs.label[last], -1)
    runs.doubtful[borrowed] = np.where(found, runs.doubtful[last] | runs.drift[last], False)
    runs.fresh[borrowed] = np.where(found, runs.replay[last], False)
    for row, leader in zip(borrowed[~found].tolist(), leaders[~found].tolist(), strict=True):
        carried = before.get(leader)
        if carried is not None:
            runs.label[row] = carried.label
            runs.doubtful[row] = carried.doubtful_before or carried.drift
            runs.fresh[row] = carried.replay
    runs.replay[borrowed] = False
    runs.drift[borrowed] = False
