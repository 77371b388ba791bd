"""What the logs themselves say: whether they can be read, how much there will be, and whose clock is wrong.

Enters: paths of logs, who is to read them, what samples say, and the time. Leaves: findings, and the expected
volume.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
from scalple.ingest.filerights import Account, Refusal, group_of, refusal
from scalple.ingest.liveserver import LiveServer
from scalple.ingest.logtail import LogSample, PoolerSample
from scalple.ingest.serversettings import ServerSettings

DAY_S = 86_400
_TOLD_S = 60
"""A log of less time tells nothing about a day."""
_TOLD_RECORDS = 200
_RECORD_BYTES, _REPLAY_BYTES = 330, 330
"""A csvlog record without its statement's text; PgBouncer's replay, whole (measured on a recording)."""
_FRESH_S, _LATE_S = 5.0, 5.0
_AHEAD_S, _APART_S = 2.0, 0.005
_DAYS_LEFT = 7
_UTC = ("UTC", "GMT", "Z", "UCT")
_LOG_DIRECTORY = "/var/log/postgresql"


@dataclass(frozen=True, slots=True)
class Volume:
    """How much a day will bring.

    Attributes:
        basis: `log`: what it wrote; `pooler-statistics`: statements that PgBouncer counted, which pgAudit
            will log.
        measured_s: over how many seconds.
        bytes_per_day: of the server's log.
        records_per_day: records of any kind.
        audits_per_day: those of pgAudit.
    """

    basis: str
    measured_s: float
    bytes_per_day: int
    records_per_day: int
    audits_per_day: int


def volume(log: LogSample | None, pooler: PoolerSample | None) -> Volume | None:
    """What is to be expected; None where too little is known."""
    if log is not None and log.audits and log.first and log.last and log.sampled_bytes:
        seconds = (log.last - log.first).total_seconds()
        records = log.total_bytes * log.records / log.sampled_bytes
        if seconds >= _TOLD_S and records >= _TOLD_RECORDS:
            share = DAY_S / seconds
            return Volume(
                "log",
                seconds,
                round(log.total_bytes * share),
                round(records * share),
                round(records * log.audits / log.records * share),
            )
    if pooler is not None and pooler.queries_s and pooler.transactions_s is not None:
        queries, replays = pooler.queries_s * DAY_S, pooler.transactions_s * DAY_S
        text = (pooler.bytes_s or 0) * DAY_S
        size = queries * _RECORD_BYTES + text + replays * _REPLAY_BYTES
        count = round(queries + replays)
        return Volume("pooler-statistics", 0.0, round(size), count, count)
    return None


def check_rights(
    settings: ServerSettings | None, directory: Path | None, paths: Sequence[Path], who: Account
) -> Iterator[Finding]:
    """Whether the logs can be read, now and after the next rotation.

    Args:
        settings: PostgreSQL's, if `paths` are its logs.
        directory: where they lie; files may appear there.
        paths: the files that there are.
        who: the account that is to read.
    """
    refused: dict[Path, Refusal] = {}
    for path in ([directory] if directory else []) + list(paths):
        try:
            why = refusal(path, who)
        except FileNotFoundError:
            continue
        if why is not None:
            refused.setdefault(why.path, why)
    for why in refused.values():
        yield _refused(settings, why, who)
    if settings is not None:
        yield from _next_file(settings, paths, who)


def _refused(settings: ServerSettings | None, why: Refusal, who: Account) -> Finding:
    kind = "folder" if why.is_folder else "file"
    where = f"{why.path} ({why.owner}:{why.group} {why.mode})"
    what = f"{who.name} can't read this {kind}"
    own = settings.data_directory if settings else None
    if settings is not None and own is not None and (why.path == own or why.path in own.parents):
        fix = set_server(
            settings, "log_directory", _LOG_DIRECTORY, "log outside the data directory"
        )
        made = f"install -d -o {why.owner} -g {why.group} -m 0750 {_LOG_DIRECTORY}"
        joined = f"usermod -aG {why.group} {who.name}"
        told = (joined,) if Path(_LOG_DIRECTORY).is_dir() else (made, joined)
        what = f"{what}, which holds the server's data, and its logs lie below"
        return Finding(ERROR, "log-unreadable", what, where, replace(fix, commands=told))
    right = "g+rx" if why.is_folder else "g+r"
    wanted = 0o050 if why.is_folder else 0o040
    commands = [f"chmod {right} {why.path}"] if int(why.mode, 8) & wanted != wanted else []
    if who.uid != 0:
        commands.append(f"usermod -aG {why.group} {who.name}")
    do = f"let the group {why.group} read, and {who.name} be in it"
    return Finding(ERROR, "log-unreadable", what, where, Fix(do, commands=tuple(commands)))


def _next_file(settings: ServerSettings, paths: Sequence[Path], who: Account) -> Iterator[Finding]:
    """The server makes the next file with log_file_mode, whatever somebody made of this one."""
    own = settings.data_directory
    written = paths if settings.flag("logging_collector", False) else ()  # by the server itself
    try:
        newest = max(written, key=lambda path: path.stat().st_mtime_ns, default=own)
        if newest is None or who.owns(newest):
            return
    except OSError:
        return
    text = settings.value("log_file_mode", "0600")
    mode = int(text, 8) if re.fullmatch(r"0?[0-7]{3}", text) else 0o600
    by_group = newest.stat().st_gid in who.gids
    if mode & (stat.S_IRGRP if by_group else stat.S_IROTH):
        return
    name = group_of(newest)
    do = f"make them readable for the group {name}"
    fix = set_server(settings, "log_file_mode", "0640", do)
    if not by_group:
        fix = replace(fix, commands=(f"usermod -aG {name} {who.name}",))
    yield Finding(
        WARNING,
        "log-file-mode",
        f"log_file_mode = {text}: {who.name} can't read the file that follows at the next rotation",
        server_place(settings, "log_file_mode"),
        fix,
    )


def check_log(
    settings: ServerSettings | None,
    log: LogSample,
    config: Config | None,
    *,
    is_audited: bool,
    now: float,
) -> Iterator[Finding]:
    """What a server's log says of itself."""
    place = str(log.path)
    if log.form is None:
        yield Finding(
            ERROR,
            "log-unknown",
            "this is no csvlog, jsonlog or stderr log that is read",
            place,
            Fix("name other files, or give --log-line-prefix (docs/SOURCES.md)"),
        )
        return
    if log.problem is not None:
        fix = Fix("give --timezone, or timezone under [sources], as log_timezone says")
        yield Finding(WARNING, "log-times", log.problem, place, fix)
        return
    if is_audited and not log.audits:
        yield Finding(
            WARNING,
            "no-records-yet",
            "pgAudit is set up, and the end of the log has no record of its",
            place,
            Fix("restart PostgreSQL if that wasn't done, and run a statement", needs="restart"),
        )
    if log.last is not None:
        yield from _clock("PostgreSQL", place, log.last.timestamp(), log.written, now)
    if settings is not None:
        yield from _repeated_names(settings)
        yield from _room(log)


