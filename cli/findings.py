"""What `doctor` finds: what is wrong, where, and exactly what to do.

Enters: what a check saw. Leaves: `Finding`s, as text or for JSON. Changes nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scalple.ingest.poolersettings import PoolerSettings
from scalple.ingest.serversettings import ServerSettings, quoted

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
"""Nothing is attributed, or nothing can be read; something is withheld or lost; a choice to know of."""

RESTART, RELOAD = "restart", "reload"
_RESTARTED = frozenset({"shared_preload_libraries", "logging_collector"})
_QUOTED_LISTS = frozenset({"shared_preload_libraries"})
"""ALTER SYSTEM takes one quoted text for one element."""
_TABLE = re.compile(r"\s*\[([^\[\]]+)\]")


@dataclass(frozen=True, slots=True)
class Fix:
    """What mends a finding.

    Attributes:
        do: in words.
        file: the file in which `lines` belong.
        section: its section, where it has some.
        replaces: the number of the line in whose place they belong; None: they are added at the end
            (of the section).
        lines: exactly so.
        sql: statements for a superuser.
        commands: for root's shell.
        needs: `restart` or `reload` of the server that reads the file.
    """

    do: str
    file: str | None = None
    section: str | None = None
    replaces: int | None = None
    lines: tuple[str, ...] = ()
    sql: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know.

    Attributes:
        severity: of SEVERITIES.
        code: its name, the same in every version (docs/DOCTOR.md).
        what: what is wrong and what follows from it.
        where: `FILE:LINE`, a file, or what was looked at.
        fix: what to do.
    """

    severity: str
    code: str
    what: str
    where: str
    fix: Fix

    def plain(self) -> Mapping[str, Any]:
        """For JSON."""
        return asdict(self)


def server_place(settings: ServerSettings, name: str) -> str:
    """Where a setting of PostgreSQL's stands, or would."""
    found = settings.get(name)
    if found is not None and found.place is not None:
        return found.place
    if found is not None and found.source in ("command line", "environment variable"):
        return f"{name}, from the server's {found.source}"
    if found is not None and found.source == "configuration file":
        return f"{name}, in a file that this role may not see"
    return f"{settings.main or 'postgresql.conf'} ({name} isn't set there)"


def set_server(settings: ServerSettings, name: str, value: str, do: str) -> Fix:
    """The line that gives a setting of PostgreSQL's another value.

    A line counts only if no later one says otherwise, so it takes the place of the one that holds; what
    ALTER SYSTEM said counts more than any line.
    """
    found = settings.get(name)
    needs = RESTART if name in _RESTARTED else RELOAD
    if found is not None and found.is_by_alter_system:
        parts = [one.strip() for one in value.split(",")] if name in _QUOTED_LISTS else [value]
        said = f"ALTER SYSTEM SET {name} = {', '.join(map(quoted, parts))};"
        return Fix(do, str(found.file), sql=(said,), needs=needs)
    if found is not None and found.source in ("command line", "environment variable"):
        return Fix(f"{do}: start the server with {name} = {value}", needs=RESTART)
    line = f"{name} = {quoted(value)}"
    if found is not None and found.file is not None:
        return Fix(do, str(found.file), None, found.line, (line,), needs=needs)
    return Fix(do, str(settings.main or "postgresql.conf"), lines=(line,), needs=needs)


def pooler_place(settings: PoolerSettings, name: str) -> str:
    """Where a setting of PgBouncer's stands, or would."""
    found = settings.get(name)
    if found is not None and found.place is not None:
        return found.place
    return f"{settings.main} ({name} isn't set there)"


def set_pooler(settings: PoolerSettings, name: str, value: str, do: str) -> Fix:
    """The line that gives a setting of PgBouncer's another value."""
    found = settings.get(name)
    file, line = (found.file, found.line) if found else (settings.main, None)
    return Fix(do, str(file), "pgbouncer", line, (f"{name} = {value}",), needs=RELOAD)


def set_config(
    path: str, section: str, key: str, value: str, do: str, needs: str | None = None
) -> Fix:
    """The line that gives a key of our own configuration another value (as TOML)."""
    here, replaces = "", None
    for number, line in enumerate(Path(path).read_text("utf-8").split("\n"), 1):
        if head := _TABLE.match(line):
            here = head[1]
        elif here == section and re.match(rf"\s*{key}\s*=", line):
            replaces = number
    return Fix(do, path, section, replaces, (f"{key} = {value}",), needs=needs)
