"""`make bench`: seconds until a question about one person is answered, start of the process included.

Stores of 100,000 and of 10 million statements are made from the rows of `sample_logs`: other
templates, actors, subjects and times, committed through the one write path in batches as large as
`reprocess` makes them. Beside it stands DuckDB's bare scan of the column that names subjects, of
the same files: what a question would cost at least if it looked at every row.

Where so much was promised, the target stands beside what was measured. It is of an idle machine of two
cores: wall time on a busy one overstates.

Then stores as a daemon leaves them, of 100 and of 10,000 small commits: before `compact`, and after
it, asked in turns, so that whatever else the machine does meets both.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scalple.correlate.record import AUDIT, SUBJECT
from scalple.correlate.subjects import subject_token
from scalple.store import keys
from scalple.store.reader import StoreReader
from scalple.store.writer import StoreWriter

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = str(Path(sys.executable).with_name("scalple-ingest"))
ORIGIN = "sample"
BATCH = 50_000
"""Rows of one commit: what a block of 16 MiB of csvlog holds."""
TEMPLATES, VARIANTS = 2_000, 10
ACTORS = 500
SUBJECTS = 1_000_000
SMALL = 100
"""Rows of a commit of a daemon that commits every few seconds."""
ASKED, ACCESSES = "4711", 100
"""The customer asked about, and in how many statements the largest store names him."""
TARGETS = {100_000: 0.4, 10_000_000: 1.0}
"""Statements -> seconds in which a question about one person is answered."""
TARGET_P95, TARGET_RATIO = 0.5, 2.0
"""Of a million statements in 10,000 commits, compacted: seconds; times those of a hundredth of it."""
APART_US = 86_400
"""Between two statements, on average: a million a day."""


class Rows:
    """Statements without end, like those of the sample."""

    def __init__(self, sample: pa.Table, secret: bytes, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._pool = _pool(sample, self._random)
        self._weights = _falling(TEMPLATES, 10)
        self._actors = _falling(ACTORS, 20)
        self._names = [f"employee_id_{n:04}" for n in range(ACTORS)]
        self._tokens = self._random.integers(0, 2**64, SUBJECTS, np.uint64)
        self._now = 1_767_225_600_000_000
        self._asked = np.uint64(subject_token(secret, "customer_id", ASKED))

    def batch(self, first: int, count: int, accesses: int) -> pa.Table:
        """The rows with the numbers from `first` on; so many of them name the customer asked about."""
        template = self._random.choice(TEMPLATES, count, p=self._weights)
        variant = self._random.integers(0, VARIANTS, count)
        rows = self._pool.take(pa.array(template * VARIANTS + variant))
        numbers = np.arange(first, first + count, dtype=np.uint64)
        apart = self._random.exponential(APART_US, count)
        times = self._now + np.cumsum(apart).astype(np.int64)
        self._now = int(times[-1])
        actors = self._random.choice(ACTORS, count, p=self._actors).astype(np.int32)
        new = {
            "seq": pa.array(numbers),
            "log_time": pa.array(times, pa.int64()).cast(AUDIT.field("log_time").type),
            "session_user_id": _known(rows, "session_user_id", actors, self._names),
            "session_email": _known(
                rows, "session_email", actors, [f"{name}@company.com" for name in self._names]
            ),
            "subjects": self._subjects(rows["subjects"].combine_chunks(), accesses),
            "source_offset": pa.array(numbers * 300),
        }
        for name, column in new.items():
            rows = rows.set_column(rows.schema.get_field_index(name), name, column)
        return rows

    def _subjects(self, column: pa.Array, accesses: int) -> pa.Array:
        """The same lists, of other people."""
        values = column.flatten()
        tokens = self._tokens[self._random.integers(0, SUBJECTS, len(values))]
        tokens[self._random.choice(len(values), accesses, replace=False)] = self._asked
        sealed = self._random.bytes(20 * len(values))
        offsets = pa.py_buffer(np.arange(0, 20 * len(values) + 1, 20, dtype=np.int32))
        fields = [
            pa.array(tokens),
            values.field("column"),
            values.field("basis"),
            pa.Array.from_buffers(pa.binary(), len(values), [None, offsets, pa.py_buffer(sealed)]),
        ]
        items = pa.StructArray.from_arrays(fields, fields=list(SUBJECT))
        lengths = np.diff(column.offsets.to_numpy())
        begins = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        return pa.ListArray.from_arrays(begins, items, type=AUDIT.field("subjects").type)


def _falling(count: int, flat: int) -> npt.NDArray[np.float64]:
    """Probabilities of ranks: few are frequent, most are rare."""
    weights = 1 / (np.arange(count) + flat)
    return np.asarray(weights / weights.sum())


def _known(
    rows: pa.Table, name: str, actors: npt.NDArray[np.int32], names: list[str]
) -> pa.DictionaryArray:
    """Another name where the row has one."""
    unknown = rows[name].combine_chunks().is_null().to_numpy(zero_copy_only=False)
    return pa.DictionaryArray.from_arrays(pa.array(actors, mask=unknown), pa.array(names))


def _pool(sample: pa.Table, random: np.random.Generator) -> pa.Table:
    """VARIANTS rows of each of TEMPLATES templates; mostly statements that name somebody."""
    fingerprints = sample["query_fingerprint"].to_pylist()
    kinds = sample["class"].to_pylist()
    named = [n > 0 for n in sample["subjects"].combine_chunks().value_lengths().to_pylist()]
    groups: dict[str, list[int]] = {}
    for at, fingerprint in enumerate(fingerprints):
        if kinds[at] in ("READ", "WRITE"):
            groups.setdefault(fingerprint, []).append(at)
    naming = [rows for rows in groups.values() if any(named[at] for at in rows)]
    others = [rows for rows in groups.values() if not any(named[at] for at in rows)]
    chosen, queries, prints = [], [], []
    texts = sample["query"].to_pylist()
    for template in range(TEMPLATES):
        family = naming if random.random() < 0.75 else others
        rows = family[random.integers(len(family))]
        for at in random.choice(rows, VARIANTS):
            chosen.append(int(at))
            queries.append(f"{texts[at]} /* screen {template} */")
            prints.append(f"{template:04x}{fingerprints[at][4:]}")
    pool = sample.take(pa.array(chosen))
    for name, values in (("query", queries), ("query_fingerprint", prints)):
        at = pool.schema.get_field_index(name)
        pool = pool.set_column(at, name, pa.array(values).dictionary_encode())
    for at, field in enumerate(pool.schema):
        if field.type == pa.string():
            pool = pool.set_column(at, field.name, pool.column(at).dictionary_encode())
    return pool.combine_chunks().unify_dictionaries()


def make_store(statements: int, directory: Path, size: int = BATCH) -> Path:
    """A store of so many statements in commits of `size`, and the keys beside it."""
    template = directory / "template"
    sample = ROOT / "sample_logs"
    command = [PROGRAM, "reprocess", "--config", str(sample / "config.toml")]
    command += ["--schema", str(sample / "schema.sql"), "--store", str(template)]
    subprocess.run(command, check=True, capture_output=True)
    store = directory / "store"
    shutil.move(directory / "template.keys", directory / "store.keys")
    reader = StoreReader.open(template)
    tables = {
        kind: pa.concat_tables(one.table() for one in reader.segments(kind))
        for kind in ("audit", "evidence")
    }
    objects = {
        name: reader.objects(sha256)
        for name, sha256 in reader.manifests[-1].objects.items()
        if name in ("rules", "schema", "subject-key")
    }
    rows = Rows(tables["audit"], keys.subject_key(store, None).secret, 1)
    signing = keys.signing_key(store, None).private
    batches = -(-statements // size)
    said = -(-tables["evidence"].num_rows // batches)
    accesses = np.bincount(np.arange(ACCESSES) * batches // ACCESSES, minlength=batches)
    with StoreWriter.open(store, ORIGIN, signing, create=True) as writer:
        for n, first in enumerate(range(0, statements, size)):
            count = min(size, statements - first)
            batch = {"audit": rows.batch(first, count, int(accesses[n]))}
            evidence = tables["evidence"].slice(n * said, said)
            if evidence.num_rows:
                batch["evidence"] = evidence
            writer.commit(batch, [], objects)
    shutil.rmtree(template)
    return store


def best(rounds: int, run: Callable[[], None]) -> float:
    """Seconds of the fastest round."""
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def many_commits(counts: list[int], rounds: int) -> None:
    """Questions about stores of so many small commits; prints seconds and their ratios."""
    with tempfile.TemporaryDirectory(prefix="scalple-bench-") as name:
        stores = {}
        for commits in counts:
            directory = Path(name) / str(commits)
            directory.mkdir()
            with mock.patch("os.fsync"):  # it is thrown away
                stores[commits] = make_store(commits * SMALL, directory, SMALL)
            ask(stores[commits])
            before = best(1, partial(ask, stores[commits]))
            took = best(1, partial(run, "compact", stores[commits]))
            print(
                f"{commits:,} commits of {SMALL} statements: query --subject {before:.2f} s before "
                f"compact, which takes {took:.2f} s"
            )
        time.sleep(3)  # files that are just written aren't remembered as checked
        told: dict[str, list[float]] = {}
        for _ in range(rounds + 1):
            told.setdefault("start of the process alone", []).append(best(1, start))
            for commits, store in stores.items():
                told.setdefault(f"{commits:,} commits, compacted", []).append(
                    best(1, partial(ask, store))
                )
        medians = []
        for what, seconds in told.items():
            p50, p95 = np.quantile(seconds[1:], [0.5, 0.95])  # the first one checks the files
            medians.append((p50, p95))
            print(f"  {what:30} median {p50:6.2f} s, p95 {p95:6.2f} s, of {rounds}")
        (p50, p95), (first50, first95) = medians[-1], medians[1]
        print(
            f"  largest: p95 {p95:.2f} s{told_of(p95, TARGET_P95)}; to smallest {p50 / first50:.2f} x "
            f"(median), {p95 / first95:.2f} x (p95){told_of(p95 / first95, TARGET_RATIO)}"
        )


def told_of(measured: float, target: float | None) -> str:
    """The target beside what was measured."""
    if target is None:
        return ""
    return f" (target {target:g}: {'met' if measured <= target else 'missed'})"


def run(verb: str, store: Path) -> None:
    """A verb that needs the store and nothing else."""
    subprocess.run([PROGRAM, verb, "--store", str(store)], check=True, capture_output=True)


def start() -> None:
    """Load what a question needs, and ask none."""
    subprocess.run([PROGRAM, "query", "--help"], check=True, capture_output=True, env=_as_users())


def ask(store: Path) -> None:
    """The question, in a process of its own."""
    command = [PROGRAM, "query", "--store", str(store), "--subject", f"customer_id={ASKED}"]
    subprocess.run(command, check=True, capture_output=True, env=_as_users())


def _as_users() -> dict[str, str]:
    """The environment, in which Python keeps what it has compiled."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def scan(store: Path) -> None:
    """Look for one token in every row."""
    files = [str(path) for path in store.glob("*/segments/*-audit-*.parquet")]
    with duckdb.connect(config={"threads": 2}) as con:
        con.execute(
            "SELECT count(*) FROM read_parquet($1) "
            "WHERE list_contains(list_transform(subjects, lambda s: s.token), 1::UBIGINT)",
            [files],
        ).fetchall()


