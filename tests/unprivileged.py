"""Runs the command line in a process that may only do what anybody may.

Enters: arguments. Leaves: what it said and its exit code. Does not: replace any part of it. Every call is a
process of its own, forked from one that has everything imported already and has run nothing: importing takes
longer than most calls, and the interpreter may lie where nobody else reads.
"""

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.commandline import Said

_NOBODY = 65534
_TIMEOUT_S = 60.0
_PARENT = f"""
import json, os, sys
import scalple.cli.main as command
import scalple.cli.reprocess, scalple.cli.query, scalple.cli.verify, scalple.cli.coverage
import scalple.cli.config, scalple.cli.bundle, rich.console, rich.table, rich.progress
import encodings.idna, importlib.readers, cryptography.hazmat.primitives.serialization
while line := sys.stdin.readline():
    told = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, file in enumerate(told["files"], 1):
            os.dup2(os.open(file, os.O_WRONLY), number)
        os.environ.clear()
        os.environ.update(told["environment"])
        os.chdir(told["directory"])
        if os.geteuid() == 0:
            os.setgroups([]); os.setgid({_NOBODY}); os.setuid({_NOBODY})
        sys.argv = ["scalple-ingest", *told["arguments"]]
        command.main()
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


def scalple_as_nobody(*arguments: str | Path) -> Said:
    """One call."""
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory, name) for name in ("out", "err")]
        for file in files:
            file.touch()
        code = _parent().run(
            {
                "arguments": [str(one) for one in arguments],
                "files": [str(file) for file in files],
                "environment": os.environ | {"HOME": "/nonexistent"},
                "directory": str(Path.cwd()),
            }
        )
        return Said(code, *(file.read_text() for file in files))


class _Parent:
    """The process that the calls are forked from."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PARENT],
            stdin=pipe,
            stdout=pipe,
            text=True,
            start_new_session=True,
            # Threads don't come along when a process is forked: it has none.
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )
        atexit.register(self._end)

    def run(self, told: dict[str, object]) -> int:
        """The exit code of one call."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], _TIMEOUT_S)[0]:
            self._end()
            _parent.cache_clear()
            raise TimeoutError(f"no end after {_TIMEOUT_S} s: {told['arguments']}")
        return int(process.stdout.readline())

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@functools.cache
def _parent() -> _Parent:
    return _Parent()
