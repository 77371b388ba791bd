"""`make bench`: how long `verify` takes, beside hashing the same rows in memory and beside sha256sum.

A store of two million statements is made from the rows of `sample_logs` (see bench_query). Hashing in
memory is what `verify` can't do without: RFC 6962 over the rows' bytes, ready encoded, on one core; and
the same with their encoding. Everything else of `verify` (reading, SHA-256 of the files, Parquet, checks,
the digests made again, starting the process) stands against it. Rounds alternate; the fastest counts.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scalple.store import merkle
from scalple.store.rowtree import hash_each, leaves, row_hashes, salts
from scalple.store.segments import Segment, from_parquet
from tests.bench_query import PROGRAM, best, make_store

Leaves = list[tuple[memoryview, memoryview]]


def read(store: Path) -> list[Segment]:
    """All rows, in memory."""
    return [from_parquet(path.read_bytes()) for path in sorted(store.glob("*/segments/*"))]


def hash_ready(encoded: list[Leaves]) -> None:
    """SHA-256 of every row's bytes and the trees over them; nothing else."""
    for ready in encoded:
        merkle.root(b"".join(hash_each(*one) for one in ready))


def encode_and_hash(segments: list[Segment]) -> None:
    """The same, from columns."""
    for one in segments:
        merkle.root(row_hashes(one.table, one.salt_key))


def verify(store: Path, *options: str) -> None:
    """The command, in a process of its own."""
    subprocess.run(
        [PROGRAM, "verify", "--store", str(store), *options], check=True, capture_output=True
    )


def sha256sum(store: Path) -> None:
    """The system's program, over every file."""
    files = [str(path) for path in sorted(store.rglob("*")) if path.is_file()]
    subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)


@dataclass(slots=True)
class Took:
    """Seconds of the fastest round, and of processor time in the one that used least."""

    wall: float = float("inf")
    cpu: float = float("inf")

    def __str__(self) -> str:
        return f"{self.wall:6.2f} s ({self.cpu:6.2f} s of processors)"


def alternating(rounds: int, runs: dict[str, Callable[[], None]]) -> dict[str, Took]:
    """What each one took; where others use the machine too, processor time says more."""
    found = {name: Took() for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            before = used()
            found[name].wall = min(found[name].wall, best(1, run))
            found[name].cpu = min(found[name].cpu, used() - before)
    return found


def used() -> float:
    """Processor time of this process and of those that it has waited for."""
    told = os.times()
    return told.user + told.system + told.children_user + told.children_system


def main() -> None:
    """Measure, print, and leave nothing behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--statements", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="use the store here; make it if there is none")
    given = parser.parse_args()
    directory = given.keep or Path(tempfile.mkdtemp(prefix="scalple-bench-"))
    try:
        store = directory / "store"
        if not store.exists():
            directory.mkdir(parents=True, exist_ok=True)
            make_store(given.statements, directory)
        report(store, given.rounds)
    finally:
        if given.keep is None:
            shutil.rmtree(directory)


def report(store: Path, rounds: int) -> None:
    """Two paragraphs: rows, and files."""
    segments = read(store)
    encoded = [list(leaves(one.table, salts(one.salt_key, one.table.num_rows))) for one in segments]
    rows = sum(one.table.num_rows for one in segments)
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) / 1e6
    found = alternating(
        rounds,
        {
            "ready": partial(hash_ready, encoded),
            "encode": partial(encode_and_hash, segments),
            "one": partial(verify, store, "--workers", "1"),
            "all": partial(verify, store),
        },
    )
    cores = len(os.sched_getaffinity(0))
    ready, encode = found["ready"], found["encode"]
    print(f"{rows:,} rows, {size:,.1f} MB of files, {cores} cores; best of {rounds}")
    print(f"  hashing in memory {ready}\n  with encoding     {encode}")
    for name, told in (("all", f"verify, {cores} workers"), ("one", "verify, 1 worker ")):
        took = found[name]
        print(
            f"  {told} {took} -> {ready.wall / took.wall:.2f} x the speed of hashing, "
            f"{encode.wall / took.wall:.2f} x with encoding; by processor time "
            f"{ready.cpu / took.cpu:.2f} and {encode.cpu / took.cpu:.2f}"
        )
    del segments, encoded
    found = alternating(
        rounds,
        {
            "sum": partial(sha256sum, store),
            "files": partial(verify, store, "--files"),
            "start": partial(verify, store, "--help"),
        },
    )
    whole, start, other = found["files"], found["start"], found["sum"]
    print(
        f"  verify --files    {whole}, of which to start {start}\n  sha256sum         {other} -> "
        f"{other.wall / whole.wall:.2f} x its speed, {other.cpu / whole.cpu:.2f} by processor time; "
        f"without the start {other.cpu / max(whole.cpu - start.cpu, 0.001):.2f}"
    )


if __name__ == "__main__":
    main()
