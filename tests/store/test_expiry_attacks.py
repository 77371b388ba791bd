"""An expiry that was interrupted is finished; one that wasn't allowed, or was made up, is found."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scalple.ingest.errors import ConfigError, ScalpleError, StoreError, VerificationError
from scalple.store import compaction, durable, expire, expiring, holds
from scalple.store.expiry import EXPIRED, Expired, Expiry, SaidLimit
from scalple.store.layout import origin_layout
from scalple.store.reader import StoreReader
from scalple.store.retained import read_expired
from scalple.store.retentionage import Age, Limit, Policy, combined
from scalple.store.verified import VerifiedFiles
from scalple.store.verify import examine, verify
from scalple.store.views import connect
from scalple.store.writer import StoreWriter
from tests.store.sample import files, other_kinds, signing_key, table
from tests.store.test_crash import FAULTS, STRIDE, Crash, FailingOs
from tests.store.test_expiry import BEGIN

NOW = BEGIN + timedelta(days=100)
POLICY = combined(("garante-administrators",), None, Age(months=7))
FIVE = Policy((), None, Limit(Age(days=60), "keep_at_most"))


def commit(writer: StoreWriter, n: int, when: datetime) -> None:
    """Two statements, and a row of the other kinds."""
    rows: list[dict[str, Any]] = [{"log_time": when, "subjects": []}] * 2
    tables = {"audit": table("audit", 2 * n, rows, writer.head.origin)}
    for kind, one in other_kinds(n, writer.head.origin).items():
        if kind != "evidence":
            tables[kind] = one
    tables["gaps"] = table("gaps", n, [{"log_time": when}], writer.head.origin)
    tables["denied"] = table("denied", n, [{"log_time": when}], writer.head.origin)
    writer.commit(tables, [], {})


def make(store: Path, origin: str = "db1") -> Path:
    """A commit that is too old at NOW, and one that isn't; with an index."""
    for n, when in enumerate((BEGIN, NOW)):
        with StoreWriter.open(
            store, origin, signing_key(store), create=True, clock=lambda: NOW
        ) as writer:
            commit(writer, n, when)
    compaction.compact(store, origin, signing_key(store), VerifiedFiles(None))
    return store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make(tmp_path / "store")


def expired(store: Path, policy: Policy = FIVE, clock: Callable[[], datetime] | None = None) -> Any:
    return expire.expire(
        store,
        "db1",
        signing_key(store),
        policy,
        clock=clock or (lambda: NOW),
        verified=VerifiedFiles(None),
    )


def by_hand(store: Path, **other: Any) -> None:
    """Whoever holds the key commits an expiry of his own making, and removes the files."""
    layout, before = origin_layout(store, "db1"), Age(days=60).before(NOW)
    chain = StoreReader.open(store).chain("db1")
    plan = expiring.plan(layout, chain, before, (), VerifiedFiles(None))
    said = Expiry(
        origin="db1",
        previous=None,
        decided_at=NOW.isoformat(),
        before=before.isoformat(),
        profiles=[],
        keep_at_least=None,
        keep_at_most=SaidLimit(age="60 days", source="keep_at_most"),
        parts=plan.parts(()),
    )
    said = replace(said, **other)
    state(store, {EXPIRED: said.to_bytes()})
    removed(store)


def state(store: Path, objects: dict[str, bytes]) -> None:
    with StoreWriter.open(
        store, "db1", signing_key(store), create=False, clock=lambda: NOW
    ) as writer:
        writer.commit({}, [], objects)


def removed(store: Path) -> None:
    layout = origin_layout(store, "db1")
    shutil.rmtree(layout.index)
    for path in layout.segments.glob(f"{0:020d}-*"):
        path.unlink()


def seqs(store: Path) -> list[int]:
    reader = StoreReader.open(store, verified=VerifiedFiles(None))
    return [seq for ref in reader.segments("audit") for seq in ref.table()["seq"].to_pylist()]


