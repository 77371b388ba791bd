"""Certificates, keys and tokens for one test, made on the spot.

Enters: a directory. Leaves: PEM files of a CA, a server and a person, a JWKS file, and signed tokens.
"""

import datetime as dt
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.stack import HOST

AUDIENCE = "scalple"


@dataclass
class Authority:
    """A CA of our own; what it makes goes to `directory`."""

    directory: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test ca")])
        self.certificate = self._save("ca", self._sign(self._name, self._key, ca=True), None)

    def issue(self, common_name: str, days: float = 1) -> tuple[Path, Path]:
        """(certificate, key) for that name, valid for so long."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        path = self._save(common_name, self._sign(name, key, days=days), key)
        return path, path.with_suffix(".key")

    def _sign(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        days: float = 1,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        address = x509.IPAddress(ipaddress.ip_address(HOST))
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([address, x509.DNSName("localhost")]), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )

    def _save(
        self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | None
    ) -> Path:
        path = self.directory / f"{name}.crt"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        if key is not None:
            key_path = path.with_suffix(".key")
            key_path.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            key_path.chmod(0o600)
        return path


@dataclass
class Issuer:
    """Who signs tokens; its public key is in `jwks`."""

    directory: Path
    key_id: str = "k1"

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        self.jwks = self.directory / f"jwks-{self.key_id}.json"
        named = public | {"kid": self.key_id, "alg": "ES256", "use": "sig"}
        self.jwks.write_text(json.dumps({"keys": [named]}))

    def token(self, actor: str, *, seconds: int = 300, **claims: Any) -> str:
        """A token for that person, valid for so long."""
        expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        body = {"sub": actor, "aud": AUDIENCE, "exp": expires} | claims
        return jwt.encode(body, self.key, "ES256", headers={"kid": self.key_id})
