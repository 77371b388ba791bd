"""`make bench`: how long `verify` takes, beside hashing the same rows in memory and beside sha256sum.

Three stores, each measured with one worker and with one per core; rounds alternate, the fastest counts.
The start of the process is part of it; it is told by itself as well.

- Rows: two million statements made from the rows of `sample_logs` (see bench_query), in commits as large as
  `reprocess` makes them. The yardstick is what `verify` can't do without: RFC 6962's hashes of leaves
  and nodes over the rows' bytes, which lie encoded in memory; on one core beside one worker, on all cores
  beside all workers. Beside it stands the same from rows in memory as columns, which have to be
  encoded first. Everything else of `verify` stands against these: files, Parquet, digests, the process.
- Files: more than a gigabyte in large segments, against sha256sum over the same files, on one core and
  on all, and against OpenSSL's SHA-256 over as many bytes in memory, on one.
- Commits: 1,000 and 10,000 of a hundred statements, with digests and an index over them.
"""

import argparse
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import pyarrow as pa

from scalple.correlate.record import KINDS
from scalple.store import keys, merkle
from scalple.store.rowtree import hash_each, leaves, row_hashes, salts
from scalple.store.segments import Segment, from_parquet
from scalple.store.writer import StoreWriter
from tests.bench_query import ORIGIN, PROGRAM, SMALL, best, make_store, run

CORES = len(os.sched_getaffinity(0))
Leaves = list[tuple[memoryview, memoryview]]
ROW_BYTES, ROWS = 1 << 20, 32
"""Of a segment of the store whose files are large."""

_encoded: list[Leaves] = []


def read(store: Path) -> list[Segment]:
    """All rows, in memory."""
    return [from_parquet(path.read_bytes()) for path in sorted(store.glob("*/segments/*"))]


def hash_ready(at: int) -> None:
    """SHA-256 of every row's bytes of a segment and the tree over them; nothing else."""
    merkle.root(b"".join(hash_each(*one) for one in _encoded[at]))


def hash_all(pool: ProcessPoolExecutor | None) -> None:
    """The same of all segments; in processes that have the bytes already, or here."""
    places = range(len(_encoded))
    list(pool.map(hash_ready, places) if pool else map(hash_ready, places))


def encode_and_hash(segments: list[Segment]) -> None:
    """The same on one core, from columns."""
    for one in segments:
        merkle.root(row_hashes(one.table, one.salt_key))


def verify(store: Path, *options: str) -> None:
    """The command, in a process of its own."""
    subprocess.run(
        [PROGRAM, "verify", "--store", str(store), *options], check=True, capture_output=True
    )


def sha256sum(store: Path, at_once: int) -> None:
    """The system's program, over every file, in so many processes."""
    names = b"\0".join(os.fsencode(path) for path in sorted(store.rglob("*")) if path.is_file())
    command = ["xargs", "-0", "-n", "8", "-P", str(at_once), "sha256sum"]
    subprocess.run(command, input=names, check=True, stdout=subprocess.DEVNULL)


def in_memory(data: bytes, times: int) -> None:
    """OpenSSL's SHA-256, which `verify` uses too."""
    for _ in range(times):
        hashlib.sha256(data)


@dataclass(slots=True)
class Took:
    """Seconds of the fastest round, and of processor time in the one that used least."""

    wall: float = float("inf")
    cpu: float = float("inf")

    def __str__(self) -> str:
        return f"{self.wall:6.2f} s ({self.cpu:6.2f} s of processors)"

    def beside(self, other: "Took") -> str:
        """How fast it is, measured by the other."""
        return f"{other.wall / self.wall:.2f} x (by processor time {other.cpu / self.cpu:.2f})"


def alternating(rounds: int, runs: dict[str, Callable[[], None]]) -> dict[str, Took]:
    """What each one took; where others use the machine too, processor time says more."""
    found = {name: Took() for name in runs}
    for _ in range(rounds):
        for name, call in runs.items():
            before = used()
            found[name].wall = min(found[name].wall, best(1, call))
            found[name].cpu = min(found[name].cpu, used() - before)
    return found


def used() -> float:
    """Processor time of this process and of those that it has waited for."""
    told = os.times()
    return told.user + told.system + told.children_user + told.children_system


def size_of(store: Path) -> float:
    """Megabytes of all files."""
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) / 1e6


