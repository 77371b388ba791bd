"""Key files: made once beside the store, or configured and then never made."""

from pathlib import Path

import pytest

from scalple.ingest.errors import ConfigError
from scalple.store import keys
from scalple.store.note import VerifierKey
from tests.store.sample import make_store, open_writer


def test_first_use_makes_private_files_and_says_so(tmp_path: Path) -> None:
    store = tmp_path / "store"
    signing, subject = keys.signing_key(store, None), keys.subject_key(store, None)

    assert signing.path == tmp_path / "store.keys" / "signing.key"
    assert signing.path.stat().st_mode & 0o777 == 0o600
    assert subject.path.stat().st_mode & 0o777 == 0o600
    assert "made" in signing.warnings[0]
    assert len(subject.secret) == 32
    again = keys.signing_key(store, None)
    assert again.warnings == ()
    assert VerifierKey.of("x", again.private) == VerifierKey.of("x", signing.private)
    assert keys.subject_key(store, None).secret == subject.secret


def test_configured_and_missing_names_the_path(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "signing.key"

    with pytest.raises(ConfigError, match=r"signing\.key.*\n.*hint.*\[keys\]"):
        keys.signing_key(tmp_path / "store", path)
    with pytest.raises(ConfigError, match="hint"):
        keys.subject_key(tmp_path / "store", path)
    assert not (tmp_path / "store.keys").exists()


def test_unusable_and_open_files(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("not a key\n")

    with pytest.raises(ConfigError, match="Ed25519"):
        keys.signing_key(tmp_path / "store", path)
    with pytest.raises(ConfigError, match="64 hexadecimal"):
        keys.subject_key(tmp_path / "store", path)
    path.write_text("ab" * 32 + "\n")
    path.chmod(0o644)
    assert "chmod 600" in keys.subject_key(tmp_path / "store", path).warnings[0]


def test_creating_never_overwrites(tmp_path: Path) -> None:
    keys.create_signing_key(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()

    with pytest.raises(FileExistsError):
        keys.create_signing_key(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


def test_a_store_refuses_another_signing_key(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 1)
    (tmp_path / "store.keys" / "signing.key").unlink()

    with pytest.raises(ConfigError, match="isn't the one that this log goes on with"):
        open_writer(store)
