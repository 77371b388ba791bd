"""`doctor`: which grade of attribution the servers' settings allow for, and what to change.

Enters: paths of settings and logs, or a connection string; the configuration. Leaves: a report, and an exit
code. Reads, and prints lines; changes nothing.
"""

import glob
import sys
import time
import zoneinfo
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from scalple.cli import auditfindings, logfindings, lookupcost, poolerfindings, serverfindings
from scalple.cli.config import Config
from scalple.cli.doctorreport import Report, worst, write
from scalple.cli.findings import ERROR, NOTE, WARNING, Finding, Fix
from scalple.cli.options import command, config_option, configured
from scalple.correlate.reachable import Means, reachable
from scalple.ingest import liveserver, logtail, poolersettings, serversettings
from scalple.ingest.container import ReadOptions
from scalple.ingest.errors import ConfigError, InputError, ScalpleError
from scalple.ingest.filerights import Account
from scalple.ingest.liveserver import LiveServer
from scalple.ingest.logtail import LogSample, PoolerSample
from scalple.ingest.poolersettings import PoolerSettings
from scalple.ingest.serversettings import ServerSettings

EXIT_CODES = {None: 0, NOTE: 0, WARNING: 8, ERROR: 9}
"""By the worst finding."""
_DEBIAN = "/etc/postgresql/*/*/postgresql.conf"
_POOLER = Path("/etc/pgbouncer/pgbouncer.ini")
_PATH = click.Path(path_type=Path)


@command("doctor")
@click.option(
    "--postgres-conf",
    type=_PATH,
    metavar="FILE",
    help="postgresql.conf. Without it, and without --dsn: the one below /etc/postgresql.",
)
@click.option(
    "--data-directory",
    type=_PATH,
    metavar="DIR",
    help="Where postgresql.auto.conf is, if the file doesn't say it.",
)
@click.option(
    "--dsn",
    metavar="DSN",
    help="Ask the server instead: libpq's connection string or URI ('' for PGHOST and so on).",
)
@click.option(
    "--pgbouncer-ini",
    type=_PATH,
    metavar="FILE",
    help="pgbouncer.ini. Without it: /etc/pgbouncer/pgbouncer.ini, if there is one.",
)
@click.option("--no-pooler", is_flag=True, help="There is no pooler: look for none.")
@click.option(
    "--postgres-log",
    multiple=True,
    metavar="PATH…",
    help="The server's logs. Without it: as the configuration or log_directory say.",
)
@click.option(
    "--pgbouncer-log",
    multiple=True,
    metavar="PATH…",
    help="PgBouncer's logs. Without it: as the configuration or logfile say.",
)
@click.option(
    "--account",
    metavar="NAME",
    help="The account that will read the logs. Without it: the one that runs this.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON (docs/DOCTOR.md).")
@config_option
def doctor(
    postgres_conf: Path | None,
    data_directory: Path | None,
    dsn: str | None,
    pgbouncer_ini: Path | None,
    no_pooler: bool,
    postgres_log: tuple[str, ...],
    pgbouncer_log: tuple[str, ...],
    account: str | None,
    as_json: bool,
    config_path: Path | None,
) -> None:
    """Say which grade is possible, and which lines to change.

    Looks at the settings of PostgreSQL and PgBouncer, at the ends of their logs, at who may read them and at
    clocks. Changes nothing. Exit code: 0 nothing to change, 8 something is withheld or lost, 9 nothing is
    attributed or something can't be read.

    \b
    Example:
      scalple-ingest doctor --postgres-conf /etc/postgresql/15/main/postgresql.conf \\
        --pgbouncer-ini /etc/pgbouncer/pgbouncer.ini --account scalple
    """
    config = configured(config_path) if config_path else None
    no_pooler = no_pooler or (config is not None and config.pooler.kind == "none")
    if no_pooler and pgbouncer_ini is not None:
        raise ConfigError("there is a pooler, or there is none", place="--pgbouncer-ini")
    live = liveserver.ask(dsn) if dsn is not None else None
    settings = _settings(postgres_conf, data_directory, live)
    look = _Look(
        settings,
        live,
        None if no_pooler else _pooler(pgbouncer_ini),
        config,
        str(config_path) if config_path else None,
        Account.named(account) if account else Account.mine(),
        no_pooler,
        postgres_log or (config.sources.postgres if config else ()),
        pgbouncer_log or (config.sources.pgbouncer if config else ()),
    )
    report = look.report()
    write(report, sys.stdout, as_json=as_json)
    sys.stdout.flush()
    sys.exit(EXIT_CODES[worst(report.findings)])


