"""Who opens a connection: from what its startup packet, its TLS and its socket say.

Enters: a startup packet and what the transport knows of the client. Leaves: the identity, what else
the client said of itself, and the startup packet without our parameters. The operator's order of
sources decides; a client that says two things is refused, never guessed at. No I/O but the clock
that tokens and validity dates need.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from scalple.ingest.actorfile import ActorFile
from scalple.ingest.bearer import TokenError, Tokens
from scalple.ingest.pgwire import (
    INVALID_AUTHORIZATION,
    INVALID_PARAMETER,
    PROTOCOL_VIOLATION,
    Startup,
    WireError,
    join_options,
    options_settings,
    split_options,
)
from scalple.ingest.whose import NOBODY, Identity

SOURCES: Final = ("parameter", "options", "jwt", "mtls", "peercred", "application_name")
PREFIX: Final = "scalple."
SAYINGS: Final = ("purpose", "ticket")
"""What any client may add."""
CLAIMED: Final = ("email", "kind", "groups", "on_behalf_of")
"""What it may add where it says itself who it is."""
TEXT_MAX: Final = 200
TOKEN_MAX: Final = 8192
_KINDS = frozenset({"human", "service", "agent"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HINT = (
    "add the person to the connection string: options='-c scalple.user=YOU', "
    'or PGOPTIONS="-c scalple.user=YOU"'
)


@dataclass(frozen=True, slots=True)
class Client:
    """What the transport knows of a client."""

    address: str
    """IP address, or `unix`."""
    port: int | None = None
    certificate: Mapping[str, Any] | None = None
    """As ssl.SSLSocket.getpeercert() gives it; only of a certificate that was verified."""
    system_user: str | None = None
    """The account behind a unix socket."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A connection that may be opened."""

    identity: Identity
    database: str
    db_role: str
    own_name: str
    """What the application calls itself."""
    replication: bool
    startup: Startup
    """To be forwarded; without application_name and without parameters of ours."""
    said: dict[str, str] = field(default_factory=dict)
    """purpose and ticket."""

    def forwarded(self, application_name: str) -> Startup:
        """The startup packet with that name."""
        pair = ("application_name", application_name)
        return Startup(self.startup.version, (*self.startup.parameters, pair))


