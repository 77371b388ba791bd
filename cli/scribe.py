"""A process that writes the log of questions, begun before the question itself is loaded.

Enters: a log, and what is to be written there. Leaves: what the operator should be told, or the error.
What writing a row needs takes as long to load as the answer takes to be found: here it is loaded on
another core. It ends when whoever began it has ended; it asks nothing, and writes no row by itself.
"""

import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from scalple.ingest.errors import StoreError

if TYPE_CHECKING:  # it is begun before these are loaded
    from scalple.store.access import AccessLog, Asked

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
            answer: tuple[str, ...] | Exception = pickle.load(self._said)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise StoreError(
                "the process that logs questions ended before it said that this one is logged",
                place=str(log.directory),
                hint="ask again; whoever ended it (no memory left?) is in the system's log",
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer


_begun: list[Scribe] = []


def begin() -> None:
    """Start it, in a process that has no threads yet; without it, questions are logged where they are
    asked."""
    if None in (sys.stdin, sys.stdout, sys.stderr):  # a pipe would get the number of one of them
        return
    here, there = os.pipe(), os.pipe()
    try:
        pid = os.fork()
    except OSError:
        for number in (*here, *there):
            os.close(number)
        return
    if pid == 0:
        _serve(here, there)
    os.close(here[0])
    os.close(there[1])
    _begun.append(Scribe(pid, os.fdopen(here[1], "wb"), os.fdopen(there[0], "rb")))


def is_there() -> bool:
    """Whether one was begun."""
    return bool(_begun)


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
    from scalple.ingest.errors import ScalpleError

    try:
        return log.record(*row)  # type: ignore[arg-type]
    except ScalpleError as error:
        return error
    except Exception as error:  # noqa: BLE001  # it is said where the question is asked
        what = " ".join(f"{type(error).__name__}: {error}".split())[:SHOWN]
        return RuntimeError(f"in the process that logs questions: {what}")
