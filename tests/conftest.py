"""Fixtures of a real stack, and the mark that lets a run leave them out (`-m "not stack"`)."""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# The root on the path makes `tests.stack` importable however pytest is started. It is also what
# makes a bare `import store` possible, which is why nothing imports that way.
ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from tests.commandline import SAMPLE, reprocess_sample, scalple
from tests.stack import Stack, StackOptions, missing_programs
from tests.workload import Truth, WorkloadOptions, run_workload

_IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_STACK_FIXTURES = {"stack", "recorded"}


@dataclass(frozen=True)
class Recorded:
    """A finished run: the servers are stopped, their logs are complete."""

    csvlogs: list[Path]
    pgbouncer_log: Path
    identity: Path
    schema: Path
    truth: list[Truth]
    stack: Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what uses a stack, and skips it where the servers are not installed."""
    missing = missing_programs()
    skip = pytest.mark.skip(reason=f"not installed: {', '.join(missing)}")
    for item in items:
        if _STACK_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.stack)
        if missing and item.get_closest_marker("stack"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A running stack with the default options, shared by the session: leave it as you found it."""
    with Stack() as running:
        yield running


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory that everybody may enter, in memory where the system has that: fsyncs of a busy disk
    would take most of the time."""
    with tempfile.TemporaryDirectory(prefix="scalple-", dir=_IN_MEMORY) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the sample, read with its schema and without policies: only to be read."""
    store = tmp_path_factory.mktemp("sample") / "store"
    said = reprocess_sample(store, "--schema", SAMPLE / "schema.sql")
    assert said.code == 0, said.err
    return store


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The logs, events and truth of a workload of about 1,000 statements, on stopped servers."""
    directory = tmp_path_factory.mktemp("recorded")
    with Stack(StackOptions()) as running:
        schema = directory / "schema.sql"
        schema.write_text(running.dump_schema())
        done = run_workload(running, directory / "identity.jsonl", WorkloadOptions())
    return Recorded(
        csvlogs=running.csvlog_paths(),
        pgbouncer_log=running.pgbouncer_log,
        identity=done.events,
        schema=schema,
        truth=done.truth,
        stack=running,
    )


@pytest.fixture(scope="session")
def recorded_store(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording in a store, put there by the command: leave it as you found it."""
    directory = tmp_path_factory.mktemp("truth") / "store"
    options: list[str | Path] = ["--store", directory, "--origin", "db1"]
    options += ["--config", SAMPLE / "config.toml", "--schema", recorded.schema]
    options += ["--postgres-log", *recorded.csvlogs]
    options += ["--pgbouncer-log", recorded.pgbouncer_log]
    options += ["--identity-events", recorded.identity]
    said = scalple("reprocess", *options)
    assert said.code == 0, said.err
    assert said.out == ""
    return directory