def _clock(whose: str, place: str, last: float, written: float, now: float) -> Iterator[Finding]:
    """The last record against the time at which the file was written, by this host's clock."""
    ahead = last - max(now, written)
    behind = written - last
    do = "set both hosts' clocks by NTP; check log_timezone"
    if ahead > _AHEAD_S:
        what = f"the last record of {whose} is {ahead:,.0f} s in the future"
        yield Finding(WARNING, "clock-ahead", what, place, Fix(do))
    elif now - written < _FRESH_S and behind > _LATE_S:
        what = f"what {whose} writes now bears a time {behind:,.0f} s ago"
        yield Finding(WARNING, "clock-behind", what, place, Fix(do))


def _repeated_names(settings: ServerSettings) -> Iterator[Finding]:
    name = settings.value("log_filename", "postgresql-%Y-%m-%d_%H%M%S.log")
    overwrites = settings.flag("log_truncate_on_rotation", False)
    if overwrites and "%" in name and not re.search(r"%[YyGgsCcDFx+]", name):
        yield Finding(
            NOTE,
            "log-overwritten",
            f"log_filename = {name!r} comes back, and log_truncate_on_rotation empties the file: what "
            "wasn't read by then is gone",
            server_place(settings, "log_filename"),
            set_server(
                settings,
                "log_filename",
                "postgresql-%Y-%m-%d_%H%M%S.log",
                "keep files for longer than the reader may be down",
            ),
        )


def _room(log: LogSample) -> Iterator[Finding]:
    expected = volume(log, None)
    if expected is None or not expected.bytes_per_day:
        return
    state = os.statvfs(log.path.parent)
    days = state.f_bavail * state.f_frsize / expected.bytes_per_day
    if days < _DAYS_LEFT:
        what = f"the disk of the log is full in {days:.1f} days at {size(expected.bytes_per_day)} a day"
        fix = Fix("compress rotated files, and remove those that were read (docs/DAEMON.md)")
        yield Finding(WARNING, "log-disk", what, str(log.path.parent), fix)


def check_pooler_log(pooler: PoolerSample, config: Config | None) -> Iterator[Finding]:
    """What PgBouncer's log says of itself."""
    place = str(pooler.path)
    if not pooler.is_log:
        fix = Fix("name PgBouncer's logfile; one that went through syslog isn't read")
        yield Finding(ERROR, "pooler-log-unknown", "this is no log of PgBouncer's", place, fix)
        return
    zone = pooler.zone
    if zone and zone not in _UTC and zone[0] not in "+-":
        stated = config.sources.timezone if config else None
        if stated is None:
            what = f"its times bear {zone!r}, an abbreviation that names no offset by itself"
            do = "start PgBouncer with TZ=UTC in its environment, or say timezone under [sources]"
            yield Finding(WARNING, "pooler-timezone", what, place, Fix(do))


def check_clock(
    live: LiveServer, config: Config | None, config_path: str | None
) -> Iterator[Finding]:
    """The server's clock against this host's, asked directly."""
    ahead, within = live.ahead_s, live.within_s
    allowed = (config.clocks.skew_ms if config else 0) / 1000
    if live.is_here or abs(ahead) - within <= max(allowed, _APART_S):
        return
    milliseconds = int((abs(ahead) + within) * 1000) + 1
    word = "ahead of" if ahead > 0 else "behind"
    far = milliseconds > 60_000
    yield Finding(
        WARNING,
        "clock-skew",
        f"the server's clock is {abs(ahead):.3f} s {word} this host's (to within {within:.3f} s): events "
        "of this host and statements are compared in time",
        "--dsn",
        Fix("set both by NTP")
        if far or config_path is None
        else set_config(
            config_path, "clocks", "skew_ms", str(milliseconds), "set both by NTP, or allow for it"
        ),
    )


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError
