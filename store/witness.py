"""Witnesses: others who remember how far a log had come, and sign only what continues it.

A chain, its signed head and a witness's URL and key enter; cosignatures leave that were checked
against the key. Protocol: C2SP tlog-witness `add-checkpoint`; signatures: C2SP tlog-cosignature,
Ed25519 (type 0x04). What a witness remembers is never believed without its signature, only compared:
a log that is shorter than what it has cosigned, or doesn't continue it, is refused.
"""

import base64
import binascii
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from scalple.ingest.errors import ConfigError, StoreError, VerificationError
from scalple.store import merkle
from scalple.store.chain import Chain

COSIGNATURE = b"\x04"
TIMEOUT_SECONDS = 30.0
ANSWER_BYTES_MAX = 64 << 10
TRIES = 3
"""One to learn the witness's size, one to go on from it, one for who came in between."""


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's name and Ed25519 key."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256(name, LF, type, key)."""
        named = self.name.encode() + b"\n" + COSIGNATURE + self.public
        return hashlib.sha256(named).digest()[:4]

    @classmethod
    def from_text(cls, text: str) -> "WitnessKey":
        """From `name+hexadecimal id+base64(type and key)`.

        Raises:
            ConfigError: it is no such key.
        """
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            typed = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            typed = b""
        key = cls(name, typed[1:])
        if len(typed) != 33 or typed[:1] != COSIGNATURE or key_id != key.key_id.hex() or not name:
            raise ConfigError(
                "not the key of a witness (Ed25519 cosignatures)", place="--witness-key"
            )
        return key

    def cosigned_at(self, line: str, checkpoint: str) -> int | None:
        """When this witness signed the checkpoint's text, in seconds since 1970, as it says.

        None when the line isn't its signature.
        """
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return None
        if dash != "—" or name != self.name or data[:4] != self.key_id or len(data) != 76:
            return None
        when = int.from_bytes(data[4:12], "big")
        signed = f"cosignature/v1\ntime {when}\n{checkpoint}".encode()
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(data[12:], signed)
        except (InvalidSignature, ValueError):
            return None
        return when


def cosigned(note: bytes, keys: Iterable[WitnessKey]) -> list[str]:
    """The signature lines of a note that are by one of these witnesses."""
    text, _, lines = note.decode(errors="replace").partition("\n\n")
    every = list(keys)
    return [
        line
        for line in lines.splitlines()
        if any(key.cosigned_at(line, f"{text}\n") is not None for key in every)
    ]


def add_checkpoint(url: str, keys: Iterable[WitnessKey], chain: Chain, note: bytes) -> bytes:
    """The signed head with the witness's cosignature.

    Args:
        url: the witness's submission prefix.
        keys: of witnesses that are believed.
        chain: the checked log.
        note: its signed head.

    Raises:
        VerificationError: the witness has cosigned what this log doesn't continue, or its answer
            isn't signed by one of the keys.
        ConfigError: it doesn't know the log, or not its key.
        StoreError: it can't be reached, or answers otherwise than the protocol says.
    """
    known = list(keys)
    old = 0
    for _ in range(TRIES):
        status, kind, answer = _post(f"{url.rstrip('/')}/add-checkpoint", _body(old, chain, note))
        if status == 409 and kind == "text/x.tlog.size":
            old = _continued(url, answer, old, chain)
            continue
        if status != 200:
            raise _refused(url, status, old, chain)
        lines = cosigned(note.removesuffix(b"\n") + b"\n" + answer, known)
        if not lines:
            raise VerificationError(
                "the witness's answer isn't signed by the key that was given", place=url
            )
        return note + "".join(f"{line}\n" for line in lines).encode()
    raise StoreError("the witness's size changes with every request", place=url, hint="try again")


def _body(old: int, chain: Chain, note: bytes) -> bytes:
    hashes = b"".join(chain.leaf_hashes)
    proof = merkle.consistency_proof(hashes, old) if 0 < old < chain.tree.size else []
    lines = [f"old {old}", *(base64.b64encode(one).decode("ascii") for one in proof)]
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + note


def _continued(url: str, answer: bytes, old: int, chain: Chain) -> int:
    """The size from which the witness wants to be shown the way."""
    text = answer.decode("ascii", errors="replace").strip()
    if not text.isdigit() or len(text) > 19:
        raise StoreError(f"no size in the witness's answer: {text[:40]!r}", place=url)
    size = int(text)
    if size > chain.tree.size:
        raise VerificationError(
            f"{chain.origin} was cut: the witness has cosigned {size} manifests, found "
            f"{chain.tree.size}",
            place=url,
        )
    if size == old:
        raise VerificationError(
            f"equivocation: the witness has cosigned another root of {chain.origin} at size {size}",
            place=url,
        )
    return size


def _refused(url: str, status: int, old: int, chain: Chain) -> Exception:
    if status in (409, 422):
        return VerificationError(
            f"{chain.origin} doesn't continue what the witness has cosigned (size {old}, status "
            f"{status})",
            place=url,
        )
    if status in (403, 404):
        return ConfigError(
            f"the witness doesn't know {chain.origin}"
            + (" under this key" if status == 403 else ""),
            place=url,
            hint="give its operator the log's public key (STORE/ORIGIN/public-key)",
        )
    return StoreError(f"the witness answers with status {status}", place=url)


def _post(url: str, body: bytes) -> tuple[int, str, bytes]:
    request = urllib.request.Request(url, body, {"Content-Type": "text/plain"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            kind = answer.headers.get_content_type()
            return answer.status, kind, answer.read(ANSWER_BYTES_MAX)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get_content_type(), error.read(ANSWER_BYTES_MAX)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise StoreError(
            f"the witness can't be reached: {getattr(error, 'reason', error)}", place=url
        ) from error
