"""`make bench`: throughput and memory of `reprocess`, beside its peers, measured in one run.

Peers read the same csvlog: DuckDB turning it into zstd Parquet and doing nothing else (the
floor), and pgBadger. Each is a process of its own; the fastest of the rounds counts, rounds
alternate. Seconds are of this machine: read the ratios.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.bench_input import ensure
from tests.log_forms import STDERR_PREFIX, to_jsonlog, to_stderr

FLOOR = """
import sys, duckdb
con = duckdb.connect(config={"threads": 2})
con.execute(
    "COPY (SELECT * FROM read_csv($1, header=false, all_varchar=true)) "
    "TO '" + sys.argv[2] + "' (FORMAT parquet, COMPRESSION zstd)", [sys.argv[1]])
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one program."""

    seconds: float
    peak_mb: float


def measure(command: list[str]) -> Measured:
    """Run a program; its wall time, and the most memory that it or a child held."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status:
        sys.exit(f"{command[0]} failed: {said.decode(errors='replace')[-2000:]}")
    return Measured(seconds, usage.ru_maxrss / 1024)


def ours(folder: Path, scratch: Path, log: str = "postgresql.csv") -> Measured:
    """`reprocess` with everything switched on, into a new store."""
    store = scratch / "store"
    shutil.rmtree(store, ignore_errors=True)
    program = Path(sys.executable).with_name("scalple-ingest")
    config = str(folder / "config.toml")
    schema = str(folder / "schema.sql")
    command = [str(program), "reprocess", "--config", config, "--store", str(store)]
    command += ["--schema", schema, "--postgres-log", str(folder / log)]
    return measure(
        [*command, "--log-line-prefix", STDERR_PREFIX] if log.endswith(".log") else command
    )


def floor(folder: Path, scratch: Path) -> Measured:
    """DuckDB's bare copy."""
    log = str(folder / "postgresql.csv")
    return measure([sys.executable, "-c", FLOOR, log, str(scratch / "floor.parquet")])


def pgbadger(folder: Path, scratch: Path) -> Measured:
    """pgBadger's report, on two cores."""
    out = str(scratch / "report.html")
    log = str(folder / "postgresql.csv")
    return measure(["pgbadger", "-q", "-j", "2", "-f", "csv", "-o", out, log])


def records(folder: Path) -> int:
    """How many log records a recording holds: as many as DuckDB finds."""
    import duckdb

    sql = "SELECT count(*) FROM read_csv($1, header=false, all_varchar=true)"
    found = duckdb.execute(sql, [str(folder / "postgresql.csv")]).fetchall()
    return int(found[0][0])


def best(runs: list[Measured]) -> Measured:
    """The fastest, with the highest peak."""
    return Measured(min(one.seconds for one in runs), max(one.peak_mb for one in runs))


def report(name: str, folder: Path, rounds: int, scratch: Path, *, peer: bool) -> Measured:
    """Measure one recording and print a paragraph."""
    mine, bare = [], []
    for _ in range(rounds):
        bare.append(floor(folder, scratch))
        mine.append(ours(folder, scratch))
    fast, low = best(mine), best(bare)
    count = records(folder)
    megabytes = (folder / "postgresql.csv").stat().st_size / 1e6
    print(f"{name}: {count:,} records, {megabytes:,.0f} MB of csvlog, best of {rounds}")
    print(
        f"  scalple-ingest   {fast.seconds:7.2f} s  {count / fast.seconds:10,.0f} records/s"
        f"  {megabytes / fast.seconds:6.1f} MB/s  peak {fast.peak_mb:,.0f} MB"
    )
    print(
        f"  DuckDB bare copy {low.seconds:7.2f} s  -> {fast.seconds / low.seconds:.2f} x its time"
    )
    if peer:
        badger = pgbadger(folder, scratch)
        print(
            f"  pgBadger         {badger.seconds:7.2f} s"
            f"  -> {badger.seconds / fast.seconds:.2f} x its speed",
            flush=True,
        )
    return fast


FORMS: dict[str, Callable[[Path, Path], Path]] = {
    "postgresql.log": to_stderr,
    "postgresql.json": to_jsonlog,
}


def report_forms(folder: Path, rounds: int, scratch: Path) -> None:
    """The same records as stderr and as jsonlog, beside the csvlog, in alternating runs."""
    for name, write in FORMS.items():
        if not (folder / name).exists():
            write(folder / "postgresql.csv", folder / "making").rename(folder / name)
    names = ("postgresql.csv", *FORMS)
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            runs[name].append(ours(folder, scratch, name))
    count, base = records(folder), best(runs["postgresql.csv"])
    print(f"other containers: the same {count:,} records, best of {rounds}")
    for name, measured in runs.items():
        one = best(measured)
        megabytes = (folder / name).stat().st_size / 1e6
        print(
            f"  {name:16} {one.seconds:7.2f} s  {count / one.seconds:10,.0f} records/s"
            f"  {megabytes / one.seconds:6.1f} MB/s  peak {one.peak_mb:,.0f} MB"
            f"  -> {one.seconds / base.seconds:.2f} x csvlog's time per record",
            flush=True,
        )


def main() -> None:
    """Record what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    single = ensure(options.out, "extended", 350)
    double = ensure(options.out, "extended", 700, source=single)
    simple = ensure(options.out, "simple", 100)
    with tempfile.TemporaryDirectory(dir=options.out) as name:
        scratch = Path(name)
        small = report("extended protocol", single, options.rounds, scratch, peer=True)
        large = report("twice the input", double, 1, scratch, peer=False)
        print(f"  peak memory for twice the input: {large.peak_mb / small.peak_mb:.2f} x")
        report("simple protocol", simple, options.rounds, scratch, peer=False)
        report_forms(single, options.rounds, scratch)


if __name__ == "__main__":
    main()
