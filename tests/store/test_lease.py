"""Two writers at one origin: one loses cleanly, one that is gone is replaced, one that slept stops."""

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from scalple.ingest.errors import CommitError, RaceError, StoreError
from scalple.store import holder, keys
from scalple.store.layout import origin_layout
from scalple.store.lease import Lease
from scalple.store.verify import verify
from scalple.store.writer import StoreWriter
from tests.commandline import SAMPLE, scalple
from tests.processes import (
    other,
    start,
    write_on_demand,
)
from tests.store.sample import (
    RULES,
    files,
    make_store,
    open_writer,
    position,
    signing_key,
    statements,
)
from tests.store.test_commit import read_rows

WRITERS = 16
COMMITS = 3 if os.environ.get("EVERY_STEP") else 1
STRIDE = 1 if os.environ.get("EVERY_STEP") else 6
"""Of the checks before which a writer sleeps, so many at a time; `make prove` takes each."""
SELF_SIGNED = ["db1: self-signed: no outside key"]


def open_at_once(store: Path) -> StoreWriter:
    """The writer, without waiting for another one."""
    return StoreWriter.open(store, "db1", signing_key(store), create=True, lock_seconds=0)


def commit(writer: StoreWriter) -> None:
    """The next two rows."""
    n = writer.head_size
    writer.commit({"audit": statements(2 * n, 2)}, [position(n, n + 1)], {"rules": RULES})


def check(store: Path, commits: int) -> None:
    """The store holds these commits, whole, and nothing else."""
    assert verify(store).notes == SELF_SIGNED
    assert [row["seq"] for row in read_rows(store, "audit")] == list(range(2 * commits))


