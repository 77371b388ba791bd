"""`status`: what a running daemon does, for people who look at it.

Enters: where its status page is. Leaves: a view of its figures, once or again and again, or JSON.
"""

import datetime as dt
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import click

from scalple.cli import render
from scalple.cli.logfindings import size
from scalple.cli.options import command, config_option, configured
from scalple.cli.shown import shown, shown_json
from scalple.correlate.reachable import ORDER
from scalple.ingest.errors import ConfigError, InputError
from scalple.ingest.place import Place, read_place
from scalple.ingest.statusread import Page, read_page, unlike_a_number

VERSION = 1
UNWELL = 8
"""Exit code of a daemon that answers and isn't well."""
INTERVAL_S = 2.0
_NAMED = ("proven", "confirmed", "claimed")
_CLEAR = "\x1b[H\x1b[J"


@command("status")
@click.option("--at", metavar="HOST:PORT", help="Where it listens: [daemon] status.")
@click.option("--once", is_flag=True, help="Show it once and end.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    metavar="SECONDS",
    help=f"Show it anew so often; on a terminal every {INTERVAL_S:.0f} s.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON (docs/DAEMON.md).")
@config_option
def status(
    at: str | None, once: bool, interval: float | None, as_json: bool, config_path: Path | None
) -> None:
    """Show what a running daemon does: how far it is behind, whom it names, what is missing.

    On a terminal again and again, until Ctrl-C. Exit code: 0 all is well, 8 it isn't, 3 no daemon answers.

    \b
    Example:
      scalple-ingest status --config /etc/scalple/config.toml --once
    """
    place = _place(at, config_path)
    if once and interval is not None:
        raise ConfigError("once, or again and again?", place="--interval", hint="leave out --once")
    on_terminal = sys.stdout.isatty() and not as_json and os.environ.get("TERM") != "dumb"
    repeats = not once and (interval is not None or on_terminal)
    if not repeats:
        view = _look(place)
        _write(view, None, sys.stdout, as_json=as_json)
        sys.stdout.flush()
        sys.exit(0 if view.ready else UNWELL)
    _watch(place, interval or INTERVAL_S, as_json=as_json, clears=on_terminal)


def _place(at: str | None, config_path: Path | None) -> Place:
    said = at or (configured(config_path).daemon.status if config_path else None)
    if said is None:
        raise ConfigError(
            "which daemon?",
            hint="give --at HOST:PORT, or --config FILE with a status under [daemon]",
        )
    return read_place(said)


@dataclass(frozen=True, slots=True)
class Source:
    """How far the store is behind a kind of source; None: it was never seen to grow."""

    source: str
    files: int
    lag_bytes: int
    lag_s: float
    quiet_s: float | None


@dataclass(frozen=True, slots=True)
class Sender:
    """What is wrong with what a sender of events sends; nothing of it makes the daemon unwell."""

    sender: str
    refused: int
    unreadable_files: int


@dataclass(frozen=True, slots=True)
class View:
    """The figures of a daemon at one moment (docs/DAEMON.md)."""

    v: int
    at: str
    ready: bool
    why: str | None
    sources: list[Source]
    senders: list[Sender]
    statements: int
    by_grade: dict[str, int]
    attributed_share: float | None
    commits: int
    rounds: int
    failed_rounds: int
    bytes_read: int
    round_age_s: float
    rows: dict[str, int]
    gaps: int
    unparsed: int
    late_events: int
    unreadable_files: int
    newest: dt.datetime | None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = render.plain(asdict(self))
        return found


def _look(place: Place) -> View:
    """What the daemon says now.

    Raises:
        InputError: none answers.
    """
    page = read_page(place)
    if "scalple_rounds_total" not in page.metrics:
        raise InputError(
            "what answers there is no daemon",
            place=str(place),
            hint="give the place that [daemon] status names, not the sidecar's",
        )
    return view_of(page, str(place))


def view_of(page: Page, at: str) -> View:
    """A daemon's metrics, put together."""
    grades = {name: int(value) for name, value in page.many("scalple_statements_total").items()}
    rows = {name: int(value) for name, value in page.many("scalple_rows_total").items()}
    named = sum(grades.get(grade, 0) for grade in _NAMED)
    people = sum(grades.values()) - grades.get("pooler", 0)
    newest = page.one("scalple_newest_statement_seconds")
    return View(
        VERSION,
        at,
        page.ready,
        None if page.ready else page.why,
        list(_sources(page)),
        list(_senders(page)),
        sum(grades.values()),
        {grade: grades[grade] for grade in sorted(grades, key=_rank)},
        round(named / people, 6) if people else None,
        int(page.one("scalple_commits_total")),
        int(page.one("scalple_rounds_total")),
        int(page.one("scalple_failed_rounds_total")),
        int(page.one("scalple_read_bytes_total")),
        round(page.one("scalple_round_age_seconds"), 3),
        rows,
        rows.get("gaps", 0),
        rows.get("unparsed", 0),
        int(page.one("scalple_late_events_total")),
        int(page.one("scalple_unreadable_files")),
        _moment(newest) if newest else None,
    )


