"""What pgAudit's settings leave out.

Enters: the settings of a PostgreSQL, and the server itself if it was asked. Leaves: findings about pgAudit.
Sources: pgaudit.c (1.0 to 18.0) and docs/LIMITS.md, "What pgAudit doesn't say".
"""

from collections.abc import Iterator
from pathlib import Path

from scalple.cli.findings import (
    ERROR,
    NOTE,
    WARNING,
    Finding,
    Fix,
    server_place,
    set_server,
)
from scalple.ingest.liveserver import LiveServer
from scalple.ingest.serversettings import ServerSettings

CLASSES = frozenset({"read", "write", "function", "role", "ddl", "misc", "misc_set"})
_NEEDED = ("read", "write", "misc_set", "ddl", "role", "function")
"""The most important first."""
_LIBRARIES = ("/usr/lib/postgresql/{}/lib", "/usr/pgsql-{}/lib")
"""Of Debian's and of PostgreSQL's own packages."""


def is_loaded(settings: ServerSettings) -> bool | None:
    """Whether pgAudit is loaded, or would be; None if the role may not see that."""
    if settings.is_live and settings.get("pgaudit.log") is not None:
        return True
    if settings.is_live and settings.get("shared_preload_libraries") is None:
        return False  # its settings would show
    return "pgaudit" in _listed(settings.value("shared_preload_libraries", ""))


def classes(settings: ServerSettings) -> frozenset[str]:
    """What pgaudit.log has logged; a word that is none makes the server keep what was before."""
    found: set[str] = set()
    for word in _listed(settings.value("pgaudit.log", "none")):
        name = word.removeprefix("-")
        named = {"all": CLASSES, "none": CLASSES, "misc": {"misc", "misc_set"}}.get(name, {name})
        takes = word.startswith("-") != (name == "none")
        found = found - named if takes else found | (named & CLASSES)
    return frozenset(found)


def check(settings: ServerSettings, live: LiveServer | None) -> Iterator[Finding]:
    """All findings about pgAudit."""
    if not is_loaded(settings):
        yield from _not_loaded(settings, live)
    yield from _classes(settings)
    yield from _switches(settings)
    yield from _extension(settings, live)
    yield from _overrides(live)


def _not_loaded(settings: ServerSettings, live: LiveServer | None) -> Iterator[Finding]:
    version = settings.version
    if lacks_library(version, live):
        package = f"postgresql-{version or 'VERSION'}-pgaudit"
        yield Finding(
            ERROR,
            "pgaudit-not-installed",
            "pgAudit isn't installed: a server that should load it wouldn't start",
            f"PostgreSQL {version or ''}".strip(),
            Fix(
                "install it before anything else (Red Hat: pgaudit_VERSION)",
                commands=(f"apt-get install {package}",),
            ),
        )
    loaded = [
        word for word in settings.value("shared_preload_libraries", "").split(",") if word.strip()
    ]
    value = ", ".join([*(word.strip().strip('"') for word in loaded), "pgaudit"])
    yield Finding(
        ERROR,
        "pgaudit-not-loaded",
        "pgAudit isn't loaded: no statement is on record",
        server_place(settings, "shared_preload_libraries"),
        set_server(settings, "shared_preload_libraries", value, "load it"),
    )


def lacks_library(version: int | None, live: LiveServer | None) -> bool:
    """Whether pgAudit's files are known to be missing."""
    if live is not None:
        return not live.has_library
    folders = [Path(one.format(version)) for one in _LIBRARIES]
    there = [folder for folder in folders if folder.is_dir()]
    return bool(there) and not any((folder / "pgaudit.so").exists() for folder in there)


def _classes(settings: ServerSettings) -> Iterator[Finding]:
    there = classes(settings)
    missing = [one for one in _NEEDED if one not in there]
    if not missing:
        return
    nothing = not {"read", "write"} & there
    held_back = {"read", "write", "misc_set"} & set(missing)
    said = settings.value("pgaudit.log", "none")
    kept = [word for word in _listed(said) if word not in ("none", *(f"-{m}" for m in missing))]
    kept = [word for word in kept if word != "-misc"]
    value = ", ".join([*kept, *missing]) if there else "all"
    yield Finding(
        ERROR if nothing else WARNING if held_back else NOTE,
        "pgaudit-classes",
        f"pgaudit.log = {said!r} leaves out {', '.join(missing)}: {_what_is_lost(missing)}",
        server_place(settings, "pgaudit.log"),
        set_server(settings, "pgaudit.log", value, "have them logged"),
    )


_LOST = {
    "read": "what is read isn't on record",
    "write": "what is written isn't on record",
    "misc_set": "without the pooler's replayed SET a tag is confirmed at best, and others claimed",
    "ddl": "changes of the schema aren't followed",
    "role": "grants aren't on record",
    "function": "DO blocks leave no record, and can take another's name unseen",
}


