"""`verify`: is the store what its manifests say, byte by byte."""

import os
import sys
from dataclasses import asdict, astuple, replace
from pathlib import Path

import click

from scalple.cli import anchoring, render
from scalple.cli.options import (
    command,
    config_option,
    format_option,
    store_option,
    store_path,
)
from scalple.cli.places import Places, places
from scalple.cli.progress import bar
from scalple.ingest.errors import VerificationError
from scalple.store.source import said
from scalple.store.verify import Options, examine
from scalple.store.verifyreport import Fault, VerifyReport

_FILE = click.Path(path_type=Path)


@command("verify")
@store_option
@click.option("--origin", metavar="NAME", help="Only this origin.")
@click.option("--checkpoint", type=_FILE, metavar="FILE", help="A checkpoint seen earlier.")
@click.option(
    "--public-key", type=_FILE, metavar="FILE", help="The log's public keys, from outside."
)
@click.option(
    "--anchors",
    "anchored",
    multiple=True,
    metavar="PLACE…",
    help="Checkpoints that `anchor` published: a directory, a file, or s3://bucket/prefix.",
)
@anchoring.witness_option
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
    anchored: tuple[str, ...],
    witness_key: Path | None,
    since: tuple[str, ...],
    files_only: bool,
    workers: int | None,
    form: str,
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
    where = places(config_path)
    with bar("verifying") as tell:
        options = Options(
            since=since,
            files_only=files_only,
            workers=workers or len(os.sched_getaffinity(0)),
            anchors=anchoring.read(anchored, where),
            witnesses=tuple(anchoring.witness_keys(witness_key)),
            start=lambda total: tell(total=total),
            advance=lambda count: tell(advance=count),
        )
        report = _told(_examined(store_dir, where, origin, public_key, checkpoint, options))
    if form == "json":
        render.write_json({"intact": not report.faults, **asdict(report)}, sys.stdout)
    elif not report.faults:
        write_report(report)
    if report.faults:
        raise _failed(report)


def _examined(
    store_dir: str | None,
    where: Places,
    origin: str | None,
    public_key: Path | None,
    checkpoint: Path | None,
    options: Options,
) -> VerifyReport:
    """A bucket in which a head isn't signed, or manifests are missing, has that one fault."""
    try:
        directory = store_path(store_dir, where, fresh=True)
    except VerificationError as error:
        level = "files" if options.files_only else "rows"
        return VerifyReport(level, faults=[Fault.of(error, str(store_dir or where.store))])
    return examine(directory, origin, public_key, checkpoint, options)


def _told(report: VerifyReport) -> VerifyReport:
    """With the places of a bucket, in place of those here that stand for them."""
    faults = [Fault(*(text and said(text) for text in astuple(one))) for one in report.faults]
    return replace(report, notes=[said(note) for note in report.notes], faults=faults)


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
