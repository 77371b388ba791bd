"""The manifests of one origin as one unbroken chain, and its signed head.

The files enter; a Chain leaves whose every link was checked: numbers without a hole, each naming
the hash of the one before, rows dense, positions that begin where the last ended. The writer,
the reader and `verify` all start from here. Segments are named, not opened.
"""

import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scalple.correlate.recordcolumns import KINDS
from scalple.ingest.errors import VerificationError
from scalple.store import source
from scalple.store.checkpoint import Checkpoint, open_checkpoint
from scalple.store.keyhistory import SIGNING_KEY, Rotation, all_keys, key_at
from scalple.store.keys import read_public_keys
from scalple.store.layout import OriginLayout, manifest_number, segment_parts
from scalple.store.lease import is_locked
from scalple.store.manifest import (
    Manifest,
    Position,
    positions_from_bytes,
    sha256_hex,
)
from scalple.store.manifests import Continued, Manifests
from scalple.store.merkle import CompactRange, leaf_hash
from scalple.store.note import VerifierKey

Generation = tuple[str, str, int, int]

SETTLE_TRIES = 40
SETTLE_SECONDS = 0.05


@dataclass(slots=True)
class Chain:
    """What an origin's manifests say together; `append` is the only way to extend it."""

    origin: str
    manifests: Manifests = field(default_factory=Manifests)
    leaf_hashes: Continued[bytes] = field(default_factory=Continued)
    tree: CompactRange = field(default_factory=CompactRange)
    last_sha256: str | None = None
    next_seq: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    positions: dict[Generation, Position] = field(default_factory=dict)
    rotations: list[Rotation] = field(default_factory=list)
    first_key: VerifierKey | None = None
    """The key that the log began with; None where nobody asked for keys."""
    signed: bytes = b""
    """The signed note of the head that it was read up to (`read_settled`)."""

    @property
    def head(self) -> Checkpoint:
        """The checkpoint that these manifests deserve."""
        return Checkpoint(self.origin, self.tree.size, self.tree.root())

    def append(
        self,
        manifest: Manifest,
        data: bytes,
        positions: Iterable[Position],
        rotation: Rotation | None = None,
    ) -> None:
        """Takes the next manifest, its bytes, the positions it commits and the key it introduces.

        Raises:
            VerificationError: it doesn't continue the chain; the chain is then unusable.
        """
        self._expect("origin", self.origin, manifest.origin)
        self._expect("number", self.tree.size, manifest.n)
        self._expect("previous", self.last_sha256, manifest.previous)
        for segment in manifest.segments:
            parts = segment_parts(segment.file)
            self._expect("segment's file", (manifest.n, segment.kind, segment.sha256), parts)
            self._expect(f"seq of {segment.kind}", self.next_seq[segment.kind], segment.first_seq)
            self.next_seq[segment.kind] += segment.rows
        for position in positions:
            before = self.positions.get(position.generation)
            self._expect(f"begin in {position.path}", before.end if before else 0, position.begin)
            if position.end <= position.begin:
                raise VerificationError(f"position in {position.path} doesn't advance")
            self.positions[position.generation] = position
        if rotation is not None:
            self._expect("key", self.origin, rotation.old.name)
            if self.rotations:
                self._expect("key", self.rotations[-1].new.to_text(), rotation.old.to_text())
            self.rotations.append(rotation)
        leaf = leaf_hash(data)
        self.manifests.append(manifest)
        self.leaf_hashes.append(leaf)
        self.tree = self.tree.append(leaf)
        self.last_sha256 = sha256_hex(data)

    def _expect(self, what: str, expected: object, found: object) -> None:
        if expected != found:
            raise VerificationError(
                f"{what} breaks the chain",
                place=f"{self.origin} manifest {self.tree.size}",
                expected=expected,
                found=found,
            )

    def key_at(self, size: int) -> VerifierKey:
        """Which key signs the head of `size` manifests, and the manifest that comes next."""
        assert self.first_key is not None
        return key_at(self.first_key, self.rotations, size)

    @property
    def keys(self) -> list[VerifierKey]:
        """Every key of the log, in order.

        Raises:
            VerificationError: the key that it began with isn't the one that was followed.
        """
        return self.keys_at(self.tree.size)

    def keys_at(self, size: int) -> list[VerifierKey]:
        """Every key of the first `size` manifests; raises as `keys`."""
        assert self.first_key is not None
        return all_keys(self.first_key, [one for one in self.rotations if one.n < size])

    def root_at(self, size: int) -> bytes:
        """The root of the first `size` manifests."""
        if size == self.tree.size:  # of many manifests the leaves would have to be fetched
            return self.tree.root()
        tree = CompactRange()
        for leaf in self.leaf_hashes[:size]:
            tree = tree.append(leaf)
        return tree.root()


