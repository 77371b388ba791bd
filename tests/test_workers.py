"""A parallel worker's record in the wrong place never becomes somebody else's statement."""

import csv
import io
import itertools
from pathlib import Path

import numpy as np
import pytest

from scalple.ingest.csvlog import record_starts
from tests.attribute_logs import attribute_files

SAMPLE = Path(__file__).resolve().parent.parent / "sample_logs"
LEADER, NAME, MESSAGE, PID = 24, 22, 13, 3


def _records() -> list[bytes]:
    data = (SAMPLE / "postgresql.csv").read_bytes()
    starts, _ = record_starts(np.frombuffer(data, np.uint8))
    bounds = [*starts.tolist(), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


def _fields(record: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(record.decode(), newline="")))


@pytest.mark.parametrize("which", range(5))
def test_a_worker_in_anothers_run_of_its_leader_is_not_that_other(
    which: int, tmp_path: Path
) -> None:
    records = _records()
    fields = [_fields(one) for one in records]
    workers = [
        at for at, one in enumerate(fields) if one[LEADER] and one[MESSAGE].startswith("AUDIT: ")
    ]
    worker = workers[which * len(workers) // 5]
    later = [
        at
        for at in range(worker + 1, len(fields) - 1)
        if fields[at][PID] == fields[worker][LEADER]
        and fields[at][MESSAGE].startswith("AUDIT: ")
        and fields[at][NAME] not in ("", fields[worker][NAME])
    ]
    moved = tmp_path / "moved.csv"
    for place in later[1:400:40]:
        moved.write_bytes(b"".join([*records[:place], records[worker], *records[place:]]))
        done = attribute_files([moved], [SAMPLE / "pgbouncer.log"], [SAMPLE / "identity.jsonl"])
        wrong = [row for row in done.wrong() if row["truth"] != "none" or row["session_user_id"]]
        assert wrong == [], place