def _settings(
    conf: Path | None, data_directory: Path | None, live: LiveServer | None
) -> ServerSettings:
    """What the server says, or what its files say.

    Raises:
        InputError: there is no file, or which one isn't clear.
    """
    if live is not None:
        if conf is not None:
            raise ConfigError(
                "either the server is asked or its files are read",
                place="--dsn",
                hint="leave out --dsn or --postgres-conf",
            )
        return live.settings
    if conf is None:
        found = sorted(glob.glob(_DEBIAN))  # noqa: PTH207 (an absolute pattern)
        if len(found) != 1:
            raise InputError(
                "which server?" if found else "no postgresql.conf found",
                hint=f"give --postgres-conf FILE{f', one of {chr(10).join(found)}' if found else ''}, "
                "or --dsn",
            )
        conf = Path(found[0])
    if conf.is_dir():
        raise InputError("is a folder", place=str(conf), hint=f"give {conf / 'postgresql.conf'}")
    # Logs are looked for beside it.
    folder = data_directory.absolute() if data_directory is not None else None
    return serversettings.read_files(conf.absolute(), folder)


def _pooler(ini: Path | None) -> PoolerSettings | None:
    if ini is None and not _POOLER.exists():
        return None
    return poolersettings.read_ini(ini or _POOLER)


