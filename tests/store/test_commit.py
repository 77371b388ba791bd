"""What the writer commits, the reader gives back; what it may not commit, it refuses."""

import os
import time
from pathlib import Path

import pyarrow as pa
import pytest

from scalple.ingest.errors import CommitError, ConfigError, StoreError, VerificationError
from scalple.store import segments
from scalple.store.layout import PREPARED_MAX, existing_origins, origin_layout
from scalple.store.manifest import MANIFEST_BYTES_MAX, Manifest, sha256_hex
from scalple.store.reader import StoreReader
from scalple.store.verified import VerifiedFiles
from scalple.store.verify import verify
from tests.store.sample import (
    NOON,
    RULES,
    files,
    make_store,
    open_writer,
    other_kinds,
    position,
    signing_key,
    statements,
    table,
)


def read_rows(store: Path, kind: str, origin: str = "db1") -> list[dict[str, object]]:
    """All committed rows of a kind."""
    reader = StoreReader.open(store, origin, verified=VerifiedFiles(None))
    found: list[dict[str, object]] = []
    for segment in reader.segments(kind):
        found += segments.from_parquet(segment.path.read_bytes()).table.to_pylist()
    return found


def test_committed_rows_come_back_as_they_were(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 2)

    assert read_rows(store, "audit") == statements(0, 4).to_pylist() + statements(4, 4).to_pylist()
    for kind in ("evidence", "denied", "gaps", "unparsed"):
        expected = other_kinds(0)[kind].to_pylist() + other_kinds(1)[kind].to_pylist()
        assert read_rows(store, kind) == expected
    report = verify(store)
    assert (report.origins, report.manifests, report.segments, report.rows) == (["db1"], 2, 10, 16)
    assert report.notes == ["db1: self-signed: no outside key"]


def test_reopening_continues(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 2)
    with open_writer(store, create=False) as opened:
        assert opened.next_seq["audit"] == 8
        assert opened.next_seq["evidence"] == 2
        assert opened.head_size == 2
        assert opened.positions == [position(100, 200)]
        assert opened.notes == ()
        manifest = opened.commit({"audit": statements(8, 1)}, [position(200, 300)], {})

    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert (manifest.n, manifest.committed_at) == (2, NOON.isoformat(timespec="microseconds"))
    reader = StoreReader.open(store, verified=VerifiedFiles(None))
    assert reader.manifests[2] == manifest
    assert reader.objects(reader.manifests[0].objects["rules"]) == RULES
    assert [(s.first_seq, s.rows) for s in reader.segments("audit")] == [(0, 4), (4, 4), (8, 1)]


def test_the_same_object_is_stored_once(tmp_path: Path) -> None:
    make_store(tmp_path / "store", 3)

    objects = files(tmp_path / "store" / "db1" / "objects")
    assert [path.read_bytes() for path in objects].count(RULES) == 1
    assert len({path.name for path in objects}) == len(objects) > 1


def test_preparing_ahead_of_commits(tmp_path: Path) -> None:
    with open_writer(tmp_path / "store") as opened:
        first = opened.prepare({"audit": statements(0, 2)})
        second = opened.prepare({"audit": statements(2, 2)})
        assert opened.next_seq["audit"] == 4
        assert opened.head_size == 0
        with pytest.raises(StoreError, match="before batch 0"):
            opened.commit(second, [], {})
        opened.commit(first, [], {})
        opened.commit(second, [], {})
        for at in range(PREPARED_MAX):
            opened.prepare({"audit": statements(4 + at, 1)})
        with pytest.raises(StoreError, match="wait for their commit"):
            opened.prepare({"audit": statements(4 + PREPARED_MAX, 1)})

    notes = verify(tmp_path / "store").notes
    assert sum("not committed" in note for note in notes) == PREPARED_MAX
    with open_writer(tmp_path / "store") as opened:
        assert len(opened.notes) == PREPARED_MAX
        assert opened.next_seq["audit"] == 4
    assert verify(tmp_path / "store").notes == ["db1: self-signed: no outside key"]


def test_large_batches_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def size(rows: int) -> int:
        return len(segments.to_parquet(segments.Segment("audit", statements(0, rows), b"k" * 32)))

    limit = (size(50) + size(25)) // 2
    monkeypatch.setattr(segments, "SEGMENT_ROWS_MAX", 50)
    monkeypatch.setattr(segments, "SEGMENT_BYTES_MAX", limit)
    with open_writer(tmp_path / "store") as opened:
        manifest = opened.commit({"audit": statements(0, 120)}, [], {})

    assert len(manifest.segments) > 3
    assert all(segment.bytes <= limit for segment in manifest.segments)
    assert verify(tmp_path / "store").rows == 120


def test_a_row_too_large_for_a_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES_MAX", 1000)
    with open_writer(tmp_path / "store") as opened, pytest.raises(StoreError, match="single row"):
        opened.commit({"audit": statements(0, 1)}, [], {})


def test_many_positions_move_into_an_object(tmp_path: Path) -> None:
    many = [position(0, 10, f"log.{n}") for n in range(200)]
    with open_writer(tmp_path / "store") as opened:
        manifest = opened.commit({}, many, {})
        assert manifest.positions == ()
        assert manifest.positions_object is not None
        assert len(manifest.to_bytes()) < MANIFEST_BYTES_MAX
        assert opened.positions == many

    verify(tmp_path / "store")
    with open_writer(tmp_path / "store") as opened:
        assert opened.positions == many


