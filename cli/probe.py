"""`probe`: what a bucket can be trusted with."""

from pathlib import Path

import click

from scalple.cli.buckets import bucket_of
from scalple.cli.options import command, config_option, configured
from scalple.store.probe import RACERS, Capabilities
from scalple.store.probe import probe as probe_bucket


@command("probe")
@config_option
@click.argument("url", metavar="s3://BUCKET/PREFIX")
def probe(url: str, config_path: Path | None) -> None:
    """Try what a bucket does: a race for one key, conditions, versions, Object Lock.

    It writes below PREFIX/.probe/ and deletes what it may. `mirror` and `reprocess` do the same
    before they write to a bucket for the first time.

    \b
    Example:
      scalple-ingest probe s3://audit-logs/db1 --config config.toml
    """
    for line in lines(probe_bucket(bucket_of(url, configured(config_path)))):
        click.echo(line)


def lines(found: Capabilities) -> list[str]:
    """What was found, and what follows from it."""
    once = "yes" if found.creates_once else "NO"
    safe = "can be a store" if found.creates_once else "only for `mirror`, from one machine"
    return [
        f"creates an object once (If-None-Match): {once}, {found.winners} of {RACERS} won: {safe}",
        f"replaces only what was seen (If-Match): {_word(found.replaces_if_match)}",
        f"keeps versions: {_word(found.versioning)}",
        f"Object Lock: {_word(found.object_lock)}",
        f"locks by default: {found.default_retention or 'no, or not told'}",
    ]


def _word(found: bool | None) -> str:
    return {True: "yes", False: "no", None: "not told"}[found]
