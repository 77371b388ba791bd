"""A bucket's log under one signing key after the other, and `verify` of it by several processes.

Enters: small stores in a bucket, changes of keys that are interrupted, damage. Leaves: nothing.
"""

import contextlib
import os
import re
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import ConfigError, ScalpleError, VerificationError
from scalple.store import anchors, commitpool
from scalple.store.anchors import Anchor
from scalple.store.keys import public_keys_text
from scalple.store.mirror import Mirror
from scalple.store.note import VerifierKey
from scalple.store.reader import StoreReader
from scalple.store.verify import Options, examine, verify
from scalple.store.verifyreport import VerifyReport
from scalple.store.writer import StoreWriter
from tests import s3server
from tests.s3server import Place, faults
from tests.store.sample import RULES, position, statements

endpoint, impatience = s3server.endpoint, s3server.impatience

STRIDE = 1 if os.environ.get("EVERY_STEP") else 2
"""The suite stops at every other request; `make prove` at each."""
KEYS = [Ed25519PrivateKey.generate() for _ in range(2)]


@pytest.fixture
def place(endpoint: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """An empty prefix."""
    name = re.sub("[^a-z0-9]", "-", request.node.name)[-60:].strip("-")
    return Place(endpoint, name, tmp_path / "seen")


def opened(directory: Path, key: int) -> StoreWriter:
    return StoreWriter.open(directory, "db1", KEYS[key], create=True)


def commit(directory: Path, key: int, *, commits: int = 1) -> bytes:
    """Append to the store; returns the head as it is then signed."""
    with opened(directory, key) as writer:
        for _ in range(commits):
            n = writer.next_seq["audit"]
            at = [position(100 * n, 100 * n + 100)] if n else [position(0, 100)]
            writer.commit({"audit": statements(n, 1)}, at, {"rules": RULES})
    return (directory / "db1" / "checkpoint").read_bytes()


def rotate(directory: Path) -> None:
    with opened(directory, 0) as writer:
        writer.rotate(KEYS[1])


def listed(*keys: int) -> bytes:
    """The list of keys in a bucket."""
    return public_keys_text([VerifierKey.of("db1", KEYS[n]) for n in keys])


def anchor(note: bytes) -> Anchor:
    return Anchor("kept", "db1", note)


def check(place: Place, **options: object) -> VerifyReport:
    """Verify from the bucket alone."""
    return examine(place.see(whole=True), options=Options(**options))  # type: ignore[arg-type]


def test_a_log_in_a_bucket_goes_on_under_another_key(place: Place, tmp_path: Path) -> None:
    before = commit(place.see("seen-before"), 0)
    writer = place.see("writer")
    rotate(writer)
    assert place.bucket.get("db1/public-key") == listed(0, 1)
    after = commit(writer, 1)
    kept = (anchor(before), anchor(after))
    report = check(place, anchors=kept)
    assert (report.faults, report.manifests, report.rows) == ([], 3, 2)
    assert "db1: continues 2 anchor(s), the newest of size 3" in report.notes
    assert report.heads[0].key == VerifierKey.of("db1", KEYS[1]).to_text()
    # Who has seen the log under its first key follows it; the first key writes no more.
    reader = StoreReader.open(place.see("seen-before"))
    assert sum(one.rows for one in reader.segments("audit")) == 2
    with pytest.raises(ConfigError, match="one that it had before"):
        commit(place.see(), 0)
    # A thief of the first key signs the head anew: no anchor, and no head.
    head = reader.chain("db1").head
    stolen = check(place, anchors=(anchor(head.sign(KEYS[0])),)).faults
    assert ["another key of the log" in one.what for one in stolen] == [True]
    place.bucket.client.put_object(**place.key("db1/checkpoint"), Body=head.sign(KEYS[0]))
    assert "another key of the log" in check(place).faults[0].what


def test_a_change_of_keys_that_stops_anywhere_is_completed(place: Place) -> None:
    directory = place.see("writer")
    commit(directory, 0)
    with opened(directory, 0) as writer, faults(lambda *_: None) as every:
        writer.rotate(KEYS[1])
    base, reached = "db1", set()
    for begin in range(0, len(every) + 1, STRIDE):
        _empty(place)
        directory = place.see()
        commit(directory, 0)
        outage = faults(partial(_lost, begin))
        with opened(directory, 0) as writer, outage, contextlib.suppress(ScalpleError):
            writer.rotate(KEYS[1])
        # A reader in between sees the log up to its head; the right key goes on.
        assert StoreReader.open(place.see()).chain(base).tree.size in (1, 2)
        stated = place.bucket.get(f"{base}/manifests/{1:020d}.json") is not None
        reached.add((stated, place.bucket.get(f"{base}/public-key") == listed(0, 1)))
        commit(place.see(), 1 if stated else 0)
        assert check(place).faults == []
    assert reached == {(False, False), (True, False), (True, True)}


def _lost(begin: int, number: int, _: object) -> str | None:
    return "lost" if number >= begin else None


def _empty(place: Place) -> None:
    for key, _ in list(place.bucket.names()):
        place.bucket.delete(key)


def test_a_mirror_follows_a_change_of_keys(place: Place, tmp_path: Path) -> None:
    store = tmp_path / "local"
    commit(store, 0)
    for after in (lambda: rotate(store), lambda: commit(store, 1), lambda: None):
        mirror = Mirror(place.bucket, lambda _: None)
        mirror.prepare()
        mirror.copy(StoreReader.open(store), "db1")
        assert check(place).faults == []
        after()
    assert place.bucket.get("db1/public-key") == listed(0, 1)
    assert check(place).rows == 2


def test_a_change_of_keys_is_no_fault_in_a_bucket_with_versions(place: Place) -> None:
    place.version()
    directory = place.see()
    commit(directory, 0)
    rotate(directory)
    commit(directory, 1)
    report = check(place)
    assert report.faults == []
    assert any("older heads in the bucket" in note for note in report.notes)
    for text in (listed(1), listed(0, 1)):
        place.bucket.client.put_object(**place.key("db1/public-key"), Body=text)
    assert [one.what for one in check(place).faults] == ["was overwritten: its versions differ"]


def test_any_number_of_workers_finds_the_same_in_a_bucket(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = place.see()
    kept = commit(directory, 0, commits=2)
    commit(directory, 0, commits=2)
    first = StoreReader.open(directory).manifests[0].segments[0].file
    last = StoreReader.open(directory).manifests[3].segments[0].file
    data = place.bucket.get(f"db1/segments/{last}")
    assert data is not None
    monkeypatch.setattr(commitpool, "PROCESS_BYTES_MIN", 1)
    monkeypatch.setattr(commitpool, "CHUNK_BYTES", 1)
    intact = check(place, workers=2)
    assert (intact.faults, intact.rows) == ([], 4)
    place.bucket.client.put_object(**place.key(f"db1/segments/{last}"), Body=data[:-1] + b"x")
    place.bucket.client.delete_object(**place.key(f"db1/segments/{first}"))
    since = place.directory / "kept"
    since.write_bytes(kept)
    for files_only in (False, True):
        for begin in ((), (str(since),)):
            found = [
                check(place, files_only=files_only, workers=workers, since=begin)
                for workers in (1, 2)
            ]
            said = [[(_file(x.place), x.what) for x in one.faults] for one in found]
            assert said[0] == said[1]
            assert said[0] == [(first, "missing"), (last, "bytes differ")]
            assert found[0].rows == found[1].rows == (0 if begin else 2) + (1 if begin else 0)


def _file(place: str) -> str:
    return place.split(" (")[0].rpartition("/")[2]


def test_an_anchor_that_a_bucket_does_not_continue_is_a_fault_like_others(place: Place) -> None:
    directory = place.see()
    kept = commit(directory, 0, commits=2)
    _empty(place)
    commit(place.see(), 0)
    (fault,) = check(place, anchors=(anchor(kept),)).faults
    assert fault.what == "log was cut"
    assert fault.expected == "2 manifests or more, as anchored"
    assert fault.found == "1"
    with pytest.raises(VerificationError, match="log was cut"):
        verify(place.see(whole=True), options=Options(anchors=(anchor(kept),)))
    assert anchors.in_text(kept, "kept") == [anchor(kept)]
