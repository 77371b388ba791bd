"""An answer with its proofs: checked without the store, and refused once a word of it is changed.

Enters: the sample's store. Leaves: nothing. Does not: look at proofs byte by byte (store/test_proof.py).
"""

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import reprocess_sample, scalple

QUESTION = ("--subject", "customer_id=4711", "--disclosure", "controller", "--format", "json")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """The bundle, the public key, and the answer."""
    directory = tmp_path_factory.mktemp("bundle")
    store = directory / "store"
    assert reprocess_sample(store).code == 0
    path = directory / "answer.zip"
    said = scalple("query", "--store", store, *QUESTION, "--bundle", path)
    assert said.code == 0, said.err
    return path, directory / "store.keys" / "sample.pub", said.json()


def changed(path: Path, name: str, old: str, new: str) -> bytes:
    """The bundle with one text replaced in one of its files."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old_zip, zipfile.ZipFile(out, "w") as new_zip:
        for one in old_zip.namelist():
            text = old_zip.read(one).decode()
            if one == name:
                assert old in text
                text = text.replace(old, new, 1)
            new_zip.writestr(one, text)
    return out.getvalue()


def test_a_bundle_is_checked_with_the_public_key_alone(bundle: tuple[Path, Path, Any]) -> None:
    path, key, answer = bundle
    said = scalple("check-proof", path, "--public-key", key, "--format", "json")
    assert said.code == 0, said.err
    ids = {row["id"] for row in said.json()}
    assert {row["log_id"] for part in ("direct", "possible") for row in answer[part]} <= ids
    evidence = {one for row in answer["direct"] for one in row["attribution_evidence"] or ()}
    assert evidence and evidence <= ids
    assert "intact: " in scalple("check-proof", path, "--public-key", key).out


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("answer.json", "employee_id_2291", "employee_id_1044"),
        ("answer.json", '"proven"', '"confirmed"'),
        ("answer.json", '"log_id": "sample#', '"log_id": "sample#9'),
        ("proof.json", '"seq": ', '"seq": 1'),
    ],
)
def test_a_changed_answer_is_refused(
    bundle: tuple[Path, Path, Any], tmp_path: Path, name: str, old: str, new: str
) -> None:
    path, key, _ = bundle
    other = tmp_path / "other.zip"
    other.write_bytes(changed(path, name, old, new))
    said = scalple("check-proof", other, "--public-key", key)
    assert (said.code, said.out) == (7, "")


def test_a_bundle_that_says_two_things_is_refused(
    bundle: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    path, key, _ = bundle
    for name, text in {"answer.json": "{}", "answer.html": "<p>another answer</p>"}.items():
        other = tmp_path / f"{name}.zip"
        other.write_bytes(path.read_bytes())
        with warnings.catch_warnings(), zipfile.ZipFile(other, "a") as archive:
            warnings.simplefilter("ignore")
            archive.writestr(name, text)
        assert scalple("check-proof", other, "--public-key", key).code == 7
    twice = tmp_path / "twice.zip"
    twice.write_bytes(changed(path, "answer.json", '"log_id":', '"log_id": "sample#1", "log_id":'))
    said = scalple("check-proof", twice, "--public-key", key)
    assert said.code == 7
    assert "twice" in said.err


def test_a_proof_for_the_subject_would_name_staff(bundle: tuple[Path, Path, Any]) -> None:
    path, _, _ = bundle
    store = path.parent / "store"
    said = scalple(
        "query", "--store", store, "--subject", "customer_id=4711", "--bundle", path.parent / "b"
    )
    assert said.code == 3
    assert "--disclosure controller" in said.err
    assert not (path.parent / "b").exists()


def test_a_single_row_is_proven_and_asking_for_it_is_logged(
    bundle: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    path, key, answer = bundle
    store, row = path.parent / "store", answer["direct"][0]
    output = tmp_path / "row.proof"
    said = scalple("prove", row["log_id"], "--store", store, "--output", output)
    assert said.code == 0, said.err
    assert output.stat().st_mode & 0o077 == 0
    shown = scalple("check-proof", output, "--public-key", key, "--format", "json").json()
    assert shown[0] == {"id": row["log_id"], **{k: row[k] for k in shown[0] if k != "id"}}
    last = scalple("sql", "--store", store, "--format", "json", "SELECT * FROM access ORDER BY seq")
    asked = last.json()[-1]
    assert (asked["verb"], json.loads(asked["question"])) == ("prove", {"ids": [row["log_id"]]})
    assert scalple("prove", "nonsense", "--store", store, "--output", output).code == 3
    assert scalple("check-proof", key, "--public-key", key).code == 7


def test_an_answer_without_rows_isnt_bundled(bundle: tuple[Path, Path, Any]) -> None:
    """It would be refused when it is checked."""
    store, path = bundle[0].with_name("store"), bundle[0].with_name("none.zip")
    asked = ("--actor", "nobody", "--disclosure", "controller", "--bundle", path)
    said = scalple("query", "--store", store, *asked)
    assert said.code == 3
    assert "nothing to prove" in said.err
    assert not path.exists()
