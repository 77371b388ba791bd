"""Work that the daemon leaves to a process of its own, so that following never waits for it.

A module, and a job as plain values, enter; a process leaves that is told its job on stdin and says what it
does on stdout, one JSON object a line. It ends when its stdin ends: it never outlives who started it,
however that ended. What it works on must bear that at any moment.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from scalple.ingest.errors import ScalpleError

DRAIN = "drain"
"""Do what is left to do, and end."""
SHOWN = 300
"""Characters of an unforeseen error's own text."""


class ChildProcess:
    """A process at work.

    Args:
        module: which is run as a program, and calls `serve`.
        job: what it is told.

    Raises:
        OSError: it can't be started.
    """

    def __init__(self, module: str, job: Mapping[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._tell(json.dumps(job))

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it says, until it ends."""
        assert self._process.stdout is not None
        with self._process.stdout as said:
            for line in said:
                try:
                    told = json.loads(line)
                except ValueError:  # it was ended in the middle of a word
                    continue
                yield told
        self._process.wait()
        with contextlib.suppress(OSError):
            self._close()

    def drain(self) -> None:
        """Have it do what is left, and end."""
        self._tell(DRAIN)

    def kill(self) -> None:
        """End it wherever it is."""
        self._process.kill()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended: `lines` shows that
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def _close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()


def serve(work: Callable[[dict[str, Any], threading.Event], None]) -> None:
    """The other side: does the job that stdin says, and says what stopped it.

    `work` gets the job, and an event that is set once what is left shall be done.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # it is told when to end
        signal.signal(number, signal.SIG_IGN)
    job = json.loads(sys.stdin.readline() or "null")
    if job is None:
        return
    draining = threading.Event()
    threading.Thread(target=_listen, args=(draining,), daemon=True).start()
    sys.excepthook = _unforeseen
    try:
        work(job, draining)
    except (ScalpleError, OSError) as error:
        say(error=str(error))


def say(**fields: object) -> None:
    """Tell the daemon."""
    print(json.dumps(fields), flush=True)


def _unforeseen(kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """The daemon's log is of one line for each thing that happened."""
    say(error=" ".join(f"{kind.__name__}: {error}".split())[:SHOWN])


def _listen(draining: threading.Event) -> None:
    for line in sys.stdin:
        if line.strip() == DRAIN:
            draining.set()
    os._exit(0)  # whoever started this has gone
