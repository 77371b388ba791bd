"""What PostgreSQL's own settings leave out of its log.

Enters: the settings of a PostgreSQL, and the form in which its log is read. Leaves: findings about where it
logs to, what its lines say, who connects, and time. Source: src/backend/utils/error/elog.c (9.5 to 18) and
docs/SOURCES.md.
"""

import json
import shlex
from collections.abc import Iterator

from scalple.cli.config import Config
from scalple.cli.findings import (
    ERROR,
    NOTE,
    WARNING,
    Finding,
    Fix,
    server_place,
    set_config,
    set_server,
)
from scalple.ingest.lineprefix import read_prefix
from scalple.ingest.liveserver import LiveServer
from scalple.ingest.prefixguess import KNOWN
from scalple.ingest.records import Lacks
from scalple.ingest.serversettings import ServerSettings, read_flag

BEST_PREFIX = "%m [%p] %l %c %v %e %P %q%u@%d %r %a "
"""Lacks nothing that matters (docs/SOURCES.md)."""
_DEFAULT_PREFIX = "%m [%p] "
UTC_NAMES = frozenset(
    {"utc", "gmt", "etc/utc", "etc/gmt", "uct", "etc/uct", "universal", "zulu", "gmt0", "greenwich"}
)
_SUPPRESSING = ("fatal", "panic")
_WITHOUT_STATEMENTS = ("log", "fatal", "panic")
_CONNECTION_PARTS = frozenset({"receipt", "authentication", "authorization"})
_LACKED = {
    Lacks.USER: "%u",
    Lacks.DATABASE: "%d",
    Lacks.ENDPOINT: "%r",
    Lacks.PORT: "%r",
    Lacks.NAME: "%a",
    Lacks.TRANSACTION: "%v",
    Lacks.LINE: "%l",
    Lacks.SESSION: "%c",
    Lacks.STATE: "%e",
    Lacks.FRACTION: "%m",
}


def destinations(settings: ServerSettings) -> set[str]:
    """Where the log goes to."""
    words = settings.value("log_destination", "stderr").lower().split(",")
    return {word.strip().strip('"') for word in words if word.strip()}


def form(settings: ServerSettings) -> str | None:
    """`csvlog`, `jsonlog` or `stderr`: the best that is written; None if none that is read is."""
    there = destinations(settings)
    if not settings.flag("logging_collector", False):
        return "stderr" if there & {"stderr", "csvlog", "jsonlog"} else None
    return next((one for one in ("csvlog", "jsonlog", "stderr") if one in there), None)


def lacks(settings: ServerSettings) -> Lacks:
    """What the records will not say."""
    if form(settings) in ("csvlog", "jsonlog"):
        return Lacks(0)
    found = read_prefix(settings.value("log_line_prefix", _DEFAULT_PREFIX)).lacks
    terse = settings.value("log_error_verbosity", "default").lower() == "terse"
    return found | Lacks.MARKS if terse else found


def logs_connections(settings: ServerSettings) -> bool:
    """Whether each connection is told of whole; since PostgreSQL 18 parts can be chosen."""
    parts = {word.strip() for word in settings.value("log_connections", "off").lower().split(",")}
    return "all" in parts or parts >= _CONNECTION_PARTS or read_flag(",".join(parts), False)


