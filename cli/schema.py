"""`schema snapshot`: what a live database's tables are, and who may read them, as a file.

Enters: a connection string. Leaves: JSON (docs/SCHEMA.md) for `--schema`. Takes it by
`ingest.livecatalog`; passwords are neither printed nor stored.
"""

import json
import os
from pathlib import Path

import click

from scalple.cli.options import command
from scalple.ingest import livecatalog
from scalple.ingest.errors import ConfigError


@command("schema")
@click.argument("what", type=click.Choice(["snapshot"]), metavar="snapshot")
@click.option(
    "--dsn",
    default="",
    metavar="DSN",
    help="libpq's connection string or URI. Without it: PGHOST, PGSERVICE and so on.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write here instead of stdout.",
)
def schema(what: str, dsn: str, output: Path | None) -> None:
    """Take a snapshot of a database's schema and privileges, for --schema of `reprocess`.

    One read-only transaction; any role that may connect will do. It reads system catalogs only,
    no row of a table. Give the password by PGPASSWORD, ~/.pgpass or a service file.

    \b
    Example:
      scalple-ingest schema snapshot --dsn "host=db1 dbname=app user=auditor" \\
        --output schema-2026-04-01.json
    """
    assert what == "snapshot"
    taken = livecatalog.take(dsn)
    text = json.dumps(taken, indent=1, ensure_ascii=False) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    _save(text, output)
    count = len(taken["relations"])
    click.echo(
        f"{output}: {count:,} relations of {taken['database']} at {taken['taken_at']}", err=True
    )


def _save(text: str, path: Path) -> None:
    """The whole snapshot under its name, or an error and what was there before."""
    beside = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigError(
            f"can't write the snapshot: {error.strerror}", place=str(path), hint="check --output"
        ) from error
