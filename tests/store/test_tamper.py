"""Ways to change a store that need a story, one named test each; `test_attacks` has the matrix.

The only cell that stays undetected is cutting off the newest commits together with putting back
the checkpoint of that time: `test_cut_tail…` shows that an earlier checkpoint detects it.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import ConfigError, ScalpleError, VerificationError
from scalple.store.chain import read_chain
from scalple.store.layout import origin_layout
from scalple.store.manifest import Manifest, sha256_hex
from scalple.store.merkle import leaf_hash
from scalple.store.note import VerifierKey
from scalple.store.reader import StoreReader
from scalple.store.verified import VerifiedFiles
from scalple.store.verify import verify
from tests.store.sample import files, make_store, open_writer, position, signing_key, statements


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two origins, never changed."""
    store = tmp_path_factory.mktemp("pristine") / "store"
    make_store(store, 2)
    make_store(store, 2, "db2")
    return store


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    shutil.copytree(pristine, tmp_path / "store")
    shutil.copytree(pristine.with_name("store.keys"), tmp_path / "store.keys")
    return tmp_path / "store"


def refused(store: Path, message: str) -> None:
    """`verify` says so, and names a place."""
    with pytest.raises(VerificationError, match=message) as caught:
        verify(store)
    assert caught.value.place


@pytest.mark.parametrize(
    "name",
    [
        "extra.txt",
        ".hidden",
        "db1/extra",
        "db1/checkpoint.tmp",
        "db1/checkpoint.old",
        "db1/index/subjects",
        "db1/segments/extra.parquet",
        f"db1/segments/{2:020d}-audit-{'0' * 64}.parquet",
        f"db1/segments/{0:020d}-audit-{sha256_hex(b'extra')}.parquet",
        f"db1/segments/{99:020d}-audit-{sha256_hex(b'extra')}.parquet",
        f"db1/manifests/{2:020d}.json",
        f"db1/manifests/{7:020d}.json",
        "db1/manifests/3.json",
        f"db1/objects/{'0' * 64}",
        f"db1/objects/{sha256_hex(b'extra')}",
        "DB9/manifests/x",
        "lock",
    ],
)
def test_a_file_that_does_not_belong(store: Path, name: str) -> None:
    path = store / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"extra")

    refused(store, ".")


def test_an_origin_without_head_or_an_empty_directory(store: Path) -> None:
    (store / "db3").mkdir()
    refused(store, "missing")
    (store / "db3").rmdir()
    (store / "db1" / "more").mkdir()
    refused(store, "no regular file")
    (store / "db1" / "more").rmdir()
    verify(store)


def test_a_link_in_place_of_a_file(store: Path) -> None:
    segment = files(store / "db1" / "segments")[0]
    shutil.move(segment, store.with_name("moved"))
    segment.symlink_to(store.with_name("moved"))

    refused(store, "no regular file")


def test_a_committed_segment_again_under_the_next_number(store: Path) -> None:
    segment = files(store / "db1" / "segments")[0]
    shutil.copy(segment, segment.with_name(f"{2:020d}{segment.name[20:]}"))

    refused(store, "no manifest names")


def test_a_flipped_bit_in_what_a_crash_left(store: Path) -> None:
    with open_writer(store) as writer:
        writer.prepare({"audit": statements(8, 1)})
    assert any("not committed" in note for note in verify(store).notes)
    left = files(store / "db1" / "segments")[-1]
    data = left.read_bytes()
    left.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])

    refused(store, "no manifest names")


def test_duplicated_manifest(store: Path) -> None:
    layout = origin_layout(store, "db1")
    shutil.copy(layout.manifest(1), layout.manifest(2))

    refused(store, "isn't covered by the signed head.*\n.*hint: after a crash")


