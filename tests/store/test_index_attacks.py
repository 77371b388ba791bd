"""An index that was changed, cut, forged or left half made: noticed, and no answer is another."""

import itertools
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scalple.ingest.errors import ConfigError, ScalpleError, StoreError, VerificationError
from scalple.store import compaction, durable, proof, strict
from scalple.store.chain import read_chain
from scalple.store.index import Index, IndexFile, open_index
from scalple.store.layout import OriginLayout, origin_layout
from scalple.store.manifest import sha256_hex
from scalple.store.note import VerifierKey
from scalple.store.question import Question
from scalple.store.reader import StoreReader
from scalple.store.rowid import RowId
from scalple.store.verify import verify
from tests.store.sample import files, make_store, open_writer, signing_key, statements
from tests.store.test_compaction import answers, compacted, opened
from tests.store.test_crash import FAULTS, Crash, FailingOs

QUESTION = Question(
    tokens=(("id", 1),), subject_columns=("public.users.id",), personal_columns=("public.users.id",)
)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five commits, three of them in the index."""
    store = make_store(tmp_path_factory.mktemp("indexed") / "store", 3)
    compacted(store, "db1", signing_key(store))
    return make_store(store, 2)


@pytest.fixture(scope="session")
def expected(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What that store answers without its index."""
    store = tmp_path_factory.mktemp("plain") / "store"
    shutil.copytree(pristine, store)
    shutil.rmtree(store / "db1" / "index")
    return answers(opened(store), None, QUESTION)


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    shutil.copytree(pristine, tmp_path / "store")
    shutil.copytree(pristine.with_name("store.keys"), tmp_path / "store.keys")
    return tmp_path / "store"


def layout_of(store: Path) -> OriginLayout:
    return origin_layout(store, "db1")


def head_of(store: Path) -> Index:
    """What the index says."""
    key = VerifierKey.of("db1", signing_key(store))
    return open_index(layout_of(store).index_head.read_bytes(), [key])[0]


def is_used(reader: StoreReader) -> bool:
    """Whether the index was believed; if not, a note says so."""
    used = bool(reader._indexed)
    assert used == (not any("index isn't used" in note for note in reader.notes))
    return used


def refused(store: Path, message: str = ".") -> VerificationError:
    """`verify` says so, and where."""
    with pytest.raises(VerificationError, match=message) as caught:
        verify(store)
    assert caught.value.place
    return caught.value


def test_one_flipped_bit_in_every_file(store: Path, expected: dict[str, Any]) -> None:
    assert is_used(opened(store))
    for path in files(layout_of(store).index):
        data = path.read_bytes()
        at = random.Random(path.name).randrange(len(data))
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        assert not is_used(opened(store)), path
        if path.name.startswith(
            ("evidence", "head", "numbering", "parts")
        ):  # in turns with removal
            refused(store)
        path.write_bytes(data)
    path = files(layout_of(store).index)[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert answers(opened(store), None, QUESTION) == expected
    compacted(store, "db1", signing_key(store))
    assert is_used(opened(store))
    verify(store)


def test_every_removed_file(store: Path, expected: dict[str, Any]) -> None:
    for path in files(layout_of(store).index):
        data = path.read_bytes()
        path.unlink()
        reader = opened(store)
        assert not reader._indexed
        if path.name == "head":
            verify(store)
        else:
            assert not is_used(reader)
            if path.name.startswith(("audit-", "head", "positions")):  # `verify` takes its time
                refused(store)
        path.write_bytes(data)
    shutil.rmtree(layout_of(store).index)
    reader = opened(store)
    assert reader.notes == []
    assert answers(reader, None, QUESTION) == expected


def test_the_answer_is_the_same_with_commits_behind_the_index(
    store: Path, expected: dict[str, Any]
) -> None:
    reader = opened(store)
    assert is_used(reader)
    assert answers(reader, None, QUESTION) == expected
    report = verify(store)
    assert "db1: the index holds the first 3 manifests of 5" in report.notes


@pytest.mark.parametrize(
    "name", ["extra", "audit-0", f"audit-{'0' * 64}", f"manifests/{0:020d}.json", "resume"]
)
def test_a_file_that_does_not_belong(store: Path, name: str) -> None:
    path = layout_of(store).index / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"extra")
    refused(store)


def forge(store: Path, **changes: Any) -> None:
    """Signs a head that says something else."""
    index = replace(head_of(store), **changes)
    layout_of(store).index_head.write_bytes(index.sign(signing_key(store)))


