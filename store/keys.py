"""Key files: the Ed25519 signing key, the subject key, and the public key beside them.

A configured path is used as it is and must exist. Without one, keys are made on first use in
STORE.keys/ beside a local store, readable by the owner only, with a warning for the operator
that is returned, never printed. What the subject key is used for is not decided here.
"""

import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import ConfigError, VerificationError
from scalple.store import durable
from scalple.store.layout import keys_directory
from scalple.store.note import VerifierKey
from scalple.store.source import source_of

SUBJECT_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key, the file it is in, and what the operator should be told."""

    private: Ed25519PrivateKey
    path: Path
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """The key, the file it is in, and what the operator should be told."""

    secret: bytes
    path: Path
    warnings: tuple[str, ...] = ()


def signing_key(
    store_dir: Path, configured: Path | None, *, name: str = "signing", may_create: bool = True
) -> SigningKey:
    """The key that signs an origin's head.

    Raises:
        ConfigError: the file is missing (and mustn't be made), or holds no Ed25519 key.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    create = create_signing_key if may_create else None
    path, warnings = _find(store_dir, configured, f"{name}.key", create)
    try:
        private = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(path, "Ed25519 private key in PEM form") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise _unusable(path, "Ed25519 private key in PEM form")
    return SigningKey(private, path, warnings)


def subject_key(
    store_dir: Path, configured: Path | None, *, name: str = "subject", may_create: bool = True
) -> SubjectKey:
    """The key that subject tokens are made with.

    Raises:
        ConfigError: the file is missing (and mustn't be made), or isn't 64 hexadecimal digits.
    """
    create = create_subject_key if may_create else None
    path, warnings = _find(store_dir, configured, f"{name}.key", create)
    try:
        secret = bytes.fromhex(_read(path).decode("ascii").strip())
    except ValueError as error:
        raise _unusable(path, "key of 64 hexadecimal digits") from error
    if len(secret) != SUBJECT_KEY_BYTES:
        raise _unusable(path, "key of 64 hexadecimal digits")
    return SubjectKey(secret, path, warnings)


def subject_key_id(secret: bytes) -> str:
    """A name for a subject key that tells nothing of it: 32 hexadecimal digits."""
    return hmac.digest(secret, b"scalple subject key id v1", "sha256")[:16].hex()


def create_signing_key(path: Path) -> None:
    """Makes an Ed25519 key; an existing file is never overwritten."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    durable.create(path, pem, mode=0o600)


def create_subject_key(path: Path) -> None:
    """Makes a subject key; an existing file is never overwritten."""
    durable.create(path, secrets.token_hex(SUBJECT_KEY_BYTES).encode() + b"\n", mode=0o600)


def public_key_beside(store_dir: Path, origin: str) -> Path:
    """Where the verifier key of an origin is kept when its signing key was made by us."""
    return keys_directory(store_dir) / f"{origin}.pub"


def public_keys_text(keys: Sequence[VerifierKey]) -> bytes:
    """Verifier keys as a file has them, one a line."""
    return "".join(f"{key.to_text()}\n" for key in keys).encode()


def write_public_keys(path: Path, keys: Sequence[VerifierKey]) -> None:
    """Puts verifier keys into a file, in order; a file that has fewer of them gets the new ones.

    Raises:
        ConfigError: it says something else.
    """
    data = public_keys_text(keys)
    try:
        durable.create(path, data)
    except FileExistsError:
        known = read_public_keys(path)
        if known != list(keys[: len(known)]):
            raise ConfigError(
                "the signing key isn't the one that this public key belongs to",
                place=str(path),
                hint="give the signing key that the store was created with",
            ) from None
        if len(known) < len(keys):
            durable.replace(path, data)


def read_public_keys(path: Path) -> list[VerifierKey]:
    """The verifier keys in a file, one a line.

    Raises:
        ConfigError: the file can't be read.
        VerificationError: it isn't exactly lines of verifier keys.
    """
    data = _read(path)
    try:
        return keys_in(data)
    except VerificationError as error:
        raise VerificationError(error.what, place=str(path)) from error


def keys_in(data: bytes) -> list[VerifierKey]:
    """The inverse of `public_keys_text`.

    Raises:
        VerificationError: it isn't exactly lines of verifier keys.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise VerificationError("public key file isn't UTF-8") from error
    if not text.endswith("\n"):
        raise VerificationError("public key file has no final newline")
    return [VerifierKey.from_text(line) for line in text.removesuffix("\n").split("\n")]


def keys_by_origin(path: Path) -> dict[str, list[VerifierKey]]:
    """The verifier keys in a file, by the log that they are of; errors as in `read_public_keys`."""
    found: dict[str, list[VerifierKey]] = {}
    for key in read_public_keys(path):
        found.setdefault(key.name, []).append(key)
    return found


def _find(
    store_dir: Path, configured: Path | None, name: str, create: Callable[[Path], None] | None
) -> tuple[Path, tuple[str, ...]]:
    if configured is not None:
        return configured, _too_open(configured)
    if remote := source_of(store_dir):
        raise ConfigError(
            f"a store in a bucket has no {name} beside it",
            place=remote.url,
            hint="name its keys in the configuration: [keys] signing_key_file, subject_key_file, "
            "access_key_file",
        )
    path = keys_directory(store_dir) / name
    if _exists(path):
        return path, _too_open(path)
    if create is None:
        raise ConfigError(
            "the key that the store was made with isn't there",
            place=str(path),
            hint="put it back, or name it in [keys]; a new key would not fit what is stored",
        )
    durable.make_directory(path.parent)
    path.parent.chmod(0o700)
    create(path)
    warning = f"made {path}: in production keep keys elsewhere and name them in [keys]"
    return path, (warning,)


def _too_open(path: Path) -> tuple[str, ...]:
    if _exists(path) and path.stat().st_mode & 0o077:
        return (f"{path} can be read by others: chmod 600 {path}",)
    return ()


def _exists(path: Path) -> bool:
    """Also of a key in a directory of another account."""
    try:
        return path.exists()
    except OSError as error:
        raise _unreadable(path, error) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"can't read key file: {error.strerror}",
        place=str(path),
        hint="check the path, or mend [keys] in the configuration",
    )


def _unusable(path: Path, wanted: str) -> ConfigError:
    return ConfigError(
        f"no {wanted}", place=str(path), hint="put the right file back, or mend [keys]"
    )
