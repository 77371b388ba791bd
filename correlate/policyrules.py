"""What the operator declared about who may touch what: policies, and the periods of people.

Plain values, as the configuration and the store's record of it give them; see `policies` for what they
mean. Nothing here reads a file or decides anything.
"""

from dataclasses import dataclass
from typing import Any

MINUTES_A_DAY = 24 * 60
TRUST = ("proven", "confirmed", "claimed")
"""Grades that name an actor, best first."""
PERSONAL = "personal"
"""Stands for every column that is declared under [personal_data]."""
ACTOR, ROLE = "actor", "role"
"""Whose rights `unless_entitled` asks for."""


@dataclass(frozen=True, slots=True)
class Hours:
    """A time of the week, by the clocks of one zone."""

    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    """Days on which it begins, Monday is 0."""
    begin: int = 0
    """Minutes after midnight."""
    end: int = MINUTES_A_DAY
    """Minutes after midnight, exclusive; before `begin`, it lasts into the next day."""
    timezone: str = "UTC"
    outside: bool = False
    """Everything but that time is meant."""
    holidays: tuple[str, ...] = ()
    """Dates (ISO 8601) on which it doesn't begin."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One rule: all that it says has to be so. Empty tuples and None say nothing."""

    name: str
    actors: tuple[str, ...] = ("*",)
    """`*`, `unattributed`, `unlisted`, or one of actor, group, role, kind before a colon and a pattern."""
    unless_actors: tuple[str, ...] = ()
    trust: str = "confirmed"
    """The lowest grade of a name that counts; whoever has a lower one is nobody."""
    authn: tuple[str, ...] = ()
    """Patterns of session_authn that count."""
    databases: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    """Patterns of `schema.table`."""
    unless_tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """Patterns of `schema.table.column`, and `personal`."""
    unless_columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    """pgAudit's: READ, WRITE, …"""
    shapes: tuple[str, ...] = ()
    rows_over: int | None = None
    when: Hours | None = None
    unless_ticket: tuple[str, ...] = ()
    unless_purpose: tuple[str, ...] = ()
    unless_entitled: str | None = None
    """`actor` or `role`: whose own rights excuse the statement."""

    @classmethod
    def from_plain(cls, said: dict[str, Any]) -> "Policy":
        """From what `dataclasses.asdict` and JSON make of one. Raises TypeError, AttributeError."""
        hours = said.get("when")
        when = None if hours is None else Hours(**_frozen(hours))
        return cls(**_frozen(said) | {"when": when})


@dataclass(frozen=True, slots=True)
class Person:
    """A period in which an actor was one of us."""

    actor: str
    kind: str | None = None
    groups: tuple[str, ...] | None = None
    """None where nothing is said about groups."""
    valid_from: str | None = None
    """RFC 3339, inclusive."""
    valid_until: str | None = None
    """RFC 3339, exclusive."""

    @classmethod
    def from_plain(cls, said: dict[str, Any]) -> "Person":
        """From what `dataclasses.asdict` and JSON make of one. Raises TypeError, AttributeError."""
        return cls(**_frozen(said))


def _frozen(said: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(one) if isinstance(one, list) else one for name, one in said.items()}
