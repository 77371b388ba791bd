"""Where nothing would keep another writer out nothing is written; who may only read can ask."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalple.cli.declarations import to_objects
from scalple.correlate.rules import Rules
from scalple.ingest.errors import StoreError
from scalple.store import filesystem
from scalple.store.verify import verify
from tests.commandline import SAMPLE, scalple
from tests.processes import NOBODY, other, run_as_nobody, said, write_on_and_on
from tests.store.sample import make_store, open_writer, position, signing_key, statements
from tests.store.test_lease import open_at_once


def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store", 1)

    def refuses(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuses)
    with pytest.raises(StoreError, match="can't be locked, so that two writers could be at work"):
        open_at_once(store)
    assert verify(store).rows == 8


@pytest.fixture
def on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system says that the temporary directory lies on NFS."""
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 8:99 / /other rw - ext4 /dev/sdx rw\n"
        f"22 1 {os.major(device)}:{os.minor(device)} / /srv rw shared:7 master:1 - nfs4 nas:/x rw\n"
    )
    monkeypatch.setattr(filesystem, "MOUNTS", mounts)
    monkeypatch.setattr(filesystem, "_only_here", set())
    yield


@pytest.mark.usefixtures("on_nfs")
def test_a_network_file_system_is_refused_unless_there_is_one_host(tmp_path: Path) -> None:
    store = tmp_path / "store"
    words: list[str | Path] = ["--store", store, "--identity-events", SAMPLE / "identity.jsonl"]
    told = scalple("reprocess", *words)
    assert told.code == 5
    assert "network file system (nfs4)" in told.err
    assert "only_host = true" in told.err
    config = tmp_path / "config.toml"
    config.write_text("only_host = true\n")
    told = scalple("reprocess", *words, "--config", config)
    assert told.code == 0, told.err
    refused = scalple("coverage", "--store", store)
    assert refused.code == 5
    assert "network file system" in refused.err
    assert scalple("coverage", "--store", store, "--config", config).code == 0


def test_the_system_says_what_is_mounted() -> None:
    assert filesystem.type_of(Path("/proc").stat().st_dev) == "proc"
    assert filesystem.type_of(os.makedev(4095, 1)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give its rights up")
@pytest.mark.parametrize("access", ["elsewhere", "off"])
def test_questions_of_who_may_only_read_are_answered_while_a_writer_writes(
    memory: Path, access: str
) -> None:
    store, home = memory / "store", memory / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    signing_key(store)
    recorded = to_objects(Rules(), access)
    with open_writer(store) as writer:
        writer.commit({"audit": statements(0, 2)}, [position(0, 10)], recorded)
    more: list[str | Path] = ["--access-log", home / "log"] if access == "elsewhere" else []
    key = memory / "public"
    with (
        other(write_on_and_on, store, access) as writer_there,
        other(run_as_nobody, home) as nobody,
    ):
        for _ in range(3):
            writer_there.hear()
        shutil.copy(memory / "store.keys" / "db1.pub", key)
        key.chmod(0o644)
        before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_dir()}
        everything: list[tuple[str | Path, ...]] = [
            ("query", "--actor", "nobody", "--disclosure", "controller"),
            ("sql", "SELECT count(*) FROM audit"),
            ("coverage",),
            ("prove", "db1#0", "--output", home / "row.proof"),
        ]
        for verb, *words in everything:
            answer = said(nobody, verb, "--store", store, *words, *more)
            assert answer.code == 0, (verb, answer.err)
        answer = said(nobody, "verify", "--store", store, "--public-key", key)
        assert answer.code == 0, answer.err
        refused = said(
            nobody, "reprocess", "--store", store, "--origin", "db1", "--postgres-log", key
        )
        assert refused.code in (3, 5)
        assert writer_there.process.is_alive()
        while writer_there.has_spoken:
            writer_there.hear()
        first = writer_there.hear()
        assert before.keys() == {path for path in store.rglob("*") if path.is_dir()}
        assert first > 2
