"""`anchor`: checkpoints to where the writer of the store can't take them back."""

from pathlib import Path

import click

from scalple.cli import anchoring
from scalple.cli.options import command, config_option, configured, store_option, store_path
from scalple.store.reader import StoreReader


@command("anchor")
@store_option
@click.option(
    "--to",
    multiple=True,
    metavar="PLACE…",
    help="A directory, s3://bucket/prefix, or - for stdout (the default).",
)
@config_option
def anchor(store_dir: str | None, to: tuple[str, ...], config_path: Path | None) -> None:
    """Publish the signed checkpoint of every origin, after comparing it with those published before.

    A store that was cut or rewritten since an earlier anchor isn't anchored again: exit code 7.
    On stdout the checkpoint is text for a mail or a ticket; `verify --anchors FILE` reads it there.

    \b
    Example:
      scalple-ingest anchor --store ./store --to /mnt/auditors/anchors s3://audit-anchors/db1
    """
    config = configured(config_path)
    directory = store_path(store_dir, config)
    readers = [StoreReader.open(directory), StoreReader.of_questions(directory)]
    heads = anchoring.heads([reader for reader in readers if reader is not None])
    for place in to or ("-",):
        anchoring.publish(place, heads, config)
