"""What a sidecar is told: what holds for its life, and what a reload may change. Plain values."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from scalple.ingest.credentials import Credentials
from scalple.ingest.errors import ConfigError
from scalple.ingest.place import Place
from scalple.ingest.variables import Variables


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The operator's certificate for clients."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """Who signs client certificates; without it none are asked for."""
    required: bool = False

    def context(self) -> ssl.SSLContext:
        """Raises ConfigError if the files can't be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["postgresql"])
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_OPTIONAL
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"can't use the TLS files: {error.strerror or error}", place=str(self.certificate)
            ) from error
        return context


@dataclass(frozen=True, slots=True)
class Settings:
    """What stays the same while a sidecar runs."""

    listen: tuple[Place, ...]
    upstream: Place
    events: Path
    name: str | None = None
    strict: bool = False
    on_event_failure: str = "refuse"
    heartbeat_s: int = 10
    startup_timeout_s: float = 10.0
    connect_timeout_s: float = 10.0
    drain_s: float = 30.0
    max_connections: int = 5000
    rotate_bytes: int = 0
    upstream_tls: ssl.SSLContext | None = None
    end_revoked: bool = False
    socket_mode: int = 0o660
    private_statements: bool = False


@dataclass(frozen=True, slots=True)
class Reloadable:
    """What a SIGHUP may change."""

    credentials: Credentials
    variables: Variables
    tls: TlsFiles | None = None
    needs_restart: tuple[str, ...] = ()
    """Keys that were changed and that only a restart changes."""
