"""Copies of a recording stay a recording: same bytes when nothing moves, one story when it does."""

import json
import re
import shutil
from pathlib import Path

from tests.auditcount import audit_records
from tests.bench_copies import append_copy, rewritten_csvlog

SAMPLE = Path(__file__).resolve().parent.parent / "sample_logs"
FILES = ("postgresql.csv", "pgbouncer.log", "identity.jsonl")


def test_nothing_moved_gives_the_same_bytes(tmp_path: Path) -> None:
    source = Path(shutil.copy(SAMPLE / "postgresql.csv", tmp_path))
    assert rewritten_csvlog(source, 0, 0).read_bytes() == source.read_bytes()


def test_the_three_logs_of_a_copy_agree(tmp_path: Path) -> None:
    target = {name: tmp_path / name for name in FILES}
    append_copy(
        {name: Path(shutil.copy(SAMPLE / name, f"{path}.from")) for name, path in target.items()},
        target,
        1,
    )
    original, copied = (
        list(audit_records([p])) for p in (SAMPLE / "postgresql.csv", target["postgresql.csv"])
    )
    assert len(copied) == len(original)
    assert not {r[5] for r in original} & {r[5] for r in copied}
    events = [json.loads(line) for line in target["identity.jsonl"].read_text().splitlines()]
    opened = {e["client_port"]: e["actor"] for e in events if e["event"] == "open"}
    logged_in = set(re.findall(r"@127\.0\.0\.1:(\d+) login", target["pgbouncer.log"].read_text()))
    backends = set(re.findall(r"from 127\.0\.0\.1:(\d+)", target["pgbouncer.log"].read_text()))
    assert set(map(str, opened)) <= logged_in
    assert backends <= {r[4].split(":")[-1] for r in copied}
    for record in copied:
        mark = re.search(r"/\* truth:(\w+) \*/", record[13])
        port = re.search(r":(\d+)$", record[22])
        if mark and port:
            assert opened.get(int(port[1]), "none") == mark[1]
