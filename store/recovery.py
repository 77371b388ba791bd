"""What the writer does to an origin before the first commit: create it, mend it after a crash.

A layout, the signing key and the guard of a lease enter; a checked chain leaves, with notes of what
was mended. The head is only signed over a manifest that carries the key's own signature.
What no crash of ours can have left is not touched: `verify` reports it.
"""

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import ConfigError, VerificationError
from scalple.store import durable, source
from scalple.store.chain import (
    Chain,
    check_head,
    manifest_count,
    placed,
    read_bytes,
    read_chain,
    read_checkpoint,
    read_named,
    read_own_keys,
    referenced_objects,
)
from scalple.store.keys import public_keys_text, read_public_keys, write_public_keys
from scalple.store.layout import ACCESS_ORIGIN, OriginLayout, segment_parts
from scalple.store.manifest import sha256_hex
from scalple.store.note import VerifierKey


def create(layout: OriginLayout, private: Ed25519PrivateKey, guard: durable.Guard) -> None:
    """Makes the origin's directories, its public key and the signed head of an empty log.

    Raises:
        VerificationError: manifests are there already, so the head isn't new but lost.
    """
    if manifest_count(layout):
        raise VerificationError("manifests without a checkpoint", place=str(layout.directory))
    for directory in (layout.segments, layout.manifests, layout.objects):
        durable.make_directory(directory)
    write_own_keys(layout, [VerifierKey.of(layout.origin, private)])
    first = Chain(layout.origin).head.sign(private)
    source.create(layout.store_dir, layout.checkpoint, first, guard)


def write_own_keys(layout: OriginLayout, keys: Sequence[VerifierKey]) -> None:
    """The log's own list of its keys, where it stands first.

    Raises:
        ConfigError: it says something else.
        StoreError, CommitError: it can't be written.
    """
    remote, path = source.source_of(layout.store_dir), layout.public_key
    if remote and not path.exists():
        remote.create(path, public_keys_text(keys))
    elif remote and len(read_public_keys(path)) < len(keys):
        remote.replace(path, public_keys_text(keys))
    write_public_keys(path, keys)


def recover(
    layout: OriginLayout, private: Ed25519PrivateKey, guard: durable.Guard
) -> tuple[Chain, tuple[str, ...]]:
    """The checked chain, after finishing or clearing what a crash interrupted.

    Raises:
        ConfigError: the log goes on under another key.
        VerificationError: the origin isn't what its head says, in a way no crash explains.
    """
    own = read_own_keys(layout)
    signed, signer = read_checkpoint(layout, own)
    count = manifest_count(layout)
    if not signed.size <= count <= signed.size + 1:
        raise VerificationError(
            f"head is signed for {signed.size} manifests, found {count}",
            place=str(layout.checkpoint),
        )
    chain = read_chain(layout, count, own[0])
    check_head(layout, chain, signed, signer)
    _check_key(layout, chain, private)
    notes = []
    if count > signed.size:
        _finish(layout, chain, private, guard)
        notes.append(f"{layout.origin}: signed manifest {count - 1}, left unsigned by a crash")
    write_own_keys(layout, chain.keys)
    notes += _clear(layout, chain, guard)
    return chain, tuple(notes)


def _check_key(layout: OriginLayout, chain: Chain, private: Ed25519PrivateKey) -> None:
    key = VerifierKey.of(layout.origin, private)
    expected = chain.key_at(chain.tree.size)
    if key == expected:
        return
    former = ", but one that it had before" if key in chain.keys else ""
    setting = "access_key_file" if layout.origin == ACCESS_ORIGIN else "signing_key_file"
    raise ConfigError(
        f"the signing key {key.key_id.hex()} isn't the one that this log goes on with "
        f"({expected.key_id.hex()}){former}",
        place=str(layout.public_key),
        hint=f"name the right file in [keys] {setting}; `rotate-key` changes to a new one",
    )


def _finish(
    layout: OriginLayout, chain: Chain, private: Ed25519PrivateKey, guard: durable.Guard
) -> None:
    manifest = chain.manifests[-1]
    with placed(f"{layout.manifest(manifest.n)}, unsigned"):
        manifest.check_signature(chain.key_at(manifest.n))
        for segment in manifest.segments:
            data = read_named(layout, layout.segments / segment.file, segment.sha256)
            if sha256_hex(data) != segment.sha256:
                raise VerificationError(f"segment {segment.file} differs from its hash")
    write_own_keys(layout, chain.keys)
    source.replace(layout.store_dir, layout.checkpoint, chain.head.sign(private), guard)


def _clear(layout: OriginLayout, chain: Chain, guard: durable.Guard) -> list[str]:
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
        durable.remove(path, guard=guard)
    return [f"removed {path}, left uncommitted by a crash" for path in leftovers]
