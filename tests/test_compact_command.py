"""`compact` at the command line: what it says, what it refuses, and that answers don't change."""

import shutil
from pathlib import Path

import pytest

from scalple.cli.declarations import newest, recorded, records_questions
from scalple.store.reader import StoreReader
from scalple.store.verified import VerifiedFiles
from tests.commandline import Said, scalple
from tests.store.sample import make_store, open_writer


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Four commits and one question."""
    store = make_store(tmp_path / "store", 4)
    assert asked(store).code == 0
    return store


def asked(store: Path) -> Said:
    """A question."""
    return scalple("coverage", "--store", store, "--format", "json")


def test_it_says_what_it_did_and_answers_stay(store: Path) -> None:
    before = asked(store).out
    made = scalple("compact", "--store", store)
    assert (made.code, made.err) == (0, "")
    first, second = made.out.splitlines()
    assert first.startswith("db1: 4 manifests in the index, 4 of them new; 1 run, ")
    assert second.startswith("_access: 2 manifests in the index, 2 of them new; 1 run, ")
    again = asked(store)
    assert (again.out, again.err) == (before, "")
    assert "0 of them new" in scalple("compact", "--store", store, "--origin", "db1").out
    make_store(store, 1)
    assert scalple("verify", "--store", store).code == 0
    questions = "SELECT count(*) AS n FROM access"
    said = scalple("sql", "--store", store, "--format", "json", questions)
    assert said.json() == [{"n": 3}]


def test_what_is_wrong_with_an_index_is_said_and_costs_no_answer(store: Path) -> None:
    before = asked(store).out
    assert scalple("compact", "--store", store).code == 0
    (path,) = (store / "db1" / "index").glob("evidence-*")
    path.write_bytes(path.read_bytes()[::-1])
    said = asked(store)
    assert (said.code, said.out) == (0, before)
    assert "note: db1: the index isn't used" in said.err
    assert str(path) in said.err
    refused = scalple("verify", "--store", store)
    assert refused.code == 7
    assert "deleting index/ loses nothing" in refused.err
    shutil.rmtree(store / "db1" / "index")
    assert asked(store).err == ""
    assert scalple("verify", "--store", store).code == 0


def test_what_it_refuses(store: Path, tmp_path: Path) -> None:
    assert scalple("compact", "--store", tmp_path / "none").code == 4
    assert scalple("compact", "--store", store, "--origin", "db9").code == 4
    assert scalple("compact", "--store", store, "--origin", "../db1").code == 4
    key = store.with_name("store.keys") / "signing.key"
    key.rename(tmp_path / "kept")
    refused = scalple("compact", "--store", store)
    assert refused.code == 4
    assert str(key) in refused.err
    assert not (store / "db1" / "index").exists()
    shutil.copy(store.with_name("store.keys") / "access.key", key)
    refused = scalple("compact", "--store", store)
    assert (refused.code, "isn't the one that this origin goes on with" in refused.err) == (4, True)


def test_declarations_are_those_of_the_newest_commit_wherever_it_is(tmp_path: Path) -> None:
    store = tmp_path / "store"
    said = b'{"identifiers":{"id":["public.users.%d"]},"personal_data":{},"actors":{},"pooler":{}}'
    with open_writer(store) as writer:
        for n in range(3):
            writer.commit({}, [], {"rules": said.replace(b"%d", b"%d" % n), "schema": b"old"})
        writer.commit({}, [], {"rules": said.replace(b"%d", b"3"), "access": b"off"})
    off, on = (("public.users.3",), b"old", False), (("public.users.4",), b"old", True)

    def declared() -> tuple[tuple[str, ...], bytes | None, bool]:
        reader = StoreReader.open(store, verified=VerifiedFiles(None))
        rules = recorded(reader, "db1").identifiers["id"]
        return rules, newest(reader, "db1", "schema"), records_questions(reader)

    assert declared() == off
    assert scalple("compact", "--store", store).code == 0
    assert declared() == off
    with open_writer(store) as writer:
        writer.commit({}, [], {"rules": said.replace(b"%d", b"4")})
    assert declared() == on
    assert scalple("compact", "--store", store).code == 0
    assert declared() == on
