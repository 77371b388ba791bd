"""Questions are logged before they are answered, and can be answered for nobody unlogged.

Enters: a small store of the sample. Leaves: nothing. Does not: check what the answers say.
"""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from scalple.correlate.subjects import subject_token
from scalple.store.verify import verify
from tests.commandline import SAMPLE, reprocess_sample, scalple
from tests.unprivileged import scalple_as_nobody

QUESTION = ("--subject", "email=j.doe@example.com", "--subject", "customer_id=4711")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("asked") / "store"
    assert reprocess_sample(directory).code == 0
    return directory


@pytest.fixture
def store(sample: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    shutil.copytree(sample, directory)
    shutil.copytree(sample.with_name("store.keys"), tmp_path / "store.keys")
    return directory


def logged(store: Path, *more: str | Path) -> list[dict[str, Any]]:
    said = scalple(
        "sql", "--store", store, "--format", "json", *more, "SELECT * FROM access ORDER BY seq"
    )
    assert said.code == 0, said.err
    found: list[dict[str, Any]] = said.json()
    return found


def test_a_question_is_logged_with_who_when_what_and_how_much(store: Path) -> None:
    said = scalple(
        "query", "--store", store, *QUESTION, "--purpose", "ticket 17", "--format", "json"
    )
    answer = said.json()
    (row,) = logged(store)
    assert row["verb"] == "query"
    assert row["purpose"] == "ticket 17"
    assert row["outcome"] == "answered"
    assert row["rows"] == len(answer["direct"]) + len(answer["possible"]) > 0
    assert row["asked_by"].endswith(")") and row["host"]
    assert json.loads(row["question"])["disclosure"] == "subject"
    assert row["heads"][0].startswith("sample ")


def test_subjects_are_logged_as_tokens_and_no_value_reaches_the_disk(store: Path) -> None:
    scalple("query", "--store", store, *QUESTION)
    scalple(
        "sql",
        "--store",
        store,
        "SELECT 1 FROM audit WHERE query LIKE '%j.doe@example.com%' -- 4711x9",
    )
    rows = logged(store)
    key = bytes.fromhex((store.with_name("store.keys") / "subject.key").read_text().strip())
    assert rows[0]["subjects"] == [
        f"email {subject_token(key, 'email', 'j.doe@example.com'):016x}",
        f"customer_id {subject_token(key, 'customer_id', '4711'):016x}",
    ]
    assert json.loads(rows[1]["question"]) == {"sql": "SELECT ? FROM audit WHERE query LIKE ? ?"}
    text = json.dumps(rows)
    assert "j.doe" not in text and "4711x9" not in text


def test_every_question_is_logged_and_verified_with_the_store(store: Path) -> None:
    scalple("query", "--store", store, "--actor", "employee_id_2291")
    scalple("coverage", "--store", store)
    scalple("sql", "--store", store, "SELECT 1 AS one")
    assert [row["verb"] for row in logged(store)] == ["query", "coverage", "sql"]
    assert verify(store).origins == ["sample", "_access"]


def test_a_question_that_fails_is_logged_as_failed(store: Path) -> None:
    assert scalple("sql", "--store", store, "SELECT nothing FROM audit").code == 3
    assert [(row["outcome"], row["rows"]) for row in logged(store)] == [("failed", None)]


def test_asking_about_questions_is_logged(store: Path) -> None:
    assert logged(store) == []
    assert [row["verb"] for row in logged(store)] == ["sql"]


def test_questions_asked_at_once_are_all_logged(store: Path) -> None:
    scalple("coverage", "--store", store)
    codes: list[int] = []

    def ask() -> None:
        said = scalple_as_user("sql", "--store", store, "SELECT count(*) FROM audit")
        codes.append(said)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 6
    assert len(logged(store)) == 7


def scalple_as_user(*arguments: str | Path) -> int:
    import subprocess
    import sys

    command = [str(Path(sys.executable).with_name("scalple-ingest")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode


def test_who_cannot_write_is_refused_or_names_another_place(store: Path, tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    while not tmp_path.parent.stat().st_mode & 0o001:
        tmp_path = tmp_path.parent
        tmp_path.chmod(0o755)
    tmp_path.chmod(0o755)
    refused = scalple_as_nobody("coverage", "--store", store)
    assert refused.code == 5
    assert refused.out == ""
    assert "--access-log DIR" in refused.err
    place = store.parent / "mine"
    place.mkdir()
    place.chmod(0o777)
    allowed = scalple_as_nobody("coverage", "--store", store, "--access-log", place / "log")
    assert allowed.code == 0, allowed.err
    assert "Coverage:" in allowed.out
    assert not (store / "_access").exists()
    (row,) = logged(store, "--access-log", place / "log")
    assert row["verb"] == "coverage"
    assert "nobody" in row["asked_by"]


def test_a_log_that_cannot_be_written_leaves_the_question_unanswered(
    store: Path, tmp_path: Path
) -> None:
    scalple("coverage", "--store", store)
    (tmp_path / "store.keys" / "access.key").unlink()
    said = scalple("coverage", "--store", store)
    assert said.code == 4
    assert said.out == ""
    assert "access.key" in said.err


def test_switched_off_by_the_operator_nothing_is_logged(tmp_path: Path) -> None:
    text = (SAMPLE / "config.toml").read_text("utf-8")
    config = SAMPLE / "config.toml"
    off = tmp_path / "config.toml"
    first, rest = text.split("\n[", 1)
    off.write_text(f'{first}\naccess = "off"\n[{rest}'.replace('"', '"'), "utf-8")
    samples = tmp_path / "logs"
    shutil.copytree(config.parent, samples)
    shutil.copy(off, samples / "config.toml")
    store = tmp_path / "store"
    assert reprocess_sample(store, samples=samples).code == 0
    assert scalple("coverage", "--store", store).code == 0
    assert not (store / "_access").exists()


def test_a_readers_own_configuration_cannot_switch_it_off(store: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text('access = "off"\n', "utf-8")
    assert scalple("coverage", "--store", store, "--config", config).code == 0
    assert [row["verb"] for row in logged(store)] == ["coverage"]
