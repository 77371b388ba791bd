"""Records small runs behind the PgBouncers of several Debian releases, for test_recordings.py.

Enters: the directories of later PgBouncers, as install_later_pooler.sh makes them. Leaves: per version
a folder in tests/data with the server's csvlog, the pooler's log at `verbose=2` and the events.
Run it as `python -m tests.record_poolers`; nothing else does.
"""

import gzip
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bustle import play
from tests.stack import PGBOUNCER

DATA = Path(__file__).parent / "data"
STATEMENTS = 20


def record() -> None:
    """One run with the PgBouncer that STACK_PGBOUNCER names."""
    told = subprocess.run([PGBOUNCER, "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"PgBouncer (\d+\.\d+)", told.stdout)
    assert version is not None
    directory = DATA / f"pgbouncer_{version[1]}_run"
    directory.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        logs = play(Path(scratch), "transaction", STATEMENTS, announced=2, disturbed=False)
        (csvlog,) = logs.stack.csvlog_paths()
        names = ("sidecar.jsonl", "relay.jsonl")
        files = {"postgresql.csv": csvlog, "pgbouncer.log": logs.stack.pgbouncer_log}
        for name, path in (files | dict(zip(names, logs.events, strict=True))).items():
            data = path.read_bytes().replace(str(logs.stack.root).encode(), b"/run/stack")
            (directory / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
    print(directory)


if __name__ == "__main__":
    record()
    for later in sys.argv[1:]:
        environment = os.environ | {"STACK_PGBOUNCER": str(Path(later).resolve() / "pgbouncer")}
        subprocess.run([sys.executable, "-m", "tests.record_poolers"], env=environment, check=True)
