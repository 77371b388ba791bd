"""Crashes at every durable step: what was acknowledged is there once, the rest all or nothing."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from scalple.ingest.errors import ScalpleError
from scalple.store import durable
from scalple.store.chain import read_chain, read_settled
from scalple.store.layout import origin_layout
from scalple.store.verify import verify
from tests.processes import other, write_on_and_on
from tests.store.sample import (
    RULES,
    files,
    make_store,
    open_writer,
    other_kinds,
    position,
    signing_key,
    statements,
)
from tests.store.test_commit import read_rows

KILLS = int(os.environ.get("KILLS", "4"))
"""So many processes are killed; `make prove` takes 500."""
KILLS_OF_ONE_STORE = 2
COUNTED = {"open", "write", "fsync", "link", "rename", "unlink", "mkdir"}


class Crash(BaseException):
    """The machine stops here: no handler of the writer's may go on."""


class FailingOs:
    """The module `os` whose k-th call that matters fails, before or after it had its effect."""

    def __init__(self, failing: int, how: str) -> None:
        self._left = failing
        self._how = how
        self.fired = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in COUNTED:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self.fired and self._how.startswith("crash"):
                raise Crash
            if self._left != 0:
                return real(*args, **kwargs)
            self.fired = True
            if self._how.endswith("after"):
                real(*args, **kwargs)
            if self._how.startswith("crash"):
                raise Crash
            raise OSError(5, "Input/output error")

        return call


def batch(n: int) -> dict[str, Any]:
    """The rows of the n-th commit."""
    return {"audit": statements(2 * n, 2), "gaps": other_kinds(n)["gaps"]}


def write_three(store: Path, acknowledged: list[int]) -> None:
    """Three commits; the third is prepared before the second is committed."""
    with open_writer(store) as writer:
        start = writer.head_size
        for n in range(start, 2):
            writer.commit(batch(n), [position(10 * n, 10 * n + 10)], {"rules": RULES})
            acknowledged.append(n)
            if n == 0:
                ahead = writer.prepare(batch(1))
                writer.commit(ahead, [position(10, 20)], {"rules": RULES})
                acknowledged.append(1)
                break
        if writer.head_size == 2:
            writer.commit(batch(2), [position(20, 30)], {"rules": RULES + b" "})
            acknowledged.append(2)


FAULTS = ["error before", "error after", "crash before", "crash after"]
STRIDE = 1 if os.environ.get("EVERY_STEP") else len(FAULTS)
"""The suite takes turns: each step meets one of the faults; `make prove` all of them."""
SKIPPED = 1 if os.environ.get("EVERY_STEP") else 3
"""Of the many steps of three commits the suite takes every third."""


@pytest.mark.parametrize("how", FAULTS)
def test_every_durable_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    stride = SKIPPED * STRIDE
    steps = SKIPPED * FAULTS.index(how) + 1 - stride if stride > 1 else 0
    while True:
        steps += stride
        store = tmp_path / str(steps) / "store"
        store.parent.mkdir()
        signing_key(store)
        acknowledged: list[int] = []
        failing = FailingOs(steps, how)
        monkeypatch.setattr(durable, "os", failing)
        try:
            write_three(store, acknowledged)
        except (ScalpleError, Crash):
            assert failing.fired
        monkeypatch.setattr(durable, "os", os)
        if not failing.fired:
            break

        with open_writer(store) as writer:
            committed = writer.head_size
        assert committed in (len(acknowledged), len(acknowledged) + 1)
        report = verify(store)
        assert report.manifests == committed
        assert report.notes == ["db1: self-signed: no outside key"]
        rows = read_rows(store, "audit")
        assert [row["seq"] for row in rows] == list(range(2 * committed))

        write_three(store, acknowledged)
        assert [row["seq"] for row in read_rows(store, "audit")] == list(range(6))
        assert verify(store).rows == 9
    assert steps > 40


def test_without_unnamed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")
    write_three(tmp_path / "store", [])

    assert verify(tmp_path / "store").rows == 9
    assert not [path for path in files(tmp_path) if path.name.endswith(".tmp")]


def test_kill_at_any_moment(memory: Path) -> None:
    randomness = random.Random(7)
    commits = 0
    for run in range(KILLS):
        store = memory / str(run // KILLS_OF_ONE_STORE) / "store"
        if not store.exists():
            commits = 0
            signing_key(store)
        with other(write_on_and_on, store) as child:
            heard = [child.hear() for _ in range(randomness.randrange(1, 6))]
            time.sleep(randomness.random() * 0.03)
            child.signal(signal.SIGKILL)
            heard += child.rest()
        acknowledged = commits + len(heard)
        assert heard == list(range(commits, acknowledged))

        with open_writer(store) as writer:
            commits = writer.head_size
        assert commits in (acknowledged, acknowledged + 1)
        report = verify(store)
        assert report.rows == 2 * commits
        assert report.notes == ["db1: self-signed: no outside key"]
        assert [row["seq"] for row in read_rows(store, "audit")] == list(range(2 * commits))
    print(f"{KILLS} processes killed; every acknowledged row was there once")


def test_recovery_never_signs_what_the_key_did_not_write(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write_three(store, [])
    layout = origin_layout(store, "db1")
    forged = layout.manifest(2).read_bytes().replace(b'"rows":2', b'"rows":3', 1)
    layout.manifest(2).write_bytes(forged)
    shorter = read_chain(layout, 2).head.sign(signing_key(store))
    layout.checkpoint.write_bytes(shorter)

    with pytest.raises(ScalpleError, match="signature isn't by key"):
        open_writer(store)
    assert layout.checkpoint.read_bytes() == shorter


def test_a_manifest_that_a_crash_left_unsigned_is_not_waited_for(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 1)
    layout = origin_layout(store, "db1")
    older = layout.checkpoint.read_bytes()
    make_store(store, 1)
    newer = layout.checkpoint.read_bytes()
    layout.checkpoint.write_bytes(older)
    slept: list[float] = []
    assert read_settled(layout, slept.append)[1] == 1
    assert not slept
    layout.checkpoint.write_bytes(newer)
    with open_writer(store):
        layout.checkpoint.write_bytes(older)

        def sign(seconds: float) -> None:  # the writer at work gets round to it
            slept.append(seconds)
            layout.checkpoint.write_bytes(newer)

        assert read_settled(layout, sign)[1] == 0
    assert len(slept) == 1
