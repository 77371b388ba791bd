"""Writers and users in processes of their own, forked from one that has everything imported.

Enters: what such a process does. Leaves: the process, and a pipe to it. Does not: look at stores.
"""

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from scalple.cli.declarations import to_objects
from scalple.correlate.rules import Rules
from scalple.ingest.errors import ScalpleError
from tests.commandline import Said, scalple
from tests.store.sample import open_writer, position, statements

NOBODY = 65534
SECONDS = 60
"""A process that says nothing for so long has failed."""
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "tests.processes",
        "tests.store.sample",
        *(
            f"scalple.cli.{verb}"
            for verb in ["main", "reprocess", "query", "sql", "verify", "coverage", "prove"]
        ),
        *(
            "scalple.cli.config",
            "rich.console",
            "rich.table",
            "rich.progress",
            "scalple.store.sealing",
        ),
        *("encodings.idna", "encodings.utf_8_sig", "importlib.readers"),
    ]
)


class Other:
    """Another process, and what it says."""

    def __init__(self, process: ForkServerProcess, pipe: Connection) -> None:
        self.process = process
        self._pipe = pipe

    @property
    def pid(self) -> int:
        """Its number."""
        assert self.process.pid is not None
        return self.process.pid

    def tell(self, what: object) -> None:
        """One message to it."""
        self._pipe.send(what)

    def hear(self) -> Any:
        """Its next message; EOFError once it has ended."""
        assert self._pipe.poll(SECONDS), "the other process says nothing"
        return self._pipe.recv()

    @property
    def has_spoken(self) -> bool:
        """Whether a message of it waits here."""
        return self._pipe.poll()

    def rest(self) -> list[Any]:
        """What it still has to say, until its end."""
        said = []
        with contextlib.suppress(EOFError):
            while True:
                said.append(self.hear())
        self.process.join(SECONDS)
        return said

    def signal(self, number: signal.Signals) -> None:
        """As `kill` does."""
        os.kill(self.pid, number)


def start(does: Callable[..., None], *arguments: object) -> Other:
    """A process that calls the function with a pipe and the arguments."""
    here, there = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=does, args=(there, *arguments), daemon=False)
    process.start()
    there.close()
    return Other(process, here)


@contextlib.contextmanager
def other(does: Callable[..., None], *arguments: object) -> Iterator[Other]:
    """The same; it has ended afterwards."""
    started = start(does, *arguments)
    try:
        yield started
    finally:
        if started.process.is_alive():
            started.signal(signal.SIGKILL)
        started.process.join(SECONDS)


def write_on_demand(pipe: Connection, store: Path, large: bool = False) -> None:
    """Opens the store, says so, commits whenever it is told, answers with the number or the error."""
    with open_writer(store) as writer:
        if large:
            writer.expect_large_segments()
        pipe.send("open")
        with contextlib.suppress(EOFError):
            while pipe.recv():
                n = writer.head_size
                try:
                    writer.commit({"audit": statements(2 * n, 2)}, [position(n, n + 1)], {})
                except ScalpleError as error:
                    pipe.send(str(error))
                else:
                    pipe.send(n)


def write_on_and_on(pipe: Connection, store: Path, access: str = "on") -> None:
    """Commits until it is killed, one batch prepared ahead, and acknowledges each commit."""
    with open_writer(store) as writer:
        prepared = None
        while True:
            n = writer.head_size
            prepared = prepared or writer.prepare({"audit": statements(2 * n, 2)})
            ahead = writer.prepare({"audit": statements(2 * n + 2, 2)})
            writer.commit(prepared, [position(10 * n, 10 * n + 10)], to_objects(Rules(), access))
            prepared = ahead
            pipe.send(n)


def run_limited(pipe: Connection, limit: int) -> None:
    """Runs the command lines that it is told; no file may become larger than so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with contextlib.suppress(EOFError):
        while words := pipe.recv():
            pipe.send(scalple(*words))


def run_as_nobody(pipe: Connection, home: Path) -> None:
    """Gives up all rights, then runs the command lines that it is told."""
    os.chdir("/")
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    os.environ["HOME"] = os.environ["XDG_CACHE_HOME"] = str(home)
    with contextlib.suppress(EOFError):
        while words := pipe.recv():
            pipe.send(scalple(*words))


def said(one: Other, *words: str | Path) -> Said:
    """What a command line said that another process ran."""
    one.tell([str(word) for word in words])
    answer: Said = one.hear()
    return answer
