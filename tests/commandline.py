"""Runs the command line as its user does, with what it said and its exit code.

Enters: arguments. Leaves: stdout, stderr and the exit code of `main`, called in this process, or in
one of its own without privileges. Does not: replace any part of it.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from scalple.cli.main import main
from scalple.store.views import connect

SAMPLE = Path(__file__).resolve().parent.parent / "sample_logs"
_NOBODY = 65534
# Everything is imported before the privileges go: the interpreter may lie where nobody else reads.
_UNPRIVILEGED = f"""
import os, sys
import scalple.cli.main as command
import scalple.cli.reprocess, scalple.cli.query, scalple.cli.verify, scalple.cli.coverage
import scalple.cli.config, scalple.cli.bundle, rich.console, rich.table, rich.progress
import encodings.idna, importlib.readers, cryptography.hazmat.primitives.serialization
os.setgroups([]); os.setgid({_NOBODY}); os.setuid({_NOBODY})
sys.argv[0] = "scalple-ingest"
command.main()
"""


@dataclass(frozen=True)
class Said:
    """What one call of the command left."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """stdout, read as JSON."""
        return json.loads(self.out)


def scalple(*arguments: str | Path) -> Said:
    """One call, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["scalple-ingest", *map(str, arguments)]),
    ):
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int)
    return Said(code, out.getvalue(), err.getvalue())


def scalple_as_nobody(*arguments: str | Path) -> Said:
    """One call, in a process that may only do what anybody may."""
    command = [sys.executable, "-c", _UNPRIVILEGED] if os.geteuid() == 0 else [_script()]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"HOME": "/nonexistent"},
    )
    return Said(done.returncode, done.stdout, done.stderr)


def _script() -> str:
    return str(Path(sys.executable).with_name("scalple-ingest"))


def reprocess_sample(store: Path, *more: str | Path, samples: Path = SAMPLE) -> Said:
    """The recorded sample into a store."""
    return scalple("reprocess", "--config", samples / "config.toml", "--store", store, *more)


def rows(store: Path, text: str) -> list[dict[str, Any]]:
    """What the views of a store answer."""
    found: list[dict[str, Any]] = connect(store).sql(text).to_arrow_table().to_pylist()
    return found


def manifests(store: Path) -> int:
    """How many commits a store holds; questions that were logged don't count."""
    return len(list(store.glob("[!_]*/manifests/*.json")))
