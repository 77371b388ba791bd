"""Runs the command line as its user does, with what it said and its exit code.

Enters: arguments. Leaves: stdout, stderr and the exit code of `main`, called in this process. Does not:
replace any part of it. (`unprivileged.py` calls it in processes that may do less.)
"""

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from scalple.cli.main import main
from scalple.ingest.sourcefile import SETTLED_SECONDS
from scalple.store.views import connect

SAMPLE = Path(__file__).resolve().parent.parent / "sample_logs"


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
    if arguments[:1] == ("reprocess",):
        _let_rest(arguments[1:])
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


def _let_rest(arguments: Sequence[str | Path]) -> None:
    """Makes logs older that were written just now: `reprocess` waits a second for whoever may still be at it
    (`SourceFile.settle`, shown in test_cli_containers.py), and every test would."""
    given: list[Path] = []
    for path in map(Path, arguments):
        with contextlib.suppress(ValueError, OSError):
            given += path.parent.glob("*" if path.suffix == ".toml" else path.name)
    for path in filter(Path.is_file, given):
        said = path.stat()
        if time.time() - said.st_mtime < SETTLED_SECONDS:
            with contextlib.suppress(PermissionError):  # of who isn't the owner the program waits
                os.utime(path, ns=(said.st_atime_ns, said.st_mtime_ns - int(2e9 * SETTLED_SECONDS)))


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
