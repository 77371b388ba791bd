"""What an exchange says to whoever holds its sockets and its event file."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from scalple.ingest.whose import Identity


@dataclass(frozen=True, slots=True)
class Word:
    """An event about an open connection, to be on disk before anything else is sent upstream."""

    event: str
    """`identify` or `drift`."""
    tag: str
    identity: Identity | None = None
    reason: str | None = None
    application_name: str | None = None


class Ending(Enum):
    """Why an exchange asks to be ended."""

    DRIFT = "drift"
    REVOKED = "revoked"
    UNTAGGABLE = "untaggable"
    MALFORMED = "malformed"
    OUT_OF_STEP = "out-of-step"


class Owner(Protocol):
    """What an exchange needs."""

    def to_server(self, data: bytes) -> None:
        """Send upstream."""

    def to_client(self, data: bytes) -> None:
        """Send to the client."""

    def record(self, words: list[Word]) -> None:
        """Write the events to disk, then call `recorded`."""

    def hold_client(self) -> None:
        """Stop reading from the client until `free_client`."""

    def free_client(self) -> None:
        """Go on reading."""

    def may_hold(self, size: int) -> bool:
        """Whether there is room to keep a query of that many bytes; `held_no_more` gives it back."""

    def held_no_more(self, size: int) -> None:
        """The room is free again."""

    def end(self, why: Ending) -> None:
        """End the connection with an error that says why."""

    def who_is(self, name: str) -> Identity | None:
        """The person that a variable names; None ends the connection."""

    def cancel_key(self, key: bytes) -> None:
        """The server told the client this key."""
