"""The snapshot of a database's privileges: a JSON file with grants, memberships, roles and owners.

Enters: a path. Leaves: what is needed of it to compare rights with their use; keys of the file that
aren't needed are left alone. `roles`, `owners` and `database` may be missing.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalple.correlate.unusedrights import Grant
from scalple.ingest.errors import InputError


@dataclass(frozen=True, slots=True)
class Granted:
    """Who was granted what, at one time."""

    taken_at: str | None
    database: str | None
    grants: tuple[Grant, ...]
    memberships: tuple[tuple[str, str], ...]
    """(role, member)."""
    superusers: frozenset[str]
    logins: frozenset[str]
    owners: dict[str, str]
    """Relation -> role."""


def load_grants(path: Path) -> Granted:
    """Read a snapshot.

    Raises:
        InputError: it can't be read, or isn't of that form; names the entry.
    """
    try:
        said = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"can't read the snapshot: {reason}", place=str(path)) from error
    if not isinstance(said, dict) or "grants" not in said:
        raise InputError(
            "is no snapshot: it has no grants", place=str(path), hint="check --snapshot"
        )
    roles = _entries(path, said, "roles")
    return Granted(
        _text(path, said, "taken_at"),
        _text(path, said, "database"),
        tuple(
            Grant(
                _field(path, "grants", at, one, "role"),
                _relation(path, at, _field(path, "grants", at, one, "relation")),
                None if one.get("column") is None else _field(path, "grants", at, one, "column"),
                _field(path, "grants", at, one, "privilege").upper(),
            )
            for at, one in enumerate(_entries(path, said, "grants"))
        ),
        tuple(
            (
                _field(path, "memberships", at, one, "role"),
                _field(path, "memberships", at, one, "member"),
            )
            for at, one in enumerate(_entries(path, said, "memberships"))
        ),
        frozenset(_named(path, roles, "superuser")),
        frozenset(_named(path, roles, "login")),
        _owners(path, said),
    )


def _entries(path: Path, said: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = said.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise InputError(f"{key} is no list of objects", place=str(path))
    return entries


def _field(path: Path, key: str, at: int, entry: dict[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise InputError(f"{key}[{at}] has no {name}", place=str(path))
    return value


def _relation(path: Path, at: int, name: str) -> str:
    if "." not in name:
        raise InputError(
            f"grants[{at}]: {name!r} is not schema.relation",
            place=str(path),
            hint=f"for example public.{name}: without its schema, nothing would seem to use it",
        )
    return name


def _named(path: Path, roles: list[dict[str, Any]], flag: str) -> list[str]:
    return [
        _field(path, "roles", at, one, "name")
        for at, one in enumerate(roles)
        if one.get(flag) is True
    ]


def _owners(path: Path, said: dict[str, Any]) -> dict[str, str]:
    owners = said.get("owners", {})
    if not isinstance(owners, dict) or not all(isinstance(one, str) for one in owners.values()):
        raise InputError("owners isn't an object of relation and role", place=str(path))
    return dict(owners)


def _text(path: Path, said: dict[str, Any], key: str) -> str | None:
    value = said.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{key} is no text", place=str(path))
    return value
