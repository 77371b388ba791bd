"""`verify`: is the store what its manifests say, byte by byte."""

from pathlib import Path

import click

from scalple.cli import anchoring
from scalple.cli.options import command, config_option, configured, store_option, store_path
from scalple.store.source import said
from scalple.store.verify import VerifyReport
from scalple.store.verify import verify as verify_store

_FILE = click.Path(path_type=Path)


@command("verify")
@store_option
@click.option("--origin", metavar="NAME", help="Only this origin.")
@click.option("--checkpoint", type=_FILE, metavar="FILE", help="A checkpoint seen earlier.")
@click.option(
    "--public-key", type=_FILE, metavar="FILE", help="The log's public key, from outside."
)
@click.option(
    "--anchors",
    "anchored",
    multiple=True,
    metavar="PLACE…",
    help="Checkpoints that `anchor` published: a directory, a file, or s3://bucket/prefix.",
)
@anchoring.witness_option
@config_option
def verify(
    store_dir: str | None,
    origin: str | None,
    checkpoint: Path | None,
    public_key: Path | None,
    anchored: tuple[str, ...],
    witness_key: Path | None,
    config_path: Path | None,
) -> None:
    """Read everything again and check it; exit code 0 only if all of it is intact.

    Without --public-key the store is checked against its own key, which shows damage but not
    that nobody rewrote and signed it anew. Without --anchors or --checkpoint nothing shows that the
    newest commits weren't cut off; with --witness-key anchors count only if a witness cosigned them.

    \b
    Example:
      scalple-ingest verify --store ./store --public-key db1.pub --anchors /mnt/auditors/anchors
    """
    config = configured(config_path)
    directory = store_path(store_dir, config, fresh=True)
    found = anchoring.read(anchored, config, anchoring.witness_keys(witness_key))
    write_report(verify_store(directory, origin, public_key, checkpoint, found))


def write_report(report: VerifyReport) -> None:
    """What was found intact, on stdout."""
    click.echo(
        f"intact: {', '.join(report.origins)}: {report.manifests:,} manifests, "
        f"{report.segments:,} segments, {report.rows:,} rows, {report.bytes:,} bytes"
    )
    for note in report.notes:
        click.echo(said(f"note: {note}"))