@dataclass
class _Look:
    """All that is looked at, and what is found."""

    settings: ServerSettings
    live: LiveServer | None
    pooler: PoolerSettings | None
    config: Config | None
    config_path: str | None
    who: Account
    no_pooler: bool
    server_patterns: Sequence[str]
    pooler_patterns: Sequence[str]
    findings: list[Finding] = field(default_factory=list)

    def report(self) -> Report:
        """Everything."""
        server_files, directory = self._server_files()
        pooler_files = self._pooler_files()
        rights = self._rights(directory, server_files, pooler_files)
        log = self._sample_server(server_files) if not rights[0] else None
        told = self._sample_pooler(pooler_files) if not rights[1] else None
        means = self._means(log, told, *map(bool, rights))
        self._check_settings(log, told)
        self.findings += [*rights[0], *rights[1]]
        self._check_logs(log, told, is_audited=means.is_audited)
        expected = logfindings.volume(log, told)
        cost = lookupcost.expected(expected.audits_per_day) if expected else None
        if self.config is not None and self.config.store:
            of_store, said = lookupcost.check(self.config.store)
            cost = of_store or cost
            self.findings += said
        return Report(
            self._checked(),
            reachable(means),
            self.findings,
            expected,
            cost,
            log,
            told,
            self.live,
        )

    def _checked(self) -> dict[str, str | None]:
        server = f"the server ({self.live.database})" if self.live else str(self.settings.main)
        return {
            "postgres": server,
            "pgbouncer": str(self.pooler.main) if self.pooler else None,
            "config": self.config_path,
            "account": self.who.name,
        }

    def _server_files(self) -> tuple[list[Path], Path | None]:
        """The server's logs, and the folder where they are."""
        if self.server_patterns:
            return _matching(self.server_patterns), None
        if self.live is not None and not self.live.is_here:
            return [], None
        settings, main = self.settings, self.settings.main
        folder = Path(settings.value("log_directory", "log"))
        if settings.data_directory is not None:
            folder = settings.data_directory / folder
        elif not folder.is_absolute() and main is not None:
            folder = main.parent / folder
        if not settings.flag("logging_collector", False):
            return _debian_log(settings), folder
        ending = {"csvlog": ".csv", "jsonlog": ".json"}.get(serverfindings.form(settings) or "", "")
        names = sorted(_listed(folder))
        if ending:
            return [path for path in names if ending in path.suffixes], folder
        others = (".csv", ".json")
        return [path for path in names if not set(others) & set(path.suffixes)], folder

    def _pooler_files(self) -> list[Path]:
        if self.pooler_patterns:
            return _matching(self.pooler_patterns)
        name = self.pooler.value("logfile", "") if self.pooler else ""
        return [Path(name)] if name and Path(name).exists() else []

    def _rights(
        self, directory: Path | None, server: list[Path], pooler: list[Path]
    ) -> tuple[list[Finding], list[Finding]]:
        """What can't be read of the server's and of PgBouncer's logs; errors only stop reading."""
        found = list(logfindings.check_rights(self.settings, directory, server, self.who))
        self.findings += [one for one in found if one.severity != ERROR]
        if self.config is not None:
            events = _matching(self.config.sources.identity)
            self.findings += logfindings.check_rights(None, None, events, self.who)
        log = self.pooler.value("logfile", "") if self.pooler else ""
        folder = Path(log).parent if log and not self.pooler_patterns else None
        return (
            [one for one in found if one.severity == ERROR],
            list(logfindings.check_rights(None, folder, pooler, self.who)),
        )

    def _sample_server(self, paths: list[Path]) -> LogSample | None:
        try:
            return logtail.sample_server(paths, self._options())
        except InputError as error:  # this process is somebody else than --account
            self._unread(error)
            return None

    def _sample_pooler(self, paths: list[Path]) -> PoolerSample | None:
        try:
            return logtail.sample_pooler(paths)
        except InputError as error:
            self._unread(error)
            return None

    def _unread(self, error: ScalpleError) -> None:
        fix = Fix("run this as an account that may read it")
        self.findings.append(Finding(WARNING, "not-looked-at", error.what, error.place or "", fix))

    def _options(self) -> ReadOptions:
        zone = self.config.sources.timezone if self.config else None
        zone = zone or self.settings.value("log_timezone", "UTC")
        prefixes = self.config.sources.log_line_prefixes() if self.config else ()
        if not prefixes and (said := self.settings.get("log_line_prefix")):
            prefixes = (said.value,)
        return ReadOptions(timezone=_zone(zone), log_line_prefixes=prefixes)

    def _means(
        self,
        log: LogSample | None,
        told: PoolerSample | None,
        server_refused: bool,
        pooler_refused: bool,
    ) -> Means:
        settings, pooler = self.settings, self.pooler
        classes = auditfindings.classes(settings)
        form = serverfindings.form(settings)
        is_read = form is not None and not server_refused
        if not settings.flag("logging_collector", False):
            is_read = is_read and log is not None and log.form is not None
        shown = log is None or log.form is not None or not log.total_bytes
        level = settings.value("log_min_messages", "warning").lower()
        is_told = pooler is not None and poolerfindings.tells_connections(pooler)
        if self.pooler_patterns:
            is_told = is_told and bool(_matching(self.pooler_patterns))
        return Means(
            is_audited=bool(auditfindings.is_loaded(settings))
            and bool(classes & {"read", "write"})
            and level not in ("fatal", "panic"),
            is_read=is_read and shown,
            lacks=serverfindings.lacks(settings),
            has_replays="misc_set" in classes,
            has_connections=serverfindings.logs_connections(settings),
            has_pooler=pooler is not None,
            pooler_is_told=is_told and not pooler_refused and (told is None or told.is_log),
            pooler_is_local=pooler is not None and poolerfindings.is_local(pooler),
            has_suffix=pooler is not None and pooler.number("application_name_add_host", 0) > 0,
            has_links=pooler is not None and pooler.number("verbose", 0) >= 2,
            has_roles=bool(self.config and self.config.actors.roles),
        )

    def _check_settings(self, log: LogSample | None, told: PoolerSample | None) -> None:
        config, path = self.config, self.config_path
        is_log = log is not None and log.form is not None
        self.findings += serverfindings.check(
            self.settings, self.live, config, path, has_log=is_log
        )
        self.findings += auditfindings.check(self.settings, self.live)
        if self.pooler is not None:
            has_sidecar = config is not None and bool(
                config.sources.identity or config.sidecar.events
            )
            self.findings += poolerfindings.check(
                self.pooler,
                told.version if told else None,
                config,
                path,
                has_sidecar=has_sidecar,
            )
        elif not self.no_pooler:
            fix = Fix("give --pgbouncer-ini FILE, or --no-pooler")
            what = "no pgbouncer.ini was looked at: what is said here holds without a pooler"
            self.findings.append(Finding(NOTE, "pooler-unknown", what, str(_POOLER), fix))

    def _check_logs(
        self, log: LogSample | None, told: PoolerSample | None, *, is_audited: bool
    ) -> None:
        now = time.time()
        if log is not None:
            self.findings += logfindings.check_log(
                self.settings, log, self.config, is_audited=is_audited, now=now
            )
        elif self.server_patterns and not _matching(self.server_patterns):
            fix = Fix("name the files that the server writes, or start it")
            self.findings.append(
                Finding(ERROR, "log-missing", "no file", ", ".join(self.server_patterns), fix)
            )
        if told is not None:
            self.findings += logfindings.check_pooler_log(told, self.config)
        if self.pooler is not None and self.pooler_patterns:
            found = _matching(self.pooler_patterns)
            self.findings += poolerfindings.check_log_place(
                self.pooler, self.pooler_patterns, found
            )
        if self.live is not None:
            self.findings += logfindings.check_clock(self.live, self.config, self.config_path)
            if not self.live.is_here and not self.server_patterns:
                fix = Fix("run this on the server's host as well")
                what = "the logs lie on another host: whether they can be read wasn't looked at"
                self.findings.append(Finding(NOTE, "logs-elsewhere", what, "--dsn", fix))


def _matching(patterns: Sequence[str]) -> list[Path]:
    found = {
        Path(name): None
        for pattern in patterns
        for name in sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
    }
    return [path for path in found if path.is_file()]


def _listed(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.is_file())
    except OSError:
        return  # what refuses is told of by `check_rights`


def _debian_log(settings: ServerSettings) -> list[Path]:
    """Debian's pg_ctlcluster has the server's stderr written to a file."""
    parts = settings.main.parts if settings.main else ()
    if len(parts) < 4 or parts[-4] != "postgresql":
        return []
    path = Path(f"/var/log/postgresql/postgresql-{parts[-3]}-{parts[-2]}.log")
    return [path] if path.exists() else []


def _zone(name: str) -> str | None:
    """A zone's name as this host knows it; PostgreSQL knows some more."""
    if name.lower() in serverfindings.UTC_NAMES:
        return "UTC"
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None
    return name
