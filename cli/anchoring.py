"""Where anchors go, and where they are read: the names that --to and --anchors take.

Enters: a place as a user names it. Leaves: published checkpoints, or those found there. What they
say of a store is `store/anchors.py`'s.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from scalple.store import anchors
from scalple.store.anchors import Anchor
from scalple.store.chain import Chain
from scalple.store.keys import read_public_keys
from scalple.store.layout import origin_layout
from scalple.store.note import VerifierKey
from scalple.store.reader import StoreReader

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Head:
    """What an origin publishes: its chain, its key, its signed checkpoint."""

    key: VerifierKey
    chain: Chain
    note: bytes


def heads(readers: Iterable[StoreReader]) -> list[Head]:
    """The heads of every origin that was opened."""
    found = {}
    for reader in readers:
        for origin in reader.origins:
            key = read_public_keys(origin_layout(reader.directory, origin).public_key)[0]
            found[origin] = Head(key, reader.chain(origin), reader.signed_head(origin).encode())
    return [found[origin] for origin in sorted(found)]


def publish(place: str, found: Sequence[Head]) -> None:
    """Publish all heads in one place, if they continue what was published there.

    Raises:
        VerificationError: they don't; nothing was published.
        ScalpleError: it can't be written there.
    """
    if place == STDOUT:
        for head in found:
            click.echo(head.note.decode())
        return
    earlier = found_in_directory(Path(place))
    anchors.compare(earlier, {one.chain.origin: (one.key, one.chain) for one in found}, whole=True)
    for head in found:
        is_new = anchors.publish(Path(place), head.chain.head, head.note)
        tell(head, place, is_new=is_new)


def found_in_directory(directory: Path) -> list[Anchor]:
    """What was published there before."""
    empty = not directory.is_dir() or not any(directory.iterdir())
    return [] if empty else anchors.in_path(directory)


def read(places: Iterable[str]) -> list[Anchor]:
    """The anchors of all these places.

    Raises:
        InputError: there is none at one of them.
    """
    return [anchor for place in places for anchor in anchors.in_path(Path(place))]


def tell(head: Head, place: str, *, is_new: bool) -> None:
    """Say what was done, on stderr."""
    done = "anchored" if is_new else "was anchored before"
    click.echo(f"{head.chain.origin}: size {head.chain.tree.size} {done} in {place}", err=True)
