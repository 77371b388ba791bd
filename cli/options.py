"""What several verbs take: --store, --config, times, and options that several paths may follow."""

import datetime as dt
import errno
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from scalple.cli.places import Places
from scalple.ingest.errors import ConfigError, InputError, ReaderGoneError, StoreError
from scalple.store import filesystem
from scalple.store.bucketsettings import is_url
from scalple.store.layout import existing_origins, origin_layout
from scalple.store.question import Period

if TYPE_CHECKING:
    from scalple.cli.config import Config

SHOWN_NAME = 100
"""So much of a name that is too long is repeated in its error."""

store_option = click.option(
    "--store", "store_dir", metavar="DIR", help="The store: a directory, or s3://bucket/prefix."
)
config_option = click.option(
    "--config", "config_path", metavar="FILE", type=click.Path(path_type=Path), help="TOML file."
)
since_option = click.option("--since", metavar="TIME", help="From this time on (inclusive).")
until_option = click.option("--until", metavar="TIME", help="Up to this time (exclusive).")


def format_option(*forms: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """How the answer is written."""
    choice = click.Choice(forms)
    return click.option(
        "--format", "form", type=choice, default=forms[0], show_default=True, help="How to write."
    )


def configured(path: Path | None) -> "Config":
    """The configuration, or the defaults; questions need no more than `places`."""
    from scalple.cli.config import Config, load

    return load(path) if path is not None else Config()


def store_path(option: str | None, config: "Config | Places", *, fresh: bool = False) -> Path:
    """The store that an option or the configuration names; of one in a bucket, what stands for it.

    `fresh`: of a store in a bucket nothing is believed that was kept here before.

    Raises:
        ConfigError: neither does, or it isn't a directory or bucket.
        StoreError: it may not be read.
        VerificationError: a bucket isn't what this machine has seen of it.
    """
    name = option or config.store
    if not name:
        raise ConfigError("which store?", hint="give --store DIR, or store = … in --config FILE")
    if is_url(name):
        from scalple.cli.buckets import open_store  # what it needs isn't loaded for other stores

        return open_store(name, config, fresh=fresh)
    if "://" in name:
        raise ConfigError(
            f"{name}: no store can be there", hint="a directory, or s3://bucket/prefix"
        )
    path = Path(name)
    if not _is_utf8(name):
        raise ConfigError("the name isn't valid UTF-8", place=repr(name), hint="rename it")
    try:
        if path.exists() and not path.is_dir():
            raise ConfigError("is a file, not a store", place=str(path), hint="give a directory")
        for directory in _directories(path):
            if not os.access(directory, os.R_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))
    except PermissionError as error:
        raise StoreError(
            "can't be read: permission denied",
            place=str(error.filename or path),
            hint="check --store, and who may read it",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"can't be a store: {error.strerror}", place=_shortened(name), hint="check --store"
        ) from error
    filesystem.only_this_host(path, config.only_host)
    return path


def _directories(store: Path) -> Iterator[Path]:
    """What has to be read of a store, each directory before those in it."""
    yield from (one for one in (store,) if one.exists())
    for origin in existing_origins(store):
        layout = origin_layout(store, origin)
        yield layout.directory
        inner = (layout.manifests, layout.segments, layout.objects)
        yield from (directory for directory in inner if directory.exists())


def _is_utf8(name: str) -> bool:
    return name == name.encode(errors="replace").decode()


def _shortened(name: str) -> str:
    return name if len(name) <= SHOWN_NAME else f"{name[:SHOWN_NAME]}…"


def moment(text: str | None, option: str) -> dt.datetime | None:
    """A time given by a person: a date or RFC 3339; UTC unless it names its offset.

    Raises:
        ConfigError: it is neither.
    """
    if text is None:
        return None
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no time",
            place=option,
            hint="for example 2026-03-14 or 2026-03-14T11:22:08Z",
        ) from None
    return when if when.tzinfo else when.replace(tzinfo=dt.UTC)


def as_of_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--as-of: what was known at a time."""
    return click.option(
        "--as-of",
        metavar="T",
        help="What was known then: later commits and revisions are left out.",
    )(command)


def period(since: str | None, until: str | None) -> Period:
    """The time from --since to --until.

    Raises:
        ConfigError: one of them is no time, or they enclose none.
    """
    begin, end = moment(since, "--since"), moment(until, "--until")
    if begin is not None and end is not None and begin >= end:
        raise ConfigError(
            f"{since} is not before {until}", place="--since", hint="--until is exclusive"
        )
    return Period(begin, end)


def files(patterns: Sequence[str]) -> tuple[Path, ...]:
    """Files that paths and patterns name, each once.

    Raises:
        InputError: a pattern matches nothing, or can't be a name.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if not _is_utf8(pattern):
            raise InputError("the name isn't valid UTF-8", place=repr(pattern), hint="rename it")
        try:
            is_there = Path(pattern).exists()
        except OSError as error:
            raise InputError(
                f"can't be read: {(error.strerror or str(error)).lower()}",
                place=_shortened(pattern),
            ) from error
        if is_there or not glob.has_magic(pattern):
            found[Path(pattern)] = None
            continue
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (absolute patterns)
        if not matches:
            raise InputError("no file matches this pattern", place=pattern)
        found.update((Path(match), None) for match in matches)
    return tuple(found)


_FILES, _FOLDERS = frozenset({"FILE", "PATH", "PATH…", "[TIME=]FILE…"}), frozenset({"DIR"})
"""What options call their values where a shell can complete names of files."""


class _Name(click.types.StringParamType):
    """Any text; a shell offers names of files, or of folders."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The shell looks itself."""
        return [CompletionItem(incomplete, type=self.kind)]


class SpreadCommand(click.Command):
    """A command whose repeatable options may be followed by several values at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for one in self.params:
            if one.type is click.STRING and one.metavar in _FILES | _FOLDERS:
                one.type = _Name("dir" if one.metavar in _FOLDERS else "file")

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; click takes a broken pipe for a failure, so it is told apart here."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGoneError from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write `--log a b` as `--log a --log b`."""
        repeatable = {
            name
            for option in self.params
            if isinstance(option, click.Option) and option.multiple
            for name in option.opts
        }
        spread: list[str] = []
        current: str | None = None
        fresh = False
        for arg in args:
            if arg.startswith("-"):
                current, fresh = (arg, True) if arg in repeatable else (None, False)
                spread.append(arg)
            elif current is not None and not fresh:
                spread += [current, arg]
            else:
                spread.append(arg)
                fresh = False
        return super().parse_args(ctx, spread)


def command(name: str, **kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A verb: its docstring is its help, with the example kept as it is written."""
    return click.command(name, cls=SpreadCommand, **kwargs)