def test_older_checkpoint_with_later_manifests(store: Path) -> None:
    layout = origin_layout(store, "db1")
    older = layout.checkpoint.read_bytes()
    with open_writer(store) as writer:
        writer.commit({"audit": statements(8, 1)}, [position(200, 300)], {})
        once = layout.checkpoint.read_bytes()
        writer.commit({"audit": statements(9, 1)}, [position(300, 400)], {})
    layout.checkpoint.write_bytes(older)
    refused(store, "signed for 2 manifests, found 4")
    layout.checkpoint.write_bytes(once)
    refused(store, "isn't covered by the signed head")


def cut_tail(store: Path) -> Path:
    """The newest commit is gone, and the older checkpoint is back; returns the newer one."""
    layout = origin_layout(store, "db1")
    kept = store.with_name("kept-checkpoint")
    older, before = layout.checkpoint.read_bytes(), set(files(store))
    with open_writer(store) as writer:
        writer.commit({"audit": statements(8, 1)}, [position(200, 300)], {})
    kept.write_bytes(layout.checkpoint.read_bytes())
    for path in set(files(store)) - before:
        path.unlink()
    layout.checkpoint.write_bytes(older)
    return kept


def test_cut_tail_is_detected_with_an_earlier_checkpoint_only(store: Path) -> None:
    kept = cut_tail(store)

    verify(store)
    with pytest.raises(VerificationError, match="log was cut"):
        verify(store, checkpoint=kept)


def test_rewritten_history_is_detected_with_an_earlier_checkpoint(store: Path) -> None:
    kept = cut_tail(store)
    with open_writer(store) as writer:
        writer.commit({"audit": statements(8, 2)}, [position(200, 300)], {})

    verify(store)
    with pytest.raises(VerificationError, match="log was rewritten"):
        verify(store, checkpoint=kept)


def test_an_earlier_checkpoint_of_this_log_is_a_beginning(store: Path) -> None:
    kept = store.with_name("kept")
    kept.write_bytes((store / "db1" / "checkpoint").read_bytes())
    with open_writer(store) as writer:
        writer.commit({}, [position(200, 300)], {})

    assert "db1: continues the checkpoint of size 2" in verify(store, checkpoint=kept).notes
    kept.write_bytes(kept.read_bytes().replace(b"db1", b"db7"))
    with pytest.raises(VerificationError, match="another origin"):
        verify(store, checkpoint=kept)
    with pytest.raises(ConfigError):
        verify(store, checkpoint=store.with_name("nowhere"))


def test_a_whole_store_signed_anew_is_detected_with_the_outside_key(store: Path) -> None:
    outside = store.with_name("outside.pub")
    keys = [VerifierKey.of(origin, signing_key(store)) for origin in ("db1", "db2")]
    outside.write_text("".join(key.to_text() + "\n" for key in keys))
    assert verify(store, public_key=outside).notes == []
    shutil.rmtree(store)
    shutil.rmtree(store.with_name("store.keys"))
    make_store(store, 2)

    assert verify(store).notes == ["db1: self-signed: no outside key"]
    with pytest.raises(VerificationError, match="public key differs"):
        verify(store, public_key=outside)


def test_an_outside_key_of_no_origin_here(store: Path) -> None:
    outside = store.with_name("outside.pub")
    outside.write_text(VerifierKey.of("db9", signing_key(store)).to_text() + "\n")

    with pytest.raises(VerificationError, match="no origin here"):
        verify(store, public_key=outside)