def read_chain(
    layout: OriginLayout,
    count: int,
    first_key: VerifierKey | None = None,
    past: Chain | None = None,
) -> Chain:
    """The chain of the manifests 0 … count-1; `past`: its beginning, which is continued.

    Raises:
        VerificationError: one is missing, isn't a manifest, or doesn't continue the chain.
    """
    chain = past or Chain(layout.origin)
    chain.first_key = first_key
    for n in range(chain.tree.size, count):
        path = layout.manifest(n)
        with placed(path):
            data = read_bytes(path)
            manifest = Manifest.from_bytes(data)
            positions = read_positions(layout, manifest)
            chain.append(manifest, data, positions, read_rotation(layout, manifest))
    return chain


def read_positions(layout: OriginLayout, manifest: Manifest) -> tuple[Position, ...]:
    """The positions of a manifest, from the object that holds them when they were many."""
    if manifest.positions_object is None:
        return manifest.positions
    return positions_from_bytes(read_object(layout, manifest.positions_object))


def read_rotation(layout: OriginLayout, manifest: Manifest) -> Rotation | None:
    """The change of signing keys that a manifest states, if it does."""
    sha256 = manifest.objects.get(SIGNING_KEY)
    return None if sha256 is None else Rotation.from_bytes(manifest.n, read_object(layout, sha256))


def referenced_objects(chain: Chain) -> set[str]:
    """The hashes of all objects that the chain's manifests name."""
    named = {sha256 for manifest in chain.manifests for sha256 in manifest.objects.values()}
    return named | {m.positions_object for m in chain.manifests if m.positions_object}


def read_object(layout: OriginLayout, sha256: str) -> bytes:
    """An object whose bytes were checked against its name.

    Raises:
        VerificationError: missing, or other bytes.
    """
    path = layout.object(sha256)
    data = read_named(layout, path, sha256)
    if sha256_hex(data) != sha256:
        raise VerificationError(
            "object differs", place=str(path), expected=sha256, found=sha256_hex(data)
        )
    return data


def read_named(layout: OriginLayout, path: Path, sha256: str) -> bytes:
    """The bytes of a file that a manifest names, wherever the store is; who asks checks them.

    Raises:
        VerificationError: it is missing, or can't be read.
    """
    remote = source.source_of(layout.store_dir)
    return remote.load(path, sha256) if remote else read_bytes(path)


@contextmanager
def placed(place: Path | str) -> Iterator[None]:
    """Says where, in a VerificationError that doesn't know."""
    try:
        yield
    except VerificationError as error:
        raise error.at(str(place)) from error


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        VerificationError: it is missing, no regular file (a pipe would keep us waiting), or can't
            be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise VerificationError("not a regular file", place=str(path))
        return path.read_bytes()
    except OSError as error:
        raise VerificationError(f"can't read: {error.strerror}", place=str(path)) from error


def manifest_count(layout: OriginLayout) -> int:
    """How many manifests the directory lists, holes or not."""
    if not layout.manifests.is_dir():
        return 0
    numbers = (manifest_number(entry.name) for entry in layout.manifests.iterdir())
    return max((n + 1 for n in numbers if n is not None), default=0)


def read_checkpoint(
    layout: OriginLayout, keys: Iterable[VerifierKey]
) -> tuple[Checkpoint, VerifierKey]:
    """The origin's signed head and its key, with exactly the one signature that our writer makes.

    Raises:
        VerificationError: missing, malformed, or not signed by one of the keys.
    """
    return _opened(layout, read_bytes(layout.checkpoint), keys)


def _opened(
    layout: OriginLayout, data: bytes, keys: Iterable[VerifierKey]
) -> tuple[Checkpoint, VerifierKey]:
    with placed(layout.checkpoint):
        found = open_checkpoint(data, keys)
        if data.count(b"\n") != 5:
            raise VerificationError("checkpoint carries signatures that can't be checked")
    return found


