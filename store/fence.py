"""What a writer looks at before it commits, and says when another has written since.

A layout and a manifest that is about to be created enter; RaceError leaves if the log has gone on
without this writer. With a working lease none of this ever happens; it is for a writer that was
stopped, lost its lock and wakes up. It writes nothing, and removes only what nobody else can name.
"""

from contextlib import suppress
from pathlib import Path

from scalple.ingest.errors import RaceError, StoreError, VerificationError
from scalple.store import durable
from scalple.store.chain import read_bytes
from scalple.store.layout import OriginLayout
from scalple.store.lease import Lease
from scalple.store.manifest import Manifest
from scalple.store.source import source_of

_AGAIN = "one writer per origin; run again, it goes on behind the other's commits"


def check_there(layout: OriginLayout, manifest: Manifest) -> None:
    """Returns if every file that the manifest names is in its place.

    Raises:
        RaceError: one isn't: the recovery of another writer took it for a crash's.
    """
    paths = [layout.segments / segment.file for segment in manifest.segments]
    named = [*manifest.objects.values(), manifest.positions_object]
    for path in (*paths, *(layout.object(sha256) for sha256 in named if sha256)):
        if not path.exists():
            raise RaceError(
                "was removed by another writer before it was committed; this batch isn't in the "
                "store",
                place=str(path),
                hint=_AGAIN,
            )


def check_head(layout: OriginLayout, known: bytes) -> None:
    """Returns if the head on the disk is the one that this writer knows.

    Raises:
        RaceError: another has replaced it, and it is newer: it mustn't be put back.
    """
    if read_bytes(layout.checkpoint) != known:
        raise RaceError(
            "another writer has signed another head; what this one has committed stays",
            place=str(layout.checkpoint),
            hint=_AGAIN,
        )


def is_same(path: Path, data: bytes) -> bool:
    """Whether the name is taken by these very bytes: an answer that was lost, and asked for again."""
    with suppress(VerificationError):
        return read_bytes(path) == data
    return False


def lost(layout: OriginLayout, n: int) -> RaceError:
    """That another writer has committed manifest n, and what it says of itself."""
    path = layout.manifest(n)
    who = ""
    with suppress(VerificationError):
        other = Manifest.from_bytes(read_bytes(path))
        who = f" at {other.committed_at} ({other.software}, opening {other.nonce[:8]})"
    return RaceError(
        f"another writer has committed manifest {n} in between{who}; this batch isn't in the store",
        place=str(path),
        hint=_AGAIN,
    )


def take_back(layout: OriginLayout, held: Lease, manifest: Manifest) -> None:
    """Removes the segments of a manifest that can never be: their names have hashes over salts that
    only this writer has drawn, so that no other manifest can name them. Objects may be another's."""
    if source_of(layout.store_dir) is not None or not held.is_in_place():
        return
    for segment in manifest.segments:
        with suppress(StoreError):
            durable.remove(layout.segments / segment.file)
