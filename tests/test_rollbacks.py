"""Statements whose transaction was taken back are marked, whenever that turns out."""

import itertools

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.rollbacks import Rollbacks


class _Batch:
    """What `Rollbacks` asks of a batch."""

    def __init__(self, commands: list[str]) -> None:
        audited = [at for at, one in enumerate(commands) if one not in ("error", "end")]
        self.log = pa.table({"n": pa.array(range(len(commands)), pa.int64())})
        self.audit_rows = np.array(audited, np.int64)
        words = [commands[at] for at in audited]
        counted = [0 if one.endswith("counted") else None for one in words]
        classes = ["READ" if "SELECT" in one or one == "INSERT" else "MISC" for one in words]
        self.payload = pa.table(
            {
                "command": pa.array([one.removesuffix(" TO s") for one in words], pa.string()),
                "statement": pa.array(words, pa.string()),
                "class": pa.array(classes, pa.string()),
                "rows": pa.array(counted, pa.int64()),
            }
        )
        self.forged = np.zeros(len(audited), bool)


STORIES = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.lists(
            st.sampled_from(["SELECT", "INSERT", "SELECT counted", "ROLLBACK TO"]), max_size=3
        ),
        st.sampled_from(["auto", "COMMIT", "ROLLBACK", "error", "leave", "fails"]),
    ),
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(STORIES, st.lists(st.integers(0, 60), max_size=4))
def test_taken_back_is_what_a_plain_reading_says_wherever_the_log_is_cut(
    stories: list[tuple[int, list[str], str]], cuts: list[int]
) -> None:
    records: list[tuple[int, int, str]] = []
    expected: set[int] = set()
    sessions = {0: 0, 1: 100}
    for number, (which, statements, end) in enumerate(stories, start=1):
        session = sessions[which]
        block = [] if end in ("auto", "fails") else ["BEGIN"]
        body = [*block, *statements]
        if end in ("COMMIT", "ROLLBACK", "error"):
            body.append(end)
        if end == "fails":
            body.append("error")
        begin = len(records)
        records += [(session, number, one) for one in body]
        # What can be told: the last word of the transaction.
        last = body[-1] if body else ""
        # A single statement that was logged before it ran is the one that failed, or may be.
        failed = end == "fails" and body[:-1] not in ([], ["SELECT"], ["INSERT"])
        taken_back = failed or end in ("ROLLBACK", "error", "leave")
        if taken_back or (end == "auto" and last == "ROLLBACK TO s"):
            expected |= set(range(begin, len(records)))
        if end == "leave":
            records.append((session, -1, "end"))
            sessions[which] += 1
    for which in (0, 1):
        records.append((sessions[which], -1, "end"))
    numbers: dict[int, int] = {}
    for at, (_, _, command) in enumerate(records):
        if command not in ("error", "end"):
            numbers[at] = len(numbers)
    wanted = {numbers[at] for at in expected if at in numbers}
    rollbacks, found, first = Rollbacks(), set[int](), 0
    places = sorted({0, len(records), *(one for one in cuts if one < len(records))})
    for begin, stop in itertools.pairwise(places):
        part = records[begin:stop]
        batch = _Batch([one for _, _, one in part])
        back, earlier = rollbacks.find(
            batch,  # type: ignore[arg-type]
            np.array([one for one, _, _ in part], np.int64),
            np.array([one for _, one, _ in part], np.int64),
            np.array([one == "error" for _, _, one in part], bool),
            np.array([one == "end" for _, _, one in part], bool),
            first,
        )
        found |= {first + int(at) for at in np.flatnonzero(back)} | set(earlier)
        rollbacks.remember(pa.nulls(len(batch.audit_rows), pa.list_(pa.string())), first)
        first += len(batch.audit_rows)
    assert found == wanted


def test_a_rollback_is_told_at_once_and_one_to_a_savepoint_is_not() -> None:
    for text, told in (
        ("ROLLBACK", True),
        ("rollback work /* why */;", True),
        ("/* why */ ABORT TRANSACTION AND NO CHAIN", True),
        ("ROLLBACK TO s", False),
        ("ROLLBACK WORK TO SAVEPOINT s", False),
        ("INSERT INTO t VALUES (1); ROLLBACK", False),  # it isn't known which of them this is
        ("ROLLBACK; SELECT 1", False),
    ):
        batch = _Batch(["BEGIN", "INSERT", "ROLLBACK"])
        statements = pa.array(["BEGIN", "INSERT", text], pa.string())
        batch.payload = batch.payload.set_column(1, "statement", statements)
        back, earlier = Rollbacks().find(
            batch,  # type: ignore[arg-type]
            np.zeros(3, np.int64),
            np.full(3, 7),
            np.zeros(3, bool),
            np.zeros(3, bool),
            0,
        )
        assert (back.tolist(), earlier) == ([told] * 3, {})
