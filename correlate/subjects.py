"""The names of data subjects as the store keeps them: canonical values, tokens, sealed values.

In: identifier names, values as statements show them, the period's subject key. Out: 64-bit tokens
for finding and AES-SIV ciphertexts for naming the person again. Same name and canonical value,
same token and same ciphertext; without the key neither can be made nor read. Keeps no key.

    token  = first 8 bytes, big-endian, of HMAC-SHA-256(key, name || 0x00 || canonical value)
    sealed = AES-SIV(HKDF-SHA-256(key, no salt, info "scalple subject seal v1", 64 bytes),
             associated data: name, plaintext: canonical value)

Canonical values are free of types, so that who asks needs no schema: blanks at the ends go;
UUIDs, with or without braces and with a hyphen behind any group of four digits, as PostgreSQL
takes them, are lower case with hyphens; integers, however SQL may write them (`+4711`, `04711`,
`4_711`, `4711.0`, `0x1267`), are decimal digits with a minus if below zero; e-mail addresses are
lower case; any other text stays as it is. So the texts `007` and `7` are one value.
"""

import contextlib
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from scalple.ingest.errors import ConfigError

SEAL_INFO = b"scalple subject seal v1"
_REMEMBERED = 1 << 18  # values; then the memory starts anew

_INTEGER = re.compile(r"([+-]?)0*([0-9]+(?:_[0-9]+)*)(?:\.0*)?\Z")
_BASED = re.compile(r"([+-]?)(0x(?:_?[0-9a-f]){1,999}|0o(?:_?[0-7]){1,999}|0b(?:_?[01]){1,999})\Z")
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\Z")
_UUID = re.compile(r"\{?((?:[0-9a-f]{4}-?){7}[0-9a-f]{4})\}?\Z")
_UUID_PARTS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))


def canonical(value: str) -> str:
    """The one spelling of a value under which its subject is found."""
    if value.isdigit() and value.isascii() and value[0] != "0" and len(value) != 32:
        return value
    value = value.strip()
    if match := _UUID.match(value.lower()):
        digits = match[1].replace("-", "")
        return "-".join(digits[a:b] for a, b in _UUID_PARTS)
    if match := _INTEGER.match(value):
        digits = match[2].replace("_", "").lstrip("0") or "0"
        return ("-" if match[1] == "-" and digits != "0" else "") + digits
    if match := _BASED.match(value.lower()):
        number = int(match[2], 0)
        return f"-{number}" if match[1] == "-" and number else str(number)
    return value.lower() if _EMAIL.match(value) else value


def subject_token(key: bytes, name: str, value: str) -> int:
    """The token of a value; the value needn't be canonical."""
    message = name.encode() + b"\0" + _bytes(canonical(value))
    return int.from_bytes(hmac.digest(key, message, "sha256")[:8], "big")


def open_sealed(key: bytes, name: str, sealed: bytes) -> str:
    """The canonical value. Raises cryptography's InvalidTag for another key, name or text."""
    plain = AESSIV(_seal_key(key)).decrypt(sealed, [name.encode()])
    return plain.decode("utf-8", "surrogatepass")


def reveal(key: bytes, names: Iterable[str], sealed: bytes | None) -> tuple[str, str] | None:
    """(name, canonical value) under the first of the names that fits; None with another key."""
    for name in names if sealed else ():
        with contextlib.suppress(InvalidTag):
            return name, open_sealed(key, name, sealed or b"")
    return None


class Sealer:
    """Tokens and sealed values of many values under one key."""

    def __init__(self, key: bytes) -> None:
        if len(key) < 32:
            raise ConfigError(
                "the subject key is shorter than 32 bytes", hint="make one with `keygen`"
            )
        self._seal = AESSIV(_seal_key(key)).encrypt
        # HMAC spelled out: the two keyed states are made once, which halves the time per value.
        block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(b ^ 0x36 for b in block))
        self._outer = hashlib.sha256(bytes(b ^ 0x5C for b in block))
        self._known: dict[str, dict[str, bytes]] = {}

    def name(self, name: str, values: list[str]) -> list[bytes]:
        """Token (8 bytes) and sealed value of each value under an identifier's name.

        They come as one string of bytes, and the sealed value of an empty one is empty: unlike
        a pair, bytes don't set the garbage collector to work once in a few hundred values.
        """
        known = self._known.setdefault(name, {})
        if len(known) > _REMEMBERED:
            known.clear()
        state = self._inner.copy()
        state.update(name.encode() + b"\0")
        data = [name.encode()]
        found = list(map(known.get, values))
        for i, value in enumerate(values):
            if found[i] is None:
                plain = canonical(value).encode("utf-8", "surrogatepass")
                inner, outer = state.copy(), self._outer.copy()
                inner.update(plain)
                outer.update(inner.digest())
                # AES-SIV takes no empty plaintext; nobody is named by one.
                sealed = self._seal(plain, data) if plain else b""
                known[value] = found[i] = outer.digest()[:8] + sealed
        return cast("list[bytes]", found)

    def digest(self, purpose: bytes, value: str) -> bytes:
        """Keyed hash for masks."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(purpose + b"\0\0" + _bytes(value))
        outer.update(inner.digest())
        return outer.digest()


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _seal_key(key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=64, salt=None, info=SEAL_INFO).derive(key)
