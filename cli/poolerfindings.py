"""What PgBouncer's settings leave out, and where they don't fit what the configuration says.

Enters: a pgbouncer.ini, PgBouncer's version if its log tells it, and the configuration. Leaves: findings.
Sources: PgBouncer's doc/config.md and src/main.c (1.12 to 1.26), docs/ATTRIBUTION.md, docs/SIDECAR.md.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from scalple.cli.config import Config
from scalple.cli.findings import (
    ERROR,
    NOTE,
    RESTART,
    WARNING,
    Finding,
    Fix,
    pooler_place,
    set_config,
    set_pooler,
)
from scalple.ingest.poolersettings import Entry, PoolerSettings

_LOG_FOLDERS = (Path("/var/log/pgbouncer"), Path("/var/log/postgresql"))
"""Of Red Hat's and of Debian's packages."""
_HARMLESS_AUTH = frozenset({"cert", "trust", "any"})
_STATS_PERIOD_S = 60
_HOST = re.compile(r"\s+host\s*=\s*('(?:[^']|'')*'|\S+)")
_LINKED, _NAMES_KEPT, _STATEMENTS_KEPT, _KEPT_BY_DEFAULT, _NO_CHECK = (
    (1, 21),
    (1, 22),
    (1, 21),
    (1, 24),
    (1, 25),
)
Version = tuple[int, int]


def tells_connections(settings: PoolerSettings) -> bool:
    """Whether its log names each client and each server connection."""
    return bool(settings.value("logfile", "")) and settings.number("log_connections", 1) > 0


def is_local(settings: PoolerSettings) -> bool:
    """Whether some database is reached over a unix socket."""
    return any(True for _ in _local(settings))


def _local(settings: PoolerSettings) -> Iterator[Entry]:
    for one in settings.databases:
        host = one.options.get("host", "")
        if not host or host.startswith(("/", "@")):
            yield one


def check(
    settings: PoolerSettings,
    version: Version | None,
    config: Config | None,
    config_path: str | None,
    *,
    has_sidecar: bool,
) -> Iterator[Finding]:
    """All findings about PgBouncer.

    Args:
        settings: what its pgbouncer.ini says.
        version: as its log says.
        config: ours, if there is one, and its path.
        has_sidecar: clients come through a sidecar, as far as is known.
    """
    for torn in settings.torn:
        what = f"{torn.why}: what it says isn't known here"
        yield Finding(
            ERROR, "pooler-torn", what, torn.place, Fix("mend the line, or let it be read")
        )
    yield from _log(settings)
    yield from _names(settings, has_sidecar=has_sidecar)
    yield from _verbosity(settings)
    yield from _sockets(settings)
    yield from _modes(settings, config, config_path)
    yield from _statements(settings, version, config, config_path)
    yield from _own_queries(settings, version)
    if version is not None and version < _NAMES_KEPT:
        yield Finding(
            NOTE,
            "pooler-version",
            f"PgBouncer {version[0]}.{version[1]} forgets a client's name after RESET ALL (asyncpg sends "
            "it): on such a pool statements that no replay precedes are candidates",
            "PgBouncer's log",
            Fix("upgrade PgBouncer to 1.22 or later"),
        )


def _log(settings: PoolerSettings) -> Iterator[Finding]:
    if not settings.value("logfile", ""):
        to_syslog = settings.number("syslog", 0)
        yield Finding(
            ERROR,
            "pooler-no-logfile",
            f"PgBouncer logs to {'syslog, which isn’t read' if to_syslog else 'no file'}: which "
            "sessions are pooled, and who is on the pool, isn't known",
            pooler_place(settings, "logfile"),
            _logfile(settings),
        )
    for name, severity, code, what in (
        (
            "log_connections",
            ERROR,
            "pooler-no-connections",
            "who is on the pool, and which sessions are pooled, isn't logged: nobody is named",
        ),
        (
            "log_disconnections",
            WARNING,
            "pooler-no-disconnections",
            "when clients leave isn't logged: they stay candidates, and take others' names away",
        ),
        (
            "log_stats",
            WARNING,
            "pooler-no-stats",
            "without statistics lines a missing part of its log isn't noticed",
        ),
    ):
        if settings.number(name, 1) == 0:
            fix = set_pooler(settings, name, "1", "have it logged")
            yield Finding(severity, code, what, pooler_place(settings, name), fix)
    if settings.number("stats_period", _STATS_PERIOD_S) > 10 * _STATS_PERIOD_S:
        yield Finding(
            NOTE,
            "pooler-rare-stats",
            "a part of its log is missed only where it is longer than one and a half stats_period",
            pooler_place(settings, "stats_period"),
            set_pooler(settings, "stats_period", str(_STATS_PERIOD_S), "log them each minute"),
        )


def check_log_place(
    settings: PoolerSettings, patterns: Sequence[str], found: Sequence[Path]
) -> Iterator[Finding]:
    """Whether the log that is to be read, where patterns name it, is the one that PgBouncer writes."""
    named, place = settings.value("logfile", ""), ", ".join(patterns)
    fix = Fix(f"name {named} under [sources] pgbouncer" if named else "name PgBouncer's logfile")
    if not found:
        if named and any(fnmatch(named, one) for one in patterns):
            fix = Fix(f"start PgBouncer: the file appears with it; it writes {named}")
        what = "no file: which sessions are pooled, and who is on the pool, isn't known"
        yield Finding(ERROR, "pooler-log-missing", what, place, fix)
    elif named and Path(named).exists() and not any(_is_same(one, Path(named)) for one in found):
        what = f"PgBouncer writes {named}, which isn't among the files that are read"
        yield Finding(ERROR, "pooler-log-elsewhere", what, place, fix)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _logfile(settings: PoolerSettings) -> Fix:
    folder = next((one for one in _LOG_FOLDERS if one.is_dir()), None)
    path = (folder or _LOG_FOLDERS[0]) / "pgbouncer.log"
    # Its log has to tell of its start: who was there before a reload nobody knows.
    do = "log to a file that PgBouncer may write"
    fix = replace(set_pooler(settings, "logfile", str(path), do), needs=RESTART)
    if folder is not None:
        return fix
    return replace(fix, commands=(f"install -d -o pgbouncer -m 0750 {path.parent}",))


def _names(settings: PoolerSettings, *, has_sidecar: bool) -> Iterator[Finding]:
    if settings.number("application_name_add_host", 0):
        return
    what = "names don't say whose they are"
    yield Finding(
        NOTE if has_sidecar else WARNING,
        "no-add-host",
        f"{what}: not needed where all clients come through the sidecar"
        if has_sidecar
        else f"{what}: without a sidecar statements have candidates at best",
        pooler_place(settings, "application_name_add_host"),
        set_pooler(settings, "application_name_add_host", "1", "have names end in the endpoint"),
    )


def _verbosity(settings: PoolerSettings) -> Iterator[Finding]:
    level = settings.number("verbose", 0)
    if not level or settings.value("auth_type", "md5").lower() in _HARMLESS_AUTH:
        return
    gain = "; from 2 on it also says who was served by which connection" if level >= 2 else ""
    yield Finding(
        WARNING,
        "pooler-secrets",
        f"verbose = {level} writes passwords and SCRAM secrets into the log{gain}",
        pooler_place(settings, "verbose"),
        set_pooler(settings, "verbose", "0", "unless the log is kept like a secret"),
    )


def _sockets(settings: PoolerSettings) -> Iterator[Finding]:
    for one in _local(settings):
        line = one.text
        if line is not None:
            rest = _HOST.sub("", line)
            line = f"{rest} host=127.0.0.1"
        yield Finding(
            WARNING,
            "pooler-unix-socket",
            f"database {one.name} is reached over a unix socket: which session is which connection of "
            "the pool can't be seen, and nobody is proven",
            one.place,
            Fix(
                "reach it by TCP (host=127.0.0.1, or the server's address)",
                str(one.file),
                "databases",
                one.line,
                (line,) if line else (),
                needs="reload",
            ),
        )


def _modes(
    settings: PoolerSettings, config: Config | None, config_path: str | None
) -> Iterator[Finding]:
    for one in settings.pools_of_another_mode():
        mode = one.options["pool_mode"]
        yield Finding(
            NOTE,
            "pools-differ",
            f"{one.name} is served in {mode} mode, other pools in {settings.mode} mode; the configuration "
            "knows one mode",
            one.place,
            Fix("say the mode of the pools that matter under [pooler], or serve all in one mode"),
        )
    modes = {
        settings.mode,
        *(e.options.get("pool_mode", settings.mode) for e in settings.databases),
    }
    if config is None or config_path is None or config.pooler.kind == "none":
        return
    if config.pooler.mode not in modes:
        yield Finding(
            WARNING,
            "mode-differs",
            f"the configuration says mode = {config.pooler.mode!r}, PgBouncer's pools are in "
            f"{settings.mode} mode",
            pooler_place(settings, "pool_mode"),
            set_config(config_path, "pooler", "mode", f'"{settings.mode}"', "say what holds"),
        )


def keeps_statements(settings: PoolerSettings, version: Version | None) -> bool | None:
    """Whether each client's prepared statements are its own; None where that depends on the version."""
    if settings.mode == "session":
        return True
    said = settings.get("max_prepared_statements")
    if said is not None:
        return settings.number("max_prepared_statements", 0) > 0
    if version is None:
        return None
    return version >= _KEPT_BY_DEFAULT


