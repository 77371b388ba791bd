"""Where forms of statements lie between runs: in the user's cache directory, like `store.verified`'s file.

Enters: the rules, and the catalogs that a run meets. Leaves: what an earlier run left for exactly these
and this program, and afterwards a file with what this run used. Derived: deleting it costs the time to
parse once more. A file that can't be read counts as none. Whoever can write to the directory can change
what a run takes a statement for; it is as much the user's as the program itself.
"""

import contextlib
import hashlib
import json
import os
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from scalple.cli import declarations
from scalple.correlate.catalog import Catalog
from scalple.correlate.forms import REMEMBERED
from scalple.correlate.keptforms import KeptForms
from scalple.correlate.rules import Rules
from scalple.correlate.schemastate import catalog_to_plain
from scalple.store.verified import default_cache_file

FILES_MAX = 16
"""The files used last stay."""
_CATALOGS_MAX = 8
"""To say what a catalog is takes longer than to parse some statements: under DDL nothing is kept."""


class FormCache:
    """Forms of one run's rules; without a directory nothing is kept."""

    def __init__(
        self, rules: Rules, functions_sql: str | None, directory: Path | None = None
    ) -> None:
        self._directory = directory or default_cache_file().parent / "forms"
        said = declarations.to_objects(rules)[declarations.RULES]
        self._prefix = _program() + said + (functions_sql or "").encode()
        self._open: dict[int, tuple[Path, KeptForms] | None] = {}

    def of(self, catalog: Catalog) -> KeptForms | None:
        """What is kept for a catalog; None for all but the first few."""
        if catalog.serial not in self._open:
            is_late = len(self._open) >= _CATALOGS_MAX
            self._open[catalog.serial] = None if is_late else self._load(catalog)
        found = self._open[catalog.serial]
        return None if found is None else found[1]

    def _load(self, catalog: Catalog) -> tuple[Path, KeptForms]:
        plain = json.dumps(catalog_to_plain(catalog), sort_keys=True).encode()
        name = hashlib.sha256(self._prefix + plain).hexdigest()
        path = self._directory / f"{name}.json"
        try:
            return path, KeptForms.from_bytes(path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return path, KeptForms()

    def save(self) -> None:
        """Keeps what is new for the next run; that it can't be kept is no error."""
        with contextlib.suppress(OSError):
            for path, forms in filter(None, self._open.values()):
                if forms.has_news:
                    self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                    temporary = path.with_suffix(f".{os.getpid()}")
                    temporary.write_bytes(forms.to_bytes(REMEMBERED))
                    temporary.replace(path)
                elif forms.used:
                    path.touch()
            files = sorted(self._directory.glob("*.json"), key=lambda one: one.stat().st_mtime)
            for path in files[:-FILES_MAX]:
                path.unlink(missing_ok=True)


def _program() -> bytes:
    """What tells this program from any other that would read a statement otherwise."""
    digest = hashlib.sha256(version("sqlglot").encode())
    for one in sorted(resources.files("scalple.correlate").iterdir(), key=lambda path: path.name):
        if one.name.endswith(".py"):
            digest.update(one.name.encode() + one.read_bytes())
    return digest.digest()
