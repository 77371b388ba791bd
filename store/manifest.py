"""The record that commits one batch: segments, source positions and objects in one file.

Values enter, canonical JSON bytes leave, and back; those bytes are the leaf of the origin's log
(docs/FORMAT.md, "Manifest"). Strict: bytes that aren't what `to_bytes` writes are refused.
Whether the numbers of neighbouring manifests fit together is `chain`'s question.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import VerificationError
from scalple.store import strict
from scalple.store.note import VerifierKey

FORMAT_VERSION = 1
MANIFEST_BYTES_MAX = 32 * 1024
_SIGNED_PREFIX = b"scalple/manifest/v1\n"

Sha256 = Annotated[str, re.compile("[0-9a-f]{64}").fullmatch]
Count = Annotated[int, lambda n: 0 <= n < 1 << 63]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far one generation of a log file was read by this commit."""

    source: str
    """`postgres`, `pgbouncer`, `identity`: which kind of source."""
    path: str
    """Where the file was last seen; says nothing about identity."""
    head_sha256: Sha256
    head_bytes: Count
    """The anchor: the hash of the first bytes, and how many they are."""
    incarnation: Count = 0
    """Tells apart files that begin alike but aren't one: recreated, or cut and grown again."""
    begin: Count
    end: Count
    """The bytes [begin, end) were read; begin is the end that was committed before, or 0."""
    sha256: Sha256
    """Of the bytes [begin, end)."""
    tail_sha256: Sha256
    """Of the last 256 bytes (or fewer) before `end`: to recognise the place again."""

    @property
    def generation(self) -> tuple[str, str, int, int]:
        """What begin and end count in: a file by its content, whatever its name is."""
        return (self.source, self.head_sha256, self.head_bytes, self.incarnation)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRecord:
    """One committed Parquet file."""

    kind: str
    file: str
    first_seq: Count
    rows: Annotated[int, lambda n: 0 < n < 1 << 63]
    rows_root: Sha256
    """RFC 6962 root over the salted rows in the order of seq."""
    sha256: Sha256
    bytes: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One commit."""

    v: Annotated[int, lambda v: v == FORMAT_VERSION] = FORMAT_VERSION
    origin: str
    n: Count
    previous: Sha256 | None
    """SHA-256 of the bytes of manifest n-1; null in the first."""
    segments: tuple[SegmentRecord, ...]
    positions: tuple[Position, ...]
    positions_object: Sha256 | None = None
    """The object that holds the positions when they are too many to stand here."""
    objects: dict[str, Sha256]
    """What shaped the rows (rules, schema, …) -> hash of the object that says it."""
    committed_at: str
    """The writer's clock, RFC 3339 in UTC."""
    nonce: str
    """Random, one per opening of the writer."""
    software: str
    signature: str = ""
    """Ed25519 over everything else: so that recovery never signs a manifest it didn't write."""

    def to_bytes(self) -> bytes:
        """Canonical JSON (RFC 8785 for the values that occur here), UTF-8, no final newline."""
        return canonical_json(strict.plain(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """The inverse of `to_bytes`.

        Raises:
            VerificationError: not a manifest, or not in canonical form.
        """
        if len(data) > MANIFEST_BYTES_MAX:
            raise VerificationError(f"manifest has {len(data)} bytes, {MANIFEST_BYTES_MAX} at most")
        try:
            value = strict.parsed(data)
            manifest = strict.from_plain(cls, value)
        except ValueError as error:
            raise VerificationError(f"not a manifest: {error}") from error
        if canonical_json(value) != data:
            raise VerificationError("manifest isn't in canonical form")
        return manifest

    def signed(self, private: Ed25519PrivateKey) -> "Manifest":
        """The same manifest with its signature."""
        signature = base64.b64encode(private.sign(self._message())).decode("ascii")
        return replace(self, signature=signature)

    def check_signature(self, key: VerifierKey) -> None:
        """Returns when the manifest was signed by the key.

        Raises:
            VerificationError: it wasn't.
        """
        try:
            signature = base64.b64decode(self.signature, validate=True)
        except (binascii.Error, ValueError) as error:
            raise VerificationError("manifest's signature isn't base64") from error
        key.check(signature, self._message())

    def _message(self) -> bytes:
        return _SIGNED_PREFIX + replace(self, signature="").to_bytes()


def positions_to_bytes(positions: tuple[Position, ...]) -> bytes:
    """The positions as an object of their own."""
    return canonical_json(strict.plain(positions))


def positions_from_bytes(data: bytes) -> tuple[Position, ...]:
    """The inverse of `positions_to_bytes`.

    Raises:
        VerificationError: not positions, or not in canonical form.
    """
    try:
        value = strict.parsed(data)
        positions = tuple(strict.from_plain(Position, one) for one in value)
    except (ValueError, TypeError) as error:
        raise VerificationError(f"not a list of positions: {error}") from error
    if canonical_json(value) != data:
        raise VerificationError("positions aren't in canonical form")
    return positions


def canonical_json(value: object) -> bytes:
    """Sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def sha256_hex(data: bytes) -> str:
    """The hash as manifests write it."""
    return hashlib.sha256(data).hexdigest()