def _what_is_lost(missing: list[str]) -> str:
    return "; ".join(_LOST[one] for one in missing)


# name, default, wanted, severity, code, what is wrong
_SWITCHES = (
    (
        "pgaudit.log_parameter",
        False,
        True,
        WARNING,
        "no-parameters",
        "bind values aren't logged: whoever a prepared statement names isn't found",
    ),
    (
        "pgaudit.log_relation",
        False,
        True,
        NOTE,
        "no-relations",
        "pgAudit doesn't name the tables: those behind functions and views aren't known",
    ),
    (
        "pgaudit.log_catalog",
        True,
        True,
        NOTE,
        "no-catalog",
        "reading pg_stats, which shows values of personal columns, isn't logged",
    ),
    (
        "pgaudit.log_statement",
        True,
        True,
        ERROR,
        "no-statement",
        "statements are logged without their text: neither columns nor people are known",
    ),
    (
        "pgaudit.log_statement_once",
        False,
        False,
        WARNING,
        "statement-once",
        "repeated texts are left out, and are filled in only from the same block of the log",
    ),
    (
        "pgaudit.log_client",
        False,
        False,
        WARNING,
        "log-client",
        "records also go to clients, with a severity of their own: below log_min_messages they are lost",
    ),
)


def _switches(settings: ServerSettings) -> Iterator[Finding]:
    for name, default, wanted, severity, code, what in _SWITCHES:
        if settings.flag(name, default) != wanted:
            value = "on" if wanted else "off"
            yield Finding(
                severity,
                code,
                what,
                server_place(settings, name),
                set_server(settings, name, value, f"set {name} {value}"),
            )
    yield _rows(settings)
    if settings.value("pgaudit.log_parameter_max_size", "0") not in ("0", "0B"):
        name = "pgaudit.log_parameter_max_size"
        yield Finding(
            NOTE,
            "parameters-cut",
            "long bind values are left out",
            server_place(settings, name),
            set_server(settings, name, "0", "log them whole"),
        )


def _rows(settings: ServerSettings) -> Finding:
    name = "pgaudit.log_rows"
    if settings.flag(name, False):
        what = (
            "rows are counted, and in exchange a statement is logged when it ends: one that fails, or "
            "whose portal an error closes, may have shown rows and leaves no record (docs/LIMITS.md)"
        )
        fix = set_server(settings, name, "off", "if completeness is worth more than row counts")
        return Finding(NOTE, "rows-blind-spot", what, server_place(settings, name), fix)
    what = "how many rows a statement returned isn't logged"
    fix = set_server(
        settings, name, "on", "if row counts are worth its blind spot (docs/LIMITS.md)"
    )
    return Finding(NOTE, "no-row-counts", what, server_place(settings, name), fix)


def _extension(settings: ServerSettings, live: LiveServer | None) -> Iterator[Finding]:
    create = "CREATE EXTENSION IF NOT EXISTS pgaudit;"
    if live is None:
        yield Finding(
            NOTE,
            "extension-unknown",
            "whether the extension was created can't be seen in files: without it records of DDL name "
            "no objects",
            str(settings.main),
            Fix("in each database, once pgAudit is loaded (--dsn looks)", sql=(create,)),
        )
    elif not live.has_extension:
        yield Finding(
            WARNING,
            "no-extension",
            f"the extension isn't created in {live.database}: records of DDL name no objects there",
            f"database {live.database}",
            Fix(f"in {live.database} and every other database", sql=(create,)),
        )


def _overrides(live: LiveServer | None) -> Iterator[Finding]:
    for one in live.overrides if live else ():
        whose = " in ".join(
            [
                *([f"role {one.role}"] if one.role else []),
                *([f"database {one.database}"] if one.database else []),
            ]
        )
        yield Finding(
            WARNING,
            "overridden",
            f"{whose or 'every role'} has its own {one.name} = {one.value!r}",
            "pg_db_role_setting",
            Fix(
                "unless that is what you want",
                sql=(_reset(one.role, one.database, one.name),),
            ),
        )


def _reset(role: str | None, database: str | None, name: str) -> str:
    if role is None and database is not None:
        return f"ALTER DATABASE {_identifier(database)} RESET {name};"
    inside = f" IN DATABASE {_identifier(database)}" if database else ""
    return f"ALTER ROLE {_identifier(role) if role else 'ALL'}{inside} RESET {name};"


def _identifier(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _listed(text: str) -> list[str]:
    words = (one.strip().strip('"').lower() for one in text.split(","))
    return [Path(word).name.removesuffix(".so") for word in words if word]
