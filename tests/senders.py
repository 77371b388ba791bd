"""A daemon's intake and those who send to it, on loopback, with certificates, keys and tokens of their own.

Enters: a directory. Leaves: a server that takes events, and shippers. Both may be ended and begun again.
"""

import http.client
import json
import secrets
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.cli.intakesection import IntakeSection
from scalple.cli.intaking import check
from scalple.ingest.intake import Intake
from scalple.ingest.intakeserver import IntakeServer
from scalple.ingest.place import Place
from scalple.ingest.shipment import SENDER, SIGNATURE, Batch, sign
from scalple.ingest.shipper import Daemon, Shipper
from scalple.store.keys import create_signing_key, signing_key
from scalple.store.note import VerifierKey
from tests.certificates import Authority
from tests.stack import HOST


@dataclass
class Member:
    """Somebody who may send, and all that he has."""

    directory: Path
    name: str
    writers: tuple[str, ...]
    endpoints: tuple[str, ...] = ()
    with_certificate: bool = False
    with_token: bool = True

    def __post_init__(self) -> None:
        self.key_file = self.directory / f"{self.name}.key"
        create_signing_key(self.key_file)
        self.key: Ed25519PrivateKey = signing_key(Path(), self.key_file).private
        self.public = self.directory / f"{self.name}.pub"
        self.public.write_text(VerifierKey.of(self.name, self.key).to_text())
        self.token_file = self.directory / f"{self.name}.token"
        self.token = secrets.token_hex(16)
        self.token_file.write_text(self.token + "\n")
        self.token_file.chmod(0o600)

    def section(self) -> dict[str, Any]:
        """His table in the daemon's configuration."""
        said: dict[str, Any] = {
            "name": self.name,
            "public_key_file": str(self.public),
            "writers": list(self.writers),
            "endpoints": list(self.endpoints),
        }
        if self.with_token:
            said["token_file"] = str(self.token_file)
        if self.with_certificate:
            said["certificate"] = self.name
        return said


@dataclass
class Post:
    """The daemon's end, without the daemon."""

    directory: Path
    members: list[Member]
    limits: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.authority = Authority(self.directory)
        self.certificate, self.key = self.authority.issue("daemon")
        self.spool = self.directory / "intake"
        self.port = 0

    def section(self) -> IntakeSection:
        """As a configuration would have it."""
        by_certificate = any(one.with_certificate for one in self.members)
        return IntakeSection.model_validate(
            {
                "listen": f"{HOST}:{self.port}",
                "directory": str(self.spool),
                "certificate_file": str(self.certificate),
                "key_file": str(self.key),
                "client_ca_file": str(self.authority.certificate) if by_certificate else None,
                "sender": [one.section() for one in self.members],
                **self.limits,
            }
        )

    @contextmanager
    def running(self, seconds: float = 10.0, connections: int = 64) -> Iterator[Intake]:
        """Takes events."""
        checked = check(self.section())
        with ExitStack() as stack:
            place = Place(HOST, self.port)
            server = IntakeServer(
                checked.intake, lambda: checked.context, place, connections, seconds
            )
            stack.enter_context(server)
            self.port = server.port
            yield checked.intake

    def trusts(self, member: Member | None = None, by: Authority | None = None) -> ssl.SSLContext:
        """A client's context, with the member's certificate if he has one."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        if member is not None and (member.with_certificate or by is not None):
            context.load_cert_chain(*(by or self.authority).issue(member.name))
        return context

    def daemon(self, member: Member) -> Daemon:
        """This end, as the member sees it."""
        token = member.token if member.with_token else None
        context = self.trusts(member)
        return Daemon(Place(HOST, self.port), member.name, member.key, context, token, 10.0)

    def shipper(self, member: Member, events: Path, batch_bytes: int = 1 << 16) -> Shipper:
        """Sends what a pattern names."""
        return Shipper(self.daemon(member), [str(events)], batch_bytes)

    def ask(
        self,
        member: Member,
        data: bytes | None,
        *,
        headers: dict[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        path: str = "/v1/events",
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """One request, made by hand: (status, JSON, headers)."""
        connection = http.client.HTTPSConnection(
            HOST, self.port, timeout=10, context=context or self.trusts(member)
        )
        said = {SENDER: member.name, "Authorization": f"Bearer {member.token}"}
        if data is not None:
            said[SIGNATURE] = sign(data, member.key)
        try:
            connection.request(
                "GET" if data is None else "POST", path, data, said | (headers or {})
            )
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text), dict(answer.headers)
        finally:
            connection.close()

    def arrived(self, member: Member) -> bytes:
        """All bytes of one sender, file by file."""
        files = sorted((self.spool / member.name).glob("*.jsonl"))
        return b"".join(one.read_bytes() for one in files)


def batch_of(member: Member, events: bytes, begin: int = 0, **more: Any) -> Batch:
    """One made by hand."""
    from hashlib import sha256

    from scalple.ingest.shipment import BatchHead, FileHead

    length = more.pop("head_bytes", min(64, len(events)))
    head = more.pop("head", events[:length])
    file = FileHead(
        name="events.jsonl",
        head_bytes=length,
        head_sha256=sha256(head).hexdigest(),
        incarnation=more.pop("incarnation", 0),
    )
    return Batch(BatchHead(sender=more.pop("sender", member.name), file=file, begin=begin), events)