def check(
    settings: ServerSettings,
    live: LiveServer | None,
    config: Config | None,
    config_path: str | None,
    *,
    has_log: bool,
) -> Iterator[Finding]:
    """All findings about the server's own logging; `has_log`: there is a log that can be read."""
    for torn in settings.torn:
        if torn.is_ours:
            what = f"{torn.why}: what it says, and may say otherwise, isn't known here"
            do = "run this as the server's account (or root), or ask the server with --dsn"
            yield Finding(WARNING, "settings-unread", what, torn.place, Fix(do))
        else:
            what = f"{torn.why}: the server refuses the file"
            yield Finding(ERROR, "settings-torn", what, torn.place, Fix("mend the line"))
    for name in live.pending if live else ():
        yield Finding(
            WARNING,
            "restart-pending",
            f"{name} was changed in a file, and the server still works with what was before",
            server_place(settings, name),
            Fix("restart PostgreSQL", needs="restart"),
        )
    if live is not None and not live.sees_all:
        yield Finding(
            NOTE,
            "settings-hidden",
            f"the role {live.role} may not see all settings, nor where they stand",
            "--dsn",
            Fix("for as long as you look", sql=(f'GRANT pg_read_all_settings TO "{live.role}";',)),
        )
    yield from _destination(settings, has_log=has_log)
    yield from _prefix(settings, config, config_path)
    yield from _levels(settings)
    yield from _connections(settings)
    yield from _twice(settings)
    yield from _language(settings)
    yield from _timezone(settings, config, config_path)


def _destination(settings: ServerSettings, *, has_log: bool) -> Iterator[Finding]:
    there, written = destinations(settings), form(settings)
    if not settings.flag("logging_collector", False):
        yield Finding(
            WARNING if has_log else ERROR,
            "no-collector",
            "the server writes no log files itself: lines of several processes may run into each other"
            if has_log
            else "the server writes no log files itself",
            server_place(settings, "logging_collector"),
            set_server(settings, "logging_collector", "on", "have it write files"),
        )
    if not there & {"csvlog", "jsonlog"}:
        missing = sorted({sign for bit, sign in _LACKED.items() if bit & lacks(settings)})
        what = (
            f"a stderr log whose lines lack {', '.join(missing)}"
            if missing and written
            else "a stderr log can be mistaken where clients choose names"
            if written
            else f"log_destination = {', '.join(sorted(there))!r} isn't read"
        )
        said = f"{what}; csvlog says everything"
        harm = WARNING if missing and written else NOTE if written else ERROR
        yield Finding(
            harm,
            "no-csvlog",
            said,
            server_place(settings, "log_destination"),
            set_server(settings, "log_destination", "csvlog", "log as csvlog (jsonlog will do)"),
        )
        if written and missing:
            yield Finding(
                NOTE,
                "prefix-lacks",
                f"if it has to be stderr: log_line_prefix lacks {', '.join(missing)}",
                server_place(settings, "log_line_prefix"),
                set_server(settings, "log_line_prefix", BEST_PREFIX, "instead of csvlog"),
            )
    elif len(there & {"csvlog", "jsonlog", "stderr"}) > 1 and settings.flag(
        "logging_collector", False
    ):
        yield Finding(
            NOTE,
            "written-twice",
            f"every record is written {len(there)} times; give `reprocess` and the daemon one form only",
            server_place(settings, "log_destination"),
            set_server(settings, "log_destination", written or "csvlog", "write one form"),
        )


def _prefix(
    settings: ServerSettings, config: Config | None, config_path: str | None
) -> Iterator[Finding]:
    """A prefix that isn't among those that are recognised has to be stated."""
    prefix = settings.value("log_line_prefix", _DEFAULT_PREFIX)
    stated = config.sources.log_line_prefixes() if config else ()
    if form(settings) != "stderr" or prefix in stated or (not stated and prefix in KNOWN):
        return
    where = server_place(settings, "log_line_prefix")
    if config is None or config_path is None:
        what = f"log_line_prefix = {prefix!r} isn't recognised by itself"
        fix = Fix(f"give --log-line-prefix {shlex.quote(prefix)}, or state it under [sources]")
        yield Finding(NOTE, "prefix-unstated", what, where, fix)
        return
    what = f"log_line_prefix = {prefix!r}; the configuration doesn't say so"
    fix = set_config(
        config_path, "sources", "log_line_prefix", json.dumps(prefix), "state it as it stands there"
    )
    yield Finding(WARNING, "prefix-unstated", what, where, fix)


