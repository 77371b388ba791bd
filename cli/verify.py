"""`verify`: is the store what its manifests say, byte by byte."""

import os
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from scalple.cli import render
from scalple.cli.options import (
    command,
    config_option,
    format_option,
    store_option,
    store_path,
)
from scalple.cli.places import places
from scalple.ingest.errors import VerificationError
from scalple.store.verify import Options, examine
from scalple.store.verifyreport import VerifyReport

_FILE = click.Path(path_type=Path)


@command("verify")
@store_option
@click.option("--origin", metavar="NAME", help="Only this origin.")
@click.option("--checkpoint", type=_FILE, metavar="FILE", help="A checkpoint seen earlier.")
@click.option(
    "--public-key", type=_FILE, metavar="FILE", help="The log's public keys, from outside."
)
@click.option(
    "--since-checkpoint",
    "since",
    multiple=True,
    metavar="FILE|SIZE",
    help="Read only what came after this checkpoint, once it is shown to be this log's.",
)
@click.option(
    "--files",
    "files_only",
    is_flag=True,
    help="Only hashes of files, chain and signatures; rows aren't decoded.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    metavar="N",
    help="So many at once; all processors without it.",
)
@format_option("text", "json")
@config_option
def verify(
    store_dir: str | None,
    origin: str | None,
    checkpoint: Path | None,
    public_key: Path | None,
    since: tuple[str, ...],
    files_only: bool,
    workers: int | None,
    form: str,
    config_path: Path | None,
) -> None:
    """Read everything again and check it; exit code 0 only if all of it is intact.

    Without --public-key the store is checked against its own key, which shows damage but not
    that nobody rewrote and signed it anew. Without --checkpoint nothing shows that the newest
    commits weren't cut off.

    \b
    Example:
      scalple-ingest verify --store ./store --public-key db1.pub --checkpoint last-month.checkpoint
    """
    directory = store_path(store_dir, places(config_path))
    with _progress() as progress:
        task = progress.add_task("verifying", total=None)
        options = Options(
            since=since,
            files_only=files_only,
            workers=workers or len(os.sched_getaffinity(0)),
            start=lambda total: progress.update(task, total=total),
            advance=lambda count: progress.update(task, advance=count),
        )
        report = examine(directory, origin, public_key, checkpoint, options)
    if form == "json":
        render.write_json({"intact": not report.faults, **asdict(report)}, sys.stdout)
    elif not report.faults:
        write_report(report)
    if report.faults:
        raise _failed(report)


def write_report(report: VerifyReport) -> None:
    """What was found intact, on stdout."""
    click.echo(
        f"intact: {', '.join(report.origins)}: {report.manifests:,} manifests, "
        f"{report.segments:,} segments, {report.rows:,} rows, {report.bytes:,} bytes"
        + (" (files only: no row was decoded)" if report.level == "files" else "")
    )
    for note in report.notes:
        click.echo(f"note: {note}")


def _failed(report: VerifyReport) -> VerificationError:
    """The one fault; of several all are told before."""
    first = report.faults[0].to_error()
    if len(report.faults) == 1:
        return first
    for fault in report.faults:
        click.echo(f"fault: {fault.to_error()}", err=True)
    return VerificationError(f"{len(report.faults)} faults; the first: {first}")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
