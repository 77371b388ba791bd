"""`make bench`: what the database's host loses by a daemon at default settings.

pgbench runs on two like databases in turns, one of which a daemon follows; whatever else the machine does
meets both. The daemon has finished with one round before the next begins.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scalple.ingest.errors import ScalpleError
from scalple.store.reader import StoreReader
from tests.bench_input import prepare
from tests.cluster import POSTGRES_BIN
from tests.relay import Actor, Relay
from tests.stack import Stack, StackOptions

TARGET_LOSS = 0.05
SETTLED_S = 6.0
"""Longer than a commit may take to come."""


@contextmanager
def following(directory: Path, stack: Stack, events: Path) -> Iterator[Path]:
    """A daemon beside a stack; its store."""
    store, config, log = (directory / name for name in ("store", "daemon.toml", "daemon.log"))
    config.write_text(
        f'origin = "bench"\nstore = "{store}"\n[sources]\ntimezone = "UTC"\n'
        f'postgres = ["{stack.log_directory}/*.csv"]\npgbouncer = ["{stack.pgbouncer_log}"]\n'
        f'identity = ["{events}"]\n[pooler]\nkind = "pgbouncer"\nmode = "transaction"\n'
    )
    program = str(Path(sys.executable).with_name("scalple-ingest"))
    with log.open("ab") as said:
        process = subprocess.Popen([program, "daemon", "--config", str(config)], stderr=said)
    try:
        yield store
        if process.poll() is not None:
            sys.exit(log.read_text()[-2000:])
    finally:
        process.terminate()
        process.wait(120)


def committed(store: Path) -> int:
    """Statements that can be asked about."""
    try:
        return sum(one.rows for one in StoreReader.open(store).audit_commits(None))
    except ScalpleError:
        return 0  # there is none yet


def settle(store: Path) -> None:
    """Wait until the daemon has nothing left to do."""
    rows = -1
    while rows != (rows := committed(store)):
        time.sleep(SETTLED_S)


def rate(stack: Stack, port: int, seconds: int) -> float:
    """Transactions a second of the default script, through the relay and PgBouncer."""
    command = [str(POSTGRES_BIN / "pgbench"), "-n", "-M", "extended", "-c", "4", "-T", str(seconds)]
    done = subprocess.run(
        [*command, stack.dsn_pooler(port=port)],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
    )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


def measure(directory: Path, rounds: int, seconds: int) -> None:
    """Both in turns; prints rates and what is lost."""
    options = StackOptions(auth="trust", pool_size=4, users=10, eu_users=5)
    names = ("followed", "alone")
    events = {name: directory / f"{name}.jsonl" for name in names}
    with Stack(options) as one, Stack(options) as other:
        stacks = dict(zip(names, (one, other), strict=True))
        for stack in stacks.values():
            prepare(stack)
        with (
            Relay(one.pooler_port, events["followed"]) as relay,
            Relay(other.pooler_port, events["alone"]) as beside,
            following(directory, one, events["followed"]) as store,
        ):
            who = Actor("employee_id_2291")
            ports = {"followed": relay.listen(who), "alone": beside.listen(who)}
            rates: dict[str, list[float]] = {name: [] for name in names}
            for n in range(rounds):
                for name in sorted(names, reverse=bool(n % 2)):
                    rates[name].append(rate(stacks[name], ports[name], seconds))
                    settle(store)
            statements = committed(store)
    lost = [1 - a / b for a, b in zip(rates["followed"], rates["alone"], strict=True)]
    loss = statistics.median(lost)
    print(
        f"pgbench, {rounds} rounds of {seconds} s in turns, with pgAudit: "
        f"{statistics.median(rates['alone']):,.0f} transactions/s alone, "
        f"{statistics.median(rates['followed']):,.0f} followed ({statements:,} statements); lost "
        f"{loss:.3f} (median; target {TARGET_LOSS:g}: {'met' if loss <= TARGET_LOSS else 'missed'}), "
        f"rounds {', '.join(f'{one:.3f}' for one in lost)}"
    )


def main() -> None:
    """Measure, print, and leave nothing behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=15)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scalple-bench-") as name:
        measure(Path(name), given.rounds, given.seconds)


if __name__ == "__main__":
    main()
