"""Proofs that a log only grew between two signed checkpoints, and their check with the public key alone.

Two heads and a checked chain enter, the proof's bytes leave; or a proof, the older checkpoint and
verifier keys enter, and both heads leave. The bytes are what a C2SP tlog-witness takes to countersign a
head: `old <size>`, the RFC 6962 consistency proof in base64, one hash a line, an empty line, and the
newer checkpoint (docs/FORMAT.md, "Consistency"). It says nothing of what the log holds.
"""

import base64
import binascii
from collections.abc import Iterable

from scalple.ingest.errors import InputError, VerificationError
from scalple.store import merkle
from scalple.store.chain import Chain, check_signer
from scalple.store.checkpoint import Checkpoint, open_checkpoint
from scalple.store.note import VerifierKey

HASHES_MAX = 63


def make(chain: Chain, old: Checkpoint, new: bytes) -> bytes:
    """The proof that `new` continues `old`.

    Args:
        chain: the log; both must be beginnings of it.
        old: the older head, whose signature was checked.
        new: the newer one as a signed note.

    Raises:
        VerificationError: one of them isn't a beginning of this log.
        InputError: the newer one isn't the larger one.
    """
    head, signer = open_checkpoint(new, chain.keys)
    check_signer(chain, head, signer)
    if old.size > head.size:
        raise InputError(
            f"from {old.size} to {head.size} manifests nothing grows", hint="the older one is first"
        )
    tree = merkle.Tree(b"".join(chain.leaf_hashes))
    for one in (old, head):
        if one.size > tree.size:
            raise VerificationError(
                "log was cut", expected=f"{one.size} manifests or more", found=tree.size
            )
        if tree.root(one.size) != one.root:
            raise VerificationError(
                f"log was rewritten: root at size {one.size} differs",
                expected=one.root.hex(),
                found=tree.root(one.size).hex(),
            )
    path = tree.consistency_proof(old.size, head.size) if old.size else []
    lines = [f"old {old.size}", *(base64.b64encode(one).decode() for one in path), "", ""]
    return "\n".join(lines).encode() + new


def is_consistency(data: bytes) -> bool:
    """It is such a proof rather than one of rows."""
    return data.startswith(b"old ")


def check(data: bytes, older: bytes, keys: Iterable[VerifierKey]) -> tuple[Checkpoint, Checkpoint]:
    """Both heads, when the proof shows that the log only grew from the one to the other.

    Args:
        data: the proof.
        older: the older checkpoint as a signed note, kept elsewhere.
        keys: public keys of the log, known from elsewhere; any of them may have signed.

    Raises:
        VerificationError: it doesn't show that.
    """
    keys = list(keys)
    old, _ = open_checkpoint(older, keys)
    lines, separator, note = data.partition(b"\n\n")
    new, _ = open_checkpoint(note, keys)
    try:
        first, *path = lines.decode("ascii").split("\n")
        hashes = [base64.b64decode(one, validate=True) for one in path]
    except (UnicodeDecodeError, binascii.Error) as error:
        raise VerificationError("not a consistency proof") from error
    written = [first, *(base64.b64encode(one).decode() for one in hashes)]
    if not separator or [first, *path] != written or len(hashes) > HASHES_MAX:
        raise VerificationError("not a consistency proof")
    if first != f"old {old.size}" or old.origin != new.origin:
        raise VerificationError(
            "the proof is from another checkpoint",
            expected=f"old {old.size} of {old.origin}",
            found=f"{first} of {new.origin}",
        )
    if not old.size:  # everything continues the empty log
        if hashes or old.root != merkle.EMPTY_ROOT:
            raise VerificationError("a proof from the empty log has no hashes")
    else:
        merkle.verify_consistency(old.size, new.size, hashes, old.root, new.root)
    return old, new
