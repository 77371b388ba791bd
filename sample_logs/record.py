"""Records the sample of this folder again: `python sample_logs/record.py`.

Enters: nothing but the Debian packages postgresql-15, postgresql-15-pgaudit and pgbouncer, and the
Python package psycopg.
Leaves: postgresql.csv, pgbouncer.log, identity.jsonl and schema.sql, as the servers, the relay and
pg_dump wrote them. One thing is changed: the directory the servers ran in is written as Debian's.
Does not: write config.toml; change any server but its own.

pgaudit.log_relation is on: pgAudit then names each table and view as PostgreSQL resolved it (search
path, views), which a reader of the statement's text can only infer.
"""

import contextlib
import socket
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests.auditcount import audit_fields, audit_records
from tests.stack import HOST, Stack, StackOptions
from tests.statements import EU_CUSTOMERS
from tests.workload import WorkloadOptions, run_workload

EU_USERS = 47291
LIMIT = 3_000_000

PGAUDIT = {"log": "all", "log_rows": "on", "log_parameter": "on", "log_relation": "on"}


def usual_port(port: int) -> int | None:
    """The port when nothing listens on it; None lets the stack choose."""
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return port
    return None


def record() -> dict[str, bytes]:
    """Runs the servers and the workload; the files' contents by name."""
    options = StackOptions(
        pgaudit=PGAUDIT,
        database="production",
        users=118_000,
        eu_users=EU_USERS,
        postgres_port=usual_port(5432),
        pooler_port=usual_port(6432),
    )
    with TemporaryDirectory() as directory:
        events = Path(directory) / "identity.jsonl"
        with Stack(options) as stack:
            schema = stack.dump_schema().encode()
            run_workload(stack, events, WorkloadOptions(seed=2291, statements=4100))
        (csvlog,) = stack.csvlog_paths()
        return {
            "postgresql.csv": debianised(stack, csvlog.read_bytes()),
            "pgbouncer.log": debianised(stack, stack.pgbouncer_log.read_bytes()),
            "identity.jsonl": events.read_bytes(),
            "schema.sql": schema,
        }


def debianised(stack: Stack, log: bytes) -> bytes:
    """The log with the paths of a Debian installation in the place of the temporary ones."""
    for here, there in (
        (stack.data / "pg_hba.conf", "/etc/postgresql/15/main/pg_hba.conf"),
        (stack.socket_directory, "/var/run/postgresql"),
    ):
        log = log.replace(str(here).encode(), there.encode())
    if str(stack.root).encode() in log:
        raise SystemExit("a path of this machine is in the log")
    return log


def check(directory: Path, sizes: int) -> int:
    """Refuses a sample that is too large or lacks the brief's answer; the number of records."""
    if sizes > LIMIT:
        raise SystemExit(f"{sizes} bytes are too many, {LIMIT} are allowed")
    fields = [audit_fields(r) for r in audit_records([directory / "postgresql.csv"])]
    if [f[9] for f in fields if f[7] == EU_CUSTOMERS] != [str(EU_USERS)]:
        raise SystemExit(f"the question for the EU's customers did not return {EU_USERS} rows")
    return len(fields)


def main() -> None:
    """Records, writes, checks, and says what was recorded."""
    contents = record()
    for name, content in contents.items():
        (HERE / name).write_bytes(content)
    sizes = {name: len(content) for name, content in contents.items()}
    print(f"{check(HERE, sum(sizes.values()))} audit records", sizes, file=sys.stderr)


if __name__ == "__main__":
    main()