@dataclass(slots=True)
class Credentials:
    """The operator's rules about who is who.

    Args:
        sources: of SOURCES, the first that says something decides.
        require_identity: refuse whoever none of them names.
        tokens: checks JWTs; needed for the source `jwt`.
        claims: which claim holds what (actor, email, kind, groups, on_behalf_of).
        name_pattern: with a group `actor`, for the source `application_name`.
        certificate_actor: `common-name`, `email` or `uri`.
        actor_file: who there is; None for anybody.
        refuse_unlisted: refuse actors that aren't in it, instead of letting them in unidentified.
    """

    sources: Sequence[str] = ("parameter", "options")
    require_identity: bool = False
    tokens: Tokens | None = None
    claims: Mapping[str, str] = field(default_factory=dict)
    name_pattern: re.Pattern[str] | None = None
    certificate_actor: str = "common-name"
    actor_file: ActorFile | None = None
    refuse_unlisted: bool = True

    def open(self, startup: Startup, client: Client) -> Opening:
        """Who opens this connection.

        Raises:
            WireError: nobody may, by these rules; the message is for the client.
        """
        forward, ours, options_ours, own_name = _sorted_out(startup)
        spoken = _Spoken(ours, options_ours)
        plain = {name.lower(): value for name, value in forward}
        identity = self._identity(spoken, client, own_name)
        return Opening(
            identity=identity,
            database=plain.get("database") or plain.get("user", ""),
            db_role=plain.get("user", ""),
            own_name=own_name,
            # What isn't surely a replication connection is watched like any other.
            replication=plain.get("replication", "").lower()
            in ("database", "1", "true", "on", "yes"),
            startup=Startup(startup.version, tuple(forward)),
            said={name: spoken.all[name] for name in SAYINGS if name in spoken.all},
        )

    def variable(self, name: str) -> Identity | None:
        """Whom an identity variable names; None if he isn't to be let through."""
        if _CONTROL.search(name) or len(name) > TEXT_MAX:
            return NOBODY
        return self.listed(Identity(name, authn="asserted"))

    def listed(self, identity: Identity) -> Identity | None:
        """The identity with what the identity file knows; NOBODY or None if it isn't in it."""
        if self.actor_file is None or identity.actor is None:
            return identity
        line = self.actor_file.find(identity.actor, datetime.now(UTC))
        if line is None:
            return None if self.refuse_unlisted else NOBODY
        return replace(
            identity,
            email=line.email or identity.email,
            actor_kind=line.kind or identity.actor_kind,
            groups=line.groups or identity.groups,
        )

    def _identity(self, spoken: "_Spoken", client: Client, own_name: str) -> Identity:
        said = self._said(spoken, client)
        found = None
        for source in self.sources:
            found = said.get(source) or self._ambient(source, client, own_name)
            if found is not None:
                break
        if found is None:
            if self.require_identity:
                raise WireError(
                    INVALID_AUTHORIZATION, "this connection doesn't say who its user is", _HINT
                )
            return NOBODY
        listed = self.listed(found)
        if listed is None or (listed is NOBODY and self.require_identity):
            raise WireError(
                INVALID_AUTHORIZATION,
                f'actor "{found.actor}" isn\'t in the identity file, or not at this time',
                "ask whoever keeps the identity file",
            )
        return listed

    def _said(self, spoken: "_Spoken", client: Client) -> dict[str, Identity]:
        """What the client itself said, by source; refused where it says two things."""
        said: dict[str, Identity] = {}
        if spoken.token is not None:
            if "jwt" not in self.sources or self.tokens is None:
                raise WireError(
                    INVALID_AUTHORIZATION,
                    "tokens (scalple.token) aren't accepted here",
                    'the sidecar\'s configuration has no "jwt" under `identity`',
                )
            said["jwt"] = self._by_token(spoken.token, client)
        if spoken.user is not None:
            if not {"parameter", "options"}.intersection(self.sources):
                raise WireError(
                    INVALID_AUTHORIZATION,
                    "scalple.user isn't accepted here",
                    "the sidecar's configuration names its sources under `identity`",
                )
            if "jwt" in said and said["jwt"].actor != spoken.user:
                raise WireError(
                    INVALID_AUTHORIZATION, "scalple.user and scalple.token name two people"
                )
            said[spoken.user_from] = spoken.identity()
        return said

    def _by_token(self, token: str, client: Client) -> Identity:
        assert self.tokens is not None
        try:
            claims = self.tokens.claims(token, client.system_user or client.address)
        except TokenError as error:
            raise WireError(INVALID_AUTHORIZATION, f"scalple.token: {error}") from None

        def claim(name: str, default: str) -> Any:
            return claims.get(self.claims.get(name, default))

        actor = claim("actor", "sub")
        if not isinstance(actor, str) or not actor:
            raise WireError(INVALID_AUTHORIZATION, "scalple.token names nobody")
        groups = claim("groups", "groups")
        kind = claim("kind", "kind")
        texts = {
            "email": claim("email", "email"),
            "on_behalf_of": claim("on_behalf_of", "on_behalf_of"),
        }
        for text in (actor, *texts.values()):
            if isinstance(text, str):
                _checked("token", text)
        return Identity(
            actor,
            actor_kind=kind if kind in _KINDS else None,
            authn="jwt",
            groups=tuple(str(one)[:TEXT_MAX] for one in groups) if isinstance(groups, list) else (),
            **{name: text for name, text in texts.items() if isinstance(text, str) and text},
        )

    def _ambient(self, source: str, client: Client, own_name: str) -> Identity | None:
        """What the client didn't have to say."""
        if source == "mtls" and client.certificate:
            actor = _certificate_name(client.certificate, self.certificate_actor)
            email = _certificate_name(client.certificate, "email")
            return Identity(_checked("certificate", actor), email, authn="mtls") if actor else None
        if source == "peercred" and client.system_user:
            return Identity(client.system_user, authn="peercred")
        if source == "application_name" and self.name_pattern is not None:
            found = self.name_pattern.search(own_name)
            if found is not None and found["actor"]:
                return Identity(_checked("application_name", found["actor"]), authn="asserted")
        return None


