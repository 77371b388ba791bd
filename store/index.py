"""What the index of an origin holds: the head that names its files, and their names.

The text of a signed note enters, an `Index` leaves, and back (docs/FORMAT.md, "Index"). Everything
in it is derived from the log: it may be deleted at any time, and `compact` makes it again. Files
are opened elsewhere: `indexed` reads them, `compaction` makes them, `checkindex` checks them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.correlate.recordcolumns import KINDS
from scalple.ingest.errors import VerificationError
from scalple.store import note, strict
from scalple.store.digestnames import CALLED, FACTS, NAMES, ROWS
from scalple.store.keyedrows import KeyedRows
from scalple.store.keyhistory import Rotation
from scalple.store.manifest import Count, Sha256, canonical_json
from scalple.store.merkle import CompactRange

TITLE = "scalple/index/v1"
LINES = 4
"""Of a note with two lines of text and one signature."""
MANIFESTS = "manifests"
PARTS = "parts"
POSITIONS = "positions"
NUMBERING_ROWS = f"numbering-{ROWS}"
NUMBERING_FACTS = f"numbering-{FACTS}"
CONTENTS = (MANIFESTS, PARTS, POSITIONS, NUMBERING_ROWS, NUMBERING_FACTS, CALLED, *KINDS, *NAMES)
"""What a file of an index may hold; of a kind of rows the name is the kind's."""
_NAME = re.compile(rf"({'|'.join(CONTENTS)})-([0-9a-f]{{64}})")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """One file: what it holds, and the hash of its bytes."""

    holds: str
    sha256: Sha256
    bytes: Count
    first_seq: Count = 0
    """Of rows: the lowest seq in it."""
    rows: Count = 0
    """How many rows, in the order of seq without a hole; 0 where it holds no rows of the log."""

    @property
    def name(self) -> str:
        """Its name in the directory."""
        return f"{self.holds}-{self.sha256}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """What a manifest says of the signing key (see `keyhistory`)."""

    n: Count
    old: str
    new: str

    @classmethod
    def of(cls, rotation: Rotation) -> "KeyChange":
        """The same, as it is written."""
        return cls(n=rotation.n, old=rotation.old.to_text(), new=rotation.new.to_text())

    @property
    def rotation(self) -> Rotation:
        """The inverse of `of`; raises VerificationError when these aren't keys."""
        old, new = note.VerifierKey.from_text(self.old), note.VerifierKey.from_text(self.new)
        return Rotation(self.n, old, new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Manifests that follow each other, with all their rows, in few files."""

    first: Count
    end: Count
    """The manifests first … end-1."""
    committed_by: str
    """The latest `committed_at` of these manifests."""
    begins: dict[str, Count]
    ends: dict[str, Count]
    """Per kind the seq of its first row, and the one after its last."""
    newest: dict[str, Count]
    """Name of an object -> the newest of these manifests that names one."""
    hashes: dict[str, list[Sha256]]
    """Name of an object -> all hashes of objects so named; names with many are left out."""
    keyed: list[KeyedRows]
    """Of its audit rows, under which subject key they were committed."""
    files: list[IndexFile]

    @property
    def numbering(self) -> str:
        """What its digest says facts are numbered since."""
        return f"{self.first}-{self.end}"

    @property
    def rows(self) -> int:
        """How many rows of all kinds."""
        return sum(self.ends.values()) - sum(self.begins.values())

    def holding(self, holds: str) -> list[IndexFile]:
        """The files with that content, in order."""
        return [one for one in self.files if one.holds == holds]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbering:
    """The facts that have a number in the numbering that the newest digest uses."""

    since: Count
    """The manifest in which it begins."""
    nonce: str
    """Of the manifests of that opening of the writer: only they can use it further."""
    files: list[IndexFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The head of an index: all of its files, and the log that they were made of."""

    origin: str
    size: Count
    """How many manifests are in it."""
    root: Sha256
    """The root over them, as a checkpoint of this size has it."""
    nodes: list[Sha256]
    """The roots of the perfect subtrees, largest first: with them the log can be continued."""
    last_sha256: Sha256
    """Of the bytes of the last manifest."""
    rotations: list[KeyChange]
    """Every change of the signing key in its manifests, in order."""
    positions: IndexFile
    """The latest position of each generation."""
    numbering: Numbering | None
    runs: Annotated[list[Run], len]

    @property
    def tree(self) -> CompactRange:
        """The tree over its manifests."""
        return CompactRange(self.size, tuple(bytes.fromhex(one) for one in self.nodes))

    @property
    def files(self) -> list[IndexFile]:
        """All of its files."""
        numbering = self.numbering.files if self.numbering else []
        return [self.positions, *numbering, *(one for run in self.runs for one in run.files)]

    def sign(self, private: Ed25519PrivateKey) -> bytes:
        """The index as a signed note; the key's name is the origin."""
        text = canonical_json(strict.plain(self)).decode()
        return note.sign(f"{TITLE}\n{text}\n", self.origin, private)


def open_index(data: bytes, keys: Iterable[note.VerifierKey]) -> tuple[Index, note.VerifierKey]:
    """The index in a note signed by one of the keys, and that key.

    Raises:
        VerificationError: malformed, not signed by any of them, for another origin, or it doesn't fit
            together.
    """
    whole, key = note.open_note(data, keys)
    title, _, text = whole.partition("\n")
    if data.count(b"\n") != LINES:
        raise VerificationError("index carries signatures that can't be checked")
    if title != TITLE:
        raise VerificationError(f"no index of a form that is known here: {title[:40]!r}")
    try:
        index = strict.from_json(Index, text)
    except ValueError as error:
        raise VerificationError(f"not an index: {error}") from error
    if index.origin != key.name:
        raise VerificationError(f"index of another origin: {index.origin}")
    if index.size.bit_count() != len(index.nodes) or index.tree.root().hex() != index.root:
        raise VerificationError("index: its nodes don't make its root")
    if not all(content_of(one.name) for one in index.files):
        raise VerificationError("index: it names a file that is none of an index")
    if any(run.begins.keys() | run.ends.keys() != KINDS.keys() for run in index.runs):
        raise VerificationError("index of a version that knew other kinds of rows")
    ends = [0, *(run.end for run in index.runs)]
    if [run.first for run in index.runs] != ends[:-1] or ends[-1] != index.size:
        raise VerificationError("index: its runs don't follow each other")
    for change in index.rotations:
        if change.rotation.old.name != key.name or change.n >= index.size:
            raise VerificationError("index: a change of keys isn't this log's")
    return index, key


def content_of(name: str) -> tuple[str, str] | None:
    """What a file of that name holds and the hash of its bytes; None for any other name."""
    found = _NAME.fullmatch(name)
    return (found[1], found[2]) if found else None
