"""Where anchors go, and where they are read: the names that --to and --anchors take.

Enters: a place as a user names it. Leaves: published checkpoints, or those found there. What they
say of a store is `store/anchors.py`'s.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scalple.cli import buckets
from scalple.cli.config import Config
from scalple.cli.places import Places
from scalple.ingest.errors import ConfigError, InputError
from scalple.store import anchorbucket, anchors, witness
from scalple.store.anchors import Anchor
from scalple.store.bucketsettings import is_url
from scalple.store.chain import Chain
from scalple.store.checkpoint import Checkpoint
from scalple.store.witness import WitnessKey

if TYPE_CHECKING:
    from scalple.store.reader import StoreReader

STDOUT = "-"

witness_option = click.option(
    "--witness-key",
    "witness_key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keys of witnesses, one a line.",
)


@dataclass(frozen=True, slots=True)
class Head:
    """What an origin publishes: its chain, its signed checkpoint."""

    chain: Chain
    note: bytes


def heads(readers: Iterable["StoreReader"]) -> list[Head]:
    """The heads of every origin that was opened."""
    found = {}
    for reader in readers:
        for origin in reader.origins:
            found[origin] = Head(reader.chain(origin), reader.signed_head(origin).encode())
    return [found[origin] for origin in sorted(found)]


def is_witness(place: str) -> bool:
    """Whether a place is meant to be a witness."""
    return place.startswith(("http://", "https://"))


def witness_keys(path: Path | None) -> list[WitnessKey]:
    """The keys in a file, one a line.

    Raises:
        ConfigError: it can't be read, or holds something else.
    """
    if path is None:
        return []
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "can't read the witness's key", place=str(path), hint="check --witness-key"
        ) from error
    return [WitnessKey.from_text(line) for line in lines if line.strip()]


def publish(
    place: str, found: Sequence[Head], config: Config, witnesses: Sequence[WitnessKey]
) -> None:
    """Publish all heads in one place, if they continue what was published there.

    A witness's cosignature goes to stdout, with the checkpoint under which it stands.

    Raises:
        VerificationError: they don't; nothing was published.
        ScalpleError: it can't be read or written there.
    """
    if place == STDOUT:
        for head in found:
            click.echo(head.note.decode())
        return
    if is_witness(place):
        for head in found:
            click.echo(witness.add_checkpoint(place, witnesses, head.chain, head.note).decode())
            click.echo(
                f"{head.chain.origin}: size {head.chain.tree.size} cosigned by {place}", err=True
            )
        return
    bucket = buckets.bucket_of(place, config) if is_url(place) else None
    earlier = anchorbucket.found(bucket) if bucket else _in_directory(Path(place))
    _, faults = anchors.compare(earlier, {one.chain.origin: one.chain for one in found}, whole=True)
    for error in (error for some in faults.values() for error in some):
        raise error
    for one in found:
        checkpoint = one.chain.head
        if bucket:
            is_new = anchorbucket.publish(bucket, checkpoint, one.note)
        else:
            is_new = anchors.publish(Path(place), checkpoint, one.note)
        _tell(checkpoint, place, is_new=is_new)


def _in_directory(directory: Path) -> list[Anchor]:
    """What was published there before."""
    empty = not directory.is_dir() or not any(directory.iterdir())
    return [] if empty else anchors.in_path(directory)


def _in_bucket(place: str, config: Config | Places) -> list[Anchor]:
    found = anchorbucket.found(buckets.bucket_of(place, config))
    if not found:
        raise InputError("nothing is anchored here", place=place, hint="check --anchors")
    return found


def read(places: Iterable[str], config: Config | Places) -> tuple[Anchor, ...]:
    """The anchors of all these places.

    Raises:
        InputError: there is none at one of the places.
    """
    found = []
    for place in places:
        found += _in_bucket(place, config) if is_url(place) else anchors.in_path(Path(place))
    return tuple(found)


def _tell(head: Checkpoint, place: str, *, is_new: bool) -> None:
    """Say what was done, on stderr."""
    done = "anchored" if is_new else "was anchored before"
    click.echo(f"{head.origin}: size {head.size} {done} in {place}", err=True)
