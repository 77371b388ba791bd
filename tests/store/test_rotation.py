"""A log under one signing key after the other: who knows any of them can follow, a thief can't.

Enters: small stores whose key changes. Leaves: nothing. Does not: change keys by command (test_keygen).
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import ConfigError, ScalpleError, StoreError, VerificationError
from scalple.store import chain, durable, proof
from scalple.store.chain import read_chain
from scalple.store.keyhistory import SIGNING_KEY, Rotation
from scalple.store.keys import keys_by_origin
from scalple.store.layout import origin_layout
from scalple.store.manifest import Manifest, sha256_hex
from scalple.store.merkle import leaf_hash
from scalple.store.note import VerifierKey
from scalple.store.reader import StoreReader
from scalple.store.rowid import RowId
from scalple.store.verify import Options, verify
from scalple.store.writer import StoreWriter
from tests.store.sample import NOON, position, statements
from tests.store.test_crash import FAULTS, STRIDE, Crash, FailingOs

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(1, 5)]
STRANGE = Ed25519PrivateKey.from_private_bytes(b"x" * 32)


def opened(store: Path, private: Ed25519PrivateKey, *, create: bool = False) -> StoreWriter:
    return StoreWriter.open(store, "db1", private, create=create, clock=lambda: NOON)


def commit(writer: StoreWriter) -> None:
    n = writer.next_seq["audit"]
    writer.commit({"audit": statements(n, 1)}, [position(10 * n, 10 * n + 10)], {})


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A commit under each of three keys: manifests 1 and 3 change them. Checkpoints are kept."""
    store = tmp_path_factory.mktemp("rotated") / "store"
    for n in range(3):
        with opened(store, KEYS[n], create=n == 0) as writer:
            commit(writer)
            _keep(store, writer.head_size)
            if n < 2:
                writer.rotate(KEYS[n + 1])
                _keep(store, writer.head_size)
    return store


def _keep(store: Path, size: int) -> None:
    shutil.copy(store / "db1" / "checkpoint", store.with_name(f"checkpoint.{size}"))