@pytest.mark.parametrize("how", FAULTS)
def test_an_expiry_that_stops_at_any_step_is_finished_by_the_next(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    stride = 3 * STRIDE if STRIDE > 1 else 1  # of the suite every third step meets a fault
    steps = 3 * FAULTS.index(how) + 1 - stride if stride > 1 else 0
    while True:
        steps += stride
        copy = tmp_path / str(steps) / "store"
        shutil.copytree(store, copy)
        shutil.copytree(store.with_name("store.keys"), copy.with_name("store.keys"))
        failing = FailingOs(steps, how)
        monkeypatch.setattr(durable, "os", failing)
        try:
            expired(copy)
        except (ScalpleError, Crash):
            assert failing.fired
        monkeypatch.setattr(durable, "os", os)
        if not failing.fired:
            break

        StoreWriter.open(copy, "db1", signing_key(copy), create=False).close()
        report = verify(copy)
        is_stated = report.expired_rows > 0
        assert report.rows == (5 if is_stated else 10)
        assert seqs(copy) == ([2, 3] if is_stated else [0, 1, 2, 3])
        expired(copy)
        report = verify(copy)
        assert (report.rows, report.expired_rows, seqs(copy)) == (5, 5, [2, 3])
        assert not [note for note in report.notes if "still" in note]
        shutil.rmtree(copy.parent)
    assert steps > 40


def test_a_file_deleted_without_an_expiry_is_missing(store: Path) -> None:
    removed(store)
    faults = examine(store).faults
    assert len(faults) == 4
    assert all("can't read" in one.what for one in faults)
    with pytest.raises(VerificationError):
        seqs(store)


def test_an_expiry_without_the_key_is_no_expiry(store: Path, tmp_path: Path) -> None:
    """Its manifest isn't signed, or not chained, or not covered by the head."""
    forged = make(tmp_path / "forger" / "store")  # another key
    expired(forged)
    layout, theirs = origin_layout(store, "db1"), origin_layout(forged, "db1")
    for path in files(theirs.objects):
        shutil.copy(path, layout.objects)
    shutil.copy(theirs.manifest(2), layout.manifest(2))
    removed(store)
    assert examine(store).faults
    shutil.copy(theirs.checkpoint, layout.checkpoint)
    assert examine(store).faults
    with pytest.raises(VerificationError):
        seqs(store)
    with pytest.raises(VerificationError):
        StoreWriter.open(store, "db1", signing_key(store), create=False)


def test_an_expiry_of_another_log_says_nothing_of_this_one(store: Path) -> None:
    make(store, "db2")
    expire.expire(
        store, "db2", signing_key(store), FIVE, clock=lambda: NOW, verified=VerifiedFiles(None)
    )
    theirs = origin_layout(store, "db2")
    chain = StoreReader.open(store, "db2").chain("db2")
    said = (theirs.objects / chain.manifests[2].objects[EXPIRED]).read_bytes()
    state(store, {EXPIRED: said})
    removed(store)
    (fault,) = examine(store, "db1").faults
    assert "isn't about this log" in fault.what
    with pytest.raises(VerificationError, match="isn't about this log"):
        seqs(store)


def test_rows_that_are_held_dont_expire(store: Path) -> None:
    hold = holds.Hold(
        id="case-17",
        reason="court",
        ticket=None,
        since=None,
        until=(BEGIN + timedelta(days=1)).isoformat(),
        placed_at=NOW.isoformat(),
        placed_by="ann (1000) on host",
    )
    state(store, {holds.HOLDS: holds.to_bytes((hold,))})
    assert expired(store).manifest is None
    assert seqs(store) == [0, 1, 2, 3]
    by_hand(store)
    faults = [one.what for one in examine(store).faults]
    assert any("the hold case-17 covered" in one for one in faults), faults


def test_a_hold_that_is_taken_out_of_the_list_is_missed(store: Path) -> None:
    hold = holds.Hold(
        id="case-17",
        reason="court",
        ticket=None,
        since=None,
        until=None,
        placed_at=NOW.isoformat(),
        placed_by="ann (1000) on host",
    )
    state(store, {holds.HOLDS: holds.to_bytes((hold,))})
    changed = replace(hold, since=NOW.isoformat())
    for other in ((), (changed,)):
        copy = store.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(store, copy)
        shutil.copytree(
            store.with_name("store.keys"), copy.with_name("copy.keys"), dirs_exist_ok=True
        )
        state(copy, {holds.HOLDS: holds.to_bytes(other)})
        (fault,) = examine(copy).faults
        assert "holds of before were changed" in fault.what


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"before": NOW.isoformat()}, "before they were as old as keep_at_most says"),
        (
            {"keep_at_least": {"age": "6 months", "source": "Garante"}},
            "before they were as old as Garante says",
        ),
        ({"decided_at": (NOW + timedelta(days=900)).isoformat()}, "after it was committed"),
        ({"previous": 1}, "no expiry where a later one says"),
        ({"parts": "younger"}, "weren't old enough"),
        ({"parts": "more"}, "counts other rows"),
        ({"parts": "twice"}, "expired twice"),
        ({"parts": "timeless"}, "how old rows were"),
        ({"parts": "to come"}, "isn't about this log"),
    ],
)
def test_an_expiry_by_hand_that_breaks_its_own_rule_is_found(
    store: Path, change: dict[str, Any], what: str
) -> None:
    trial = expire.try_out(store, "db1", FIVE, NOW, VerifiedFiles(None))
    assert trial.plan is not None
    parts = trial.plan.parts(())
    (audit,) = [one for one in parts if one.kind == "audit"]
    other: dict[str, dict[str, Any]] = {
        "younger": {"newest": NOW.isoformat()},
        "more": {"rows": 3},
        "timeless": {"oldest": None, "newest": None},
        "to come": {"end": 9},
    }
    if wanted := change.get("parts"):
        changed = replace(audit, **other.get(wanted, {}))
        rest = parts if wanted == "twice" else [one for one in parts if one is not audit]
        change = {"parts": [*rest, changed]}
    if "keep_at_least" in change:
        change = {"keep_at_least": SaidLimit(**change["keep_at_least"])}
    by_hand(store, **change)
    faults = [one.what for one in examine(store).faults]
    assert any(what in one for one in faults), faults


