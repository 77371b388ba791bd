"""`compact`: many small commits once more in few large files, so that questions stay quick."""

from pathlib import Path

import click

from scalple.cli.options import command, config_option, store_option, store_path
from scalple.cli.originkeys import origin_key, origins
from scalple.cli.places import places
from scalple.store.compaction import Compacted, refuse_bucket
from scalple.store.compaction import compact as compact_origin


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
    for name in [origin] if origin is not None else origins(directory):
        _tell(compact_origin(directory, name, origin_key(directory, name, where).private))


def _tell(done: Compacted) -> None:
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"{done.origin}: {done.manifests:,} manifests in the index, {done.added:,} of them new; "
        f"{done.runs:,} {'run' if done.runs == 1 else 'runs'}, {done.bytes:,} bytes"
    )
