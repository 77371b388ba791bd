"""`check-proof`: is what this file says in the log that this key signed?"""

import sys
from pathlib import Path

import click

from scalple.cli import render
from scalple.cli.bundle import check_bundle, is_bundle, shown
from scalple.cli.consistency import read
from scalple.cli.options import command, config_option, configured, format_option
from scalple.ingest.errors import InputError
from scalple.store import consistency as proofs
from scalple.store import proof
from scalple.store.keys import keys_by_origin
from scalple.store.note import VerifierKey

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
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Of a proof of `consistency`: the older checkpoint, as you kept it.",
)
@format_option("table", "json")
@config_option
def check_proof(
    path: Path, public_key: Path, checkpoint: Path | None, form: str, config_path: Path | None
) -> None:
    """Check a proof, or an answer's bundle, offline; exit code 0 only if all of it holds.

    It shows that the rows are in the log, not that the log holds no others. Of a bundle's answer the
    rows are checked, column by column; its counts (coverage, activity), and purpose, groups, ticket
    and reason beside the rows, are not.

    \b
    Example:
      scalple-ingest check-proof row.proof --public-key db1.pub
    """
    configured(config_path)
    data = read(path)
    keys = keys_by_origin(public_key)
    if proofs.is_consistency(data):
        if checkpoint is None:
            raise InputError("from which checkpoint?", hint="give the older one, --checkpoint FILE")
        _grown(data, read(checkpoint), [key for some in keys.values() for key in some], form)
        return
    if checkpoint is not None:
        raise InputError("a proof of rows needs none", place="--checkpoint", hint="leave it out")
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


def _grown(data: bytes, older: bytes, keys: list[VerifierKey], form: str) -> None:
    old, new = proofs.check(data, older, keys)
    if form == "json":
        heads = [{"origin": x.origin, "size": x.size, "root": x.root.hex()} for x in (old, new)]
        render.write_json(heads, sys.stdout)
        return
    click.echo(
        f"intact: {new.origin} only grew from {old.size} manifests, root {old.root.hex()}, "
        f"to {new.size}, root {new.root.hex()}"
    )