def test_an_index_of_another_log_by_the_same_key(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "store"
    shutil.copytree(store.with_name("store.keys"), tmp_path / "other" / "store.keys")
    make_store(other, 3)  # the same rows, another nonce
    compacted(other, "db1", signing_key(other))
    shutil.rmtree(layout_of(store).index)
    shutil.copytree(layout_of(other).index, layout_of(store).index)
    assert not is_used(opened(store))
    refused(store, "isn't this log's")


def test_an_index_by_another_key(store: Path, tmp_path: Path) -> None:
    other = signing_key(tmp_path / "other" / "store")
    layout_of(store).index_head.write_bytes(head_of(store).sign(other))
    assert not is_used(opened(store))
    refused(store, "isn't signed by key")
    with pytest.raises(ConfigError, match="isn't the one that this origin goes on with"):
        compacted(store, "db1", other)


def test_an_index_of_more_than_the_log_shows_that_it_was_cut(store: Path) -> None:
    compacted(store, "db1", signing_key(store))
    layout = layout_of(store)
    shorter = read_chain(layout, 4).head.sign(signing_key(store))
    for record in read_chain(layout, 5).manifests[4].segments:
        (layout.segments / record.file).unlink()
    layout.manifest(4).unlink()
    layout.checkpoint.write_bytes(shorter)
    with pytest.raises(VerificationError):
        verify(store)
    for path in layout.objects.iterdir():  # and what only the last manifest named
        if path.name not in {
            sha256 for one in read_chain(layout, 4).manifests for sha256 in one.objects.values()
        }:
            path.unlink()
    refused(store, "log was cut: the index holds 5 manifests, found 4")
    assert not is_used(opened(store))


def swap(store: Path, holds: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Puts another table into a file of the index, and signs that."""
    layout, index = layout_of(store), head_of(store)
    file = next(one for one in index.files if one.holds == holds)
    whole = pq.ParquetFile(layout.index / file.name)
    sink = pa.BufferOutputStream()
    metadata = whole.metadata.metadata or {}
    table = change(whole.read())
    pq.write_table(table.replace_schema_metadata(metadata), sink, store_schema=False)
    data = bytes(sink.getvalue().to_pybytes())
    made = IndexFile(**{**strict.plain(file), "sha256": sha256_hex(data), "bytes": len(data)})
    (layout.index / file.name).unlink()
    (layout.index / made.name).write_bytes(data)

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [renamed(one) for one in value]
        if value == strict.plain(file):
            return strict.plain(made)
        if isinstance(value, dict):
            return {name: renamed(one) for name, one in value.items()}
        return value

    changed = strict.from_plain(Index, renamed(strict.plain(index)))
    layout.index_head.write_bytes(changed.sign(signing_key(store)))


def with_column(name: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[pa.Table], Any]:
    """The same table with other values in a column."""

    def changed(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        return table.set_column(at, field, pa.array(change(table[name].to_pylist()), field.type))

    return changed


def test_other_bytes_that_say_the_same(store: Path) -> None:
    before = {path.name for path in files(layout_of(store).index)}
    for file in head_of(store).files:
        if file.holds != "positions":
            swap(store, file.holds, lambda table: table)
    assert len(before & {path.name for path in files(layout_of(store).index)}) == 2
    assert is_used(opened(store))
    verify(store)


@pytest.mark.parametrize(
    ("holds", "change"),
    [
        ("audit", with_column("session_user_id", lambda _: ["somebody"] * 12)),
        ("evidence", with_column("client_port", lambda told: [told[0] + 1, *told[1:]])),
        ("audit-subjects", lambda table: table.slice(1)),
        ("audit-rows", with_column("rows_returned", lambda told: [7, *told[1:]])),
        (
            "audit-facts",
            with_column("fact", lambda told: [x.replace("proven", "claimed") for x in told]),
        ),
        (
            "manifests",
            with_column("committed_at", lambda told: ["2020-01-01T00:00:00Z", *told[1:]]),
        ),
        ("parts", with_column("salt_key", lambda told: [b"0" * 32, *told[1:]])),
        ("numbering-audit-facts", lambda table: table.slice(1)),
    ],
)
def test_a_signed_index_that_says_something_else_than_the_log(
    store: Path, holds: str, change: Callable[[pa.Table], pa.Table]
) -> None:
    swap(store, holds, change)
    error = refused(store, "isn't what the log says")
    assert f"{holds}-" in str(error.place)
    assert "deleting index/ loses nothing" in str(error.hint)


def test_a_signed_head_that_says_something_else_than_the_log(store: Path) -> None:
    run = head_of(store).runs[0]
    good = layout_of(store).index_head.read_bytes()
    changes: dict[str, Any] = {
        "committed_by": "2020-01-01T00:00:00+00:00",
        "newest": {**run.newest, "rules": 0},
        "hashes": {**run.hashes, "rules": ["0" * 64]},
        "ends": {**run.ends, "denied": 2},
        "files": run.files[1:],
    }
    for name, value in changes.items():
        forge(store, runs=[replace(run, **{name: value})])
        refused(store)
        layout_of(store).index_head.write_bytes(good)
    forge(store, last_sha256="0" * 64)
    refused(store, "last_sha256")
    layout_of(store).index_head.write_bytes(good)
    numbering = head_of(store).numbering
    assert numbering is not None
    forge(store, numbering=replace(numbering, nonce="other"))
    refused(store, "numbering")


@pytest.mark.parametrize("how", FAULTS)
def test_every_durable_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    base = tmp_path / "base" / "store"
    make_store(base, 2)
    compacted(base, "db1", signing_key(base))
    make_store(base, 1)
    plain = answers(opened(base), None, QUESTION)
    at = FAULTS.index(how)
    for steps in itertools.count(1) if os.environ.get("EVERY_STEP") else (17 * at + 4,):
        store = tmp_path / str(steps) / "store"
        shutil.copytree(base.parent, store.parent)
        failing = FailingOs(steps, how)
        monkeypatch.setattr(durable, "os", failing)
        try:
            compacted(store, "db1", signing_key(store))
        except (ScalpleError, Crash):
            assert failing.fired
        monkeypatch.setattr(durable, "os", os)
        reader = opened(store)
        assert is_used(reader)
        assert answers(reader, None, QUESTION) == plain
        verify(store)
        compacted(store, "db1", signing_key(store))
        assert opened(store)._indexed["db1"].size == 3
        verify(store)
        shutil.rmtree(store.parent)
        if not failing.fired:
            break
    assert steps > 60 or not os.environ.get("EVERY_STEP")


def test_a_writer_goes_on_while_the_index_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store", 2)
    right = compaction.add_commit
    with open_writer(store) as writer:

        def committing(maker: Any, layout: OriginLayout, chain: Any, n: int) -> None:
            batch = {"audit": statements(writer.next_seq["audit"], 2)}
            writer.commit(batch, [], {})
            right(maker, layout, chain, n)

        monkeypatch.setattr(compaction, "add_commit", committing)
        compacted(store, "db1", signing_key(store))
        monkeypatch.setattr(compaction, "add_commit", right)
        reader = opened(store)
        assert reader._indexed["db1"].size == 2
        assert reader.chain("db1").head.size == 4
    verify(store)


def test_one_compaction_at_a_time(store: Path) -> None:
    with (
        compaction.locked(layout_of(store)),
        pytest.raises(StoreError, match="being made already"),
    ):
        compacted(store, "db1", signing_key(store))


def test_a_question_that_is_being_answered_keeps_its_files(store: Path) -> None:
    reader = opened(store)
    compacted(store, "db1", signing_key(store))
    assert len(reader.segments("audit")[0].table()) == 12
    make_store(store, 1)
    compacted(store, "db1", signing_key(store))
    verify(store)


def test_a_row_is_proven_from_the_index_where_its_segment_is_gone(store: Path) -> None:
    layout = layout_of(store)
    key = VerifierKey.of("db1", signing_key(store))
    rows = [RowId("db1", "audit", 5), RowId("db1", "evidence", 1), RowId("db1", "audit", 17)]
    whole = proof.make(opened(store), rows)
    for n in range(3):
        for path in layout.segments.glob(f"{n:020d}-*"):
            path.unlink()
    reader = opened(store)
    assert is_used(reader)
    made = proof.make(reader, rows)
    assert made == whole
    proven = proof.check(proof.to_bytes(made), {"db1": [key]})
    assert [one.id for one in proven] == rows
    with pytest.raises(VerificationError):
        verify(store)


@pytest.mark.parametrize("rows", [1, 50, 1000])
def test_a_row_is_merged_some_few_times(rows: int) -> None:
    runs: list[int] = []
    written = 0
    commits = 3000
    for _ in range(commits):
        count = compaction.joined(runs, rows)
        runs[len(runs) - count :] = [sum(runs[len(runs) - count :]) + rows]
        written += runs[-1]
    assert len(runs) <= 10
    assert written / (commits * rows) < 40
