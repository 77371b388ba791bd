"""`check-proof`: is what this file says in the log that this key signed?"""

import sys
from pathlib import Path

import click

from scalple.cli import render
from scalple.cli.bundle import check_bundle, is_bundle, shown
from scalple.cli.options import command, config_option, configured, format_option
from scalple.ingest.errors import InputError
from scalple.store import proof
from scalple.store.keys import keys_by_origin

_SHOWN = 20
"""How many rows the text for people lists."""


@command("check-proof")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--public-key",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The log's public key, from outside: lines of verifier keys.",
)
@format_option("table", "json")
@config_option
def check_proof(path: Path, public_key: Path, form: str, config_path: Path | None) -> None:
    """Check a proof, or an answer's bundle, offline; exit code 0 only if all of it holds.

    It shows that the rows are in the log, not that the log holds no others. Of a bundle's answer the
    rows are checked, column by column; its counts (coverage, activity), and purpose, groups, ticket
    and reason beside the rows, are not.

    \b
    Example:
      scalple-ingest check-proof row.proof --public-key db1.pub
    """
    configured(config_path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", place=str(path)) from error
    keys = keys_by_origin(public_key)
    proven = check_bundle(data, keys) if is_bundle(data) else proof.check(data, keys)
    rows = shown(proven, None)
    if form == "json":
        render.write_json([{"id": name, **row} for name, row in rows.items()], sys.stdout)
        return
    lines = [{"id": name, **row} for name, row in rows.items() if "/" not in name]
    for row in lines[:_SHOWN]:
        render.write_table([row], list(row), sys.stdout)
    if len(lines) > _SHOWN:
        click.echo(f"… and {len(lines) - _SHOWN} more statements; --format json has all")
    heads = dict.fromkeys(one.head for one in proven)
    click.echo(
        f"intact: {len(proven):,} rows, {len(lines):,} of them statements, are in "
        + ", ".join(f"{head.origin} at size {head.size}, root {head.root.hex()}" for head in heads)
    )
