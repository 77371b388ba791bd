"""An index that is made by itself: while commits go on, killed anywhere, in nobody's way."""

import fcntl
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scalple.cli import compacting
from scalple.cli.compacting import CompactingState, Compactor, indexed
from scalple.cli.config import Config
from scalple.cli.daemonsection import DaemonSection
from scalple.store.layout import origin_layout
from scalple.store.reader import StoreReader
from scalple.store.verified import VerifiedFiles
from scalple.store.verify import verify
from tests.commandline import scalple
from tests.store.sample import make_store, open_writer, other_kinds, position, statements

KILLS = int(os.environ.get("COMPACTION_KILLS", "2"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commits enough, and somebody who looks at once."""
    monkeypatch.setattr(compacting, "LOOK_S", 0.05)
    return make_store(tmp_path / "store", 6)


def compactor(
    store: Path, commits: int = 4, rows: int = 1 << 20
) -> tuple[Compactor, CompactingState]:
    """What a daemon leaves to another process, without one."""
    state = CompactingState()
    config = Config(daemon=DaemonSection(compact_commits=commits, compact_rows=rows))
    return Compactor(store, "db1", config, state, apart_s=0), state


def wait_until(holds: Callable[[], object]) -> None:
    """Wait for something."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_anywhere_while_commits_questions_and_verify_go_on(store: Path) -> None:
    dice = random.Random(5)
    ending = threading.Event()
    asked: list[int] = []

    def ask() -> None:
        while not ending.is_set():
            reader = StoreReader.open(store, "db1", verified=VerifiedFiles(None))
            assert reader.notes == []
            refs = reader.segments("audit")
            asked.append(sum(ref.rows for ref in refs))
            assert sum(ref.table().num_rows for ref in refs) == asked[-1]
            time.sleep(0.1)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(KILLS):
            running, _ = compactor(store)
            make_store(store, 5)
            wait_until(lambda running=running: running._process)  # type: ignore[misc]
            time.sleep(dice.random() * 0.5)
            running.finish()  # which kills
            make_store(store, 1)
        running, state = compactor(store)
        make_store(store, 5)
        wait_until(lambda: state.done and state.behind["db1"] < 4)
        running.finish()
    finally:
        ending.set()
        asking.join()
    assert len(asked) > 1 and asked == sorted(asked)
    assert state.failed == 0
    report = verify(store)
    assert report.faults == []
    assert indexed(origin_layout(store, "db1")) > report.manifests - 4


def test_a_commit_and_a_question_wait_for_no_compaction(store: Path) -> None:
    layout = origin_layout(store, "db1")
    layout.index.mkdir()
    running, state = compactor(store)
    wait_until(lambda: is_at_work(layout.index))
    process = running._process
    assert process is not None
    os.kill(process._process.pid, signal.SIGSTOP)  # it takes for ever from now on
    try:
        assert is_at_work(layout.index)
        with open_writer(store) as writer:
            n = writer.next_seq["gaps"]
            tables = {"audit": statements(4 * n, 4), **other_kinds(n)}
            writer.commit(tables, [position(100 * n, 100 * n + 100)], {})
        assert scalple("coverage", "--store", store).code == 0
    finally:
        os.kill(process._process.pid, signal.SIGCONT)
    wait_until(lambda: state.done)
    running.finish()
    assert verify(store).faults == []


def is_at_work(index: Path) -> bool:
    """Whether an index is being made right now."""
    directory = os.open(index, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(directory)
    return False


def test_while_verify_reads_the_index_it_stays_and_is_made_later(
    store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from scalple.store.checkindex import kept

    layout = origin_layout(store, "db1")
    layout.index.mkdir()
    with kept(layout):
        running, state = compactor(store)
        wait_until(lambda: state.failed)
        assert indexed(layout) == 0
    wait_until(lambda: state.done)
    running.finish()
    assert indexed(layout) == 6
    assert '"not compacted"' in capfd.readouterr().err


def test_an_index_that_is_new_enough_is_left_alone(store: Path) -> None:
    running, state = compactor(store)
    wait_until(lambda: state.done)
    running._apart_s = 600
    make_store(store, 9)
    wait_until(lambda: state.behind["db1"] == 9)
    time.sleep(0.3)
    running.finish()
    assert (state.done, indexed(origin_layout(store, "db1"))) == (1, 6)


def test_runs_end_where_the_configuration_says(store: Path) -> None:
    big = {"audit": statements(24, 8_500)}
    for n in range(2):
        with open_writer(store) as writer:
            first = writer.next_seq["audit"]
            writer.commit({"audit": statements(first, 8_500)} if n else big, [], {})
        running, state = compactor(store, commits=1, rows=1 << 14)
        wait_until(lambda state=state: state.done)  # type: ignore[misc]
        running.finish()
    assert verify(store).faults == []
    (reader,) = [StoreReader.open(store)]
    assert len(reader._indexed["db1"].index.runs) == 2