def test_a_second_writer_loses_and_is_told_who_the_first_is(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with other(write_on_demand, store) as first:
        assert first.hear() == "open"
        with pytest.raises(StoreError, match="another writer") as refused:
            open_at_once(store)
        assert f"process {first.pid} on host " in str(refused.value)
        assert time.strftime("started %Y-%m-%d", time.gmtime()) in str(refused.value)
        assert "wait for it, or end that process" in str(refused.value)
        keys.subject_key(store, None)
        events = ("--identity-events", SAMPLE / "identity.jsonl")
        told = scalple("reprocess", "--store", store, "--origin", "db1", *events)
        assert told.code == 5
        assert f"process {first.pid} on host " in told.err
        first.tell(True)
        assert first.hear() == 0
        first.tell(False)
        assert first.rest() == []
    check(store, 1)
    with open_at_once(store) as writer:
        commit(writer)
    check(store, 2)


def test_a_killed_writer_is_replaced_at_once_though_its_worker_lives(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with other(write_on_demand, store, True) as first:
        assert first.hear() == "open"
        first.tell(True)
        assert first.hear() == 0
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        assert len(children) == 1
        worker = int(children[0])
        os.kill(worker, signal.SIGSTOP)  # so that it can't end with its parent
        try:
            first.signal(signal.SIGKILL)
            first.process.join()
            os.kill(worker, 0)
            with open_at_once(store) as writer:
                commit(writer)
        finally:
            os.kill(worker, signal.SIGCONT)
    check(store, 2)
    until = time.monotonic() + 30
    while Path(f"/proc/{worker}/status").exists() and time.monotonic() < until:
        if "State:\tZ" in Path(f"/proc/{worker}/status").read_text():
            break  # ended, and nobody's child here
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{worker}").exists(), "the worker outlives its writer"


def _forks(pipe: Connection, store: Path) -> None:
    with open_writer(store) as writer:
        commit(writer)
        child = os.fork()
        if child:
            pipe.send(child)
            signal.pause()
        with pytest.raises(RaceError, match="no lock on the origin"):
            commit(writer)
        with pytest.raises(CommitError, match="closed"):
            commit(writer)
        pipe.send("fenced")
        signal.pause()


def test_a_fork_neither_writes_nor_keeps_the_lock_of_its_killed_parent(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with other(_forks, store) as parent:
        child = next(word for word in (parent.hear(), parent.hear()) if word != "fenced")
        try:
            with pytest.raises(StoreError, match=f"process {parent.pid}"):
                open_at_once(store)
            parent.signal(signal.SIGKILL)
            parent.process.join()
            os.kill(child, 0)
            with open_at_once(store) as writer:
                commit(writer)
        finally:
            os.kill(child, signal.SIGKILL)
    check(store, 2)


def test_a_stopped_writer_keeps_its_lock_and_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with other(write_on_demand, store) as first:
        assert first.hear() == "open"
        first.signal(signal.SIGSTOP)
        _until_stopped(first.pid)
        with pytest.raises(StoreError, match=f"process {first.pid} .*; it is stopped"):
            open_at_once(store)
        first.signal(signal.SIGCONT)
        first.tell(True)
        assert first.hear() == 0
        first.signal(signal.SIGSTOP)
        first.signal(signal.SIGKILL)
        first.process.join()
        with open_at_once(store) as writer:
            commit(writer)
    check(store, 2)


def _until_stopped(pid: int) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.005)


def _races(pipe: Connection, store: Path, me: int) -> None:
    waits = 60.0 if me % 2 else 0.0
    key = signing_key(store)
    pipe.send("ready")
    pipe.recv()
    for at in range(COMMITS):
        while True:
            try:
                writer = StoreWriter.open(store, "db1", key, create=True, lock_seconds=waits)
                break
            except StoreError as error:  # the impatient lose, and come again
                assert not waits, error
                assert "another writer" in str(error)
                time.sleep(0.05)
        with writer:
            first = writer.next_seq["audit"]
            rows = statements(first, 2).drop_columns("query")
            query = f"writer {me} commit {at}"
            whole = statements(first, 2)
            named = whole.set_column(
                whole.column_names.index("query"), "query", [[query] * rows.num_rows]
            )
            writer.commit({"audit": named.cast(whole.schema)}, [], {"rules": RULES})
            pipe.send(query)


def test_of_sixteen_processes_every_acknowledged_row_is_there_once(memory: Path) -> None:
    store = memory / "store"
    signing_key(store)
    writers = [start(_races, store, me) for me in range(WRITERS)]
    for one in writers:
        assert one.hear() == "ready"
    for one in writers:
        one.tell("go")
    acknowledged = [query for one in writers for query in one.rest()]
    assert len(acknowledged) == COMMITS * WRITERS
    rows = read_rows(store, "audit")
    assert sorted(str(row["query"]) for row in rows) == sorted(2 * acknowledged)
    check(store, COMMITS * WRITERS)


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Makes a writer lose its lock before its k-th check, and something happen until it wakes."""

    def sleeps(number: int, meanwhile: Callable[[], None]) -> None:
        right, left = Lease.check, [number]

        def check_later(self: Lease) -> None:
            left[0] -= 1
            if left[0] == 0:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # as if it had expired
                meanwhile()
            right(self)

        monkeypatch.setattr(Lease, "check", check_later)

    return sleeps


@pytest.mark.parametrize("commits", [0, 1, 2])
@pytest.mark.parametrize("stays", [False, True], ids=["gone again", "still there"])
def test_a_writer_that_lost_its_lock_and_wakes_up_at_any_check(
    memory: Path, sleeper: Any, commits: int, stays: bool
) -> None:
    fenced = 0
    for number in range(1 + commits % STRIDE, 100, STRIDE):
        store = make_store(memory / str(number) / "store", 0)
        there: list[StoreWriter] = []

        def meanwhile(store: Path = store, there: list[StoreWriter] = there) -> None:
            there.append(open_at_once(store))
            for _ in range(commits):
                commit(there[0])
            if not stays:
                there[0].close()

        acknowledged = 0
        with open_at_once(store) as writer:
            ahead = writer.prepare({"audit": statements(0, 2)})
            sleeper(number, meanwhile)
            with suppress(RaceError):
                writer.commit(ahead, [position(0, 1)], {"rules": RULES + bytes([commits])})
                acknowledged += 1
                commit(writer)
                acknowledged += 1
        if not there:
            break
        fenced += acknowledged < 2
        there[0].close()
        with open_at_once(store) as writer:
            size = writer.head_size
            commit(writer)
        # The one that woke up may have committed before it slept, and what it was told is there.
        assert size >= acknowledged + commits
        assert size <= acknowledged + commits + 1
        check(store, size + 1)
    assert fenced > 8 // STRIDE


@pytest.mark.parametrize(
    "what", ["store", "store/db1", "store/db1/segments", "store/db1/manifests"]
)
@pytest.mark.parametrize("how", ["moved", "replaced"])
def test_a_directory_that_is_moved_or_replaced_under_a_writer(
    tmp_path: Path, what: str, how: str
) -> None:
    store = make_store(tmp_path / "store", 1)
    with open_at_once(store) as writer:
        prepared = writer.prepare({"audit": statements(4, 2)})
        (tmp_path / what).rename(tmp_path / "before")
        if how == "replaced":
            shutil.copytree(tmp_path / "before", tmp_path / what)
        stands_for_it = how == "replaced" and what not in ("store", "store/db1")
        if stands_for_it:  # within the directory that is locked
            writer.commit(prepared, [position(100, 101)], {})
        else:
            expected = r"moved or replaced|was removed|can't open directory"
            with pytest.raises(StoreError, match=expected):
                writer.commit(prepared, [position(100, 101)], {})
            with pytest.raises(StoreError):
                commit(writer)
    if how == "moved":
        (tmp_path / "before").rename(tmp_path / what)
    with open_at_once(store) as writer:
        assert writer.head_size == 1 + stands_for_it
        if not stands_for_it:
            writer.commit({"audit": statements(4, 2)}, [position(100, 101)], {})
    assert verify(store).notes == SELF_SIGNED
    assert len(read_rows(store, "audit")) == 6


def test_what_another_has_committed_is_never_committed_over(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with open_at_once(store) as writer:
        fcntl.flock(writer._lease._descriptor, fcntl.LOCK_UN)
        with open_at_once(store) as newer:
            with pytest.raises(RaceError, match=r"lock on the origin was lost; it is held by proc"):
                commit(writer)
            commit(newer)
    with open_at_once(store) as writer:
        ahead = writer.prepare({"audit": statements(2, 2)})
        shutil.copytree(store, tmp_path / "other")
        shutil.copytree(tmp_path / "store.keys", tmp_path / "other.keys")
        with open_at_once(tmp_path / "other") as newer:
            commit(newer)
        layout = origin_layout(store, "db1")
        there = origin_layout(tmp_path / "other", "db1").manifest(1).read_bytes()
        layout.manifest(1).write_bytes(there)  # by a tool that keeps directories alike
        with pytest.raises(RaceError, match=r"committed manifest 1 in between at .*scalple-ingest"):
            writer.commit(ahead, [position(1, 2)], {})
        assert layout.manifest(1).read_bytes() == there
        assert not [one for one in files(layout.segments) if one.name.startswith(f"{1:020d}")]


def test_a_reader_that_keeps_a_lock_is_told_as_one(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 1)
    descriptor = os.open(store / "db1", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with pytest.raises(StoreError, match=rf"process {os.getpid()} .*, which only reads"):
            open_at_once(store)
    finally:
        os.close(descriptor)
    open_at_once(store).close()


def test_a_lock_that_nobody_here_is_seen_to_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store", 1)
    with open_at_once(store):
        monkeypatch.setattr(holder, "PROC", tmp_path)
        with pytest.raises(StoreError, match="by a process that can't be seen from here on host"):
            open_at_once(store)
        status = (store / "db1").stat()
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        (tmp_path / "locks").write_text(f"1: FLOCK  ADVISORY  WRITE 4711 {device} 0 EOF\n")
        with pytest.raises(StoreError, match=r"process 4711 on host .*, which has ended, left"):
            open_at_once(store)