def test_an_expiry_that_a_later_one_leaves_out_is_missed(store: Path) -> None:
    expired(store)
    chain = StoreReader.open(store).chain("db1")
    data = (origin_layout(store, "db1").objects / chain.manifests[2].objects[EXPIRED]).read_bytes()
    later = Expiry.from_bytes(data)
    (audit,) = [one for one in later.parts if one.kind == "audit"]
    moved = replace(audit, first=1, end=2, first_seq=2)
    state(store, {EXPIRED: replace(later, parts=[moved]).to_bytes()})
    assert any("an expiry of before is left out" in one.what for one in examine(store).faults)


def test_the_clock_decides_but_not_alone(store: Path) -> None:
    """Set back, it counts nothing; set far forward, somebody has to say the date."""
    with pytest.raises(ConfigError, match="set the clock"):
        expired(store, Policy((), None, Limit(Age(days=1), "x")), lambda: NOW - timedelta(days=50))
    with pytest.raises(ConfigError, match="--today"):
        expired(store, POLICY, lambda: NOW + timedelta(days=3650))
    assert verify(store).expired_rows == 0
    assert seqs(store) == [0, 1, 2, 3]
    done = expire.expire(
        store,
        "db1",
        signing_key(store),
        POLICY,
        today=(NOW + timedelta(days=300)).date(),
        clock=lambda: NOW + timedelta(days=300),
        verified=VerifiedFiles(None),
    )
    assert done.manifest == 2
    assert verify(store).rows == 0


def test_a_row_that_was_made_to_look_old_isnt_believed(store: Path) -> None:
    layout = origin_layout(store, "db1")
    (young,) = layout.segments.glob(f"{1:020d}-audit-*")
    (old,) = layout.segments.glob(f"{0:020d}-audit-*")
    shutil.copy(old, young)
    with pytest.raises(VerificationError, match="SHA-256 differs"):
        expired(store)
    assert len(files(layout.manifests)) == 2


def test_an_index_of_before_that_is_put_back_shows_nothing(store: Path, tmp_path: Path) -> None:
    index = origin_layout(store, "db1").index
    shutil.copytree(index, tmp_path / "kept")
    expired(store)
    shutil.rmtree(index)
    shutil.copytree(tmp_path / "kept", index)
    assert seqs(store) == [2, 3]
    report = verify(store)
    assert any("still holds them" in note for note in report.notes)
    assert expired(store).removed > 0
    assert not [path for path in index.iterdir() if path.name != "resume"]


def test_files_that_are_put_back_are_told_of_and_removed_and_others_arent_ours(
    store: Path, tmp_path: Path
) -> None:
    layout = origin_layout(store, "db1")
    shutil.copytree(layout.segments, tmp_path / "kept")
    expired(store)
    back = next(iter((tmp_path / "kept").glob(f"{0:020d}-audit-*")))
    shutil.copy(back, layout.segments)
    assert any("still there" in note for note in verify(store).notes)
    assert seqs(store) == [2, 3]
    (layout.segments / back.name).write_bytes(b"something else")
    assert examine(store).faults
    assert expired(store).removed == 1
    verify(store)


def test_while_others_write_nothing_expires(store: Path) -> None:
    layout = origin_layout(store, "db1")
    with compaction.locked(layout), pytest.raises(StoreError, match="made already"):
        expired(store)
    with (
        StoreWriter.open(store, "db1", signing_key(store), create=False),
        pytest.raises(StoreError, match="another writer"),
    ):
        expired(store)
    assert read_expired(layout, StoreReader.open(store).chain("db1").manifests) == Expired()


def test_proofs_and_questions_as_of_before_an_expiry_dont_fail(store: Path) -> None:
    expired(store)
    for when in (BEGIN, NOW, None):
        con = connect(store, as_of=when)
        found = con.execute("SELECT count(*) FROM audit").fetchall()
        assert found == [(0 if when == BEGIN else 2,)]
