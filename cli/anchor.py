"""`anchor`: checkpoints to where the writer of the store can't take them back."""

from pathlib import Path

import click

from scalple.cli import anchoring
from scalple.cli.options import command, config_option, configured, store_option, store_path
from scalple.ingest.errors import ConfigError
from scalple.store.reader import StoreReader


@command("anchor")
@store_option
@click.option(
    "--to",
    multiple=True,
    metavar="PLACE…",
    help="A directory, s3://bucket/prefix, a witness's URL, or - for stdout (the default).",
)
@anchoring.witness_option
@config_option
def anchor(
    store_dir: str | None,
    to: tuple[str, ...],
    witness_key: Path | None,
    config_path: Path | None,
) -> None:
    """Publish the signed checkpoint of every origin, after comparing it with those published before.

    A store that was cut or rewritten since an earlier anchor isn't anchored again: exit code 7.
    On stdout the checkpoint is text for a mail or a ticket; `verify --anchors FILE` reads it there. A witness (C2SP
    tlog-witness) cosigns it; the cosigned checkpoint goes to stdout.

    \b
    Example:
      scalple-ingest anchor --store ./store --to /mnt/auditors/anchors s3://audit-anchors/db1
    """
    config = configured(config_path)
    directory = store_path(store_dir, config)
    readers = [StoreReader.open(directory), StoreReader.of_questions(directory)]
    heads = anchoring.heads([reader for reader in readers if reader is not None])
    witnesses = anchoring.witness_keys(witness_key)
    if not witnesses and any(map(anchoring.is_witness, to)):
        raise ConfigError(
            "a witness's signature must be checked", place="--to", hint="give --witness-key FILE"
        )
    for place in to or (anchoring.STDOUT,):
        anchoring.publish(place, heads, config, witnesses)
