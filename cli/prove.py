"""`prove`: one file that shows that a row is in the signed log."""

from pathlib import Path

import click

from scalple.cli.accesslog import access_options, logged, question
from scalple.cli.options import command, config_option, store_option, store_path
from scalple.cli.places import places
from scalple.cli.saving import save
from scalple.ingest.errors import InputError
from scalple.store import proof
from scalple.store.reader import StoreReader
from scalple.store.rowid import RowId


@command("prove")
@store_option
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The proof's file.")
@access_options
@config_option
@click.argument("log_ids", metavar="LOG_ID…", nargs=-1, required=True)
def prove(
    store_dir: str | None,
    output: Path,
    access_log: Path | None,
    purpose: str | None,
    config_path: Path | None,
    log_ids: tuple[str, ...],
) -> None:
    """Write a proof of one or more rows, with their revisions and the evidence they cite.

    It holds the rows as they are stored (masked texts, actors by name) and is checked with
    `check-proof` and the public key alone.

    \b
    Example:
      scalple-ingest prove 'sample#6391' --store ./store --output row.proof
    """
    ids = []
    for text in log_ids:
        one = RowId.parse(text)
        if one is None:
            raise InputError(
                f"{text!r} is no id of a row", hint="for example db1#6391 or db1/evidence#17"
            )
        ids.append(one)
    where = places(config_path)
    directory = store_path(store_dir, where)
    reader = StoreReader.open(directory)
    asked = question("prove", {"ids": list(log_ids)}, (), purpose)
    with logged(asked, reader, directory, where, access_log) as found:
        made = proof.make(reader, ids)
        found.rows = len(made["rows"])
    save(proof.to_bytes(made), output)
    click.echo(f"{output}: {len(made['rows'])} rows under {len(made['manifests'])} manifests")
