"""What the writer does to an origin before the first commit: create, lock, mend after a crash.

A layout and the signing key enter; a locked origin and its checked chain leave, with notes of
what was mended. The head is only signed over a manifest that carries the key's own signature.
What no crash of ours can have left is not touched: `verify` reports it.
"""

import fcntl
import os
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import ConfigError, StoreError, VerificationError
from scalple.store import durable, source
from scalple.store.chain import (
    Chain,
    manifest_count,
    placed,
    read_bytes,
    read_chain,
    read_checkpoint,
    referenced_objects,
)
from scalple.store.keys import write_public_key
from scalple.store.layout import OriginLayout, segment_parts
from scalple.store.manifest import sha256_hex
from scalple.store.note import VerifierKey

LOCK_SECONDS = 0.5
"""How long a lock is waited for: `verify` holds it for an instant to see who does."""
LOCK_PAUSE_SECONDS = 0.02


def lock(layout: OriginLayout, seconds: float = LOCK_SECONDS) -> int:
    """An exclusive lock on the origin's directory, held until the descriptor is closed.

    Another holder is waited for, so many seconds.

    Raises:
        ConfigError: the origin doesn't exist.
        StoreError: another writer holds it.
    """
    try:
        descriptor = os.open(layout.directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(
            f"no origin {layout.origin!r} in this store: {error.strerror}",
            place=str(layout.store_dir),
            hint="an origin is created by the first batch that is told its name",
        ) from error
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return descriptor
    os.close(descriptor)
    raise StoreError(
        "another writer has this origin open",
        place=str(layout.directory),
        hint="one writer per origin: stop the other one, or write to another origin",
    )


def is_locked(layout: OriginLayout) -> bool:
    """Whether a writer is at work on the origin right now."""
    descriptor = os.open(layout.directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def create(layout: OriginLayout, private: Ed25519PrivateKey) -> None:
    """Makes the origin's directories, its public key and the signed head of an empty log.

    Raises:
        VerificationError: manifests are there already, so the head isn't new but lost.
    """
    if manifest_count(layout):
        raise VerificationError("manifests without a checkpoint", place=str(layout.directory))
    for directory in (layout.segments, layout.manifests, layout.objects):
        durable.make_directory(directory)
    key = VerifierKey.of(layout.origin, private)
    if remote := source.source_of(layout.store_dir):
        remote.create(layout.public_key, f"{key.to_text()}\n".encode())
    write_public_key(layout.public_key, key)
    first = Chain(layout.origin).head.sign(private)
    source.create(layout.store_dir, layout.checkpoint, first)


def recover(layout: OriginLayout, private: Ed25519PrivateKey) -> tuple[Chain, tuple[str, ...]]:
    """The checked chain, after finishing or clearing what a crash interrupted.

    Raises:
        VerificationError: the origin isn't what its head says, in a way no crash explains.
    """
    key = VerifierKey.of(layout.origin, private)
    signed = read_checkpoint(layout, key)
    count = manifest_count(layout)
    if not signed.size <= count <= signed.size + 1:
        raise VerificationError(
            f"head is signed for {signed.size} manifests, found {count}",
            place=str(layout.checkpoint),
        )
    chain = read_chain(layout, count)
    if chain.root_at(signed.size) != signed.root:
        raise VerificationError(
            f"root differs: expected {signed.root.hex()}, found {chain.root_at(signed.size).hex()}",
            place=str(layout.checkpoint),
        )
    notes = []
    if count > signed.size:
        _finish(layout, chain, private, key)
        notes.append(f"{layout.origin}: signed manifest {count - 1}, left unsigned by a crash")
    notes += _clear(layout, chain)
    return chain, tuple(notes)


def _finish(
    layout: OriginLayout, chain: Chain, private: Ed25519PrivateKey, key: VerifierKey
) -> None:
    manifest = chain.manifests[-1]
    with placed(f"{layout.manifest(manifest.n)}, unsigned"):
        manifest.check_signature(key)
        for segment in manifest.segments:
            wanted = (layout.segments / segment.file, segment.sha256, segment.bytes)
            source.fetch(layout.store_dir, [wanted])
            data = read_bytes(layout.segments / segment.file)
            if sha256_hex(data) != segment.sha256:
                raise VerificationError(f"segment {segment.file} differs from its hash")
    source.replace(layout.store_dir, layout.checkpoint, chain.head.sign(private))


def _clear(layout: OriginLayout, chain: Chain) -> list[str]:
    """Removes what was written for a commit that never came; the lock makes that certain."""
    leftovers = [
        path
        for directory in (layout.directory, layout.manifests, layout.segments, layout.objects)
        for path in sorted(directory.iterdir())
        if path.name.endswith(durable.TEMPORARY_SUFFIX)
    ]
    for path in sorted(layout.segments.iterdir()):
        parts = segment_parts(path.name)
        if parts and parts[0] >= chain.tree.size:
            leftovers.append(path)
    referenced = referenced_objects(chain)
    for path in sorted(layout.objects.iterdir()):
        if path.name not in referenced and sha256_hex(read_bytes(path)) == path.name:
            leftovers.append(path)
    for path in leftovers:
        durable.remove(path)
    return [f"removed {path}, left uncommitted by a crash" for path in leftovers]
