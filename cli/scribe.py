"""A process that writes the log of questions, begun before the question itself is loaded.

Enters: a log, and what is to be written there. Leaves: what the operator should be told, or the error.
What writing a row needs takes as long to load as the answer takes to be found: here it is loaded on
another core. It ends when whoever began it ends, holds nothing of theirs but two pipes, asks nothing, and
writes no row by itself.
"""

import contextlib
import os
import pickle
import select
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from scalple.ingest.errors import ScalpleError, StoreError

if TYPE_CHECKING:  # it is begun before these are loaded
    from scalple.store.access import AccessLog, Asked

ANSWER_SECONDS = 300.0
"""So long a row may take; the log itself waits for others for a tenth of it."""
DESCRIPTORS = 1 << 16
SHOWN = 300
"""Characters of an unforeseen error's own text."""

Recorder = Callable[["Asked", Sequence[str], str, int | None], tuple[str, ...]]
"""As `AccessLog.record`."""


class Scribe:
    """The process at work.

    Attributes:
        pid: its number.
    """

    def __init__(self, pid: int, told: BinaryIO, said: BinaryIO) -> None:
        self.pid = pid
        self._told = told
        self._said = said

    def record(
        self,
        log: "AccessLog",
        asked: "Asked",
        heads: Sequence[str],
        outcome: str,
        rows: int | None,
    ) -> tuple[str, ...]:
        """`log.record`, there.

        Raises:
            ScalpleError: as `log.record` does; also where the process ended meanwhile.
        """
        try:
            pickle.dump((log, asked, heads, outcome, rows), self._told)
            self._told.flush()
            if not select.select([self._said], [], [], ANSWER_SECONDS)[0]:
                raise EOFError
            answer: tuple[str, ...] | Exception = pickle.load(self._said)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise StoreError(
                "the process that logs questions ended, or was stopped, before it said that this one is "
                "logged",
                place=str(log.directory),
                hint="ask again; whoever ended it (no memory left?) is in the system's log",
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> None:
        """It has nothing more to do, wherever it is."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def bury(self) -> None:
        """Until it is gone, with all that it held."""
        self.end()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


_begun: list[Scribe] = []


def begin() -> None:
    """Start it, in a process that has no threads yet; without it, questions are logged where they are
    asked."""
    if None in (sys.stdin, sys.stdout, sys.stderr):  # a pipe would get the number of one of them
        return
    pipes: list[tuple[int, int]] = []
    try:
        pipes += [os.pipe()]
        pipes += [os.pipe()]
        pid = os.fork()
    except OSError:
        for number in (one for pipe in pipes for one in pipe):
            os.close(number)
        return
    here, there = pipes
    if pid == 0:
        _serve(here, there)
    os.close(here[0])
    os.close(there[1])
    _begun.append(Scribe(pid, os.fdopen(here[1], "wb"), os.fdopen(there[0], "rb")))


def is_there() -> bool:
    """Whether one was begun."""
    return bool(_begun)


def dismiss() -> None:
    """Nothing more will be written."""
    for one in _begun:
        one.end()


def end() -> None:
    """None is left behind."""
    while _begun:
        _begun.pop().bury()


def recorder(log: "AccessLog") -> Recorder:
    """What writes a row: of the scribe, if there is one."""
    if not _begun:
        return log.record
    return lambda *row: _begun[-1].record(log, *row)


def _serve(told: tuple[int, int], said: tuple[int, int]) -> NoReturn:
    """Write what is told, until nobody is left to tell anything."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with whoever is interrupted
        os.close(told[1])
        os.close(said[0])
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):  # whoever reads the answer isn't kept waiting for this process
            os.dup2(nothing, number)
        first, last = sorted((told[0], said[1]))
        for begin, until in ((3, first), (first + 1, last), (last + 1, DESCRIPTORS)):
            os.closerange(begin, until)  # locks and pipes of whoever asks are theirs
        with os.fdopen(told[0], "rb") as rows, os.fdopen(said[1], "wb") as answers:
            _write(rows, answers)
    finally:
        os._exit(0)


def _write(rows: BinaryIO, answers: BinaryIO) -> None:
    from scalple.store.access import get_ready

    get_ready()
    with contextlib.suppress(EOFError, OSError):
        while True:
            log, *row = pickle.load(rows)
            pickle.dump(_recorded(log, row), answers)
            answers.flush()


def _recorded(log: "AccessLog", row: Sequence[object]) -> object:
    try:
        return log.record(*row)  # type: ignore[arg-type]
    except ScalpleError as error:
        return error
    except Exception as error:  # noqa: BLE001  # it is said where the question is asked
        what = " ".join(f"{type(error).__name__}: {error}".split())[:SHOWN]
        return RuntimeError(f"in the process that logs questions: {what}")
