"""Makes the big logs that throughput is measured on: `python tests/bench_input.py --out bench/`.

Enters: a size, and a directory that keeps what was made before.
Leaves: directories with postgresql.csv, pgbouncer.log, identity.jsonl, schema.sql and config.toml, all
recorded from pgbench behind PgBouncer: `extended-N`, the same at twice the size, and a smaller
`simple-M` where nearly every statement's text is distinct.
Does not: measure anything. What recording within the time limit does not give, rewritten copies of the
recording do (bench_copies.py); recording.json says how many.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

import psycopg

from tests.bench_copies import append_copy
from tests.cluster import POSTGRES_BIN
from tests.relay import Actor, Relay
from tests.stack import SHARED_ROLE, Stack, StackOptions

MEGABYTE = 1_000_000
RECORDING_SECONDS = 240.0
SCALE = 10

CONFIG = """\
# Written by tests/bench_input.py.
origin = "bench"
store  = "store"

[sources]
postgres  = ["postgresql.csv"]
pgbouncer = ["pgbouncer.log"]
identity  = ["identity.jsonl"]
timezone  = "UTC"

[pooler]
kind = "pgbouncer"
mode = "transaction"

[identifiers]
account_id = ["public.pgbench_accounts.aid", "public.pgbench_history.aid"]

[personal_data]
"public.pgbench_accounts.abalance" = "redact"
"""

FILES = ("postgresql.csv", "pgbouncer.log", "identity.jsonl")


@dataclass(frozen=True)
class Load:
    """One pgbench: what it runs, for whom, with how many clients."""

    script: str
    actor: Actor
    clients: int = 2
    reconnect: bool = False


LOADS = (
    Load("tpcb-like", Actor("employee_id_2291", "j.muller@company.com")),
    Load("tpcb-like", Actor("employee_id_1044", "k.weber@company.com")),
    Load("simple-update", Actor("employee_id_3310", "a.rossi@company.com", authn="mtls")),
    Load("select-only", Actor("svc_balances", kind="service", authn="mtls")),
)
# Every transaction of this one is a connection of its own: a new endpoint, a new identity event.
CHURN = Load("select-only", Actor("employee_id_0877", "m.dubois@company.com"), 1, reconnect=True)
# Ports of closed connections rest for a minute; a bound keeps churn from using them all up.
CHURN_TRANSACTIONS = 1500


def record(directory: Path, mode: str, size: int) -> float:
    """Records until the csvlog has `size` bytes or the time is up; the seconds it took."""
    options = StackOptions(
        auth="trust", pool_size=4, users=10, eu_users=5, pgbouncer_conf=["log_stats = 0"]
    )
    with Stack(options) as stack:
        prepare(stack)
        (directory / "schema.sql").write_text(stack.dump_schema())
        began = time.monotonic()
        with Relay(stack.pooler_port, directory / "identity.jsonl", sidecar="bench-0") as relay:
            ports = {load: relay.listen(load.actor) for load in (*LOADS, CHURN)}
            seconds = 5.0
            while (missing := size - written(stack)) > 0:
                spent = time.monotonic() - began
                if spent + seconds > RECORDING_SECONDS:
                    break
                run_round(stack, ports, mode, seconds)
                rate = written(stack) / (time.monotonic() - began)
                missing = size - written(stack)
                seconds = max(2.0, min(30.0, missing / rate * 1.05))
        took = time.monotonic() - began
    (csvlog,) = stack.csvlog_paths()
    shutil.copyfile(csvlog, directory / "postgresql.csv")
    shutil.copyfile(stack.pgbouncer_log, directory / "pgbouncer.log")
    return took


def prepare(stack: Stack) -> None:
    """Makes pgbench's tables, unseen by pgAudit."""
    dsn = stack.dsn_superuser()
    command = [str(POSTGRES_BIN / "pgbench"), "-i", "-q", "-s", str(SCALE), dsn]
    subprocess.run(command, check=True, capture_output=True)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {SHARED_ROLE}".encode())


def written(stack: Stack) -> int:
    """The size of the csvlog so far."""
    return sum(path.stat().st_size for path in stack.csvlog_paths())


def run_round(stack: Stack, ports: dict[Load, int], mode: str, seconds: float) -> None:
    """Runs every load once, all at a time."""
    running = [start(stack, load, port, mode, seconds) for load, port in ports.items()]
    outputs = [process.communicate()[0] for process in running]
    for process, output in zip(running, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(f"pgbench failed: {output.decode(errors='replace')}")


def start(
    stack: Stack, load: Load, port: int, mode: str, seconds: float
) -> subprocess.Popen[bytes]:
    """Starts one pgbench through the relay's port."""
    length = ["-t", str(CHURN_TRANSACTIONS), "-C"] if load.reconnect else ["-T", f"{seconds:.0f}"]
    return subprocess.Popen(
        [
            *(str(POSTGRES_BIN / "pgbench"), "-n", "-M", mode, "-b", load.script),
            *("-c", str(load.clients), *length, stack.dsn_pooler(port=port)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
    )


def ensure(out: Path, mode: str, megabytes: int, source: Path | None = None) -> Path:
    """The directory of a recording of at least that size; made when it isn't there yet.

    With a `source`, an earlier recording of the same mode is taken instead of a new one.
    """
    final = out / f"{mode}-{megabytes}"
    if (final / "recording.json").exists():
        return final
    size = megabytes * MEGABYTE
    making = out / f"{mode}-{megabytes}.part"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    took = 0.0
    if source is None:
        took = record(making, mode, size)
    else:
        for name in (*FILES, "schema.sql"):
            shutil.copy(source / name, making / name)
    (making / "config.toml").write_text(CONFIG)
    copies = multiply(making, size)
    facts = {
        "mode": mode,
        "bytes": {name: (making / name).stat().st_size for name in FILES},
        "recorded_seconds": round(took, 1),
        "copies": copies,
    }
    (making / "recording.json").write_text(json.dumps(facts, indent=1) + "\n")
    making.rename(final)
    return final


def multiply(directory: Path, size: int) -> int:
    """Appends rewritten copies of the recording until the csvlog has `size` bytes; how many."""
    recorded = {name: directory / f"{name}.recorded" for name in FILES}
    for name, path in recorded.items():
        shutil.copy(directory / name, path)
    copies = 0
    while (directory / "postgresql.csv").stat().st_size < size * 0.99:
        copies += 1
        append_copy(recorded, {name: directory / name for name in FILES}, copies)
    for path in recorded.values():
        path.unlink()
    return copies


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes what is missing, and prints where it all is."""
    parser = argparse.ArgumentParser(description="Record the logs that throughput is measured on.")
    parser.add_argument("--megabytes", type=int, default=350, help="size of the main csvlog")
    parser.add_argument("--simple-megabytes", type=int, default=100)
    parser.add_argument("--out", type=Path, default=ROOT / "bench")
    given = parser.parse_args(arguments)
    main_input = ensure(given.out, "extended", given.megabytes)
    print(main_input)
    print(ensure(given.out, "extended", 2 * given.megabytes, source=main_input))
    print(ensure(given.out, "simple", given.simple_megabytes))


if __name__ == "__main__":
    main()
