"""`consistency`: one file that shows that a log only grew since a checkpoint."""

from pathlib import Path

import click

from scalple.cli.options import command, config_option, store_option, store_path
from scalple.cli.places import places
from scalple.cli.saving import save
from scalple.ingest.errors import InputError, VerificationError
from scalple.store import consistency as proofs
from scalple.store.chain import check_signer, placed
from scalple.store.checkpoint import open_checkpoint, origin_of
from scalple.store.layout import ACCESS_ORIGIN
from scalple.store.reader import StoreReader

_FILE = click.Path(path_type=Path)


@command("consistency")
@store_option
@click.option("--output", type=_FILE, required=True, help="The proof's file.")
@config_option
@click.argument("older", metavar="OLD", type=_FILE)
@click.argument("newer", metavar="[NEW]", type=_FILE, required=False)
def consistency(
    store_dir: str | None,
    output: Path,
    config_path: Path | None,
    older: Path,
    newer: Path | None,
) -> None:
    """Write a proof that the log only grew from the checkpoint in OLD to that in NEW.

    Without NEW it is the present one. Whoever has OLD and the public key checks the proof with
    `check-proof --checkpoint OLD`, without the store.

    \b
    Example:
      scalple-ingest consistency last-month.checkpoint --store ./store --output grown.proof
    """
    directory = store_path(store_dir, places(config_path))
    data = read(older)
    with placed(older):
        name = origin_of(data)
    reader = StoreReader.open(directory, ACCESS_ORIGIN if name == ACCESS_ORIGIN else None)
    if name not in reader.origins:
        with placed(older):
            raise VerificationError(f"checkpoint of another origin: {name!r}")
    chain = reader.chain(name)
    with placed(older):
        old, signer = open_checkpoint(data, chain.keys)
        check_signer(chain, old, signer)
    new = read(newer) if newer is not None else reader.signed_head(name).encode()
    with placed(newer if newer is not None else directory):
        made = proofs.make(chain, old, new)
    save(made, output)
    click.echo(f"{output}: {name} grew from {old.size} manifests, {len(made):,} bytes")


def read(path: Path) -> bytes:
    """A file that was named.

    Raises:
        InputError: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", place=str(path)) from error