def rows(store: Path, rounds: int) -> None:
    """`verify` in full beside hashing."""
    segments = read(store)
    _encoded[:] = [list(leaves(x.table, salts(x.salt_key, x.table.num_rows))) for x in segments]
    print(f"{sum(x.table.num_rows for x in segments):,} rows, {size_of(store):,.1f} MB of files")
    hashed, whole = {}, {}
    for workers in sorted({1, CORES}):
        with ProcessPoolExecutor(workers, get_context("fork")) as pool:
            hash_all(pool)  # every process has begun, and touched the bytes
            hashed[workers] = alternating(rounds, {"": partial(hash_all, pool)})[""]
        hashed[workers].cpu = alternating(1, {"": partial(hash_all, None)})[""].cpu
    encoded = alternating(rounds, {"": partial(encode_and_hash, segments)})[""]
    _encoded.clear()
    del segments
    for workers in sorted({1, CORES}):
        call = partial(verify, store, "--workers", str(workers))
        whole[workers] = alternating(rounds, {"": call})[""]
        print(f"  hashes of ready bytes, {workers} core(s)  {hashed[workers]}")
        print(
            f"  verify, {workers} worker(s)               {whole[workers]} -> "
            f"{whole[workers].beside(hashed[workers])} the speed of these hashes"
        )
    print(f"  encoding and hashes, 1 core       {encoded} -> {whole[1].beside(encoded)}, 1 worker")


def files(store: Path, rounds: int) -> None:
    """`verify --files` beside sha256sum."""
    size = size_of(store)
    data = bytes(10_000_000)
    found = alternating(
        rounds,
        {
            "openssl": partial(in_memory, data, int(size / 10)),
            "start": partial(verify, store, "--help"),
            **{
                f"{name}{workers}": call
                for workers in sorted({1, CORES})
                for name, call in (
                    ("sum", partial(sha256sum, store, workers)),
                    ("files", partial(verify, store, "--files", "--workers", str(workers))),
                )
            },
        },
    )
    print(f"{size:,.1f} MB of files; to start `verify` takes {found['start']}")
    for workers in sorted({1, CORES}):
        ours, other = found[f"files{workers}"], found[f"sum{workers}"]
        print(f"  sha256sum, {workers} at once          {other}")
        print(f"  verify --files, {workers} worker(s)   {ours} -> {ours.beside(other)} its speed")
    ours = found["files1"]
    print(f"  SHA-256 in memory, 1 core     {found['openssl']} -> {ours.beside(found['openssl'])}")


def commits(counts: Sequence[int], rounds: int) -> None:
    """Stores of so many small commits."""
    each = []
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="scalple-bench-") as name:
            with mock.patch("os.fsync"):  # it is thrown away
                store = make_store(count * SMALL, Path(name), SMALL)
            run("compact", store)
            print(
                f"{count:,} commits of {SMALL} statements, {size_of(store):,.1f} MB, with an index"
            )
            for workers in sorted({1, CORES}):
                call = partial(verify, store, "--workers", str(workers))
                took = alternating(rounds, {"": call})[""]
                print(f"  verify, {workers} worker(s)  {took}")
            each.append(took.wall / count)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
            print(
                f"  {1000 * each[-1]:.2f} ms a commit; no process needed more than {peak:,.0f} MB"
            )
    print(f"  a commit of {counts[-1]:,} to one of {counts[0]:,}: {each[-1] / each[0]:.2f} x")


def make_large(megabytes: int, directory: Path) -> Path:
    """A store of large segments: lines that nobody could read."""
    store = directory / "large"
    private = keys.signing_key(store, None).private
    with StoreWriter.open(store, ORIGIN, private, create=True) as writer:
        for first in range(0, megabytes, ROWS):
            said = [
                {
                    "seq": first + n,
                    "origin": ORIGIN,
                    "reason": "noise",
                    "raw": os.urandom(ROW_BYTES),
                }
                for n in range(ROWS)
            ]
            writer.commit({"unparsed": pa.Table.from_pylist(said, KINDS["unparsed"])}, [], {})
    return store


def main() -> None:
    """Measure, print, and leave nothing behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--statements", type=int, default=2_000_000)
    parser.add_argument("--megabytes", type=int, default=1_200)
    parser.add_argument("--commits", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--keep", type=Path, help="use the stores here; make them if there are none"
    )
    given = parser.parse_args()
    directory = given.keep or Path(tempfile.mkdtemp(prefix="scalple-bench-"))
    directory.mkdir(parents=True, exist_ok=True)
    print(f"{CORES} cores; best of {given.rounds}")
    try:
        if given.statements:
            if not (directory / "store").exists():
                make_store(given.statements, directory)
            rows(directory / "store", given.rounds)
        if given.megabytes:
            if not (directory / "large").exists():
                make_large(given.megabytes, directory)
            files(directory / "large", given.rounds)
        if given.commits:
            commits(given.commits, given.rounds)
    finally:
        if given.keep is None:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
