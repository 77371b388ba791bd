"""An index of a log whose signing key changes: the keys are right, and only the key in force makes one."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scalple.ingest.errors import ConfigError
from scalple.store import proof
from scalple.store.layout import origin_layout
from scalple.store.note import VerifierKey
from scalple.store.reader import StoreReader
from scalple.store.rowid import RowId
from scalple.store.verify import Options, examine, verify
from scalple.store.writer import StoreWriter
from tests.store.sample import NOON
from tests.store.test_compaction import ABOUT, answers, compacted, opened
from tests.store.test_rotation import KEYS, commit
from tests.store.test_rotation import opened as writing

VERIFIERS = [VerifierKey.of("db1", one) for one in KEYS]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Manifests 1 and 3 change the key; the index holds the first four, and one follows."""
    store = tmp_path / "store"
    for n in range(2):
        with writing(store, KEYS[n], create=n == 0) as writer:
            commit(writer)
            writer.rotate(KEYS[n + 1])
    compacted(store, "db1", KEYS[2])
    with writing(store, KEYS[2]) as writer:
        commit(writer)
    return store


def is_used(store: Path) -> bool:
    reader = opened(store)
    assert [one.keys for one in (reader.chain("db1"),)] == [
        VERIFIERS[: len(reader.chain("db1").keys)]
    ]
    assert bool(reader._indexed) != bool(reader.notes)
    return bool(reader._indexed)


def without_index(store: Path) -> dict[str, Any]:
    """What is answered without it."""
    plain = store.with_name("plain")
    shutil.rmtree(plain, ignore_errors=True)
    shutil.copytree(store, plain)
    shutil.rmtree(plain / "db1" / "index")
    return answers(opened(plain), None, ABOUT)


def test_keys_that_changed_within_an_index_are_known(store: Path) -> None:
    assert is_used(store)
    reader = opened(store)
    chain = reader.chain("db1")
    assert chain.keys == VERIFIERS[:3]
    assert [chain.key_at(n) for n in range(6)] == [VERIFIERS[n] for n in (0, 0, 1, 1, 2, 2)]
    assert reader.signed_head("db1")
    assert answers(reader, None, ABOUT) == without_index(store)
    row = proof.make(reader, [RowId("db1", "audit", 0), RowId("db1", "audit", 2)])
    assert proof.check(proof.to_bytes(row), {"db1": chain.keys})
    assert [note for note in verify(store).notes if "index" in note] == [
        "db1: the index holds the first 4 manifests of 5"
    ]


def test_a_key_of_before_makes_no_index_that_is_read(store: Path) -> None:
    layout = origin_layout(store, "db1")
    for private in KEYS[:2]:
        with pytest.raises(ConfigError, match="isn't the one that this origin goes on with"):
            compacted(store, "db1", private)
    index = opened(store)._indexed["db1"].index
    forged = replace(index, runs=[replace(index.runs[0], committed_by="")])
    for head in (index.sign(KEYS[1]), forged.sign(KEYS[0])):
        layout.index_head.write_bytes(head)
        assert not is_used(store)
    assert "committed_by differs" in examine(store).faults[0].what
    layout.index_head.write_bytes(index.sign(KEYS[3]))  # none of the log's
    assert not is_used(store)
    assert examine(store).faults


def test_after_a_rotation_the_index_is_made_anew(store: Path) -> None:
    with writing(store, KEYS[2]) as writer:
        writer.rotate(KEYS[3])
    assert not is_used(store)
    assert "a key that the log had before" in " ".join(verify(store).notes)
    done = compacted(store, "db1", KEYS[3])
    assert (done.manifests, done.added) == (6, 6)
    assert "signed by a key that the log had before" in done.notes[0]
    assert is_used(store)
    assert answers(opened(store), None, ABOUT) == without_index(store)
    assert not [note for note in verify(store).notes if "index" in note]


def test_changes_that_an_index_invents_or_keeps_quiet_are_noticed(store: Path) -> None:
    layout = origin_layout(store, "db1")
    index = opened(store)._indexed["db1"].index
    for kept in ([], index.rotations[:1], index.rotations[1:]):
        head = replace(index, rotations=kept).sign(KEYS[2])
        layout.index_head.write_bytes(head)
        assert any(one.what == "index, head: rotations differs" for one in examine(store).faults)
        reader = opened(store)
        if reader._indexed:  # the key in force may say what it likes, but not who signs the head
            assert reader.chain("db1").key_at(5) == VERIFIERS[2]


def test_a_writer_that_resumes_knows_the_keys(tmp_path: Path) -> None:
    store = tmp_path / "store"

    def logs(private: Any, *, create: bool = False) -> StoreWriter:
        return StoreWriter.open(
            store, "db1", private, create=create, clock=lambda: NOON, resumes=True
        )

    resume = origin_layout(store, "db1").resume
    with logs(KEYS[0], create=True) as writer:
        commit(writer)
        writer.rotate(KEYS[1])
    assert resume.exists()
    verify(store)
    left = resume.read_bytes()
    with logs(KEYS[1]) as writer:
        assert writer._chain.keys == VERIFIERS[:2]
        assert writer._chain.manifests.past is not None  # the log wasn't read
        commit(writer)
    with pytest.raises(ConfigError, match="isn't the one that this log goes on with"):
        logs(KEYS[0])
    resume.write_bytes(left)  # of an older head
    with logs(KEYS[1]) as writer:
        assert writer._chain.manifests.past is None
        writer.rotate(KEYS[2])
    verify(store)
    assert StoreReader.open(store).chain("db1").keys == VERIFIERS[:3]


def test_verify_reports_every_fault_of_an_index_and_reads_as_little_as_it_is_told(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    with writing(store, KEYS[0], create=True) as writer:
        for _ in range(3):
            commit(writer)
    compacted(store, "db1", KEYS[0])
    checkpoint = tmp_path / "checkpoint"
    shutil.copy(store / "db1" / "checkpoint", checkpoint)
    with writing(store, KEYS[0]) as writer:
        commit(writer)
    index = store / "db1" / "index"
    ways = [
        Options(),
        Options(workers=2),
        Options(files_only=True),
        Options(since=(str(checkpoint),)),
        Options(since=("2",)),
    ]
    for options in ways:
        report = examine(store, options=options)
        assert not report.faults
        hashed = any("not compared with the log" in note for note in report.notes)
        assert hashed == (options in (ways[2], ways[3]))
    wrong = [next(index.glob(f"{what}-*")) for what in ("audit-rows", "manifests", "positions")]
    for path in wrong:
        path.write_bytes(path.read_bytes()[::-1])
    (index / "stray").write_bytes(b"")
    for options in ways:
        found = {Path(one.place) for one in examine(store, options=options).faults}
        assert found == {*wrong, index / "stray"}


def test_a_log_that_has_faults_isnt_compared_with_its_index(store: Path) -> None:
    path = next((store / "db1" / "segments").iterdir())
    path.write_bytes(path.read_bytes()[::-1])
    report = examine(store)
    assert [Path(one.place.split(" (")[0]) for one in report.faults] == [path]
    assert any("wasn't compared" in note for note in report.notes)
