"""What a checkpoint kept elsewhere shows of a store that its writer has changed."""

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import InputError, VerificationError
from scalple.store import anchors
from scalple.store.chain import read_chain
from scalple.store.checkpoint import Checkpoint
from scalple.store.keys import read_public_keys
from scalple.store.layout import origin_layout
from tests.commandline import scalple
from tests.store.sample import make_store


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory that the writer can't reach."""
    (tmp_path / "anchors").mkdir()
    return tmp_path / "anchors"


def anchored(store: Path, place: Path) -> None:
    """Publish the store's heads there."""
    said = scalple("anchor", "--store", store, "--to", place)
    assert said.code == 0, said.err


def refused(store: Path, place: Path | str, message: str) -> None:
    """`verify` says so, with the exit code for it, and `anchor` publishes nothing more."""
    said = scalple("verify", "--store", store, "--anchors", place)
    assert said.code == 7, said.err
    assert message in said.err


def test_a_store_that_grows_continues_its_anchors(tmp_path: Path, place: Path) -> None:
    store = make_store(tmp_path / "store", 1)
    for _ in range(3):
        anchored(store, place)
        make_store(store, 2)
    anchored(store, place)
    anchored(store, place)  # once more changes nothing
    assert len(list(place.rglob("*-*"))) == 4
    said = scalple("verify", "--store", store, "--anchors", place)
    assert said.code == 0
    assert "db1: continues 4 anchor(s), the newest of size 7" in said.out


def test_a_cut_store_whose_own_checkpoint_was_put_back(tmp_path: Path, place: Path) -> None:
    store = make_store(tmp_path / "store", 2)
    shutil.copytree(store, tmp_path / "earlier")
    shutil.copytree(store.with_name("store.keys"), tmp_path / "earlier.keys")
    make_store(store, 1)
    anchored(store, place)
    assert scalple("verify", "--store", tmp_path / "earlier").code == 0  # nothing shows inside
    refused(
        tmp_path / "earlier",
        place,
        "log was cut: expected 3 manifests or more, as anchored, found 2",
    )
    said = scalple("anchor", "--store", tmp_path / "earlier", "--to", place)
    assert (said.code, len(list(place.rglob("*-*")))) == (7, 1)


def with_the_same_key(store: Path, other: Path, commits: int) -> Path:
    """Another log of the same name, by the holder of the key."""
    shutil.copytree(store.with_name("store.keys"), other.with_name(other.name + ".keys"))
    return make_store(other, commits)


def test_a_log_that_its_own_key_rewrote(tmp_path: Path, place: Path) -> None:
    store = make_store(tmp_path / "store", 2)
    anchored(store, place)
    refused(with_the_same_key(store, tmp_path / "other", 3), place, "log was rewritten")


def test_equivocation_against_the_head(tmp_path: Path, place: Path) -> None:
    store = make_store(tmp_path / "store", 2)
    anchored(store, place)
    refused(with_the_same_key(store, tmp_path / "other", 2), place, "equivocation: two checkpoints")


def test_equivocation_between_two_anchors_even_if_the_store_fits_one(
    tmp_path: Path, place: Path
) -> None:
    store = make_store(tmp_path / "store", 2)
    other = with_the_same_key(store, tmp_path / "other", 2)
    anchored(store, place)
    (tmp_path / "second").mkdir()
    anchored(other, tmp_path / "second")
    make_store(store, 1)
    said = scalple("verify", "--store", store, "--anchors", place, tmp_path / "second")
    assert said.code == 7
    assert "equivocation: two checkpoints of db1 at size 2, both signed by its key" in said.err
    assert str(place) in said.err or str(tmp_path / "second") in said.err


def test_a_log_signed_anew_with_another_key(tmp_path: Path, place: Path) -> None:
    anchored(make_store(tmp_path / "store", 2), place)
    refused(make_store(tmp_path / "anew", 3), place, "anchor of db1: note isn't signed by key")


def test_a_whole_origin_taken_away(tmp_path: Path, place: Path) -> None:
    store = make_store(make_store(tmp_path / "store", 1), 1, "db2")
    anchored(store, place)
    shutil.rmtree(store / "db2")
    refused(store, place, "origin 'db2' is anchored and isn't in this store")
    said = scalple("verify", "--store", store, "--origin", "db1", "--anchors", place)
    assert said.code == 0


def test_the_log_of_questions_is_anchored_too(tmp_path: Path, place: Path) -> None:
    store = make_store(tmp_path / "store", 1)
    assert scalple("coverage", "--store", store).code == 0
    anchored(store, place)
    assert [path.name for path in sorted(place.iterdir())] == ["_access", "db1"]
    shutil.rmtree(store / "_access")
    refused(store, place, "origin '_access' is anchored")


def test_a_mail_with_several_checkpoints(tmp_path: Path) -> None:
    store = make_store(make_store(tmp_path / "store", 1), 2, "db2")
    said = scalple("anchor", "--store", store)
    mail = tmp_path / "mail.txt"
    mail.write_bytes(f"Dear auditor,\n\n{said.out}Yours\n".replace("\n", "\r\n").encode())
    found = scalple("verify", "--store", store, "--anchors", mail)
    assert found.code == 0, found.err
    assert "db1: continues 1 anchor(s)" in found.out
    assert "db2: continues 1 anchor(s)" in found.out


def test_a_mangled_checkpoint_is_not_passed_over(tmp_path: Path) -> None:
    store = make_store(make_store(tmp_path / "store", 1), 2, "db2")
    mail = tmp_path / "mail.txt"
    mail.write_text(scalple("anchor", "--store", store).out.replace("db2\n2\n", "db2\n2 \n", 1))
    said = scalple("verify", "--store", store, "--anchors", mail)
    assert said.code == 3
    assert "belongs to no checkpoint" in said.err
    mail.write_text("nothing\n")
    assert "holds no checkpoint" in scalple("verify", "--store", store, "--anchors", mail).err


def test_places_that_are_not_there(tmp_path: Path, place: Path) -> None:
    store = make_store(tmp_path / "store", 1)
    said = scalple("anchor", "--store", store, "--to", tmp_path / "unmounted")
    assert (said.code, (tmp_path / "unmounted").exists()) == (4, False)
    assert scalple("verify", "--store", store, "--anchors", tmp_path / "unmounted").code == 3
    assert scalple("verify", "--store", store, "--anchors", place).code == 3


def test_another_text_under_the_name_of_an_anchor(tmp_path: Path, place: Path) -> None:
    private = Ed25519PrivateKey.generate()
    head = Checkpoint("db1", 1, bytes(32))
    assert anchors.publish(place, head, head.sign(private))
    assert not anchors.publish(place, head, head.sign(private))
    with pytest.raises(VerificationError, match="another checkpoint"):
        anchors.publish(place, head, head.sign(Ed25519PrivateKey.generate()))


def test_one_flipped_bit_never_passes(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 1)
    layout = origin_layout(store, "db1")
    chains = {"db1": read_chain(layout, 1, read_public_keys(layout.public_key)[0])}
    note = layout.checkpoint.read_bytes()
    notes, faults = anchors.compare(anchors.in_text(note, "whole"), chains, whole=True)
    assert (len(notes), faults) == (1, {"db1": []})
    for at in range(len(note) * 8):
        flipped = bytearray(note)
        flipped[at // 8] ^= 1 << at % 8
        try:
            found = anchors.in_text(bytes(flipped), "flipped")
        except InputError:
            continue
        assert any(anchors.compare(found, chains, whole=True)[1].values())
