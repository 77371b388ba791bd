"""The configuration's `[sidecar]`, as data: which keys there are and what they may be.

Imports nothing of the sidecar itself: every verb reads the configuration, one runs the sidecar.
"""

from typing import Annotated, Literal

from pydantic import Field

from scalple.cli.section import Pattern, Section

Source = Literal["parameter", "options", "jwt", "mtls", "peercred", "application_name"]
Claim = Literal["actor", "email", "kind", "groups", "on_behalf_of"]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_$]*\.[A-Za-z_][A-Za-z0-9_$.]*$"


class JwtSection(Section):
    """Signed tokens."""

    jwks_file: str
    audience: Annotated[tuple[str, ...], Field(min_length=1)]
    issuer: str | None = None
    leeway_s: Annotated[int, Field(ge=0, le=600)] = 30
    replay: Literal["same-address", "once", "allow"] = "same-address"
    claims: dict[Claim, str] = Field(default={})


class TlsSection(Section):
    """TLS for clients."""

    certificate_file: str
    key_file: str
    client_ca_file: str | None = None
    required: bool = False
    actor: Literal["common-name", "email", "uri"] = "common-name"


class UpstreamTlsSection(Section):
    """TLS to the pooler."""

    ca_file: str | None = None
    verify_name: bool = True


class SidecarSection(Section):
    """The sidecar."""

    listen: str | tuple[str, ...] = ()
    upstream: str | None = None
    events: str | None = None
    name: Name | None = None
    identity: Annotated[tuple[Source, ...], Field(min_length=1)] = ("parameter", "options")
    variables: tuple[Annotated[str, Field(pattern=VARIABLE)], ...] = (
        "app.current_user",
        "app.user",
    )
    require_identity: bool = False
    identity_file: str | None = None
    unlisted: Literal["refuse", "unidentified"] = "refuse"
    end_revoked: bool = False
    application_name_pattern: Pattern | None = None
    strict: bool = False
    prepared_statements: Literal["shared", "private"] = "shared"
    on_event_failure: Literal["refuse", "pass"] = "refuse"
    heartbeat_s: Annotated[int, Field(ge=1, le=3600)] = 10
    startup_timeout_s: Seconds = 10
    connect_timeout_s: Seconds = 10
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 30
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 5000
    rotate_mb: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    status: str | None = None
    socket_mode: Annotated[str, Field(pattern="^0?[0-7]{3}$")] = "0660"
    jwt: JwtSection | None = None
    tls: TlsSection | None = None
    upstream_tls: UpstreamTlsSection | None = None