def _statements(
    settings: PoolerSettings,
    version: Version | None,
    config: Config | None,
    config_path: str | None,
) -> Iterator[Finding]:
    kept = keeps_statements(settings, version)
    said = config.sidecar.prepared_statements if config else None
    where = pooler_place(settings, "max_prepared_statements")
    if said == "private" and kept is False:
        yield Finding(
            ERROR,
            "statements-shared",
            "the configuration says that prepared statements are private to each client, and PgBouncer "
            "shares them: a statement could be proven to be the wrong person's",
            where,
            _shared(settings, version, config_path),
        )
    elif said == "shared" and kept and config_path and config and config.sidecar.listen:
        yield Finding(
            NOTE,
            "statements-private",
            "PgBouncer keeps each client's prepared statements apart; as long as the configuration "
            "doesn't say so, clients that prepare statements cost the pool its proof",
            where,
            _say_statements(config_path, "private"),
        )


def _shared(settings: PoolerSettings, version: Version | None, config_path: str | None) -> Fix:
    if version is not None and version >= _STATEMENTS_KEPT:
        return set_pooler(settings, "max_prepared_statements", "200", "keep them apart")
    assert config_path is not None  # somebody has said that they are private
    return _say_statements(config_path, "shared")


def _say_statements(config_path: str, how: str) -> Fix:
    do = "say it, and restart the sidecar"
    return set_config(config_path, "sidecar", "prepared_statements", f'"{how}"', do, "restart")


