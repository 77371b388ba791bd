"""Every path of a store, and the names that may stand in it. No path is formatted elsewhere.

Names and numbers enter, paths leave, and back. Nothing here touches the disk except to list
which origins a store holds.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from scalple.correlate.recordcolumns import KINDS
from scalple.ingest.errors import ConfigError

PREPARED_MAX = 4
"""How many batches may be prepared and not yet committed: their segments may lie in a store."""
SEGMENT_BYTES_MAX = 64 * 1024 * 1024

ACCESS_ORIGIN = "_access"
"""The one origin with a leading underscore: the log of questions asked of the store."""

_ORIGIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_MANIFEST = re.compile(r"([0-9]{20})\.json")
_SEGMENT = re.compile(rf"([0-9]{{20}})-({'|'.join(KINDS)})-([0-9a-f]{{64}})\.parquet")


@dataclass(frozen=True, slots=True)
class OriginLayout:
    """The paths of one origin."""

    store_dir: Path
    origin: str

    @property
    def directory(self) -> Path:
        """Everything of this origin."""
        return self.store_dir / self.origin

    @property
    def segments(self) -> Path:
        """Committed Parquet files."""
        return self.directory / "segments"

    @property
    def manifests(self) -> Path:
        """One file per commit."""
        return self.directory / "manifests"

    @property
    def objects(self) -> Path:
        """Large things, named by their SHA-256."""
        return self.directory / "objects"

    @property
    def index(self) -> Path:
        """What is derived from the rest, and may be deleted at any time (see `index`)."""
        return self.directory / "index"

    @property
    def index_head(self) -> Path:
        """What the index holds, signed."""
        return self.index / "head"

    @property
    def resume(self) -> Path:
        """Where the writer of many small openings left off, signed (see `resume`)."""
        return self.index / "resume"

    @property
    def checkpoint(self) -> Path:
        """The signed head."""
        return self.directory / "checkpoint"

    @property
    def public_key(self) -> Path:
        """The key that the head is signed with, as the store itself says: no proof."""
        return self.directory / "public-key"

    def manifest(self, n: int) -> Path:
        """The manifest with number n."""
        return self.manifests / f"{n:020d}.json"

    def segment(self, n: int, kind: str, sha256: str) -> Path:
        """A segment of manifest n, named by the hash of its bytes."""
        return self.segments / f"{n:020d}-{kind}-{sha256}.parquet"

    def object(self, sha256: str) -> Path:
        """The object with this hash."""
        return self.objects / sha256


def origin_layout(store_dir: Path, origin: str) -> OriginLayout:
    """The paths of an origin whose name is checked.

    Raises:
        ConfigError: the name isn't one that an origin may have.
    """
    if not _ORIGIN.fullmatch(origin) and origin != ACCESS_ORIGIN:
        raise ConfigError(
            f"{origin!r} can't be the name of an origin",
            hint="lower-case letters, digits, '.', '_', '-'; first a letter or digit; at most 63",
        )
    return OriginLayout(store_dir, origin)


def existing_origins(store_dir: Path) -> list[str]:
    """The origins that a store holds, sorted; without the log of questions."""
    if not store_dir.is_dir():
        return []
    names = (entry.name for entry in store_dir.iterdir() if entry.is_dir())
    return sorted(name for name in names if _ORIGIN.fullmatch(name))


def keys_directory(store_dir: Path) -> Path:
    """Where keys are made on first use, beside the store and never inside it."""
    full = store_dir.absolute()
    return full.with_name(full.name + ".keys")


def manifest_number(name: str) -> int | None:
    """The number in a manifest's file name; None for any other name."""
    found = _MANIFEST.fullmatch(name)
    return int(found[1]) if found else None


def segment_parts(name: str) -> tuple[int, str, str] | None:
    """Manifest number, kind and hash in a segment's file name; None for any other name."""
    found = _SEGMENT.fullmatch(name)
    return (int(found[1]), found[2], found[3]) if found else None
