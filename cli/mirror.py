"""`mirror`: a local store, copied to a bucket."""

from pathlib import Path

import click

from scalple.cli.buckets import bucket_of
from scalple.cli.options import command, config_option, configured, store_option, store_path
from scalple.ingest.errors import ConfigError
from scalple.store.mirror import Mirror
from scalple.store.reader import StoreReader
from scalple.store.source import source_of


@command("mirror")
@store_option
@click.option("--to", required=True, metavar="s3://…", help="The bucket and prefix of the copy.")
@click.option(
    "--remove-expired",
    "removes",
    is_flag=True,
    help="Remove from the bucket the files of what the log says has expired.",
)
@config_option
def mirror(store_dir: str | None, to: str, removes: bool, config_path: Path | None) -> None:
    """Copy what isn't in the bucket yet, in an order in which the copy is a store at every moment.

    Run it again after each commit (cron); it goes on where it was, also after it was stopped. The
    copy is verified and asked like any store: --store s3://bucket/prefix.

    \b
    Example:
      scalple-ingest mirror --store ./store --to s3://audit-logs/db1 --config config.toml
    """
    config = configured(config_path)
    directory = store_path(store_dir, config)
    if source_of(directory):
        raise ConfigError("is in a bucket already", place=store_dir, hint="give a directory")
    job = Mirror(
        bucket_of(to, config), lambda what: click.echo(f"note: {what}", err=True), removes=removes
    )
    job.prepare()
    readers = [StoreReader.open(directory), StoreReader.of_questions(directory)]
    for reader in (reader for reader in readers if reader is not None):
        for origin in reader.origins:
            done = job.copy(reader, origin)
            click.echo(
                f"{origin}: {done.after:,} manifests in {to} ({done.after - done.before:,} new), "
                f"{done.files:,} files and {done.bytes:,} bytes copied"
                + (f"; {done.removed:,} files of expired rows removed" if done.removed else "")
            )
            if done.left:
                click.echo(
                    f"note: {done.left:,} files of rows that have expired are still in the bucket"
                    + ("" if not removes else ", which doesn't let them be removed yet")
                    + ("" if removes else ": --remove-expired removes them"),
                    err=True,
                )
