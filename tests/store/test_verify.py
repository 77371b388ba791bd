"""`verify` as a tool: every fault with its place, only what is new, on several processors."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from scalple.ingest.errors import ConfigError, VerificationError
from scalple.store import commitpool
from scalple.store.layout import origin_layout
from scalple.store.manifest import Manifest, sha256_hex
from scalple.store.verify import Options, examine, verify
from tests.commandline import scalple
from tests.store.sample import RULES, make_store, open_writer, other_kinds, position, statements


def broken(path: Path) -> None:
    """One bit of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def segments(store: Path, n: int) -> list[Path]:
    """Segments of a manifest."""
    return sorted((store / "db1" / "segments").glob(f"{n:020d}-*"))


def test_every_fault_is_reported_with_place_expected_and_found(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 3)
    make_store(store, 1, "db2")
    segment, gone = segments(store, 0)[0], segments(store, 2)[1]
    record = Manifest.from_bytes((store / "db1/manifests" / f"{0:020d}.json").read_bytes())
    broken(segment)
    gone.unlink()
    (store / "db1" / "objects" / "extra").write_bytes(b"")
    broken(store / "db2" / "checkpoint")

    report = examine(store)
    said = [(Path(one.place.split(" (")[0]).name, one.what) for one in report.faults]
    assert said == [
        (segment.name, "bytes differ"),
        (gone.name, "can't read: No such file or directory"),
        ("extra", "no manifest names this file"),
        ("checkpoint", report.faults[3].what),
    ]
    first = report.faults[0]
    assert first.place.endswith("(rows 0 to 3)")
    assert first.expected == f"{record.segments[0].bytes} with SHA-256 {record.segments[0].sha256}"
    assert first.found == f"{record.segments[0].bytes} with {sha256_hex(segment.read_bytes())}"
    assert report.segments == 15 - 2

    told = scalple("verify", "--store", store, "--format", "json")
    assert told.code == 7
    assert "bytes differ" in told.err
    assert "4 faults; the first: " in told.err
    document = told.json()
    assert document["intact"] is False
    assert document["faults"] == [asdict(one) for one in report.faults]
    said_so = scalple("verify", "--store", store)
    assert (said_so.code, said_so.out) == (7, "")
    assert len([line for line in said_so.err.splitlines() if line.startswith("fault: ")]) == 4


def test_an_intact_store_as_json(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 2)
    told = scalple("verify", "--store", store, "--format", "json", "--files")
    assert told.code == 0
    document = told.json()
    assert document["intact"] is True
    assert document["level"] == "files"
    assert document["heads"][0]["size"] == 2
    assert document["heads"][0]["key"] + "\n" == (store / "db1" / "public-key").read_text()
    assert document["rows"] == 16


def test_only_what_came_after_a_checkpoint_is_read(tmp_path: Path) -> None:
    store, kept = tmp_path / "store", tmp_path / "kept"
    with open_writer(store) as writer:  # one opening: the last digest's numbers need all before
        for n in range(4):
            tables = {"audit": statements(4 * n, 4), **other_kinds(n)}
            writer.commit(tables, [position(100 * n, 100 * n + 100)], {"rules": RULES})
            if n == 1:
                kept.write_bytes((store / "db1" / "checkpoint").read_bytes())
    for since in (str(kept), "2"):
        report = verify(store, "db1", options=Options(since=(since,)))
        assert (report.manifests, report.rows, report.heads[0].since) == (4, 16, 2)
        assert any("only files of manifests from 2 on" in note for note in report.notes)

    later, earlier = segments(store, 2)[0], segments(store, 0)[0]
    whole = later.read_bytes()
    broken(later)
    with pytest.raises(VerificationError, match="bytes differ"):
        verify(store, options=Options(since=(str(kept),)))
    later.write_bytes(whole)
    whole = earlier.read_bytes()
    broken(earlier)
    verify(store, options=Options(since=(str(kept),)))
    for wrong in (whole[:-1], None):
        earlier.unlink()
        if wrong is not None:
            earlier.write_bytes(wrong)
        with pytest.raises(VerificationError, match=r"length differs|can't read"):
            verify(store, options=Options(since=(str(kept),)))
    earlier.write_bytes(whole)
    facts = Manifest.from_bytes((store / "db1/manifests" / f"{0:020d}.json").read_bytes())
    broken(store / "db1" / "objects" / facts.objects["audit-facts"])
    with pytest.raises(VerificationError, match="numbered since"):
        verify(store, options=Options(since=(str(kept),)))


def test_a_checkpoint_that_is_not_this_logs_excuses_nothing(tmp_path: Path) -> None:
    store, kept = make_store(tmp_path / "store", 2), tmp_path / "kept"
    make_store(tmp_path / "fork" / "store", 1)
    key = (tmp_path / "store.keys" / "signing.key").read_bytes()
    fork = tmp_path / "fork2" / "store"
    (tmp_path / "fork2" / "store.keys").mkdir(parents=True)
    (tmp_path / "fork2" / "store.keys" / "signing.key").write_bytes(key)
    make_store(fork, 2)
    kept.write_bytes((fork / "db1" / "checkpoint").read_bytes())
    with pytest.raises(VerificationError, match="rewritten"):
        verify(store, options=Options(since=(str(kept),)))
    make_store(fork, 1)
    kept.write_bytes((fork / "db1" / "checkpoint").read_bytes())
    for since in (str(kept), "3"):
        with pytest.raises(VerificationError, match="log was cut"):
            verify(store, "db1", options=Options(since=(since,)))
    kept.write_bytes((tmp_path / "fork" / "store" / "db1" / "checkpoint").read_bytes())
    with pytest.raises(VerificationError, match="isn't signed by key"):
        verify(store, options=Options(since=(str(kept),)))
    make_store(store, 1, "db2")
    with pytest.raises(ConfigError, match="several logs"):
        verify(store, options=Options(since=("1",)))
    with pytest.raises(ConfigError, match="can't read"):
        verify(store, options=Options(since=("nowhere",)))


def test_any_number_of_workers_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store", 3)
    with open_writer(store) as writer:
        for n in range(3, 6):
            writer.commit({"audit": statements(4 * n, 4)}, [], {"rules": RULES})
    make_store(store, 2, "db2")
    broken(segments(store, 1)[0])
    manifest = Manifest.from_bytes(origin_layout(store, "db1").manifest(3).read_bytes())
    broken(origin_layout(store, "db1").object(manifest.objects["audit-rows"]))
    monkeypatch.setattr(commitpool, "PROCESS_BYTES_MIN", 1)
    monkeypatch.setattr(commitpool, "CHUNK_BYTES", 1)
    for files_only in (False, True):
        one = examine(store, options=Options(files_only=files_only))
        two = examine(store, options=Options(files_only=files_only, workers=2))
        assert two == one
        assert len(one.faults) == (4 if not files_only else 2)
    assert json.dumps(asdict(one))


def test_a_log_that_begins_while_others_are_checked_is_no_fault(tmp_path: Path) -> None:
    """The first question makes the log of questions."""
    store = make_store(tmp_path / "store", 2)

    def begin(_: int) -> None:
        make_store(store, 1, "db2")

    report = verify(store, options=Options(start=begin))
    assert report.origins == ["db1"]
    assert any("db2: began while" in note for note in report.notes)
    assert verify(store).origins == ["db1", "db2"]
