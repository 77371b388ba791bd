"""What is known of a backend session as a whole: is it pooled, and did PostgreSQL itself say who.

Enters: one session's name, endpoint, database, role, and its `connection authenticated` line.
Leaves: the pool it belongs to, and the actor that PostgreSQL's own authentication names through
the operator's map. One Python call per session, never per statement.
"""

import re
from dataclasses import dataclass

from scalple.correlate.evidence import Endpoint, Evidence
from scalple.correlate.rules import Rules

# identity is free text that may imitate the rest, so the line is read from its right end
# (src/backend/libpq/auth.c, set_authn_id()).
_AUTHENTICATED = re.compile(
    r'connection authenticated: identity="(?P<identity>.*)" method=(?P<method>\S+)'
    r"(?: \(.*:\d+\))?",
    re.DOTALL,
)
_PORT = re.compile("[0-9]{1,5}")
_NAMING_METHODS = frozenset({"cert", "gss", "sspi", "ldap", "peer"})

ANNOUNCED_US = 60_000_000
"""How long after its `open` event a connection may begin."""

NEVER_US = -(2**62)

UNPOOLED = -1
UNKNOWN = -2


@dataclass(slots=True)
class Session:
    """One backend session."""

    session_id: str
    begun_us: int
    """When it began: its first record, or the whole second that its id names; before all times
    where that isn't known."""
    begun_until_us: int
    """The latest that it can have begun."""
    process_id: int | None = None
    endpoint: Endpoint | None = None
    database: str | None = None
    role: str | None = None
    pool: int = UNKNOWN
    """Number of its pool; UNPOOLED; or UNKNOWN while the pooler's log doesn't say."""
    actor: str | None = None
    method: str | None = None
    authn: str | None = None
    evidence_seq: int | None = None
    contradicted: bool = False
    begun_before_us: int | None = None
    """When the session before it at the same endpoint began at the latest, if one was seen."""
    local: bool = False
    """Its client came through a unix socket."""
    server: int = -1
    """Number of the pooler's server connection, where its log shows whom that served."""
    slack_us: int = 0
    """By how much the pooler's clock may differ from the server's."""

    def announced_by(self, opened_us: int | None) -> bool:
        """Whether an `open` event at its endpoint can have spoken of this session.

        The event is written right before connecting (or by the client itself, when connected).
        One that is older than a session before this one spoke of that one.
        """
        if opened_us is None:
            return True
        if self.begun_before_us is not None and self.begun_before_us >= opened_us // 1000 * 1000:
            return False
        return self.begun_us - opened_us <= ANNOUNCED_US


def started_us(session_id: str) -> tuple[int, int]:
    """When the session began, in µs since 1970, and at the latest.

    The first half of its id is whole seconds; a key of ours tells nothing.
    """
    seconds, dot, _ = session_id.partition(".")
    if not dot:
        return NEVER_US, NEVER_US
    begun = int(seconds, 16) * 1_000_000
    return begun, begun + 999_999


def client_endpoint(connection_from: str | None) -> Endpoint | None:
    """(address, port) of csvlog's connection_from; None for a unix socket or a worker."""
    if not connection_from or connection_from.startswith("["):
        return None
    address, _, port = connection_from.rpartition(":")
    return (address.lower(), int(port)) if address and _PORT.fullmatch(port) else None


def place(session: Session, evidence: Evidence, rules: Rules) -> None:
    """Find out whether a pooler stands before this session, and which of its pools."""
    if rules.pooler.kind == "none":
        session.pool = UNPOOLED
        return
    if session.local:
        if evidence.covers(session.begun_us) and not evidence.links_locally:
            session.pool = UNPOOLED
    elif session.endpoint is not None:
        pools = evidence.pools_of_server_connection(
            session.endpoint, session.begun_us, session.role
        )
        if pools is not None:
            # Of several it can't be said which: a port may be used again at once.
            session.pool = pools[0] if len(pools) == 1 else UNKNOWN
            session.server = evidence.pairing.connection(
                session.endpoint, session.begun_us, evidence.link_slack_us
            )
            session.slack_us = evidence.pairing.slack_us(
                session.server,
                session.begun_us,
                session.begun_until_us,
                1000 * rules.clocks.skew_ms,
            )
        elif evidence.covers(session.begun_us):
            session.pool = UNPOOLED


def read_authenticated(message: str) -> tuple[str, str] | None:
    """(external identity, method) of a `connection authenticated` line that names somebody."""
    found = _AUTHENTICATED.fullmatch(message)
    if found is None or found["method"] not in _NAMING_METHODS:
        return None
    return found["identity"], found["method"]


def name_actor(session: Session, external: tuple[str, str] | None, rules: Rules) -> None:
    """Who the session belongs to by PostgreSQL's own word, through the operator's map."""
    by_role = rules.actors.roles.get(session.role) if session.role else None
    by_identity = rules.actors.identities.get(external[0]) if external else None
    if by_identity is not None and external is not None:
        session.actor, session.method = by_identity, "external-identity"
        session.authn = f"pg:{external[1]}"
        session.contradicted = by_role is not None and by_role != by_identity
    elif by_role is not None:
        session.actor, session.method, session.authn = by_role, "login-role", "role"
