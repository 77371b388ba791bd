"""RFC 6962 Merkle trees with SHA-256 (the same hashes as RFC 9162 and C2SP tlog).

Leaf data or leaf hashes enter; roots, inclusion and consistency proofs leave. The verifiers
return None or raise VerificationError. Nothing here reads a file, knows what a leaf means, or
signs. Leaf hashes travel concatenated (32 bytes each): a tree of a million leaves is one bytes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from scalple.ingest.errors import VerificationError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

_sha256 = hashlib.sha256


def leaf_hash(data: bytes) -> bytes:
    """The hash of one leaf: SHA-256(0x00 || data)."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of one inner node: SHA-256(0x01 || left || right)."""
    return _sha256(b"\x01" + left + right).digest()


def root(hashes: bytes) -> bytes:
    """The root over concatenated leaf hashes, level by level; one SHA-256 per inner node.

    An odd last node is promoted unchanged, which is RFC 6962's split at the largest power of two.
    """
    if not hashes:
        return EMPTY_ROOT
    level = hashes
    while len(level) > HASH_BYTES:
        level = _parents(level)
    return level


def _parents(level: bytes) -> bytes:
    even = len(level) - len(level) % (2 * HASH_BYTES)
    nodes = [_sha256(b"\x01" + level[at : at + 64]).digest() for at in range(0, even, 64)]
    nodes.append(level[even:])
    return b"".join(nodes)


@dataclass(frozen=True, slots=True)
class CompactRange:
    """The roots of the perfect subtrees of a tree, largest first: all that appending needs."""

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> "CompactRange":
        """The range after one more leaf hash; at most log2(size) hashes are computed."""
        nodes = [*self.nodes, leaf]
        merges = self.size
        while merges & 1:
            right = nodes.pop()
            nodes[-1] = node_hash(nodes[-1], right)
            merges >>= 1
        return CompactRange(self.size + 1, tuple(nodes))

    def root(self) -> bytes:
        """The root of the tree so far."""
        if not self.nodes:
            return EMPTY_ROOT
        found = self.nodes[-1]
        for left in reversed(self.nodes[:-1]):
            found = node_hash(left, found)
        return found


class Tree:
    """All complete nodes over concatenated leaf hashes, level by level: each proof then costs a few
    hashes, of the tree as it is or as it was at any size before."""

    def __init__(self, hashes: bytes) -> None:
        self._levels = [hashes]
        while len(self._levels[-1]) >= 2 * HASH_BYTES:
            below = self._levels[-1]
            self._levels.append(_parents(below[: len(below) - len(below) % (2 * HASH_BYTES)]))
        self.size = len(hashes) // HASH_BYTES

    def root(self, size: int) -> bytes:
        """The root of the first `size` leaves."""
        return self._root(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """RFC 6962 PATH(index, D[size]), leaf's sibling first."""
        if not 0 <= index < size <= self.size:
            raise ValueError(f"leaf {index} is outside a tree of {min(size, self.size)}")
        path: list[bytes] = []
        begin, end = 0, size
        while end - begin > 1:
            middle = begin + _split(end - begin)
            if index < middle:
                path.append(self._root(middle, end))
                end = middle
            else:
                path.append(self._root(begin, middle))
                begin = middle
        return path[::-1]

    def consistency_proof(self, old_size: int, size: int) -> list[bytes]:
        """RFC 6962 PROOF(old_size, D[size])."""
        if not 0 < old_size <= size <= self.size:
            raise ValueError(f"no consistency proof from size {old_size} to size {size}")
        path: list[bytes] = []
        begin, end = 0, size
        while old_size < end:
            middle = begin + _split(end - begin)
            if old_size <= middle:
                path.append(self._root(middle, end))
                end = middle
            else:
                path.append(self._root(begin, middle))
                begin = middle
        if begin:  # otherwise it is the old root, which is known
            path.append(self._root(begin, end))
        return path[::-1]

    def _root(self, begin: int, end: int) -> bytes:
        """Of the leaves [begin, end), which is a part that RFC 6962 splits off."""
        size = end - begin
        if size & (size - 1) == 0:
            at = begin // size * HASH_BYTES
            return self._levels[size.bit_length() - 1][at : at + HASH_BYTES]
        middle = begin + _split(size)
        return node_hash(self._root(begin, middle), self._root(middle, end))


def _split(size: int) -> int:
    """The largest power of two below the size."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(hashes: bytes, index: int) -> list[bytes]:
    """RFC 6962 PATH(index, D[n]) over concatenated leaf hashes, leaf's sibling first."""
    return Tree(hashes).inclusion_proof(index, len(hashes) // HASH_BYTES)


def consistency_proof(hashes: bytes, old_size: int) -> list[bytes]:
    """RFC 6962 PROOF(old_size, D[n]) over concatenated leaf hashes."""
    return Tree(hashes).consistency_proof(old_size, len(hashes) // HASH_BYTES)


def verify_inclusion(
    leaf: bytes, index: int, size: int, path: Sequence[bytes], expected_root: bytes
) -> None:
    """RFC 9162 2.1.3.2: the leaf hash stands at `index` of the tree of `size` leaves.

    Raises:
        VerificationError: the proof doesn't lead from the leaf to the root.
    """
    if not 0 <= index < size:
        raise VerificationError(f"leaf index {index} is outside a tree of size {size}")
    at, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise VerificationError("inclusion proof is longer than the tree is high")
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise VerificationError("inclusion proof is shorter than the tree is high")
    _expect_root(expected_root, found)


def verify_consistency(
    old_size: int, size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """RFC 9162 2.1.4.2: the tree of `size` extends the tree of `old_size`.

    Raises:
        VerificationError: the proof doesn't lead to both roots.
    """
    if not 0 < old_size <= size:
        raise VerificationError(f"a tree of size {size} can't extend one of size {old_size}")
    if old_size == size:
        if proof:
            raise VerificationError("consistency proof between equal sizes isn't empty")
        _expect_root(old_root, new_root)
        return
    steps = list(proof)
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        raise VerificationError("consistency proof is empty")
    at, last = old_size - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old, new = steps[0], steps[0]
    for step in steps[1:]:
        if last == 0:
            raise VerificationError("consistency proof is longer than the tree is high")
        if at & 1 or at == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, step)
        at, last = at >> 1, last >> 1
    if last:
        raise VerificationError("consistency proof is shorter than the tree is high")
    _expect_root(old_root, old)
    _expect_root(new_root, new)


def _expect_root(expected: bytes, found: bytes) -> None:
    if expected != found:
        raise VerificationError(f"root differs: expected {expected.hex()}, found {found.hex()}")
