"""`daemon`: follows the logs as they are written, for months.

Enters: a configuration. Leaves: commits, until SIGTERM. SIGHUP reads the configuration again. What goes
wrong in a round ends nothing: the store is opened anew and the logs are read on from what it has.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

from scalple.cli import intaking
from scalple.cli.background import Background
from scalple.cli.config import Config
from scalple.cli.daemonstatus import DaemonState, counters, faults
from scalple.cli.following import SOURCES, Following
from scalple.cli.followplan import followed, open_following
from scalple.cli.intaking import OpenIntake, open_intake
from scalple.cli.options import command, config_option, configured
from scalple.cli.shown import shown
from scalple.cli.smallmemory import keep_little
from scalple.ingest.errors import ConfigError, ScalpleError
from scalple.ingest.follower import Follower
from scalple.ingest.lognames import LogNames
from scalple.ingest.place import read_place
from scalple.ingest.servicelog import say
from scalple.ingest.statuspage import StatusPage
from scalple.ingest.systemd import notify
from scalple.ingest.wakeup import Wakeup
from scalple.store.bucketsettings import check_installed

RETRY_S = (1.0, 60.0)
"""After a failed round it is tried again in so many seconds, twice as many each time."""
RENEW_S = 24 * 3600.0
"""So often everything that is remembered of the logs is made anew: nothing grows for ever."""
SETTLE_S = 0.2
"""A change is followed by others."""


@command("daemon")
@config_option
@click.option("--check", is_flag=True, help="Say what would be followed, and end.")
def daemon(config_path: Path | None, check: bool) -> None:
    """Follow the logs that the configuration names, and commit what they say as it is written.

    Runs until SIGTERM, which lets it commit what was read; SIGHUP reads the configuration again.
    What it does, it says on stderr, a line of JSON each time.

    \b
    Example:
      scalple-ingest daemon --config /etc/scalple/config.toml
    """
    if config_path is None:
        raise ConfigError("the daemon needs a configuration", hint="give --config FILE")
    config = configured(config_path)
    if check:
        _check(config)
        return
    _Service(config_path, config).run()


def _check(config: Config) -> None:
    """What there is to follow now; refuses what a start would refuse."""
    if config.daemon.mirror is not None:
        check_installed()
    if config.intake.listen is not None:
        intaking.check(config.intake)
        click.echo(f"events are taken on {config.intake.listen}")
    there = 0
    for source, pattern, paths in followed(config):
        there += len(paths)
        click.echo(shown(f"{source}: {pattern}: {len(paths)} file(s)"))
        for folder, why in LogNames([pattern]).unlisted().items():
            raise ConfigError(why, place=str(folder))
        for path in paths:
            if not os.access(path, os.R_OK):
                raise ConfigError(
                    "can't be read: permission denied",
                    place=str(path),
                    hint="let the daemon's group read it",
                )
    if not there:
        click.echo("note: no file is there yet; those that appear are followed", err=True)


def pause_s(failures: int) -> float:
    """So long to wait after so many failed rounds in a row."""
    first, most = RETRY_S
    return min(most, first * 2.0 ** min(failures - 1, 10))


@dataclass
class _Service:
    """A running daemon."""

    config_path: Path
    config: Config
    state: DaemonState = field(default_factory=DaemonState)
    _background: Background = field(default_factory=Background)
    _ending: threading.Event = field(default_factory=threading.Event)
    _reload: threading.Event = field(default_factory=threading.Event)
    _intake: OpenIntake | None = None
    _begun: float = 0.0
    """When the round began."""
    _busy: float = 0.0
    """Processor time by then."""

    def run(self) -> None:
        """Until it is told to stop.

        Raises:
            ScalpleError: it can't start.
        """
        section = self.config.daemon
        keep_little()
        self._wakeup = Wakeup()
        with ExitStack() as stack:
            stack.callback(self._wakeup.close)
            stack.enter_context(self._signals())
            if section.status:
                place = read_place(section.status)
                self.state.more.append(self._background.counters())
                page = StatusPage(counters(self.state), lambda: faults(self.state), place)
                stack.enter_context(page)
            stack.callback(self._background.finish)
            self._intake = stack.enter_context(open_intake(self.config.intake))
            self.state.intake = self._intake.intake if self._intake else None
            with open_following(
                self.config, self._between
            ) as following:  # what can't start says so at once
                os.nice(section.nice)
                self._background.use(self.config)
                say("started", store=self.config.store, sources=_patterns(self.config))
                notify("READY=1")
                self._follow(following)
            while not self._ending.is_set():
                self._again()
            notify("STOPPING=1")
            say("stopped", statements=sum(self.state.grades.values()))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def end(_number: int, _frame: object) -> None:
            self._ending.set()
            self._wakeup.wake()

        def reload(_number: int, _frame: object) -> None:
            self._reload.set()
            self._wakeup.wake()

        kept = {
            one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        signal.signal(signal.SIGHUP, reload)
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)

    def _again(self) -> None:
        """After a reload, or a fault. A configuration that can't be followed changes nothing."""
        config = self._asked()
        is_elsewhere = config.store != self.config.store
        try:
            with open_following(config, self._between, may_create=is_elsewhere) as following:
                if config is not self.config:
                    self._take_up(config)
                self._background.use(self.config)
                self._follow(following)
        except (ScalpleError, OSError) as error:
            if config is self.config:
                self._failed(error)
            else:
                say("reload refused", why=str(error))

    def _asked(self) -> Config:
        """What is to be followed: after SIGHUP, what the file says by now."""
        if not self._reload.is_set():
            return self.config
        self._reload.clear()
        try:
            return configured(self.config_path)
        except ScalpleError as error:
            say("reload refused", why=str(error))
            return self.config

    def _take_up(self, config: Config) -> None:
        """Go on with another configuration.

        Raises:
            ConfigError: the intake can't.
        """
        if self._intake is not None:
            self._intake.reload(config.intake)
        self.config = config
        say("reloaded")

    def _follow(self, following: Following) -> None:
        """Rounds, until it is told to stop or to reload, or one fails."""
        failed: Exception | None = None
        renew_at = time.monotonic() + RENEW_S
        while not self._reload.is_set() and (following.is_behind or time.monotonic() < renew_at):
            begun = self._begun = time.monotonic()
            self._busy = time.process_time()
            try:
                read = following.round()
            except (ScalpleError, OSError) as error:
                failed = error
                break
            self.state.note(following, read, time.monotonic() - begun)
            if self._intake is not None:
                followed_now = following.followers["identity"].following
                self._intake.tidy({one.path for one in followed_now})
            self._say_news(following)
            if self._ending.is_set():
                return
            self._rest(following, begun)
        if failed is not None:
            self._failed(failed, following.followers)

    def _between(self) -> bool:
        """After each piece: leave the processors to the database, say that all is well; go on?"""
        share = self.config.daemon.cpu_share
        if share is not None:
            busy = time.process_time() - self._busy
            self._ending.wait(max(0.0, busy / share - (time.monotonic() - self._begun)))
        notify("WATCHDOG=1")
        return not self._ending.is_set()

    def _rest(self, following: Following, begun: float) -> None:
        """Wait for something to do."""
        section = self.config.daemon
        if not self._between() or following.is_behind:
            return
        earliest = begun + section.commit_interval_s
        self._wakeup.wait(section.scan_interval_s, following.folders)
        while not self._ending.is_set() and not self._reload.is_set():
            left = max(earliest, begun + SETTLE_S) - time.monotonic()
            if left <= 0:
                return
            self._ending.wait(min(left, SETTLE_S))

    def _failed(self, error: Exception, followers: Mapping[str, Follower] | None = None) -> None:
        """Say why, and wait a little longer each time."""
        self.state.note_failure(str(error), followers)
        pause = pause_s(self.state.failures)
        say("failed", why=str(error), again_in_s=pause)
        until = time.monotonic() + pause
        while not self._reload.is_set() and (left := until - time.monotonic()) > 0:
            if self._ending.wait(min(left, SETTLE_S)):
                return

    def _say_news(self, following: Following) -> None:
        for text in self.state.news(following):
            say("warning", what=text)


def _patterns(config: Config) -> dict[str, list[str]]:
    """What is followed, by kind: which files that are the first look will show."""
    return {source: list(getattr(config.sources, source)) for source in SOURCES}
