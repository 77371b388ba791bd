"""Parallel workers' records -> the session of the backend that they worked for.

Enters: a batch's records and the sessions known. Leaves: for each record the session whose client
was served, the leader's run for records of workers, and where that run isn't sure. Before pgAudit 18 every worker repeats
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
Bools = npt.NDArray[np.bool_]


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
    session_of: Ints, served_as: Ints, runs: Runs, before: dict[int, OpenSession], text_of: Ints
) -> Bools:
    """Give workers' records the run in which their leader stood when they were logged.

    The pooler replays a name and waits before it lets a statement through, so that the leader's
    last record before a worker's belongs to the same client, if none is missing in between. That
    shows in the leader's next record only: without it, nothing about the worker's is sure.

    Args:
        session_of: session of each record.
        served_as: the same, with workers' replaced by their leaders'.
        runs: what is known of each record; workers' are filled in.
        before: open sessions as they stood before this batch.
        text_of: code of the statement that each record is pgAudit's record of, or -1.

    Returns:
        Which records got a run that the leader's next record doesn't bear out.
    """
    unsure = np.zeros(len(session_of), bool)
    borrowed = np.flatnonzero(served_as != session_of)
    if not len(borrowed):
        return unsure
    stride = len(session_of) + 1
    keys = np.sort(session_of * stride + np.arange(len(session_of)))
    leaders = served_as[borrowed]
    after = np.searchsorted(keys, leaders * stride + borrowed)
    at = after - 1
    found = (at >= 0) & (keys[np.maximum(at, 0)] // stride == leaders)
    last = keys[np.maximum(at, 0)] % stride
    label = np.where(found, runs.label[last], -1)
    doubtful = np.where(found, runs.doubtful[last] | runs.drift[last], False)
    fresh = np.where(found, runs.replay[last], False)
    opened_us = np.where(found, runs.opened_us[last], runs.opened_us[borrowed])
    carried = zip(np.flatnonzero(~found).tolist(), leaders[~found].tolist(), strict=True)
    for place, leader in carried:
        known = before.get(leader)
        if known is not None:
            label[place] = known.label
            doubtful[place] = known.doubtful_before or known.drift
            fresh[place] = known.replay
            opened_us[place] = known.opened_us
    follow_up = np.minimum(after, len(keys) - 1)
    goes_on = (after < len(keys)) & (keys[follow_up] // stride == leaders)
    following = keys[follow_up] % stride
    whole = goes_on & (runs.missing[following] == 0) & ~runs.begins_unseen[following]
    same_run = whole & ~runs.replay[following] & (runs.label[following] == label)
    # Without log_rows the leader's own record comes before its workers', and may be its last.
    text = text_of[borrowed]
    ended = whole & runs.replay[following] & found & (text >= 0) & (text_of[last] == text)
    unsure[borrowed] = ~(same_run | ended)
    doubtful |= same_run & (runs.doubtful[following] | runs.drift[following])
    runs.label[borrowed] = label
    runs.doubtful[borrowed] = doubtful
    runs.fresh[borrowed] = fresh
    runs.opened_us[borrowed] = opened_us
    runs.replay[borrowed] = False
    runs.drift[borrowed] = False
    return unsure