Edit = Callable[[Manifest], Manifest]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: replace(m, origin="db2"), "origin breaks"),
        (lambda m: replace(m, n=7), "number breaks"),
        (lambda m: replace(m, previous="0" * 64), "previous breaks"),
        (lambda m: replace(m, segments=m.segments[1:]), "a digest of nothing"),
        (lambda m: replace(m, segments=m.segments[:-1]), "no manifest names"),
        (lambda m: replace(m, segments=m.segments * 2), "seq of .* breaks"),
        (lambda m: replace(m, positions=(position(100, 90),)), "doesn't advance"),
        (lambda m: replace(m, positions=(position(90, 200),)), "begin in .* breaks"),
        (lambda m: edit_segment(m, rows=5), "expected 5 rows"),
        (lambda m: edit_segment(m, rows_root="0" * 64), "row root"),
        (lambda m: edit_segment(m, bytes=5), "bytes differ"),
        (lambda m: edit_segment(m, kind="evidence"), "segment's file breaks"),
        (lambda m: edit_segment(m, file="../../x"), "segment's file breaks"),
        (lambda m: replace(m, objects={"rules": "0" * 64}), "can't read"),
        (lambda m: edit_objects(m, "audit-rows", "rules"), "no digest"),
        (lambda m: edit_objects(m, "audit-facts", "audit-subjects"), "columns are"),
        (lambda m: edit_objects(m, "audit-subjects", "audit-facts"), "isn't what the rows say"),
        (lambda m: edit_objects(m, "audit-rows", "audit-facts"), "since when"),
        (lambda m: edit_objects(m, "signing-key", "rules"), "not an Ed25519 verifier key"),
        (lambda m: replace(m, committed_at="yesterday"), "isn't RFC 3339"),
        (lambda m: replace(m, committed_at="2026-03-14T12:00"), "isn't RFC 3339"),
        (lambda m: m, ""),
    ],
)
def test_a_writer_with_the_key_that_lies(store: Path, edit: Edit, message: str) -> None:
    """Even what is properly signed must fit together."""
    layout, private = origin_layout(store, "db1"), signing_key(store)
    chain = read_chain(layout, 1)
    manifest = Manifest.from_bytes(layout.manifest(1).read_bytes())
    lie = edit(manifest).signed(private)
    layout.manifest(1).write_bytes(lie.to_bytes())
    tree = chain.tree.append(leaf(lie))
    head = type(chain.head)("db1", 2, tree.root())
    layout.checkpoint.write_bytes(head.sign(private))

    if lie == manifest:
        verify(store)
    else:
        refused(store, message)


def edit_objects(manifest: Manifest, name: str, other: str) -> Manifest:
    """The manifest with one object in place of another."""
    return replace(manifest, objects=manifest.objects | {name: manifest.objects[other]})


def leaf(manifest: Manifest) -> bytes:
    """The manifest's leaf hash."""
    return leaf_hash(manifest.to_bytes())


def edit_segment(manifest: Manifest, **changes: Any) -> Manifest:
    """The manifest with its first segment changed."""
    first = replace(manifest.segments[0], **changes)
    return replace(manifest, segments=(first, *manifest.segments[1:]))


def test_a_manifest_signed_by_another_key(store: Path) -> None:
    layout = origin_layout(store, "db1")
    manifest = Manifest.from_bytes(layout.manifest(1).read_bytes())
    other = manifest.signed(Ed25519PrivateKey.generate())
    layout.manifest(1).write_bytes(other.to_bytes())
    tree = read_chain(layout, 1).tree.append(leaf(other))
    head = type(read_chain(layout, 1).head)("db1", 2, tree.root())
    layout.checkpoint.write_bytes(head.sign(signing_key(store)))

    refused(store, "signature isn't by key")


def test_questions_read_checked_bytes_only(store: Path) -> None:
    for path in files(store / "db1" / "segments"):
        data = path.read_bytes()
        path.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
        kind = path.name.split("-")[1]
        reader = StoreReader.open(store, verified=VerifiedFiles(None))
        with pytest.raises(VerificationError, match="SHA-256 differs"):
            reader.segments(kind)
        path.write_bytes(data)
    for path in files(store / "db1" / "manifests"):
        path.write_bytes(path.read_bytes().replace(b'"v":1', b'"v":2'))
        with pytest.raises(ScalpleError):
            StoreReader.open(store, verified=VerifiedFiles(None))


def test_verify_while_a_writer_is_at_work(store: Path) -> None:
    with open_writer(store) as writer:
        ahead = writer.prepare({"audit": statements(8, 1)})
        assert verify(store).rows == 32
        writer.commit(ahead, [position(200, 300)], {})
        assert verify(store).rows == 33