def sizes(store: Path) -> Iterator[tuple[str, float]]:
    """Megabytes of segments and of objects."""
    for name in ("segments", "objects"):
        yield name, sum(path.stat().st_size for path in store.glob(f"*/{name}/*")) / 1e6


def main() -> None:
    """Measure, print, and leave nothing behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--statements", type=int, nargs="*", default=[100_000, 10_000_000])
    parser.add_argument("--commits", type=int, nargs="*", default=[100, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="make the store here and leave it")
    given = parser.parse_args()
    for statements in given.statements:
        directory = given.keep or Path(tempfile.mkdtemp(prefix="scalple-bench-"))
        directory.mkdir(parents=True, exist_ok=True)
        try:
            store = make_store(statements, directory)
            ask(store)
            ours = best(given.rounds, partial(ask, store))
            bare = best(3, partial(scan, store))
            used = ", ".join(f"{size:,.1f} MB of {name}" for name, size in sizes(store))
            print(f"{statements:,} statements, {used}; best of {given.rounds}")
            print(f"  query --subject  {ours:6.2f} s{told_of(ours, TARGETS.get(statements))}")
            print(f"  DuckDB bare scan of subjects  {bare:6.2f} s -> {ours / bare:.2f} x its time")
        finally:
            if given.keep is None:
                shutil.rmtree(directory)
    if given.commits:
        many_commits(given.commits, max(given.rounds, 20))


if __name__ == "__main__":
    main()
