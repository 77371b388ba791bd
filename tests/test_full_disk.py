"""The disk is full or becomes read-only, the right to write is lost, or `reprocess` is killed.

Enters: the sample's beginning in several files, a disk of its own where the system lets us mount one.
Leaves: nothing. Does not: fake any error.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scalple.store.verify import verify
from tests.commandline import SAMPLE, Said, manifests, rows, scalple
from tests.processes import NOBODY, SECONDS, other, run_as_nobody, run_limited, said
from tests.processes import Other as Process

CSV = (SAMPLE / "postgresql.csv").read_bytes()
PART = 40_000
PARTS = 2
EVERY = bool(os.environ.get("EVERY_SIZE"))
"""The suite fills the disk once; `make prove` at every page."""
PAGE = 4096
READ = """SELECT source_file, source_offset, query_fingerprint, session_user_id, attribution_grade
    FROM audit ORDER BY seq"""
# In a namespace of our own nobody else sees the mount.
needs_mount = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Logs that anybody may read, in parts that end with a record each."""
    with _open_to_all("samples") as directory:
        for name in ("config.toml", "schema.sql", "identity.jsonl", "pgbouncer.log"):
            shutil.copy(SAMPLE / name, directory)
        begin = 0
        for part in range(PARTS):
            end = CSV.index(b"\n2026-", begin + PART) + 1
            (directory / f"{part}.csv").write_bytes(CSV[begin:end])
            begin = end
        for path in directory.iterdir():
            path.chmod(0o644)
        yield directory


@contextmanager
def _open_to_all(name: str) -> Iterator[Path]:
    directory = Path("/tmp") / f"scalple-{name}-{os.getpid()}"
    directory.mkdir()
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def words(store: Path, samples: Path) -> list[str]:
    """The command line of a run."""
    named = ["--config", "config.toml", "--identity-events", "identity.jsonl"]
    named += ["--pgbouncer-log", "pgbouncer.log"]
    named += [word for n in range(PARTS) for word in ("--postgres-log", f"{n}.csv")]
    found = [str(samples / word) if "." in word else word for word in named]
    return ["reprocess", "--store", str(store), *found]


@pytest.fixture(scope="module")
def whole(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What is in the store after a run that nothing disturbed."""
    store = tmp_path_factory.mktemp("whole") / "store"
    done = scalple(*words(store, samples))
    assert done.code == 0, done.err
    assert manifests(store) > PARTS
    return rows(store, READ)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, large at first."""
    directory = tmp_path / "disk"
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0755", "scalple-test", directory],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def remount(disk: Path, options: str) -> None:
    """Changes the disk; what is open for writing at that moment is waited for."""
    until = time.monotonic() + SECONDS
    while subprocess.run(
        ["mount", "-o", f"remount,{options}", disk], capture_output=True, check=False
    ).returncode:
        assert time.monotonic() < until
        time.sleep(0.002)


def committed(store: Path) -> list[dict[str, Any]]:
    """What questions show of a store that may not have begun."""
    return rows(store, READ) if list(store.glob("*/checkpoint")) else []


def resumes(store: Path, done: Said, again: Said, before: Any, whole: Any) -> None:
    """The first run failed clearly; the second has all, once; what was there before still is."""
    assert done.code in (5, 6), done.err
    assert "error: " in done.err and "Traceback" not in done.err
    assert again.code == 0, again.err
    assert rows(store, READ) == whole
    assert whole[: len(before)] == before
    assert verify(store).notes == ["sample: self-signed: no outside key"]


@needs_mount
def test_a_disk_that_is_full_at_any_size(
    disk: Path, samples: Path, whole: list[dict[str, Any]]
) -> None:
    store = disk / "store"
    used = _used(disk, store, samples)
    failed = 0
    for room in range(2 * PAGE, used, PAGE) if EVERY else [used * 2 // 3]:
        _empty(disk)
        remount(disk, f"size={room}")
        done = scalple(*words(store, samples))
        before = committed(store)
        remount(disk, "size=64m")
        again = scalple(*words(store, samples))
        resumes(store, done, again, before, whole)
        assert "No space left on device" in done.err
        assert "make room on the disk" in done.err or done.code == 6
        failed += 1
    print(f"the disk was full at {failed} sizes up to {used:,} bytes; each time all rows came")


def _used(disk: Path, store: Path, samples: Path) -> int:
    assert scalple(*words(store, samples)).code == 0
    return shutil.disk_usage(disk).used


def _empty(disk: Path) -> None:
    for path in disk.iterdir():
        shutil.rmtree(path)


@needs_mount
def test_a_disk_that_becomes_read_only_in_the_middle(
    disk: Path, samples: Path, whole: list[dict[str, Any]]
) -> None:
    store = disk / "store"
    with other(run_limited, 1 << 30) as one:
        one.tell(words(store, samples))
        _begun(store, one)
        remount(disk, "ro")
        done: Said = one.hear()
    assert "Read-only file system" in done.err
    before = committed(store)
    assert scalple("coverage", "--store", store).code == 5  # it can't be logged
    refused = scalple(*words(store, samples))
    assert refused.code == 5
    remount(disk, "rw")
    resumes(store, done, scalple(*words(store, samples)), before, whole)


def test_a_run_that_is_killed_in_the_middle(
    memory: Path, samples: Path, whole: list[dict[str, Any]]
) -> None:
    randomness = random.Random(3)
    for run in range(20 if EVERY else 1):
        store = memory / str(run) / "store"
        store.parent.mkdir()
        with other(run_limited, 1 << 30) as one:
            one.tell(words(store, samples))
            _begun(store, one)
            time.sleep(randomness.random() * 0.5 if EVERY else 0)
            one.signal(signal.SIGKILL)
            one.process.join()
        before = committed(store)
        again = scalple(*words(store, samples))
        assert again.code == 0, again.err
        assert rows(store, READ) == whole
        assert whole[: len(before)] == before
        assert verify(store).notes == ["sample: self-signed: no outside key"]


def _begun(store: Path, one: Process) -> None:
    """Returns after the first commit of the process, which is far from being done."""
    while not list(store.glob("*/manifests/*0.json")):
        assert not one.has_spoken, one.hear()
        time.sleep(0.001)


@pytest.mark.parametrize("limit", [1_000, 4_000, 8_000] if EVERY else [4_000])
def test_files_that_may_not_grow_as_large_as_needed(
    tmp_path: Path, samples: Path, whole: list[dict[str, Any]], limit: int
) -> None:
    store = tmp_path / "store"
    with other(run_limited, limit) as one:
        done = said(one, *words(store, samples))
    before = committed(store)
    assert "File too large" in done.err
    resumes(store, done, scalple(*words(store, samples)), before, whole)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give its rights up")
@pytest.mark.parametrize(
    "what", ["segments", "objects", "manifests", "."] if EVERY else ["objects"]
)
def test_the_right_to_write_is_lost_in_the_middle(
    samples: Path, whole: list[dict[str, Any]], what: str
) -> None:
    with _open_to_all("lost") as base, other(run_as_nobody, base) as one:
        os.chown(base, NOBODY, NOBODY)
        store = base / "store"
        one.tell(words(store, samples))
        _begun(store, one)
        directory = next(store.glob("sample*")) / what
        directory.chmod(0o555)
        done: Said = one.hear()
        assert "Permission denied" in done.err
        assert str(directory) in done.err
        before = committed(store)
        directory.chmod(0o755)
        again = said(one, *words(store, samples))
        resumes(store, done, again, before, whole)