def _moment(seconds: float) -> dt.datetime:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise unlike_a_number("scalple_newest_statement_seconds", f"{seconds:g}") from error


def _rank(grade: str) -> int:
    """The surest first; the pooler's own at the end."""
    return -ORDER.index(grade) if grade in ORDER else 1


def _sources(page: Page) -> Iterator[Source]:
    seconds, quiet = page.many("scalple_lag_seconds"), page.many("scalple_quiet_seconds")
    files = page.many("scalple_followed_files")
    for name, behind in page.many("scalple_lag_bytes").items():
        since = quiet.get(name)
        yield Source(
            name,
            int(files.get(name, 0.0)),
            int(behind),
            round(seconds.get(name, 0.0), 3),
            None if since is None else round(since, 3),
        )


def _senders(page: Page) -> Iterator[Sender]:
    files = page.many("scalple_intake_unreadable_files")
    for name, refused in page.many("scalple_intake_refused_total").items():
        yield Sender(name, int(refused), int(files.get(name, 0.0)))


def _watch(place: Place, interval: float, *, as_json: bool, clears: bool) -> None:
    """Again and again, until Ctrl-C; a daemon that is gone for a while comes back."""
    before: tuple[float, View] | None = None
    try:
        while True:
            begun = time.monotonic()
            try:
                view = _look(place)
            except InputError as error:
                if not clears or before is None:
                    raise
                sys.stdout.write(f"{_CLEAR}{shown(str(error), keeps=chr(10))}\n")
            else:
                sys.stdout.write(_CLEAR if clears else "")
                rate = _rate(before, begun, view)
                _write(view, rate, sys.stdout, as_json=as_json)
                before = begun, view
            sys.stdout.flush()
            time.sleep(max(0.0, interval - (time.monotonic() - begun)))
    except KeyboardInterrupt:
        sys.exit(0)


def _rate(before: tuple[float, View] | None, now: float, view: View) -> float | None:
    """Statements a second since the last look; a daemon that began anew has none."""
    if before is None or view.statements < before[1].statements:
        return None
    return (view.statements - before[1].statements) / max(now - before[0], 1e-3)


def _write(view: View, rate: float | None, out: TextIO, *, as_json: bool) -> None:
    if as_json:
        out.write(shown_json(json.dumps(view.plain(), ensure_ascii=False)) + "\n")
        return
    said = lines(view, rate, dt.datetime.now(dt.UTC))
    out.writelines(f"{shown(line)}\n" for line in said)


def lines(view: View, rate: float | None, now: dt.datetime) -> Iterator[str]:
    """The view, in 80 columns."""
    well = "all is well" if view.ready else "NOT WELL"
    yield f"daemon at {view.at}: {well}   {now:%Y-%m-%d %H:%M:%SZ}"
    if view.why:
        yield from (f"  {part.strip()}" for part in view.why.split(";"))
    yield ""
    yield f"{'source':<12}{'behind':>12}{'lag':>12}{'last written':>18}{'files':>8}"
    for one in view.sources:
        quiet = "never seen" if one.quiet_s is None else f"{_span(one.quiet_s)} ago"
        yield f"{one.source:<12}{size(one.lag_bytes):>12}{_span(one.lag_s):>12}{quiet:>18}{one.files:>8,}"
    for sender in view.senders:
        if sender.refused or sender.unreadable_files:
            yield (
                f"sender {sender.sender}: {sender.refused:,} batches refused, "
                f"{sender.unreadable_files:,} files that are none of events"
            )
    yield ""
    share = "" if view.attributed_share is None else f", {view.attributed_share:.1%} attributed"
    speed = "" if rate is None else f", {rate:,.1f}/s"
    yield f"statements since the start: {view.statements:,}{share}{speed}"
    for grade, count in view.by_grade.items():
        yield f"  {grade:<14}{count:>16,}{count / max(view.statements, 1):>9.1%}"
    if view.newest is not None:
        ago = _span(max(0.0, (now - view.newest).total_seconds()))
        yield f"newest statement: {view.newest:%Y-%m-%d %H:%M:%SZ}, {ago} ago"
    yield ""
    yield (
        f"commits {view.commits:,}   gaps {view.gaps:,}   unparsed {view.unparsed:,}"
        f"   late events {view.late_events:,}"
    )
    yield (
        f"read {size(view.bytes_read)}   last round {_span(view.round_age_s)} ago"
        f"   failed rounds {view.failed_rounds:,}   unreadable files {view.unreadable_files:,}"
    )


def _span(seconds: float) -> str:
    """A time for people."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:,.0f} d"
