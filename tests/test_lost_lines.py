"""Sample logs with one line missing: no statement gets a wrong name at the two top grades.

Each statement of the sample carries its author in a comment.
"""

import csv
from pathlib import Path

import pytest

from scalple.correlate.rules import Actors, Rules
from tests.attribute_logs import Attributed, attribute_files

SAMPLE = Path(__file__).parents[1] / "sample_logs"
RULES = Rules(actors=Actors(roles={"jmueller": "employee_id_2291", "awagner": "employee_id_6001"}))
LINES = (SAMPLE / "postgresql.csv").read_bytes().splitlines(keepends=True)


def without(line: int, folder: Path) -> Attributed:
    """The sample, attributed without that line of the server's log."""
    path = folder / "postgresql.csv"
    path.write_bytes(b"".join(LINES[:line] + LINES[line + 1 :]))
    return attributed(path)


def attributed(path: Path, block_bytes: int | None = None) -> Attributed:
    """A server log, attributed with the sample's evidence."""
    return attribute_files(
        [path],
        [SAMPLE / "pgbouncer.log"],
        [SAMPLE / "identity.jsonl"],
        RULES,
        block_bytes=block_bytes,
    )


def replays_before_workers() -> list[int]:
    """Lines of the last setting that each parallel worker's leader logged before the worker."""
    rows = [next(csv.reader([line.decode()]), []) for line in LINES]
    found = set()
    for at, row in enumerate(rows):
        if len(row) > 24 and row[23] == "parallel worker":
            of_leader = (i for i in range(at - 1, 0, -1) if rows[i][3:4] == [row[24]])
            last = next(of_leader, None)
            if last is not None and "SET application_name" in rows[last][13]:
                found.add(last)
    return sorted(found)


def test_workers_of_the_whole_sample_are_named() -> None:
    done = attributed(SAMPLE / "postgresql.csv")
    workers = [row for row in done.dicts() if row["user_name"] is None]
    assert len(workers) == 148
    assert not [row for row in workers if row["attribution_reason"] == "parallel-worker"]
    assert done.wrong() == []


def test_a_worker_whose_leaders_replay_is_missing_is_not_named(tmp_path: Path) -> None:
    lines = replays_before_workers()
    assert len(lines) > 100
    for line in lines[::8]:
        assert without(line, tmp_path).wrong() == [], line
    row = next(one for one in without(765, tmp_path).dicts() if one["source_offset"] == _late(765))
    assert row["truth"] == "employee_id_1044"
    assert row["attribution_grade"] == "candidates"
    assert row["attribution_reason"] == "parallel-worker"
    assert "employee_id_1044" in row["attribution_candidates"]  # type: ignore[operator]


def _late(line: int) -> int:
    """Where the next worker's record of that line's session stands once the line is missing."""
    pid = LINES[line].split(b",")[3]
    at = next(i for i in range(line, len(LINES)) if b'"parallel worker",' + pid in LINES[i])
    return sum(len(one) for one in LINES[:at]) - len(LINES[line])


@pytest.mark.parametrize("line", range(0, len(LINES), 331))
def test_any_line_may_be_missing(line: int, tmp_path: Path) -> None:
    assert without(line, tmp_path).wrong() == []


def test_small_batches_lose_workers_at_their_ends_only() -> None:
    whole = attributed(SAMPLE / "postgresql.csv").dicts()
    cut = attributed(SAMPLE / "postgresql.csv", block_bytes=20_000).dicts()
    changed = [(a, b) for a, b in zip(whole, cut, strict=True) if a != b]
    assert len(changed) < 148 // 2
    for before, after in changed:
        assert before["user_name"] is None
        assert before["attribution_grade"] in ("confirmed", "unattributed")
        assert after["attribution_grade"] == "candidates"
        assert after["attribution_reason"] == "parallel-worker"