def _levels(settings: ServerSettings) -> Iterator[Finding]:
    level = settings.value("log_min_messages", "warning").lower()
    if level in _SUPPRESSING:
        yield Finding(
            ERROR,
            "messages-suppressed",
            f"log_min_messages = {level} keeps pgAudit's records out of the log",
            server_place(settings, "log_min_messages"),
            set_server(settings, "log_min_messages", "warning", "let them in"),
        )
    level = settings.value("log_min_error_statement", "error").lower()
    if level in _WITHOUT_STATEMENTS:
        yield Finding(
            WARNING,
            "denied-without-text",
            f"log_min_error_statement = {level}: statements that were refused aren't known",
            server_place(settings, "log_min_error_statement"),
            set_server(settings, "log_min_error_statement", "error", "have them quoted"),
        )
    terse = settings.value("log_error_verbosity", "default").lower() == "terse"
    if terse and form(settings) == "stderr":
        yield Finding(
            WARNING,
            "terse",
            "a terse log doesn't show what clients raise themselves: nobody is proven",
            server_place(settings, "log_error_verbosity"),
            set_server(settings, "log_error_verbosity", "default", "have CONTEXT logged"),
        )


def _connections(settings: ServerSettings) -> Iterator[Finding]:
    if not logs_connections(settings):
        value = "all" if (settings.version or 0) >= 18 else "on"
        yield Finding(
            WARNING,
            "no-connections",
            "who connects isn't logged: how PostgreSQL authenticated, and when sessions begin",
            server_place(settings, "log_connections"),
            set_server(settings, "log_connections", value, "have it logged"),
        )
    if not settings.flag("log_disconnections", False):
        yield Finding(
            WARNING,
            "no-disconnections",
            "when sessions end isn't logged: records that are missing at the end aren't noticed",
            server_place(settings, "log_disconnections"),
            set_server(settings, "log_disconnections", "on", "have it logged"),
        )


def _twice(settings: ServerSettings) -> Iterator[Finding]:
    if settings.value("log_statement", "none").lower() in ("all", "mod"):
        yield Finding(
            NOTE,
            "statements-twice",
            "log_statement writes again what pgAudit writes, and about as many bytes",
            server_place(settings, "log_statement"),
            set_server(settings, "log_statement", "none", "if nobody else reads it"),
        )
    if settings.value("log_min_duration_statement", "-1") in ("0", "0ms"):
        name = "log_min_duration_statement"
        yield Finding(
            NOTE,
            "statements-twice",
            "log_min_duration_statement = 0 writes again what pgAudit writes",
            server_place(settings, name),
            set_server(settings, name, "-1", "if nobody else reads it"),
        )


def _language(settings: ServerSettings) -> Iterator[Finding]:
    language = settings.value("lc_messages", "C")
    if (
        language
        and language not in ("C", "POSIX")
        and not language.lower().startswith(("en", "c."))
    ):
        yield Finding(
            WARNING,
            "language",
            f"lc_messages = {language}: messages about connections are read in English only",
            server_place(settings, "lc_messages"),
            set_server(settings, "lc_messages", "C", "log in English"),
        )


def _timezone(
    settings: ServerSettings, config: Config | None, config_path: str | None
) -> Iterator[Finding]:
    zone = settings.value("log_timezone", "GMT")
    stated = config.sources.timezone if config else None
    if zone.lower() in UTC_NAMES or zone == stated:
        return
    where = server_place(settings, "log_timezone")
    what = f"log_timezone = {zone}: times bear an abbreviation, which names no offset by itself"
    if config is None or config_path is None:
        fix = set_server(settings, "log_timezone", "UTC", f"or give --timezone {zone}")
        yield Finding(NOTE, "timezone", what, where, fix)
        return
    what += f"; the configuration says {stated}" if stated else ", and the configuration says none"
    fix = set_config(
        config_path, "sources", "timezone", f'"{zone}"', "say it (or set log_timezone = 'UTC')"
    )
    yield Finding(WARNING, "timezone", what, where, fix)