def read_own_keys(layout: OriginLayout) -> list[VerifierKey]:
    """The keys of the log as the store itself says, in order: no proof.

    Raises:
        VerificationError: the file is missing, or says something else.
    """
    read_bytes(layout.public_key)
    keys = read_public_keys(layout.public_key)
    if {key.name for key in keys} != {layout.origin} or len(set(keys)) < len(keys):
        raise VerificationError(
            f"keys of {layout.origin} are expected", place=str(layout.public_key)
        )
    return keys


def count_beyond(layout: OriginLayout, size: int) -> int:
    """How many manifests there are, if the first `size` are: looks at the next two names only."""
    if size and not layout.manifest(size - 1).exists():
        return size - 1
    beyond = [layout.manifest(n).exists() for n in (size, size + 1)]
    return size + 2 if beyond[1] else size + beyond[0]


def read_settled(
    layout: OriginLayout,
    sleep: Callable[[float], None] = time.sleep,
    past: Chain | None = None,
) -> tuple[Chain, int]:
    """The chain up to the signed head, and how many manifests lie beyond it.

    A writer at work creates a manifest and then signs it: the head may be one behind for a
    moment, so that is waited for, unless the writer has gone. More than one behind is never the
    writer's doing. With `past`,
    the chain's beginning as an index tells it, only what follows is read, and only the names at
    the end are looked at; the root shows that it is the beginning of this log.

    Raises:
        VerificationError: the head isn't that of the manifests, or not signed by the key that the
            log says.
    """

    def counted() -> int:
        if past is None:
            return manifest_count(layout)
        return count_beyond(layout, _read_head(layout)[2][0].size)

    abandoned = None
    for _ in range(SETTLE_TRIES):
        count = counted()
        keys, signed, (checkpoint, signer) = _read_head(layout)
        if count == checkpoint.size or count > checkpoint.size + 1:
            break
        if count < checkpoint.size and counted() < checkpoint.size:
            break
        if abandoned == checkpoint.size:
            break
        if _is_written(layout):
            sleep(SETTLE_SECONDS)
        else:
            abandoned = checkpoint.size  # by now it is signed, or its writer has left it so
    if not checkpoint.size <= count <= checkpoint.size + 1:
        raise VerificationError(
            f"head is signed for {checkpoint.size} manifests, found {count}",
            place=str(layout.checkpoint),
        )
    if past is not None and past.tree.size > checkpoint.size:
        raise VerificationError(
            f"index has {past.tree.size} manifests, the signed head {checkpoint.size}",
            place=str(layout.index_head),
        )
    chain = read_chain(layout, checkpoint.size, keys[0], past)
    check_head(layout, chain, checkpoint, signer)
    chain.signed = signed
    return chain, count - checkpoint.size


def _is_written(layout: OriginLayout) -> bool:
    """Whether the writer may still be at work; that of a bucket can be anywhere."""
    return source.source_of(layout.store_dir) is not None or is_locked(layout)


def check_head(
    layout: OriginLayout, chain: Chain, checkpoint: Checkpoint, signer: VerifierKey
) -> None:
    """Returns when the checkpoint is that of the chain's beginning, and signed by the key of then.

    Raises:
        VerificationError: it isn't.
    """
    with placed(layout.checkpoint):
        root = chain.root_at(checkpoint.size)
        if root != checkpoint.root:
            raise VerificationError(
                "root differs", expected=checkpoint.root.hex(), found=root.hex()
            )
        check_signer(chain, checkpoint, signer)


def check_signer(chain: Chain, checkpoint: Checkpoint, signer: VerifierKey) -> None:
    """Returns when the key that signed a checkpoint is the one that the log says for its size.

    Raises:
        VerificationError: it isn't.
    """
    expected = chain.key_at(checkpoint.size)
    if signer != expected:
        raise VerificationError(
            f"head of {checkpoint.size} manifests is signed by another key of the log",
            expected=expected.to_text(),
            found=signer.to_text(),
        )


def _read_head(
    layout: OriginLayout,
) -> tuple[list[VerifierKey], bytes, tuple[Checkpoint, VerifierKey]]:
    """The keys are read again if the head has a new one: a writer at work may be changing it."""
    keys = read_own_keys(layout)
    data = read_bytes(layout.checkpoint)
    try:
        return keys, data, _opened(layout, data, keys)
    except VerificationError:
        again = read_own_keys(layout)
        if again == keys:
            raise
        return again, data, _opened(layout, data, again)