@pytest.fixture
def store(rotated: Path, tmp_path: Path) -> Path:
    shutil.copytree(rotated, tmp_path / "store")
    for path in rotated.parent.glob("checkpoint.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "store"


def public(store: Path, *privates: Ed25519PrivateKey) -> Path:
    """A file of verifier keys, outside."""
    path = store.with_name("outside.pub")
    lines = [VerifierKey.of("db1", one).to_text() + "\n" for one in privates]
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize("known", [(0,), (1,), (2,), (0, 2), (0, 1, 2), (2, 1, 0)])
def test_who_knows_any_of_the_keys_can_follow(store: Path, known: tuple[int, ...]) -> None:
    report = verify(store, public_key=public(store, *(KEYS[n] for n in known)))
    assert report.notes == []
    assert (report.manifests, report.rows) == (5, 3)
    assert report.heads[0].key == VerifierKey.of("db1", KEYS[2]).to_text()


def test_a_key_that_is_none_of_the_logs_is_refused(store: Path) -> None:
    for keys in ((STRANGE,), (KEYS[0], STRANGE), (KEYS[0], KEYS[1], KEYS[2], KEYS[3])):
        with pytest.raises(VerificationError, match="public key differs"):
            verify(store, public_key=public(store, *keys))


def test_old_checkpoints_stay_valid(store: Path) -> None:
    for size in range(1, 6):
        kept = store.with_name(f"checkpoint.{size}")
        notes = verify(store, checkpoint=kept).notes
        assert f"db1: continues the checkpoint of size {size}" in notes
        assert verify(store, options=Options(since=(str(kept),))).heads[0].since == size


def test_a_checkpoint_under_a_key_of_another_time_is_refused(store: Path) -> None:
    log = StoreReader.open(store).chain("db1")
    kept = store.with_name("kept")
    for size, right in ((1, 0), (2, 1), (3, 1), (4, 2), (5, 2)):
        head = type(log.head)("db1", size, log.root_at(size))
        for n in range(3):
            kept.write_bytes(head.sign(KEYS[n]))
            if n == right:
                verify(store, checkpoint=kept)
                continue
            with pytest.raises(VerificationError, match="another key of the log"):
                verify(store, checkpoint=kept)


def test_questions_and_proofs_follow_too(store: Path) -> None:
    reader = StoreReader.open(store)
    ids = [RowId("db1", "audit", n) for n in range(3)]
    data = proof.to_bytes(proof.make(reader, ids))
    for keys in ((KEYS[2],), (KEYS[0], KEYS[1], KEYS[2])):
        assert len(proof.check(data, keys_by_origin(public(store, *keys)))) == 3
    with pytest.raises(VerificationError, match="isn't signed by key"):
        proof.check(data, keys_by_origin(public(store, KEYS[0])))


def test_only_the_key_in_force_writes(store: Path) -> None:
    for n, match in (
        (0, "one that it had before"),
        (1, "one that it had before"),
        (3, "isn't the"),
    ):
        with pytest.raises(ConfigError, match=match):
            opened(store, KEYS[n])
    with opened(store, KEYS[2]) as writer:
        for n in range(3):
            with pytest.raises(StoreError, match="already"):
                writer.rotate(KEYS[n])
        with pytest.raises(StoreError, match="can't be called"):
            writer.commit({}, [], {SIGNING_KEY: b"x"})
        commit(writer)
    assert verify(store).rows == 4


def test_the_stores_own_list_of_keys_must_be_the_logs(store: Path) -> None:
    path = store / "db1" / "public-key"
    lines = path.read_text().splitlines(keepends=True)
    more = VerifierKey.of("db1", KEYS[3]).to_text() + "\n"
    for wrong in (
        lines[:2],
        lines[1:],
        lines[::-1],
        [*lines, more],
        [lines[2]],
        [*lines, lines[0]],
    ):
        path.write_text("".join(wrong))
        with pytest.raises(VerificationError):
            verify(store)
    path.write_text("".join(lines))
    verify(store)


def thiefs_head(store: Path, private: Ed25519PrivateKey, manifest: Manifest) -> None:
    """One more manifest, and a head over it."""
    layout = origin_layout(store, "db1")
    chain = read_chain(layout, manifest.n)
    layout.manifest(manifest.n).write_bytes(manifest.to_bytes())
    tree = chain.tree.append(leaf_hash(manifest.to_bytes()))
    layout.checkpoint.write_bytes(
        type(chain.head)("db1", manifest.n + 1, tree.root()).sign(private)
    )


def next_manifest(store: Path, objects: dict[str, bytes] | None = None) -> Manifest:
    layout = origin_layout(store, "db1")
    log = StoreReader.open(store).chain("db1")
    for data in (objects or {}).values():
        layout.object(sha256_hex(data)).write_bytes(data)
    return replace(
        log.manifests[-1],
        n=log.tree.size,
        previous=log.last_sha256,
        segments=(),
        positions=(),
        objects={name: sha256_hex(data) for name, data in (objects or {}).items()},
    )


@pytest.mark.parametrize(("signs", "heads"), [(0, 0), (1, 1), (0, 2), (2, 0), (2, 1), (3, 3)])
def test_a_thief_of_a_replaced_key_adds_nothing(store: Path, signs: int, heads: int) -> None:
    lie = next_manifest(store).signed(KEYS[signs])
    thiefs_head(store, KEYS[heads], lie)
    with pytest.raises(ScalpleError):
        verify(store)


@pytest.mark.parametrize(
    "statement",
    [
        Rotation(0, VerifierKey.of("db1", KEYS[0]), VerifierKey.of("db1", KEYS[3])).to_bytes(),
        Rotation(0, VerifierKey.of("db2", KEYS[2]), VerifierKey.of("db2", KEYS[3])).to_bytes(),
        Rotation(0, VerifierKey.of("db1", KEYS[2]), VerifierKey.of("db2", KEYS[3])).to_bytes(),
        Rotation(0, VerifierKey.of("db1", KEYS[2]), VerifierKey.of("db1", KEYS[2])).to_bytes(),
        Rotation(0, VerifierKey.of("db1", KEYS[2]), VerifierKey.of("db1", KEYS[3])).to_bytes()[:-1],
        b"",
        b"\xff\n\n",
    ],
)
def test_a_change_of_keys_that_makes_no_sense_is_refused(store: Path, statement: bytes) -> None:
    lie = next_manifest(store, {SIGNING_KEY: statement}).signed(KEYS[2])
    for head in (KEYS[2], KEYS[3]):
        thiefs_head(store, head, lie)
        with pytest.raises(VerificationError):
            verify(store)


def test_a_change_of_keys_that_the_old_key_did_not_sign_is_refused(store: Path) -> None:
    strange = VerifierKey.of("db1", STRANGE)
    statement = Rotation(0, VerifierKey.of("db1", KEYS[2]), strange).to_bytes()
    lie = next_manifest(store, {SIGNING_KEY: statement}).signed(STRANGE)
    thiefs_head(store, STRANGE, lie)
    path = store / "db1" / "public-key"
    path.write_text(path.read_text() + strange.to_text() + "\n")
    with pytest.raises(VerificationError, match="signature isn't by key"):
        verify(store, public_key=public(store, KEYS[0]))


def test_another_continuation_from_before_the_change_needs_a_newer_key_to_be_seen(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    with opened(store, KEYS[0], create=True) as writer:
        commit(writer)
        shutil.copytree(store, tmp_path / "stolen" / "store")
        writer.rotate(KEYS[1])
        commit(writer)
    forged = tmp_path / "stolen" / "store"
    with opened(forged, KEYS[0]) as writer:
        commit(writer)
    verify(forged, public_key=public(forged, KEYS[0]))
    for keys in ((KEYS[1],), (KEYS[0], KEYS[1])):
        verify(store, public_key=public(store, *keys))
        with pytest.raises(VerificationError, match="public key differs"):
            verify(forged, public_key=public(forged, *keys))
    with pytest.raises(ScalpleError):  # a continuation that names the new key can't sign with it
        with opened(forged, KEYS[0]) as writer:
            writer.rotate(KEYS[1])
        lie = next_manifest(forged).signed(KEYS[0])
        thiefs_head(forged, KEYS[0], lie)
        verify(forged)


@pytest.mark.parametrize("how", FAULTS)
def test_a_crash_at_any_step_of_a_change_leaves_one_key_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    before = tmp_path / "before" / "store"
    with opened(before, KEYS[0], create=True) as writer:
        commit(writer)
    (before.parent / "store.keys").mkdir()
    monkeypatch.setattr(chain, "SETTLE_TRIES", 1)
    step, rounds, ended = FAULTS.index(how) + 1 - STRIDE if STRIDE > 1 else 0, 0, {0: 0, 1: 0}
    while True:
        step, rounds = step + STRIDE, rounds + 1
        store = tmp_path / str(step) / "store"
        shutil.copytree(before.parent, store.parent)
        writer = opened(store, KEYS[0])
        failing = FailingOs(step, how)
        monkeypatch.setattr(durable, "os", failing)
        try:
            writer.rotate(KEYS[1])
        except (ScalpleError, Crash):
            assert failing.fired
        monkeypatch.setattr(durable, "os", os)
        writer.close()
        StoreReader.open(store)  # questions are answered at every moment
        for now in (0, 1):
            try:
                with opened(store, KEYS[now]) as writer:
                    commit(writer)
            except ConfigError:
                continue
            ended[now] += 1
            known = public(store, KEYS[0])
            report = verify(store, public_key=known, options=Options(files_only=True))
            assert report.rows == 2
            assert report.heads[0].key == VerifierKey.of("db1", KEYS[now]).to_text()
        if not failing.fired:
            break
    assert ended[0]
    assert ended[1]
    assert sum(ended.values()) == rounds
