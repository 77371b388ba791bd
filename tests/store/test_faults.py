"""The system refuses, or kills, at each call of a real process that mends a store and commits."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from scalple.ingest.errors import ScalpleError
from scalple.store.chain import read_chain
from scalple.store.layout import origin_layout
from scalple.store.verify import verify
from tests.processes import SECONDS, Other, other
from tests.store.sample import RULES, make_store, open_writer, position, signing_key, statements
from tests.store.test_commit import read_rows

CALLS = {
    "write": "write,pwrite64,writev",
    "fsync": "fsync,fdatasync",
    "link": "?link,linkat",
    "rename": "?rename,renameat,?renameat2",
    "open": "?open,openat",
    "unlink": "?unlink,unlinkat",
    "flock": "flock",
}
EVERY = bool(os.environ.get("EVERY_CALL"))
"""The suite meets one call of each kind with one fault; `make prove` every call with both."""
FAULTS = ["error=EIO", "signal=KILL"]
PAIRS = [
    (kind, fault)
    for at, kind in enumerate(CALLS)
    for fault in (FAULTS if EVERY else [FAULTS[at % len(FAULTS)]])
]
BEFORE = 3
"""Manifests of the store that a process finds, the last one without a signed head."""
ROWS = 4


def _mends_and_commits(pipe: Connection, store: Path, elsewhere: Path) -> None:
    _commit(elsewhere)  # everything is loaded that a commit needs
    pipe.send("ready")
    pipe.recv()
    try:
        pipe.send(_commit(store))
    except ScalpleError as error:
        pipe.send(str(error))


def _commit(store: Path) -> int:
    with open_writer(store) as writer:
        n = writer.head_size
        tables = {"audit": statements(ROWS * n, ROWS)}
        where = [position(100 * n, 100 * n + 100)]
        writer.commit(tables, where, {"rules": RULES, "more": b"%d" % n})
        return n


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as a crash leaves it: a manifest that isn't signed, segments that no manifest names."""
    base = tmp_path_factory.mktemp("crashed")
    store = base / "store"
    make_store(store, 0)
    for _ in range(BEFORE):
        _commit(store)
    layout = origin_layout(store, "db1")
    layout.checkpoint.write_bytes(read_chain(layout, BEFORE - 1).head.sign(signing_key(store)))
    manifest = layout.manifest(BEFORE - 1).read_bytes()
    layout.checkpoint.write_bytes(read_chain(layout, BEFORE).head.sign(signing_key(store)))
    with open_writer(store) as writer:
        writer.prepare({"audit": statements(ROWS * BEFORE, ROWS)})
    assert manifest == layout.manifest(BEFORE - 1).read_bytes()
    layout.checkpoint.write_bytes(read_chain(layout, BEFORE - 1).head.sign(signing_key(store)))
    return base


@contextmanager
def traced(one: Other, log: Path, inject: str) -> Iterator[None]:
    """The process meets a fault; strace has let go of it afterwards."""
    calls = inject.partition(":")[0]
    command = ["strace", "-f", "-p", str(one.pid), "-o", str(log), "-e", f"trace={calls}"]
    with subprocess.Popen(
        [*command, "-e", f"inject={inject}"], stderr=subprocess.PIPE, text=True
    ) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        if "attached" not in said:
            strace.kill()
            pytest.skip(f"strace can't trace here: {said.strip()}")
        yield
        one.process.join(SECONDS)


def meets(crashed: Path, directory: Path, inject: str) -> bool:
    """A process mends, commits and meets the fault; whether it did. The store bears it."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(crashed, directory)
    store, log = directory / "store", directory / "log"
    with other(_mends_and_commits, store, directory / "elsewhere") as one:
        assert one.hear() == "ready"
        with traced(one, log, inject):
            one.tell("go")
            answers = one.rest()
        ended = one.process.exitcode
    fired = "(INJECTED)" in log.read_text() if "error" in inject else ended == -9
    acknowledged = BEFORE + (answers == [BEFORE])
    if not fired:
        assert answers == [BEFORE], answers
        assert ended == 0
    with open_writer(store) as writer:
        size = writer.head_size
    assert size in (acknowledged, acknowledged + 1), (inject, answers)
    assert verify(store).notes == ["db1: self-signed: no outside key"]
    assert [row["seq"] for row in read_rows(store, "audit")] == list(range(ROWS * size))
    assert _commit(store) == size
    return fired


@pytest.mark.skipif(shutil.which("strace") is None, reason="not installed: strace")
@pytest.mark.parametrize(("kind", "fault"), PAIRS)
def test_every_call_that_fails_or_kills(crashed: Path, memory: Path, kind: str, fault: str) -> None:
    if not EVERY:
        assert meets(crashed, memory / "run", f"{CALLS[kind]}:{fault}:when=2")
        return
    when = 1
    while meets(crashed, memory / "run", f"{CALLS[kind]}:{fault}:when={when}"):
        when += 1
    print(f"{kind}, {fault}: {when - 1} calls, each of them met it")
    assert when > 2
