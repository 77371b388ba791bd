"""Stores in a bucket: who wins, what a lost answer does, what the cache believes, what shows."""

import contextlib
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import (
    ConfigError,
    RaceError,
    StoreError,
    VerificationError,
)
from scalple.store import anchorbucket, anchors, compaction, keys, remote, source
from scalple.store.bucket import Bucket
from scalple.store.mirror import Mirror
from scalple.store.note import VerifierKey
from scalple.store.probe import probe
from scalple.store.reader import StoreReader
from scalple.store.verified import VerifiedFiles
from scalple.store.verify import Options, verify
from scalple.store.verifyreport import VerifyReport
from scalple.store.views import connect
from scalple.store.writer import StoreWriter
from tests import s3server
from tests.s3server import Place, faults, ignores_conditions
from tests.store.sample import RULES, position, statements

endpoint, impatience = s3server.endpoint, s3server.impatience

KEY = Ed25519PrivateKey.generate()
ROWS = 2
STEP = 1 if os.environ.get("EVERY_STEP") else 3
"""Of the requests at which an outage begins, so many at a time; `make prove` takes each."""

simulated = pytest.mark.skipif(
    "S3_SERVER" in os.environ, reason="a real server that ignores conditions is in test_s3_server"
)


@pytest.fixture
def place(endpoint: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """An empty prefix."""
    return Place(endpoint, _bucket_name(request), tmp_path / "seen")


@pytest.fixture
def locked(endpoint: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """An empty prefix under Object Lock."""
    return Place(endpoint, _bucket_name(request), tmp_path / "seen", retain_days=7)


def _bucket_name(request: pytest.FixtureRequest) -> str:
    return re.sub("[^a-z0-9]", "-", request.node.name)[-60:].strip("-")


def open_writer(directory: Path) -> StoreWriter:
    return StoreWriter.open(directory, "db1", KEY, create=True)


def commit(directory: Path, *, commits: int = 1) -> int:
    """Append to the store; returns how many manifests it then has."""
    with open_writer(directory) as writer:
        for n in range(writer.head_size, writer.head_size + commits):
            tables = {"audit": statements(ROWS * n, ROWS)}
            writer.commit(tables, [position(100 * n, 100 * n + 100)], {"rules": RULES})
        return writer.head_size


def check(place: Place, **more: object) -> VerifyReport:
    """Verify from the bucket alone."""
    return verify(place.see(whole=True), **more)  # type: ignore[arg-type]


def queries(directory: Path) -> list[str]:
    """What the audit view shows, in order."""
    rows = connect(directory).sql("SELECT query FROM audit ORDER BY seq").fetchall()
    return [query for (query,) in rows]


def expected(commits: int) -> list[str]:
    return [f"SELECT * FROM users WHERE id = {at}" for at in range(ROWS * commits)]


def test_sixteen_writers_race_for_one_manifest_and_one_wins(place: Place) -> None:
    commit(place.see())
    machines = [place.see() for _ in range(16)]
    start = Barrier(16)

    def race(directory: Path) -> str:
        with open_writer(directory) as writer:
            prepared = writer.prepare({"audit": statements(ROWS, ROWS)})
            start.wait()
            try:
                writer.commit(prepared, [position(100, 200)], {"rules": RULES})
            except RaceError:
                return "lost"
            return "won"

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(race, machines))
    assert sorted(outcomes) == ["lost"] * 15 + ["won"]
    report = check(place)
    assert (report.manifests, report.rows) == (2, 2 * ROWS)
    assert any("15 file(s) of commits that never came, or not yet" in note for note in report.notes)
    assert queries(place.see()) == expected(2)
    # A loser goes on behind the winner.
    assert commit(machines[outcomes.index("lost")]) == 3
    assert check(place).rows == 3 * ROWS


def test_a_writer_that_sleeps_at_any_request_and_wakes_up_behind_another(place: Place) -> None:
    count, first, refused = commit(place.see("a")), 0, 0
    while True:
        woken: list[int] = []

        def sleep(number: int, _: object, first: int = first, woken: list[int] = woken) -> None:
            if number == first and not woken:
                woken.append(0)
                woken[0] = commit(place.see("other"))  # takes over, and has gone again

        directory, acknowledged = place.see("a"), 0
        with faults(sleep):
            try:
                acknowledged = commit(directory)
            except StoreError as error:
                assert "another writer has" in str(error), error
                refused += 1
        if not woken:
            break
        report = check(place)  # nothing was overwritten, and the head is the newest
        assert count + 1 + bool(acknowledged) <= report.manifests <= count + 2
        assert report.rows == report.manifests * ROWS
        count = report.manifests
        first += STEP
    assert refused > 1
    assert queries(place.see()) == expected(acknowledged)


def test_one_lost_answer_neither_loses_nor_doubles_a_commit(place: Place) -> None:
    commit(place.see("a"))
    directory = place.see("a")
    with faults(lambda *_: None) as every:
        commit(directory)
    count = 2
    writes = [at for at, one in enumerate(every) if not one.startswith("GET")]
    heads = [at for at in writes if "/manifests/" in every[at] or "/checkpoint" in every[at]]
    assert len(heads) >= 2
    for lost, what in [(at, "swallowed") for at in writes] + [(at, "error") for at in heads]:

        def fault(number: int, _: object, lost: int = lost, what: str = what) -> str | None:
            return what if number == lost else None

        with faults(fault):
            count += 1
            assert commit(directory) == count
    assert check(place).rows == count * ROWS
    assert queries(place.see()) == expected(count)


def test_an_outage_at_any_request_leaves_a_store_that_goes_on(place: Place) -> None:
    commit(place.see("a"))
    directory = place.see("a")
    committed, first, done = 1, 0, False
    while not done:

        def fault(number: int, _: object, first: int = first) -> str | None:
            return None if number < first else "swallowed" if number == first else "lost"

        with faults(fault) as asked, contextlib.suppress(StoreError):
            commit(directory)
            done = True
        # Whether the manifest got there decides, not what the writer was told.
        there = len(list(place.bucket.names("db1/manifests/")))
        assert there - committed in (0, 1), asked
        committed = there
        first += STEP
    assert first > 12
    assert commit(place.see("a")) == committed + 1
    assert check(place).rows == (committed + 1) * ROWS
    assert queries(place.see()) == expected(committed + 1)


@simulated
def test_a_bucket_that_ignores_conditions_is_refused_as_a_store(place: Place) -> None:
    with faults(ignores_conditions):
        found = probe(place.bucket)
        assert (found.creates_once, found.winners, found.replaces_if_match) == (False, 16, False)
        with pytest.raises(StoreError, match="doesn't keep a created object"):
            commit(place.see())
    assert not list(place.bucket.names("db1/"))
    commit(place.see())
    with faults(ignores_conditions), pytest.raises(StoreError, match="overwritten: two writers"):
        commit(place.see())  # it may have become so since


def test_only_what_is_configured_signs_a_store_in_a_bucket(place: Place) -> None:
    directory = place.see()
    with pytest.raises(ConfigError, match=r"has no signing\.key beside it"):
        keys.signing_key(directory, None)


def test_an_origin_that_another_key_has_begun_is_not_taken_over(place: Place) -> None:
    other = VerifierKey.of("db1", Ed25519PrivateKey.generate())
    place.bucket.create("db1/public-key", f"{other.to_text()}\n".encode())
    with pytest.raises(StoreError, match="something else is there already"):
        commit(place.see())
    with pytest.raises(ConfigError, match="no store here"):
        StoreReader.open(place.see())


def test_a_question_reads_no_byte_twice_and_no_byte_unchecked(place: Place) -> None:
    commit(place.see(), commits=2)
    directory = place.see("reader")
    assert queries(directory) == expected(2)
    with faults(lambda *_: None) as asked:
        assert queries(place.see("reader")) == expected(2)
    assert not any("/segments/0" in one for one in asked)
    segment = next(iter((directory / "db1" / "segments").iterdir()))
    manifest = directory / "db1" / "manifests" / f"{1:020d}.json"
    for damaged in (segment, manifest):
        data = bytearray(damaged.read_bytes())
        data[len(data) // 2] ^= 1
        damaged.write_bytes(data)
    with faults(lambda *_: None) as asked:
        assert queries(place.see("reader")) == expected(2)
    assert sum(segment.name in one for one in asked) == 1
    assert sum(one.startswith("GET") and manifest.name in one for one in asked) == 1


def test_the_cache_keeps_within_its_bound(place: Place) -> None:
    commit(place.see(), commits=5)
    one = max(size for _, size in place.bucket.names("db1/segments/"))
    room = 3 * one
    with pytest.raises(StoreError, match="the cache is full"):
        queries(place.see("small", bytes_max=room))
    directory = place.see("small", bytes_max=room)  # the one before has let go
    reader = StoreReader.open(directory)
    for manifest in reader.manifests:  # one after the other there is room for
        wanted = manifest.segments[0]
        path = directory / "db1" / "segments" / wanted.file
        place.see("small", bytes_max=room)
        source.fetch(directory, [(path, wanted.sha256, wanted.bytes)])
        held = sum(f.stat().st_size for f in path.parent.iterdir())
        assert path.exists()
        assert held <= room
    names = {path.name for path in path.parent.iterdir()}
    assert {m.segments[0].file for m in reader.manifests[-2:]} <= names  # the oldest went
    assert check(place).rows == 5 * ROWS
    assert verify(place.see("v", bytes_max=room, whole=True)).rows == 5 * ROWS


def test_a_changed_object_in_the_bucket_is_never_read(place: Place) -> None:
    commit(place.see(), commits=2)
    for folder in ("segments", "objects", "manifests"):
        name, _ = next(iter(place.bucket.names(f"db1/{folder}/")))
        data = place.bucket.get(name)
        assert data is not None
        place.bucket.client.put_object(**place.key(name), Body=data[:-1] + b"?")
        with pytest.raises(VerificationError):
            check(place)
        if folder != "objects":  # which this question doesn't need
            with pytest.raises(VerificationError):
                queries(place.see())
        place.bucket.client.put_object(**place.key(name), Body=data)
        assert queries(place.see()) == expected(2)
    place.bucket.client.put_object(**place.key("db1/extra"), Body=b"x")
    with pytest.raises(VerificationError, match="no manifest names this file"):
        check(place)
    place.bucket.client.delete_object(**place.key("db1/extra"))
    for name in ("/etc/passwd", "db1//checkpoint", "../x", "db1/"):
        place.bucket.client.put_object(**place.key(name), Body=b"x")
        with pytest.raises(VerificationError, match=r"not part of the store|no manifest names"):
            check(place)
        place.bucket.client.delete_object(**place.key(name))
    place.bucket.client.put_object(**place.key("extra/x"), Body=b"x")
    with pytest.raises(VerificationError, match="not part of the store"):
        check(place)


def _cut(place: Place, checkpoint: bytes, n: int) -> None:
    """The newest manifest goes, and the head of before comes back."""
    place.bucket.client.delete_object(**place.key(f"db1/manifests/{n:020d}.json"))
    place.bucket.client.put_object(**place.key("db1/checkpoint"), Body=checkpoint)


def test_a_bucket_that_was_cut_is_noticed_by_a_machine_that_has_seen_more(place: Place) -> None:
    commit(place.see())
    before = place.bucket.get("db1/checkpoint")
    assert before is not None
    commit(place.see("seen"))
    _cut(place, before, 1)
    assert check(place).manifests == 1  # nothing else shows it: no versions, no anchor
    with pytest.raises(VerificationError, match="1 manifests, and there were 2"):
        place.see("seen")


def test_older_heads_in_a_bucket_with_versions_show_that_it_was_cut(place: Place) -> None:
    place.version()
    commit(place.see())
    before = place.bucket.get("db1/checkpoint")
    assert before is not None
    commit(place.see())
    assert any("older heads in the bucket" in note for note in check(place).notes)
    _cut(place, before, 1)
    with pytest.raises(VerificationError, match=r"was deleted|log was cut"):
        check(place)


def test_a_manifest_that_was_once_another_shows_in_a_bucket_with_versions(place: Place) -> None:
    place.version()
    commit(place.see(), commits=2)
    name = f"db1/manifests/{1:020d}.json"
    data = place.bucket.get(name)
    for body in (b"something else", data):
        place.bucket.client.put_object(**place.key(name), Body=body)
    assert queries(place.see()) == expected(2)
    with pytest.raises(VerificationError, match="was overwritten: its versions differ"):
        check(place)


def test_an_older_head_put_back_is_refused_by_verify_and_told_by_questions(place: Place) -> None:
    commit(place.see())
    before = place.bucket.get("db1/checkpoint")
    commit(place.see())
    place.bucket.client.put_object(**place.key("db1/checkpoint"), Body=before)
    with pytest.raises(VerificationError, match="isn't covered by the signed head"):
        check(place)
    directory = place.see("asks")
    assert queries(directory) == expected(1)
    seen = source.source_of(directory)
    assert isinstance(seen, remote.RemoteStore)
    assert any("beyond the signed head are left out" in note for note in seen.notes)
    assert commit(place.see("asks")) == 3  # the writer signs what its key has signed before
    assert check(place).rows == 3 * ROWS


def test_a_commit_during_verify_is_no_fault(place: Place) -> None:
    commit(place.see())
    before = place.see(whole=True)
    commit(place.see())
    notes = verify(before).notes
    assert any("1 manifest(s) came while this was read" in note for note in notes)


def test_everything_that_is_written_is_retained(locked: Place) -> None:
    locked.require_conditions()
    commit(locked.see())
    commit(locked.see())
    client = locked.bucket.client
    kept = [one for one in locked.bucket.versions() if not one.key.startswith(".probe/")]
    assert len({one.key for one in kept}) < len(kept)  # the head was replaced
    for one in kept:
        told = client.head_object(**locked.key(one.key), VersionId=one.version)
        assert told["ObjectLockMode"] == "GOVERNANCE", one.key
    assert check(locked).rows == 2 * ROWS


def test_retention_without_object_lock_is_refused(endpoint: str, tmp_path: Path) -> None:
    place = Place(endpoint, "no-lock-here", tmp_path)
    wanting = Bucket(place.url, Place(endpoint, "lock-here", tmp_path, retain_days=1).settings)
    with pytest.raises(ConfigError, match="doesn't say that Object Lock is on"):
        probe(wanting)


def copy(place: Place, store: Path) -> None:
    """What `mirror` does."""
    job = Mirror(place.bucket, lambda _: None)
    job.prepare()
    job.copy(StoreReader.open(store), "db1")


def test_a_mirror_is_a_store_at_every_moment_and_goes_on_wherever_it_was_stopped(
    place: Place, tmp_path: Path
) -> None:
    store = tmp_path / "local"
    commit(store)
    copy(place, store)
    commit(store, commits=2)
    whole = queries(store)
    done, first = False, 0
    while not done:

        def fault(number: int, _: object, first: int = first) -> str | None:
            return None if number < first else "swallowed" if number == first else "lost"

        with faults(fault), contextlib.suppress(StoreError, VerificationError):
            copy(place, store)
            done = True
        reader = StoreReader.open(place.see())
        assert len(reader.segments("audit")) == len(reader.manifests) in (1, 3)
        first += STEP
    assert queries(place.see()) == whole
    report = check(place)
    assert report.rows == verify(store).rows
    with faults(lambda *_: None) as asked:
        copy(place, store)
    assert not any("/segments/0" in one or "/manifests/0" in one for one in asked)


def test_a_mirror_takes_no_other_log_and_no_shorter_one(place: Place, tmp_path: Path) -> None:
    store = tmp_path / "local"
    commit(store, commits=2)
    shutil.copytree(store, tmp_path / "earlier")
    commit(store)
    copy(place, store)
    with pytest.raises(VerificationError, match="the mirror has 3 manifests, this store only 2"):
        copy(place, tmp_path / "earlier")
    commit(tmp_path / "other", commits=4)
    with pytest.raises(VerificationError, match="the mirror holds another log"):
        copy(place, tmp_path / "other")
    with pytest.raises(StoreError, match="is a mirror"):
        commit(place.see())
    assert check(place).manifests == 3


def test_a_mirror_leaves_the_index_out_and_a_bucket_has_none(place: Place, tmp_path: Path) -> None:
    store = tmp_path / "local"
    commit(store, commits=2)
    compaction.compact(store, "db1", KEY, VerifiedFiles(None))
    place.version()
    copy(place, store)
    commit(store)
    copy(place, store)  # whose first manifests are read from the index
    assert StoreReader.open(store)._indexed
    assert not [name for name, _ in place.bucket.names("") if "index" in name]
    assert check(place).rows == 3 * ROWS
    for times in range(2):  # `aws s3 sync` brings it along, and may overwrite it
        for path in (store / "db1" / "index").iterdir():
            data = path.read_bytes() + b" " * times
            place.bucket.client.put_object(Body=data, **place.key(f"db1/index/{path.name}"))
    there = place.see()
    reader = StoreReader.open(there)
    assert (reader._indexed, reader.notes) == ({}, [])
    assert queries(there) == expected(3)
    assert any("of an index, which isn't used" in note for note in check(place).notes)
    with pytest.raises(ConfigError, match="a store in a bucket has no index") as caught:
        compaction.compact(there, "db1", KEY)
    assert caught.value.place == place.url


@simulated
def test_a_mirror_in_a_bucket_that_ignores_conditions_says_so_and_overwrites_nothing(
    place: Place, tmp_path: Path
) -> None:
    store = tmp_path / "local"
    commit(store)
    told: list[str] = []
    with faults(ignores_conditions):
        for _ in range(2):
            job = Mirror(place.bucket, told.append)
            job.prepare()
            job.copy(StoreReader.open(store), "db1")
            commit(store)
        assert len(told) == 2
        commit(tmp_path / "other", commits=3)
        with pytest.raises(VerificationError, match="the mirror holds another log"):
            copy(place, tmp_path / "other")
    assert check(place).manifests == 2


def test_anchors_in_a_bucket_are_read_even_if_they_were_hidden(
    locked: Place, tmp_path: Path
) -> None:
    store = tmp_path / "local"
    commit(store, commits=2)
    reader = StoreReader.open(store)
    head, note = reader.chain("db1").head, reader.signed_head("db1").encode()
    assert anchorbucket.publish(locked.bucket, head, note)
    assert not anchorbucket.publish(locked.bucket, head, note)
    locked.bucket.client.delete_object(**locked.key(anchors.name(head)))
    assert locked.bucket.get(anchors.name(head)) is None
    other = tmp_path / "other"
    commit(other, commits=3)
    found = Options(anchors=tuple(anchorbucket.found(locked.bucket)))
    assert verify(store, options=found).manifests == 2
    with pytest.raises(VerificationError, match="log was rewritten"):
        verify(other, options=found)
