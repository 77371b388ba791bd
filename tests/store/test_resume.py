"""A writer that resumes reads the end of the log, and refuses what the whole log would be refused for
at its end; a crash on the way makes it read everything again."""

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from scalple.ingest.errors import ScalpleError, VerificationError
from scalple.store import durable, recovery
from scalple.store.chain import read_chain
from scalple.store.layout import OriginLayout, origin_layout
from scalple.store.verify import verify
from scalple.store.writer import StoreWriter
from tests.store.sample import NOON, position, signing_key, statements
from tests.store.test_crash import FAULTS, Crash, FailingOs


def resuming(store: Path, *, resumes: bool = True) -> StoreWriter:
    """A writer as the log of questions has it."""
    key = signing_key(store)
    return StoreWriter.open(store, "db1", key, create=True, clock=lambda: NOON, resumes=resumes)


def ask(store: Path, times: int = 1) -> None:
    """Opens, commits once, closes."""
    for _ in range(times):
        with resuming(store) as writer:
            n = writer.head_size
            rows = statements(writer.next_seq["audit"], 2)
            writer.commit({"audit": rows}, [position(10 * n, 10 * n + 10)], {"rules": b"{}"})


@pytest.fixture
def layout(tmp_path: Path) -> OriginLayout:
    """Three commits by three openings."""
    store = tmp_path / "store"
    ask(store, 3)
    assert origin_layout(store, "db1").resume.exists()
    return origin_layout(store, "db1")


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets an entry whenever the whole log is read."""
    seen: list[str] = []
    right = recovery.recover

    def recover(layout: OriginLayout, private: Any, guard: Any) -> Any:
        seen.append(layout.origin)
        return right(layout, private, guard)

    monkeypatch.setattr(recovery, "recover", recover)
    return seen


def test_only_the_end_is_read(layout: OriginLayout, whole: list[str]) -> None:
    store = layout.store_dir
    verify(store)
    first = layout.manifest(0).read_bytes()
    layout.manifest(0).write_bytes(first.replace(b"db1", b"db2"))
    ask(store)
    assert whole == []
    with pytest.raises(VerificationError):
        verify(store)
    layout.manifest(0).write_bytes(first)
    assert verify(store).rows == 8
    assert [m.n for m in read_chain(layout, 4).manifests] == [0, 1, 2, 3]


def test_what_it_promises_of_the_end(layout: OriginLayout, whole: list[str]) -> None:
    store = layout.store_dir
    last, head = layout.manifest(2), layout.checkpoint
    older = read_chain(layout, 2).head.sign(signing_key(store))
    copy = store.with_name("copy")
    shutil.copytree(store, copy)
    for path, data in (
        (last, last.read_bytes().replace(b'"rows":2', b'"rows":3')),
        (last, None),
        (head, head.read_bytes().replace(b"3\n", b"4\n", 1)),
        (layout.manifest(4), last.read_bytes()),
        (layout.manifest(3), last.read_bytes()),
    ):
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)
        whole.clear()
        with pytest.raises(ScalpleError):
            resuming(store)
        assert whole == ["db1"] or path == head
        shutil.rmtree(store)
        shutil.copytree(copy, store)
    head.write_bytes(older)  # as after a crash: the manifest is signed by the key
    with resuming(store) as writer:
        assert writer.notes == ("db1: signed manifest 2, left unsigned by a crash",)
        assert writer.head_size == 3


def test_where_another_writer_left_off_is_not_believed(
    layout: OriginLayout, whole: list[str]
) -> None:
    store = layout.store_dir
    left = layout.resume.read_bytes()
    ask(store)
    newer = layout.resume.read_bytes()
    other = store.with_name("other")
    ask(other / "store", 4)
    foreign = origin_layout(other / "store", "db1").resume.read_bytes()
    for data in (
        left,
        foreign,
        newer[:-2] + b"A\n",
        newer.replace(b'"audit":8', b'"audit":9'),
        b"",
    ):
        layout.resume.write_bytes(data)
        whole.clear()
        with resuming(store) as writer:
            assert writer.next_seq["audit"] == 8
        assert whole == ["db1"]
    layout.resume.write_bytes(left)
    assert any("isn't of today's head" in note for note in verify(store).notes)
    for data in (foreign, newer[:-2] + b"A\n"):
        layout.resume.write_bytes(data)
        with pytest.raises(VerificationError) as caught:
            verify(store)
        assert caught.value.place == str(layout.resume)


def test_a_log_that_was_cut_back_shows_it(layout: OriginLayout) -> None:
    store = layout.store_dir
    shorter = read_chain(layout, 2)
    gone = read_chain(layout, 3).manifests[2]
    for path in [layout.manifest(2), *layout.segments.glob(f"{2:020d}-*")]:
        path.unlink()
    kept = {sha256 for one in shorter.manifests for sha256 in one.objects.values()}
    for sha256 in set(gone.objects.values()) - kept:
        layout.object(sha256).unlink()
    layout.checkpoint.write_bytes(shorter.head.sign(signing_key(store)))
    with pytest.raises(VerificationError, match="log was cut: a writer left 3 manifests, found 2"):
        verify(store)


def test_a_writer_that_does_not_resume_takes_the_file_away(
    layout: OriginLayout, whole: list[str]
) -> None:
    with resuming(layout.store_dir, resumes=False):
        assert not layout.resume.exists()
    assert whole == ["db1"]
    assert not layout.resume.exists()


@pytest.mark.parametrize("how", FAULTS)
def test_every_durable_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    base = tmp_path / "base" / "store"
    ask(base, 2)
    at = FAULTS.index(how)
    # The suite takes turns: the first steps take the file away, the last ones leave it.
    turns = itertools.count(1) if os.environ.get("EVERY_STEP") else (at + 1, 6 * at + 15, at + 41)
    for steps in turns:
        store = tmp_path / str(steps) / "store"
        shutil.copytree(base.parent, store.parent)
        failing = FailingOs(steps, how)
        monkeypatch.setattr(durable, "os", failing)
        acknowledged = 2
        try:
            ask(store)
            acknowledged = 3
            ask(store)
            acknowledged = 4
        except (ScalpleError, Crash):
            assert failing.fired
        monkeypatch.setattr(durable, "os", os)
        ask(store)
        report = verify(store)
        assert report.manifests in (acknowledged + 1, acknowledged + 2)
        assert report.rows == 2 * report.manifests
        assert report.notes == ["db1: self-signed: no outside key"]
        shutil.rmtree(store.parent)
        if not failing.fired:
            break
    assert steps > 40
