"""Why and as whom somebody was at work: what identity events say beside the actor.

Enters: a connection with the store's views, and ids of evidence that rows cite. Leaves: per id the
purpose, the ticket and the groups that the application gave with the connection. They are the
application's word: nothing here checks them.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from scalple.store.rows import rows_of


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What one identity event says; None: nothing."""

    ts: datetime
    purpose: str | None
    ticket: str | None
    groups: tuple[str, ...] | None


def circumstances(
    con: duckdb.DuckDBPyConnection, ids: Collection[str], evidence: str = "evidence"
) -> dict[str, Circumstances]:
    """Those events among the cited ones that say something of the kind; `evidence` has them."""
    if not ids:
        return {}
    rows = rows_of(
        con,
        f"SELECT id, ts, detail FROM {evidence} "
        "WHERE source = 'identity' AND detail IS NOT NULL AND list_contains($ids, id)",
        {"ids": sorted(ids)},
    )
    found = {row["id"]: _read(row["ts"], row["detail"]) for row in rows}
    return {name: one for name, one in found.items() if one is not None}


def _read(ts: datetime, detail: str) -> Circumstances | None:
    try:
        said: Any = json.loads(detail)
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    groups = said.get("groups")
    listed = groups if isinstance(groups, list) else []
    one = Circumstances(
        ts,
        _text(said.get("purpose")),
        _text(said.get("ticket")),
        tuple(group for group in listed if isinstance(group, str)) or None,
    )
    return one if one.purpose or one.ticket or one.groups else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
