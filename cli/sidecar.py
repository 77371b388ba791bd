"""`scalple-ingest sidecar`: a relay before the pooler that writes down who is behind each connection.

Enters: options and `[sidecar]`. Leaves: a running sidecar, until SIGTERM. SIGHUP reads the
configuration and the files that it names again; where it listens and writes stays as it was.
"""

import re
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from scalple.cli.options import command, config_option, configured
from scalple.cli.sidecarsection import SidecarSection
from scalple.ingest.actorfile import ActorFile
from scalple.ingest.bearer import Tokens
from scalple.ingest.credentials import Credentials
from scalple.ingest.errors import ConfigError
from scalple.ingest.place import read_place
from scalple.ingest.sidecar import serve
from scalple.ingest.sidecarsettings import Reloadable, Settings, TlsFiles
from scalple.ingest.variables import Variables


@command("sidecar")
@click.option(
    "--listen", multiple=True, metavar="HOST:PORT|PATH", help="Where applications connect."
)
@click.option("--upstream", metavar="HOST:PORT|PATH", help="The pooler, or PostgreSQL.")
@click.option("--events", metavar="FILE", help="Where identity events are written.")
@click.option("--name", metavar="NAME", help="This sidecar's name in its events.")
@click.option("--status", metavar="HOST:PORT", help="Answer /ready, /live and /metrics here.")
@config_option
def sidecar(
    listen: tuple[str, ...],
    upstream: str | None,
    events: str | None,
    name: str | None,
    status: str | None,
    config_path: Path | None,
) -> None:
    """Relay connections to the pooler, and write down who is behind each.

    Point the application's connection string at --listen, with the person in it:
    options='-c scalple.user=employee_id_2291'. See docs/SIDECAR.md.

    \b
    Example:
      scalple-ingest sidecar --listen 127.0.0.1:6433 --upstream 127.0.0.1:6432 \\
        --events /var/lib/scalple/events/app1.jsonl
    """
    given: dict[str, Any] = {
        "listen": listen,
        "upstream": upstream,
        "events": events,
        "name": name,
        "status": status,
    }
    given = {key: value for key, value in given.items() if value}

    def section() -> SidecarSection:
        said = configured(config_path).sidecar
        try:
            return SidecarSection.model_validate({**dict(said), **given})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ConfigError(f"--{first['loc'][0]}: {first['msg']}") from error

    first = section()

    def load() -> Reloadable:
        found = section()
        fixed = tuple(
            key for key, value in found if key not in RELOADED and value != getattr(first, key)
        )
        return replace(reloadable_of(found), needs_restart=fixed)

    status_place = read_place(first.status) if first.status else None
    serve(settings_of(first), load, status_place)


RELOADED = frozenset(
    [
        "identity",
        "variables",
        "require_identity",
        "identity_file",
        "unlisted",
        "application_name_pattern",
        "jwt",
        "tls",
    ]
)
"""Keys that a reload changes."""


def settings_of(section: SidecarSection) -> Settings:
    """What stays the same while the sidecar runs.

    Raises:
        ConfigError: something that it can't do without is missing.
    """
    listen = (section.listen,) if isinstance(section.listen, str) else section.listen
    for name, value in (
        ("listen", listen),
        ("upstream", section.upstream),
        ("events", section.events),
    ):
        if not value:
            raise ConfigError(
                f"no --{name}", hint=f"give --{name}, or `{name}` under [sidecar] of --config"
            )
    assert section.upstream is not None and section.events is not None
    return Settings(
        listen=tuple(read_place(one) for one in listen),
        upstream=read_place(section.upstream),
        events=Path(section.events),
        name=section.name,
        strict=section.strict,
        private_statements=section.prepared_statements == "private",
        on_event_failure=section.on_event_failure,
        heartbeat_s=section.heartbeat_s,
        startup_timeout_s=section.startup_timeout_s,
        connect_timeout_s=section.connect_timeout_s,
        drain_s=section.drain_s,
        max_connections=section.max_connections,
        rotate_bytes=section.rotate_mb << 20,
        upstream_tls=_upstream_context(section),
        end_revoked=section.end_revoked,
        socket_mode=int(section.socket_mode, 8),
    )


def reloadable_of(section: SidecarSection) -> Reloadable:
    """What a reload may change.

    Raises:
        ConfigError: a file can't be used, or a source lacks what it needs.
    """
    needs = {"jwt": section.jwt, "mtls": section.tls and section.tls.client_ca_file}
    needs["application_name"] = section.application_name_pattern
    keys = {
        "jwt": "[sidecar.jwt]",
        "mtls": "client_ca_file under [sidecar.tls]",
        "application_name": "application_name_pattern",
    }
    for source in section.identity:
        if source in needs and not needs[source]:
            raise ConfigError(f'identity source "{source}" needs {keys[source]}')
    pattern = section.application_name_pattern
    credentials = Credentials(
        sources=section.identity,
        require_identity=section.require_identity,
        tokens=_tokens(section),
        claims={str(key): name for key, name in section.jwt.claims.items()} if section.jwt else {},
        name_pattern=re.compile(pattern) if pattern else None,
        certificate_actor=section.tls.actor if section.tls else "common-name",
        actor_file=ActorFile(Path(section.identity_file)) if section.identity_file else None,
        refuse_unlisted=section.unlisted == "refuse",
    )
    return Reloadable(credentials, Variables(section.variables), _tls(section))


def _tokens(section: SidecarSection) -> Tokens | None:
    if section.jwt is None:
        return None
    return Tokens(
        Path(section.jwt.jwks_file),
        section.jwt.audience,
        section.jwt.issuer,
        section.jwt.leeway_s,
        section.jwt.replay,
    )


def _tls(section: SidecarSection) -> TlsFiles | None:
    if section.tls is None:
        return None
    ca = section.tls.client_ca_file
    return TlsFiles(
        Path(section.tls.certificate_file),
        Path(section.tls.key_file),
        Path(ca) if ca else None,
        section.tls.required,
    )


def _upstream_context(section: SidecarSection) -> ssl.SSLContext | None:
    if section.upstream_tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=section.upstream_tls.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"can't use the CA file: {error.strerror or error}",
            place=section.upstream_tls.ca_file,
        ) from error
    context.check_hostname = section.upstream_tls.verify_name
    return context
