"""`compact`: many small commits once more in few large files, so that questions stay quick."""

from pathlib import Path

import click

from scalple.cli.options import command, config_option, store_option, store_path
from scalple.cli.places import Places, places
from scalple.ingest.errors import ConfigError
from scalple.store import keys
from scalple.store.compaction import Compacted, refuse_bucket
from scalple.store.compaction import compact as compact_origin
from scalple.store.layout import ACCESS_ORIGIN, existing_origins


@command("compact")
@store_option
@click.option("--origin", metavar="NAME", help="Only this origin; _access is the log of questions.")
@config_option
def compact(store_dir: str | None, origin: str | None, config_path: Path | None) -> None:
    """Make the index of a store, or bring it up to date.

    The index holds the rows of many commits in few files, sorted for looking a subject up. Answers
    are the same without it, and take longer the more commits there are. It is derived from the log,
    which stays as it is: STORE/ORIGIN/index may be deleted at any time. Commits go on meanwhile.

    \b
    Example:
      scalple-ingest compact --store ./store
    """
    where = places(config_path)
    directory = store_path(store_dir, where)
    refuse_bucket(directory)
    for name in [origin] if origin is not None else _origins(directory):
        _tell(compact_origin(directory, name, _key(directory, name, where).private))


def _origins(directory: Path) -> list[str]:
    names = existing_origins(directory)
    if (directory / ACCESS_ORIGIN).is_dir():
        names.append(ACCESS_ORIGIN)
    if not names:
        raise ConfigError("no store here", place=str(directory), hint="check --store")
    return names


def _key(directory: Path, origin: str, where: Places) -> keys.SigningKey:
    """The key that the origin's head is signed with; never a new one, which would fit nothing."""
    is_access = origin == ACCESS_ORIGIN
    named = where.access_key_file if is_access else where.signing_key_file
    name = "access" if is_access else "signing"
    return keys.signing_key(directory, Path(named) if named else None, name=name, may_create=False)


def _tell(done: Compacted) -> None:
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"{done.origin}: {done.manifests:,} manifests in the index, {done.added:,} of them new; "
        f"{done.runs:,} {'run' if done.runs == 1 else 'runs'}, {done.bytes:,} bytes"
    )
