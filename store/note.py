"""Signed notes and verifier keys as C2SP signed-note says (Ed25519, key type 0x01).

Text and a key enter, a signed note leaves; a note and a key enter, the checked text leaves.
Strict and canonical: what isn't byte for byte what `sign` would write is refused. It doesn't
know what the text says.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from scalple.ingest.errors import VerificationError

ED25519 = b"\x01"
SIGNATURES_MAX = 16


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A named Ed25519 public key: what the note specification calls a vkey."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256(name, LF, type, key)."""
        named = self.name.encode() + b"\n" + ED25519 + self.public
        return hashlib.sha256(named).digest()[:4]

    def to_text(self) -> str:
        """`name+hexadecimal id+base64(type and key)`."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(ED25519 + self.public)}"

    @classmethod
    def from_text(cls, text: str) -> "VerifierKey":
        """The inverse of `to_text`.

        Raises:
            VerificationError: the text isn't exactly what `to_text` writes.
        """
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        typed = _from_base64(encoded, "public key")
        key = cls(name, typed[1:])
        if len(typed) != 33 or typed[:1] != ED25519 or key_id != key.key_id.hex() or not name:
            # What the text was isn't told: a secret may have been given in its place.
            raise VerificationError("not an Ed25519 verifier key (name+id+base64)")
        return key

    @classmethod
    def of(cls, name: str, private: Ed25519PrivateKey) -> "VerifierKey":
        """The verifier key that belongs to a signing key."""
        return cls(name, private.public_key().public_bytes_raw())

    def check(self, signature: bytes, message: bytes) -> None:
        """Returns when the signature is this key's.

        Raises:
            VerificationError: it isn't.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise VerificationError(f"signature isn't by key {self.to_text()}") from error


def sign(text: str, name: str, private: Ed25519PrivateKey) -> bytes:
    """The note: the text, an empty line, one signature line."""
    key = VerifierKey.of(name, private)
    signature = _base64(key.key_id + private.sign(text.encode()))
    return f"{text}\n— {name} {signature}\n".encode()


def open_note(note: bytes, keys: Iterable[VerifierKey]) -> tuple[str, VerifierKey]:
    """The text of a note that carries a signature of one of the keys, and that key.

    Lines of other keys are ignored; a line of one of them that is wrong condemns the note. Of
    several keys that signed, the last one given is named.

    Raises:
        VerificationError: malformed, signed by none of the keys, or a signature is wrong.
    """
    text, lines = _parts(note)
    wanted = {(key.name, key.key_id): key for key in keys}
    signed = [
        (wanted[name, signature[:4]], signature[4:])
        for name, signature in map(_signature, lines)
        if (name, signature[:4]) in wanted
    ]
    if not signed:
        told = " or ".join(key.to_text() for key in wanted.values())
        raise VerificationError(
            f"note isn't signed by key {told}",
            hint="what was signed before `rotate-key` bears the key of then: give the log's file of all keys",
        )
    for key, signature in signed:
        key.check(signature, text.encode())
    order = list(wanted.values())
    return text, max((key for key, _ in signed), key=order.index)


def _parts(note: bytes) -> tuple[str, list[str]]:
    """The text and the lines of signatures."""
    try:
        whole = note.decode()
    except UnicodeDecodeError as error:
        raise VerificationError("note isn't UTF-8") from error
    if any((ord(c) < 0x20 and c != "\n") or ord(c) == 0x7F for c in whole):
        raise VerificationError("note holds a control character")
    text, separator, signatures = whole.rpartition("\n\n")
    if not separator or not text or not signatures.endswith("\n"):
        raise VerificationError("note has no text, no signature or no final newline")
    lines = signatures.removesuffix("\n").split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise VerificationError(f"note has more than {SIGNATURES_MAX} signatures")
    return text + "\n", lines


def _signature(line: str) -> tuple[str, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    signature = _from_base64(encoded, "signature")
    if dash != "—" or not name or "+" in name or len(signature) < 5:
        raise VerificationError("malformed signature line")
    return name, signature


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise VerificationError(f"{what} isn't base64") from error
    if _base64(data) != text:
        raise VerificationError(f"{what} isn't canonical base64")
    return data
