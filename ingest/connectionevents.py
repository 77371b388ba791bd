"""Identity events about connections, as the sidecar writes them (docs/IDENTITY_EVENTS.md).

Enters: what is known of a connection. Leaves: events without their head (`eventfile` adds it). Keys that
have no value are left out, but for `actor`: that nobody is known is said.
"""

from typing import Any

from scalple.ingest.credentials import Client, Opening
from scalple.ingest.owner import Word
from scalple.ingest.whose import Identity


def open_event(
    name: str,
    tag: str | None,
    endpoint: dict[str, Any],
    client: Client,
    opening: Opening,
    *,
    tls: bool,
) -> dict[str, Any]:
    """That a connection is about to be opened."""
    return _without_none(
        {
            "event": "open",
            "connection": name,
            **endpoint,
            "peer_addr": client.address,
            "peer_port": client.port,
            "tag": tag,
            "database": _text(opening.database),
            "db_role": _text(opening.db_role),
            "application_name": _text(opening.own_name) or None,
            **_identity_fields(opening.identity),
            **opening.said,
            "replication": opening.replication or None,
            "tls": tls or None,
        }
    )


def word_event(name: str, word: Word) -> dict[str, Any]:
    """What an exchange says about an open connection."""
    event: dict[str, Any] = {
        "event": word.event,
        "connection": name,
        "tag": word.tag,
        "reason": word.reason,
        "application_name": word.application_name,
    }
    if word.identity is not None:
        event |= _identity_fields(word.identity)
    return _without_none(event)


def _identity_fields(identity: Identity) -> dict[str, Any]:
    fields = {
        "email": identity.email,
        "actor_kind": identity.actor_kind,
        "authn": identity.authn,
        "on_behalf_of": identity.on_behalf_of,
        "groups": list(identity.groups) or None,
    }
    return {"actor": identity.actor} | {
        name: one for name, one in fields.items() if one is not None
    }


def _without_none(event: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in event.items() if one is not None or name == "actor"}


def _text(text: str) -> str:
    """Text that JSON can hold."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
