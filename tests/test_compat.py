"""Stores that earlier versions wrote (tests/compat) verify, answer and go on, for ever."""

import json
import shutil
from pathlib import Path

import pytest

from tests.commandline import SAMPLE, manifests, scalple
from tests.compat.record import QUESTIONS, essence

COMPAT = Path(__file__).parent / "compat"
KEPT = sorted(path.name for path in COMPAT.iterdir() if (path / "store").is_dir())


@pytest.fixture(params=KEPT)
def kept(request: pytest.FixtureRequest) -> Path:
    """A kept store's folder."""
    return COMPAT / str(request.param)


@pytest.fixture
def store(kept: Path, tmp_path: Path) -> Path:
    """A copy, to be written to."""
    shutil.copytree(kept / "store", tmp_path / "store")
    shutil.copytree(kept / "store.keys", tmp_path / "store.keys")
    for key in (tmp_path / "store.keys").iterdir():
        key.chmod(0o600)  # git doesn't keep that
    for origin in (tmp_path / "store").iterdir():
        (origin / "objects").mkdir(exist_ok=True)  # nor an empty directory
    return tmp_path / "store"


def test_stores_of_earlier_versions_are_kept() -> None:
    assert len(KEPT) >= 2


def test_an_earlier_versions_store_verifies(store: Path) -> None:
    said = scalple("verify", "--store", store)
    assert said.code == 0, said
    assert "intact" in said.out


def test_an_earlier_versions_store_answers_as_it_did(store: Path, kept: Path) -> None:
    answers = json.loads((kept / "answers.json").read_text())
    for name, options in QUESTIONS.items():
        said = scalple("query", "--store", store, *options, "--format", "json")
        assert said.code == 0, said.err
        assert essence(said.json()) == answers[name]


def test_a_row_of_an_earlier_versions_store_is_proven(store: Path, tmp_path: Path) -> None:
    proof = tmp_path / "row.proof"
    assert scalple("prove", "sample#100", "--store", store, "--output", proof).code == 0
    said = scalple("check-proof", proof, "--public-key", store / "sample" / "public-key")
    assert said.code == 0, said.err
    assert "intact" in said.out


def test_an_earlier_versions_store_goes_on(store: Path) -> None:
    before = manifests(store)
    said = scalple(
        *("reprocess", "--config", SAMPLE / "config.toml", "--store", store),
        *("--postgres-log", SAMPLE / "postgresql.csv"),
    )
    assert said.code == 0, said.err
    assert manifests(store) > before
    assert scalple("verify", "--store", store).code == 0
    said = scalple("query", "--store", store, *QUESTIONS["subject"], "--format", "json")
    assert said.json()["coverage"]["statements"] > 3000