def test_positions_must_join(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 1)
    for wrong in (position(0, 50), position(150, 200), position(50, 100, "new.csv")):
        with open_writer(store) as opened:
            with pytest.raises(VerificationError, match="breaks the chain"):
                opened.commit({}, [wrong], {})
            with pytest.raises(CommitError, match="open the store again"):
                opened.commit({}, [], {})
    with open_writer(store) as opened:
        again = position(0, 30, incarnation=1)  # the file was recreated with the same head
        manifest = opened.commit({}, [position(100, 150), again, position(150, 150)], {})

    assert manifest.positions == (position(100, 150), again)
    verify(store)


def change(column: str, values: pa.Array) -> pa.Table:
    """Audit rows with one column replaced."""
    good = statements(0, 2)
    return good.set_column(good.column_names.index(column), column, values)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"audit": statements(1, 2)}, "dense"),
        ({"audit": pa.concat_tables([statements(0, 1), statements(0, 1)])}, "dense"),
        ({"audit": statements(0, 2, origin="db2")}, "expected origin db1"),
        ({"audit": statements(0, 2).drop_columns(["query"])}, "columns of audit differ"),
        ({"audit": change("client_port", pa.nulls(2, pa.int64()))}, "client_port"),
        ({"audit": change("seq", pa.array([0, None], pa.uint64()))}, "dense"),
        ({"gaps": table("gaps", 1, [{}])}, "dense"),
        ({"secrets": statements(0, 2)}, "no kind"),
    ],
)
def test_wrong_rows_are_refused_and_harm_nothing(
    tmp_path: Path, tables: dict[str, pa.Table], message: str
) -> None:
    with open_writer(tmp_path / "store") as opened:
        with pytest.raises((VerificationError, StoreError), match=message):
            opened.commit(tables, [], {})
        opened.commit({"audit": statements(0, 2)}, [], {})

    assert verify(tmp_path / "store").rows == 2


def test_an_empty_commit_is_one(tmp_path: Path) -> None:
    with open_writer(tmp_path / "store") as opened:
        opened.commit({"audit": statements(0, 0)}, [], {})

    report = verify(tmp_path / "store")
    assert (report.manifests, report.segments) == (1, 0)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with open_writer(tmp_path / "store"):
        with pytest.raises(StoreError, match="another writer"):
            open_writer(tmp_path / "store")
        with open_writer(tmp_path / "store", "db2") as other:
            other.commit({"audit": statements(0, 1, "db2")}, [], {})
    open_writer(tmp_path / "store").close()

    assert existing_origins(tmp_path / "store") == ["db1", "db2"]
    assert verify(tmp_path / "store").origins == ["db1", "db2"]


def test_nothing_is_created_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no origin"):
        open_writer(tmp_path / "store", create=False)
    with pytest.raises(ConfigError, match="no store"):
        StoreReader.open(tmp_path / "store")
    make_store(tmp_path / "store", 1)
    with pytest.raises(ConfigError, match="no origin 'db9'"):
        StoreReader.open(tmp_path / "store", "db9")
    with pytest.raises(ConfigError):
        verify(tmp_path / "store", "db9")
    assert existing_origins(tmp_path / "store") == ["db1"]


@pytest.mark.parametrize("name", ["", "_x", "DB", "a/b", "..", ".a", "a b", "a\n", "x" * 64, "é"])
def test_names_that_no_origin_may_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="can't be the name"):
        origin_layout(tmp_path, name)


def test_the_log_of_questions_is_an_origin_of_its_own(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 1)
    make_store(tmp_path / "store", 1, "_access")

    assert StoreReader.open(store, verified=VerifiedFiles(None)).origins == ["db1"]
    assert verify(store).origins == ["db1", "_access"]


def test_a_verified_file_is_remembered_until_it_changes(tmp_path: Path) -> None:
    memory = tmp_path / "cache" / "verified.json"
    path, good = tmp_path / "segment", sha256_hex(b"abc")
    path.write_bytes(b"abc")
    VerifiedFiles(memory).check(path, good, 3)
    first = VerifiedFiles(memory)
    while time.time_ns() - path.stat().st_ctime_ns < 2_100_000_000:
        time.sleep(0.1)
    first.check(path, good, 3)
    first.save()
    (kept,) = memory.parent.glob("verified-*.json")
    VerifiedFiles(memory).check(path, good, 3)
    status = path.stat()
    path.write_bytes(b"abd")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(VerificationError, match="SHA-256 differs"):
        VerifiedFiles(memory).check(path, good, 3)
    kept.write_text("broken")
    with pytest.raises(VerificationError, match="length differs"):
        VerifiedFiles(memory).check(path, good, 4)
    unwritable = VerifiedFiles(Path("/proc/nowhere/verified.json"))
    path.write_bytes(b"abc")
    unwritable.check(path, good, 3)
    unwritable.save()


def test_key_of_another_origin_does_not_open_it(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 1)
    make_store(tmp_path / "store", 1, "db2")
    assert signing_key(store).public_key() == signing_key(store).public_key()
    (store / "db1" / "public-key").write_bytes((store / "db2" / "public-key").read_bytes())

    with pytest.raises((ConfigError, VerificationError)):
        StoreReader.open(store, verified=VerifiedFiles(None))
    with pytest.raises(VerificationError):
        verify(store)
