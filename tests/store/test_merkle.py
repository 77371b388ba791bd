"""Merkle trees against a naive reference straight from RFC 6962, and published vectors."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalple.ingest.errors import VerificationError
from scalple.store import merkle

# The inputs and roots of certificate-transparency's own tests.
VECTOR = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def split(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """RFC 6962 2.1.2."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def hashes_of(leaves: list[bytes]) -> bytes:
    """Concatenated leaf hashes."""
    return b"".join(merkle.leaf_hash(leaf) for leaf in leaves)


def test_published_vectors() -> None:
    assert merkle.root(b"").hex() == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    for size, expected in enumerate(ROOTS, 1):
        assert merkle.root(hashes_of(VECTOR[:size])).hex() == expected


@given(leaves=st.lists(st.binary(max_size=3), max_size=40))
def test_root_and_compact_range_equal_the_reference(leaves: list[bytes]) -> None:
    compact = merkle.CompactRange()
    for leaf in leaves:
        compact = compact.append(merkle.leaf_hash(leaf))

    assert merkle.root(hashes_of(leaves)) == mth(leaves)
    assert compact.root() == mth(leaves)
    assert compact.size == len(leaves)


def test_every_inclusion_proof() -> None:
    for size in range(1, 20):
        leaves = [bytes([n]) for n in range(size)]
        hashes = hashes_of(leaves)
        for index in range(size):
            proof = merkle.inclusion_proof(hashes, index)
            leaf = merkle.leaf_hash(leaves[index])

            assert proof == path(index, leaves)
            merkle.verify_inclusion(leaf, index, size, proof, mth(leaves))


def test_every_consistency_proof() -> None:
    for size in range(1, 20):
        leaves = [bytes([n]) for n in range(size)]
        for old in range(1, size + 1):
            proof = merkle.consistency_proof(hashes_of(leaves), old)

            assert proof == subproof(old, leaves, True)
            merkle.verify_consistency(old, size, proof, mth(leaves[:old]), mth(leaves))


@given(
    size=st.integers(2, 24),
    data=st.data(),
    change=st.sampled_from(["drop", "add", "flip", "index", "size", "leaf"]),
)
def test_changed_inclusion_proofs_are_refused(size: int, data: st.DataObject, change: str) -> None:
    leaves = [bytes([n]) for n in range(size)]
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(hashes_of(leaves), index)
    leaf, at, claimed = merkle.leaf_hash(leaves[index]), index, size
    if change == "drop":
        proof = proof[:-1]
    elif change == "add":
        proof = [*proof, b"\x00" * 32]
    elif change == "flip":
        which = data.draw(st.integers(0, len(proof) - 1))
        proof[which] = bytes([proof[which][0] ^ 1]) + proof[which][1:]
    elif change == "index":
        at = (index + 1) % size
    elif change == "size":
        claimed = index  # the leaf is no longer inside
    else:
        leaf = merkle.leaf_hash(b"other")

    with pytest.raises(VerificationError):
        merkle.verify_inclusion(leaf, at, claimed, proof, mth(leaves))


@given(size=st.integers(2, 24), data=st.data(), change=st.sampled_from(["drop", "add", "flip"]))
def test_changed_consistency_proofs_are_refused(
    size: int, data: st.DataObject, change: str
) -> None:
    leaves = [bytes([n]) for n in range(size)]
    old = data.draw(st.integers(1, size - 1))
    proof = merkle.consistency_proof(hashes_of(leaves), old)
    if change == "drop":
        proof = proof[:-1]
    elif change == "add":
        proof = [*proof, b"\x00" * 32]
    else:
        which = data.draw(st.integers(0, len(proof) - 1))
        proof[which] = bytes([proof[which][0] ^ 1]) + proof[which][1:]

    with pytest.raises(VerificationError):
        merkle.verify_consistency(old, size, proof, mth(leaves[:old]), mth(leaves))


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        merkle.inclusion_proof(hashes_of([b"a"]), 1)
    with pytest.raises(ValueError, match="no consistency proof"):
        merkle.consistency_proof(hashes_of([b"a"]), 2)
    with pytest.raises(VerificationError, match="can't extend"):
        merkle.verify_consistency(2, 1, [], b"", b"")
    with pytest.raises(VerificationError, match="isn't empty"):
        merkle.verify_consistency(1, 1, [b""], b"", b"")
    with pytest.raises(VerificationError, match="root differs"):
        merkle.verify_consistency(1, 1, [], b"a", b"b")
