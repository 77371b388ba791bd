"""Who may send identity events, and which: each sender his own writers' alone.

Enters: who a request says it comes from, what he shows for it, and events. Leaves: whether to believe that.
What is refused is never repeated: it may be a secret, or name somebody.
"""

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import pyarrow.compute as pc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from scalple.ingest.identity import parse_events

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Sender:
    """Somebody who may send."""

    name: str
    key: Ed25519PublicKey
    """Signs his batches."""
    writers: tuple[str, ...]
    """Names that the events may have as `sidecar`; `*` stands for anything."""
    token: bytes | None = None
    certificate: str | None = None
    """The common name, or a DNS or URI name, of his certificate."""
    endpoints: tuple[Network, ...] = ()
    """Where the connections may come from that he speaks of; empty: from anywhere."""

    def is_shown(self, token: bytes | None, certificate: Mapping[str, Any] | None) -> bool:
        """Whether all that he has to show was shown."""
        # Both are always compared, in the same time whatever was shown.
        has_token = hmac.compare_digest(_digest(token), _digest(self.token))
        has_name = self.certificate is None or self.certificate in names_of(certificate)
        return (self.token is None or (has_token and token is not None)) and has_name

    def fault(self, lines: bytes) -> str | None:
        """Why these lines aren't his to send; None if they are. Lines that are no events may pass:
        they name nobody, and are kept as what can't be read."""
        # Zero bytes break lines off, where files are followed.
        every = lines if b"\0" not in lines else lines + b"\n" + lines.replace(b"\0", b"\n")
        events = parse_events(every, 0, self.name).table
        for writer in pc.unique(events.column("sidecar")).to_pylist():
            if not any(fnmatchcase(writer, one) for one in self.writers):
                return "an event of a writer that isn't this sender's"
        if self.endpoints:
            for address in pc.unique(events.column("client_addr")).to_pylist():
                if address is not None and not self._is_near(address):
                    return "an event of a connection from elsewhere"
        return None

    def _is_near(self, address: str) -> bool:
        if address.startswith("unix"):
            return False  # sockets of another host: nobody here could tell whose they are
        found = ipaddress.ip_address(address)
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in one for one in self.endpoints if one.version == found.version)


NOBODY_SHOWN = hashlib.sha256(b"nobody").digest()


def _digest(token: bytes | None) -> bytes:
    return NOBODY_SHOWN if token is None else hashlib.sha256(token).digest()


def names_of(certificate: Mapping[str, Any] | None) -> set[str]:
    """Of a verified certificate, as `getpeercert` gives it: its common names, DNS and URI names."""
    if not certificate:
        return set()
    common = {
        value
        for part in certificate.get("subject", ())
        for name, value in part
        if name == "commonName"
    }
    others = certificate.get("subjectAltName", ())
    return common | {value for name, value in others if name in ("DNS", "URI")}


@dataclass(slots=True)
class Allowance:
    """So many bytes a second, and as many at once as may gather in some seconds."""

    bytes_s: float
    most: float
    clock: Callable[[], float] = time.monotonic
    _left: float = field(init=False)
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._left, self._at = self.most, self.clock()

    def wait_s(self, wanted: int) -> float:
        """Takes that much and gives 0, or says in how many seconds it may be asked for again."""
        now = self.clock()
        self._left = min(self.most, self._left + (now - self._at) * self.bytes_s)
        self._at = now
        if self._left >= min(wanted, self.most):
            self._left -= wanted
            return 0.0
        return (min(wanted, self.most) - self._left) / self.bytes_s