class _Spoken:
    """Parameters of ours, from the startup packet and from its options."""

    def __init__(self, parameters: list[tuple[str, str]], options: list[tuple[str, str]]) -> None:
        self.all: dict[str, str] = {}
        self.user_from = "parameter"
        for source, pairs in (("options", options), ("parameter", parameters)):
            for name, value in pairs:
                name = name[len(PREFIX) :]
                if name not in ("user", "token", *SAYINGS, *CLAIMED):
                    known = ", ".join(PREFIX + one for one in ("user", "token", *SAYINGS, *CLAIMED))
                    raise WireError(
                        INVALID_PARAMETER, f'unknown parameter "{PREFIX}{name}"', f"known: {known}"
                    )
                if name in self.all and self.all[name] != value:
                    raise WireError(
                        INVALID_PARAMETER, f'"{PREFIX}{name}" is given twice, with different values'
                    )
                self.all[name] = value if name == "token" else _checked(PREFIX + name, value)
                if name == "user":
                    self.user_from = source
        self.token = self.all.get("token")
        self.user = self.all.get("user") or None
        if self.token is not None and len(self.token) > TOKEN_MAX:
            raise WireError(INVALID_PARAMETER, "scalple.token is too long")
        kind = self.all.get("kind")
        if kind is not None and kind not in _KINDS:
            raise WireError(INVALID_PARAMETER, "scalple.kind is human, service or agent")

    def identity(self) -> Identity:
        """The client's own word."""
        return Identity(
            self.user,
            self.all.get("email") or None,
            self.all.get("kind"),
            "asserted",
            self.all.get("on_behalf_of") or None,
            tuple(one for one in self.all.get("groups", "").split(",") if one),
        )


def _sorted_out(
    startup: Startup,
) -> tuple[list[tuple[str, str]], list[tuple[str, str]], list[tuple[str, str]], str]:
    """(parameters to forward, ours, ours in options, the application's name)."""
    forward: list[tuple[str, str]] = []
    ours: list[tuple[str, str]] = []
    in_options: list[tuple[str, str]] = []
    own_name = ""
    for name, value in startup.parameters:
        lower = name.lower()
        if lower.startswith(PREFIX):
            ours.append((lower, value))
        elif lower == "application_name":
            own_name = value
        elif lower == "options":
            words = split_options(value)
            gone: set[int] = set()
            for setting, said, at in options_settings(words):
                setting = setting.lower()
                if setting.startswith(PREFIX):
                    in_options.append((setting, said or ""))
                elif setting == "application_name":
                    own_name = said or own_name
                else:
                    continue
                gone.update(at)
            rest = [word for at, word in enumerate(words) if at not in gone]
            _check_blanks(words, gone)
            if rest or not words:
                forward.append((name, join_options(rest) if gone else value))
        else:
            if lower in ("user", "database") and any(one.lower() == lower for one, _ in forward):
                raise WireError(PROTOCOL_VIOLATION, f'startup parameter "{lower}" is given twice')
            forward.append((name, value))
    if not any(name == "user" and value for name, value in forward):
        raise WireError(INVALID_AUTHORIZATION, "no PostgreSQL user name in the startup packet")
    return forward, ours, in_options, own_name


def _check_blanks(words: list[str], ours: set[int]) -> None:
    """A word that follows a setting of ours and is no option was part of its value."""
    for at in ours:
        if at + 1 < len(words) and at + 1 not in ours and not words[at + 1].startswith("-"):
            raise WireError(
                INVALID_PARAMETER,
                f'options: "{words[at + 1][:TEXT_MAX]}" is no option',
                "in options a backslash has to stand before every blank of a value",
            )


def _checked(what: str, text: str) -> str:
    if len(text) > TEXT_MAX or _CONTROL.search(text):
        raise WireError(
            INVALID_PARAMETER, f"{what}: longer than {TEXT_MAX} characters, or not printable"
        )
    return text


def _certificate_name(certificate: Mapping[str, Any], which: str) -> str | None:
    if which == "common-name":
        names = [
            value
            for part in certificate.get("subject", ())
            for name, value in part
            if name == "commonName"
        ]
    else:
        wanted = {"email": "email", "uri": "URI"}[which]
        names = [value for name, value in certificate.get("subjectAltName", ()) if name == wanted]
    return str(names[0]) if len(names) == 1 else None
