"""Where a writer left off, so that the next opening needn't read the whole log.

A chain whose writer is done enters, and a signed file leaves; the next opening takes it and gets the
chain back. For logs that are opened for every single commit, as the log of questions is. Whoever
opens the origin takes the file away first: that it is there says that nothing was left unfinished
since. What it says must fit the signed head and the last manifest; the whole log is `verify`'s.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.correlate.recordcolumns import KINDS
from scalple.ingest.errors import StoreError, VerificationError
from scalple.store import durable, note, strict
from scalple.store.chain import (
    Chain,
    count_beyond,
    placed,
    read_bytes,
    read_checkpoint,
    read_own_keys,
)
from scalple.store.index import LINES, KeyChange
from scalple.store.layout import OriginLayout
from scalple.store.manifest import Count, Position, Sha256, canonical_json, sha256_hex
from scalple.store.manifests import Manifests, PastFiles, leaves_of
from scalple.store.merkle import CompactRange
from scalple.store.note import VerifierKey

TITLE = "scalple/resume/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resume:
    """The end of a log."""

    origin: str
    size: Count
    nodes: list[Sha256]
    """The roots of the perfect subtrees, largest first."""
    last_sha256: Sha256
    next_seq: dict[str, Count]
    positions: list[Position]
    rotations: list[KeyChange]


def leave(layout: OriginLayout, chain: Chain, private: Ed25519PrivateKey) -> None:
    """Writes the file. That it can't be written is no error: the next opening takes longer."""
    if chain.last_sha256 is None:
        return
    text = canonical_json(strict.plain(_said(chain))).decode()
    with suppress(StoreError):
        durable.make_directory(layout.index)
        durable.replace(layout.resume, note.sign(f"{TITLE}\n{text}\n", layout.origin, private))


def take(layout: OriginLayout, private: Ed25519PrivateKey) -> Chain | None:
    """The chain that a writer left, if it is that of the signed head; the file is gone then.

    Under the origin's lock. None: the log has to be read, which also tells what is wrong with the
    key if it isn't the one that the log goes on with.

    Raises:
        StoreError, CommitError: the file can't be removed.
    """
    try:
        data = layout.resume.read_bytes()
    except OSError:
        return None
    durable.remove(layout.resume)
    with suppress(VerificationError):
        key = VerifierKey.of(layout.origin, private)
        chain, _ = _opened(data, layout, [key])
        is_head = read_checkpoint(layout, [key])[0] == chain.head
        if is_head and chain.keys == read_own_keys(layout) and chain.keys[-1] == key:
            return chain if _is_last(layout, chain) else None
    return None


def check(layout: OriginLayout, chain: Chain) -> list[str]:
    """Notes on the file, of an origin whose chain was read.

    Raises:
        VerificationError: it says something else than the log.
    """
    try:
        data = layout.resume.read_bytes()
    except FileNotFoundError:
        return []
    with placed(layout.resume):
        left, signer = _opened(data, layout, chain.keys)
        if left.tree.size < chain.tree.size:
            return [f"{layout.resume}: isn't of today's head; the next writer removes it"]
        if left.tree.size > chain.tree.size:
            if read_checkpoint(layout, read_own_keys(layout))[0].size >= left.tree.size:
                return []  # another commit came while the rest was looked at
            raise VerificationError(
                f"log was cut: a writer left {left.tree.size} manifests, found {chain.tree.size}"
            )
        if _said(left) != _said(chain) or signer != chain.keys[-1]:
            raise VerificationError("where the writer left off isn't where the log ends")
    return []


def _said(chain: Chain) -> _Resume:
    return _Resume(
        origin=chain.origin,
        size=chain.tree.size,
        nodes=[node.hex() for node in chain.tree.nodes],
        last_sha256=chain.last_sha256 or "",
        next_seq=chain.next_seq,
        positions=list(chain.positions.values()),
        rotations=[KeyChange.of(one) for one in chain.rotations],
    )


def _opened(
    data: bytes, layout: OriginLayout, keys: Iterable[VerifierKey]
) -> tuple[Chain, VerifierKey]:
    whole, signer = note.open_note(data, keys)
    title, _, text = whole.partition("\n")
    if data.count(b"\n") != LINES:
        raise VerificationError("carries signatures that can't be checked")
    try:
        said = strict.from_json(_Resume, text)
    except ValueError as error:
        raise VerificationError(f"not where a writer left off: {error}") from error
    if title != TITLE or said.origin != layout.origin or said.next_seq.keys() != KINDS.keys():
        raise VerificationError("not where a writer of this version and origin left off")
    if said.size.bit_count() != len(said.nodes):
        raise VerificationError("nodes and size don't fit together")
    past = PastFiles(layout, said.size)
    chain = Chain(
        layout.origin,
        Manifests(past),
        leaves_of(past),
        CompactRange(said.size, tuple(bytes.fromhex(one) for one in said.nodes)),
        said.last_sha256,
        dict(said.next_seq),
        {one.generation: one for one in said.positions},
        [one.rotation for one in said.rotations],
        read_own_keys(layout)[0],
    )
    return chain, signer


def _is_last(layout: OriginLayout, chain: Chain) -> bool:
    """The last manifest is the one that was left, and none follows."""
    size = chain.tree.size
    last = read_bytes(layout.manifest(size - 1))
    return count_beyond(layout, size) == size and sha256_hex(last) == chain.last_sha256
