"""The configuration's `[intake]` and `[ship]`, as data: events that come from, and go to, another host."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from scalple.cli.section import Section

SenderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


def _network(text: str) -> str:
    ipaddress.ip_network(text)  # a ValueError says what is wrong
    return text


class SenderSection(Section):
    """Somebody who may send events."""

    name: SenderName
    public_key_file: str
    """A verifier key, as `keygen signing --origin NAME` prints it."""
    writers: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    """What his events may have as `sidecar`; `*` stands for anything."""
    token_file: str | None = None
    certificate: str | None = None
    """The common name, or a DNS or URI name, of his certificate."""
    endpoints: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    """Networks that the connections come from of which he speaks."""


class IntakeSection(Section):
    """Where the daemon takes events."""

    listen: str | None = None
    directory: str | None = None
    """Where what was taken lies until it expires."""
    certificate_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None
    batch_kb: Annotated[int, Field(ge=16, le=16_384)] = 1024
    rate_kb_s: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    backlog_mb: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    keep_days: Annotated[int, Field(ge=1, le=36_500)] = 30
    max_connections: Annotated[int, Field(ge=1, le=4096)] = 64
    request_s: Annotated[float, Field(ge=1, le=600)] = 20.0
    sender: tuple[SenderSection, ...] = ()


class ShipSection(Section):
    """Where a sidecar's events are sent."""

    to: str | None = None
    events: tuple[str, ...] = ()
    name: SenderName | None = None
    key_file: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    certificate_file: str | None = None
    certificate_key_file: str | None = None
    batch_kb: Annotated[int, Field(ge=16, le=16_384)] = 256
    scan_interval_s: Annotated[float, Field(ge=0.2, le=600)] = 1.0
