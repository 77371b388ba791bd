"""Whether a question is logged, where, and under whose name: before its answer is shown.

Enters: the options and the configuration, a question, and how many rows its answer has. Leaves: a
row of `_access`, or an error and then no answer. The operator's choice to log nothing counts as
recorded in the store; a reader's own configuration can't switch the log off unseen.
"""

import os
import pwd
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import click

from scalple.cli import scribe
from scalple.cli.declarations import records_questions
from scalple.cli.places import Places
from scalple.ingest.errors import ScalpleError, StoreError
from scalple.store import filesystem
from scalple.store.access import ANSWERED, FAILED, AccessLog, Asked, get_ready, heads_of
from scalple.store.reader import StoreReader
from scalple.store.source import shown, source_of

PURPOSE_CHARACTERS_MAX = 1000


def access_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--access-log and --purpose."""
    for option in (
        click.option("--purpose", metavar="TEXT", help="Why you ask; kept with the question."),
        click.option(
            "--access-log",
            "access_log",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help="Log the question here, for who may not write to the store.",
        ),
    ):
        command = option(command)
    return command


@cache
def begin() -> None:
    """Load what logging needs on another thread, while DuckDB is at work: once in a process, and
    not at all where a scribe does it."""
    if not scribe.is_there():
        Thread(target=get_ready).start()


@dataclass(slots=True)
class Found:
    """What an answer holds; filled in by who makes it."""

    rows: int | None = None


@contextmanager
def logged(
    asked: Asked, reader: StoreReader, directory: Path, where: Places, elsewhere: Path | None
) -> Iterator[Found]:
    """Log the question that the block answers; on return it is durable, and may be shown.

    A question that fails is logged as well, as `failed`.

    Raises:
        StoreError: it can't be logged.
    """
    _tell(tuple(reader.notes))
    if not records_questions(reader):
        click.echo("note: questions asked of this store aren't logged (access = off)", err=True)
        yield Found()
        return
    if elsewhere is None and not _writable(directory):
        raise StoreError(
            "questions are logged beside the data, and you may not write there",
            place=shown(directory),
            hint="name a directory of yours, --access-log DIR, or, of a store in a bucket, [keys] "
            "access_key_file; the operator may switch the log "
            'off: access = "off" in the configuration of reprocess',
        )
    key_file = where.access_key_file
    # Another place is for who may not write here; whoever may leaves a trace here as well.
    places = [directory] if _writable(directory) else []
    places += [elsewhere] if elsewhere is not None else []
    for one in places:
        filesystem.only_this_host(one, where.only_host)
    logs = [AccessLog(one, Path(key_file) if key_file else None) for one in places]
    found = Found()
    begin()
    try:
        yield found
    except Exception:
        for log in logs:
            _tell(_record(log, asked, reader, FAILED, None))
        raise
    for log in logs:
        _tell(_record(log, asked, reader, ANSWERED, found.rows))
    scribe.dismiss()


def _record(
    log: AccessLog, asked: Asked, reader: StoreReader, outcome: str, rows: int | None
) -> tuple[str, ...]:
    """By the scribe, if there is one and the log is in a directory: a bucket is this process's."""
    record = log.record if source_of(log.directory) else scribe.recorder(log)
    return record(asked, heads_of(reader), outcome, rows)


def question(
    verb: str,
    options: dict[str, Any],
    tokens: tuple[tuple[str, int], ...] = (),
    purpose: str | None = None,
) -> Asked:
    """Who asks what: options that weren't given are left out.

    Raises:
        ScalpleError: the purpose is too long.
    """
    if purpose is not None and len(purpose) > PURPOSE_CHARACTERS_MAX:
        raise ScalpleError(f"longer than {PURPOSE_CHARACTERS_MAX} characters", place="--purpose")
    given = {name: value for name, value in options.items() if value not in (None, (), "")}
    return Asked(user(), socket.gethostname(), verb, given, tokens, purpose)


def without_literals(sql: str) -> str:
    """A statement whose strings, numbers, comments and quoted names are `?`: they may name a subject."""
    from scalple.correlate import templates  # only `sql` needs it; it takes 20 ms to load

    skeleton: str = templates.split(sql)[1]
    return re.sub('"[^"]*"?', "?", templates.MARKERS.sub("?", skeleton))


def user() -> str:
    """The account of the operating system, `name (uid)`."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = "?"
    return f"{name} ({uid})"


def _writable(directory: Path) -> bool:
    if remote := source_of(directory):
        return remote.may_write
    log = directory / "_access"
    return os.access(log if log.is_dir() else directory, os.W_OK | os.X_OK)


def _tell(notes: tuple[str, ...]) -> None:
    for note in notes:
        click.echo(f"note: {note}", err=True)
