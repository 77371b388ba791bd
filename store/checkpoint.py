"""The signed head of an origin's log, as C2SP tlog-checkpoint says.

    <origin>
    <number of manifests, decimal>
    <base64 of the RFC 6962 root over the manifests' bytes>

Parses and renders, strictly; signing and signatures are `note`'s. Reads and writes no file.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import VerificationError
from scalple.store import note
from scalple.store.merkle import HASH_BYTES


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How many manifests an origin's log holds, and what they are."""

    origin: str
    size: int
    root: bytes

    def to_text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode('ascii')}\n"

    @classmethod
    def from_text(cls, text: str) -> "Checkpoint":
        """The inverse of `to_text`; extension lines are refused.

        Raises:
            VerificationError: the text isn't exactly what `to_text` writes.
        """
        lines = text.split("\n")
        if len(lines) != 4 or not lines[0] or not lines[1].isascii() or not lines[1].isdigit():
            raise VerificationError("checkpoint isn't three lines: origin, size, root")
        try:
            root = base64.b64decode(lines[2].encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError) as error:
            raise VerificationError("checkpoint's root isn't base64") from error
        if len(lines[1]) > 19 or len(root) != HASH_BYTES:
            raise VerificationError("checkpoint's size or root has the wrong length")
        checkpoint = cls(lines[0], int(lines[1]), root)
        if checkpoint.to_text() != text:
            raise VerificationError("checkpoint isn't in canonical form")
        return checkpoint

    def sign(self, private: Ed25519PrivateKey) -> bytes:
        """The checkpoint as a signed note; the key's name is the origin."""
        return note.sign(self.to_text(), self.origin, private)


def origin_of(data: bytes) -> str:
    """Whose checkpoint this says to be.

    Raises:
        VerificationError: it is none. What it holds instead isn't told: it may be a key.
    """
    name = data.split(b"\n", 1)[0].decode(errors="replace")
    if not re.fullmatch(r"[a-z0-9_][a-z0-9._-]{0,62}", name):
        raise VerificationError("not a checkpoint: its first line is no origin's name")
    return name


def open_checkpoint(
    data: bytes, keys: Iterable[note.VerifierKey]
) -> tuple[Checkpoint, note.VerifierKey]:
    """The checkpoint in a note signed by one of the keys, and that key.

    Raises:
        VerificationError: malformed, not signed by any of them, or for another origin.
    """
    text, key = note.open_note(data, keys)
    checkpoint = Checkpoint.from_text(text)
    if checkpoint.origin != key.name:
        raise VerificationError(
            "checkpoint is of another origin", expected=key.name, found=checkpoint.origin
        )
    return checkpoint, key
