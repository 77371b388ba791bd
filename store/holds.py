"""Legal holds: what must not expire, whatever its age, as the log itself says.

A list of holds enters as the object of a commit, and leaves; placing and releasing one makes the next
list. A hold that was placed stays in the list for ever, so that it can be seen when it was in force.
Nothing is decided here about what it covers (see `expiring`).
"""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from scalple.ingest.errors import InputError, VerificationError
from scalple.store.expiry import Moment, meets
from scalple.store.manifest import canonical_json

HOLDS = "holds"
"""What a manifest calls the object with all holds that there were."""
TEXT_MAX = 1000


class Hold(BaseModel):
    """One of them; times as RFC 3339."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    reason: Annotated[str, Field(min_length=1, max_length=TEXT_MAX)]
    ticket: Annotated[str, Field(max_length=TEXT_MAX)] | None
    since: Moment | None
    """It covers rows from this time on; null: from the beginning."""
    until: Moment | None
    """Up to this time, exclusive; null: also those to come."""
    placed_at: Moment
    placed_by: str
    """The account of the operating system, and the host."""
    released_at: Moment | None = None
    released_by: str | None = None
    released_why: Annotated[str, Field(min_length=1, max_length=TEXT_MAX)] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "Hold":
        said = (self.released_at, self.released_by, self.released_why)
        if len({one is None for one in said}) > 1:
            raise ValueError("a release lacks when, who or why")
        return self

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
_HOLDS: TypeAdapter[list[Hold]] = TypeAdapter(list[Hold])


def to_bytes(holds: Holds) -> bytes:
    """The object."""
    return canonical_json([one.model_dump(mode="json") for one in holds])


def from_bytes(data: bytes) -> Holds:
    """The inverse of `to_bytes`.

    Raises:
        VerificationError: it is none, or not in canonical form.
    """
    try:
        found = tuple(_HOLDS.validate_json(data))
    except ValidationError as error:
        raise VerificationError(f"not a list of holds: {error}") from error
    if to_bytes(found) != data or len({one.id for one in found}) < len(found):
        raise VerificationError("a list of holds isn't in canonical form")
    return found


def placed(holds: Holds, hold: Hold) -> Holds:
    """With one more.

    Raises:
        InputError: there was one of that id.
    """
    said = {"placed_at": hold.placed_at, "placed_by": hold.placed_by}
    if any(one.model_copy(update=said) == hold for one in holds):
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
    told = {"released_at": at, "released_by": by, "released_why": why}
    return tuple(one.model_copy(update=told) if one.id == hold_id else one for one in holds)


def continues(before: Holds, after: Holds) -> bool:
    """Whether a list follows another one: holds are added, or released, and nothing else."""
    none = {"released_at": None, "released_by": None, "released_why": None}
    for old, new in zip(before, after, strict=False):
        if old != new and (not old.in_force or old != new.model_copy(update=none)):
            return False
    return len(after) >= len(before) and all(one.in_force for one in after[len(before) :])
