"""What a data subject may see of an answer: dates, categories, pseudonyms, and nobody else's data.

Enters: a row as the controller sees it. Leaves: the same keys, with staff hidden (CJEU C-579/21).
"""

import hashlib
import hmac
from typing import Any

_HIDDEN_FROM_SUBJECT = (
    "session_email",
    "peer_addr",
    "peer_port",
    "client_addr",
    "client_port",
    "application_name",
    "db_role",  # a personal login role is a name
    "query",  # comments and literals may name staff, and other people
    "parameters",
    "message",
)
"""The dates, the categories of data and a pseudonym for each actor stay."""


def needed(column: str) -> str:
    """What is read of a column of rows that only their subject will see."""
    return f"NULL AS {column}" if column in _HIDDEN_FROM_SUBJECT else column


def for_subject(row: dict[str, Any], tokens: set[int], key: bytes) -> dict[str, Any]:
    """A row as its subject may see it.

    Args:
        row: as `render.items` makes it.
        tokens: of the identifiers that were asked for.
        key: the subject key; an actor has one pseudonym under one key.
    """

    def pseudonym(actor: str | None) -> str | None:
        if actor is None:
            return None
        digest = hmac.digest(key, b"actor\0" + actor.encode(), hashlib.sha256)
        return f"actor-{digest[:6].hex()}"

    candidates = row.get("attribution_candidates")
    return (
        row
        | {name: None for name in _HIDDEN_FROM_SUBJECT if name in row}
        | {
            "session_user_id": pseudonym(row["session_user_id"]),
            "on_behalf_of": pseudonym(row["on_behalf_of"]),
            "attribution_candidates": candidates and [pseudonym(one) for one in candidates],
        }
        | (
            {"subjects": [one for one in row["subjects"] or [] if one["token"] in tokens]}
            if "subjects" in row
            else {}
        )
    )
