"""Legal holds: what must not expire, whatever its age, as the log itself says.

A list of holds enters as the object of a commit, and leaves; placing and releasing one makes the next
list. A hold that was placed stays in the list for ever, so that it can be seen when it was in force.
Nothing is decided here about what it covers (see `expiring`).
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any

from scalple.ingest.errors import InputError, VerificationError
from scalple.store import strict
from scalple.store.expiry import Moment, meets
from scalple.store.manifest import canonical_json

HOLDS = "holds"
"""What a manifest calls the object with all holds that there were."""
TEXT_MAX = 1000


def _fits(text: str) -> bool:
    return len(text) <= TEXT_MAX


def _says(text: str) -> bool:
    return 0 < len(text) <= TEXT_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One of them; times as RFC 3339. `checked` makes one of what somebody gave."""

    id: Annotated[str, re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,62}").fullmatch]
    reason: Annotated[str, _says]
    ticket: Annotated[str, _fits] | None
    since: Moment | None
    """It covers rows from this time on; null: from the beginning."""
    until: Moment | None
    """Up to this time, exclusive; null: also those to come."""
    placed_at: Moment
    placed_by: str
    """The account of the operating system, and the host."""
    released_at: Moment | None = None
    released_by: str | None = None
    released_why: Annotated[str, _says] | None = None

    @property
    def in_force(self) -> bool:
        """It wasn't released."""
        return self.released_at is None

    def covers(self, oldest: datetime, newest: datetime) -> bool:
        """Whether it holds any of what was logged between these times, both inclusive."""
        since, until = (
            datetime.fromisoformat(one) if one else None for one in (self.since, self.until)
        )
        return meets(oldest, newest, since, until)

    @property
    def period(self) -> str:
        """What it covers, in words."""
        return f"{self.since or 'the beginning'} to {self.until or 'now and later'}"


Holds = tuple[Hold, ...]


def checked(said: object) -> Hold:
    """The hold that a value of JSON is.

    Raises:
        ValueError: it is none.
    """
    hold = strict.from_plain(Hold, said)
    release = (hold.released_at, hold.released_by, hold.released_why)
    if len({one is None for one in release}) > 1:
        raise ValueError("a release lacks when, who or why")
    return hold


def to_bytes(holds: Holds) -> bytes:
    """The object."""
    return canonical_json(strict.plain(holds))


def from_bytes(data: bytes) -> Holds:
    """The inverse of `to_bytes`.

    Raises:
        VerificationError: it is none, or not in canonical form.
    """
    try:
        said = strict.parsed(data)
        found = tuple(map(checked, said if isinstance(said, list) else [said]))
    except ValueError as error:
        raise VerificationError(f"not a list of holds: {error}") from error
    if to_bytes(found) != data or len({one.id for one in found}) < len(found):
        raise VerificationError("a list of holds isn't in canonical form")
    return found


def placed(holds: Holds, hold: Hold) -> Holds:
    """With one more.

    Raises:
        InputError: there was one of that id.
    """
    said: dict[str, Any] = {"placed_at": hold.placed_at, "placed_by": hold.placed_by}
    if any(replace(one, **said) == hold for one in holds):
        return holds  # a run that was interrupted is simply given again
    if any(one.id == hold.id for one in holds):
        raise InputError(f"there is or was a hold {hold.id!r}", hint="give it another id")
    return (*holds, hold)


def released(holds: Holds, hold_id: str, at: str, by: str, why: str) -> Holds:
    """With one of them released.

    Raises:
        InputError: there is none of that id in force.
    """
    if not any(one.id == hold_id and one.in_force for one in holds):
        known = ", ".join(one.id for one in holds if one.in_force)
        raise InputError(f"no hold {hold_id!r} is in force", hint=f"in force: {known or 'none'}")
    told: dict[str, Any] = {"released_at": at, "released_by": by, "released_why": why}
    return tuple(replace(one, **told) if one.id == hold_id else one for one in holds)


def continues(before: Holds, after: Holds) -> bool:
    """Whether a list follows another one: holds are added, or released, and nothing else."""
    none: dict[str, Any] = {"released_at": None, "released_by": None, "released_why": None}
    for old, new in zip(before, after, strict=False):
        if old != new and (not old.in_force or old != replace(new, **none)):
            return False
    return len(after) >= len(before) and all(one.in_force for one in after[len(before) :])