def _own_queries(settings: PoolerSettings, version: Version | None) -> Iterator[Finding]:
    """Statements of PgBouncer's own that aren't known as such."""
    default = "" if version is not None and version >= _NO_CHECK else "select 1"
    check_query = settings.value("server_check_query", default)
    if check_query.lower() not in ("", "select 1", "<empty>"):
        yield Finding(
            NOTE,
            "pooler-check-query",
            "a health check of one's own counts as a statement of whoever was served before",
            pooler_place(settings, "server_check_query"),
            set_pooler(settings, "server_check_query", "select 1", "use the one that is known"),
        )
    reset = settings.value("server_reset_query", "DISCARD ALL").strip().rstrip(";")
    if settings.mode == "session" and reset.upper() != "DISCARD ALL":
        yield Finding(
            WARNING,
            "pooler-reset-query",
            "in session mode a reset of one's own counts as a statement of the client before, and "
            "without one a client's settings stay for the next",
            pooler_place(settings, "server_reset_query"),
            set_pooler(settings, "server_reset_query", "DISCARD ALL", "use the one that is known"),
        )
    if settings.mode != "session" and settings.number("server_reset_query_always", 0):
        yield Finding(
            NOTE,
            "pooler-reset-always",
            "a reset after every transaction counts as a statement of the client",
            pooler_place(settings, "server_reset_query_always"),
            set_pooler(settings, "server_reset_query_always", "0", "reset in session mode only"),
        )
    ignored = {w.strip() for w in settings.value("ignore_startup_parameters", "").split(",")}
    if "options" in ignored:
        yield Finding(
            NOTE,
            "pooler-options-ignored",
            "what clients say in `options` is dropped; without a sidecar in front their "
            "-c scalple.user=… would be lost without a word",
            pooler_place(settings, "ignore_startup_parameters"),
            set_pooler(
                settings,
                "ignore_startup_parameters",
                ", ".join(sorted(ignored - {"options", ""})),
                "let such connections fail, so that they are noticed",
            ),
        )
