"""Signed tokens (JWT, RFC 7519) that say who opens a connection.

Enters: a token from a startup packet, and where it came from. Leaves: its claims, checked: signature
by a key of the JWKS file, audience, issuer, expiry, and that no other machine has shown the token
before. Owner of PyJWT. A token itself never leaves: errors say what is wrong with it, not what it is.
"""

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt

from scalple.ingest.errors import ConfigError

ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
"""Signatures with a public key; secrets shared with the issuer would let every sidecar issue."""
_SEEN_MAX = 100_000


class TokenError(Exception):
    """Why a token isn't accepted."""


@dataclass(slots=True)
class Tokens:
    """Checks tokens.

    Args:
        jwks_file: the issuer's public keys (RFC 7517).
        audience: one of these has to stand in `aud`.
        issuer: `iss`, if it is to be checked.
        leeway_s: how far clocks may differ, in seconds.
        replay: `same-address`: a token is good for the machine that showed it first; `once`: for
            one connection; `allow`: for whoever has it.

    Raises:
        ConfigError: the file holds no keys.
    """

    jwks_file: Path
    audience: tuple[str, ...]
    issuer: str | None = None
    leeway_s: int = 30
    replay: str = "same-address"
    _keys: dict[str | None, jwt.PyJWK] = field(init=False)
    _seen: dict[bytes, tuple[str, float]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        try:
            said = json.loads(self.jwks_file.read_bytes())
            # PyJWKSet skips what it doesn't know, and raises when nothing is left.
            keys = jwt.PyJWKSet.from_dict(said).keys
        except (OSError, ValueError, AttributeError, jwt.PyJWTError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"can't read the JWKS file: {reason}", place=str(self.jwks_file)
            ) from error
        self._keys = {key.key_id: key for key in keys if key.algorithm_name in ALGORITHMS}
        if not self._keys:
            raise ConfigError(
                "no public key for a signature in the JWKS file",
                place=str(self.jwks_file),
                hint=f"keys for one of {', '.join(ALGORITHMS)}",
            )

    def remember(self, before: "Tokens") -> None:
        """Keep what was seen before a reload."""
        self._seen = before._seen

    def claims(self, token: str, shown_from: str) -> dict[str, Any]:
        """The token's claims.

        Args:
            token: as the client sent it.
            shown_from: the client's machine.

        Raises:
            TokenError: it isn't accepted; says why.
        """
        try:
            key = self._key(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=list(self.audience),
                issuer=self.issuer,
                leeway=self.leeway_s,
                options={"require": ["exp", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise TokenError("the token has expired") from None
        except jwt.InvalidAudienceError:
            raise TokenError("the token is for another audience") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenError(f"the token lacks the claim {error.claim}") from None
        except jwt.InvalidSignatureError:
            raise TokenError("the token's signature is wrong") from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise TokenError(f"the token isn't valid ({type(error).__name__})") from None
        self._check_replay(token, shown_from, float(claims["exp"]))
        return claims

    def _key(self, token: str) -> jwt.PyJWK:
        key_id = jwt.get_unverified_header(token).get("kid")
        key = self._keys.get(key_id)
        if key is None and key_id is None and len(self._keys) == 1:
            key = next(iter(self._keys.values()))
        if key is None:
            raise TokenError("the token was signed with an unknown key")
        return key

    def _check_replay(self, token: str, shown_from: str, expires: float) -> None:
        if self.replay == "allow":
            return
        # The signed part only: a signature may have several spellings.
        digest = hashlib.sha256(token.rpartition(".")[0].encode()).digest()
        now = time.time()
        known = self._seen.get(digest)
        if known is not None and (self.replay == "once" or known[0] != shown_from):
            raise TokenError("the token has been used from elsewhere before")
        if len(self._seen) >= _SEEN_MAX:
            self._seen = {one: who for one, who in self._seen.items() if who[1] > now}
            if len(self._seen) >= _SEEN_MAX:
                raise TokenError("too many tokens are in use to tell whether this one is new")
        self._seen[digest] = (shown_from, expires + self.leeway_s)
