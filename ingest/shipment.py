"""One batch of identity events on its way from a sender's host to the daemon's: its bytes and its signature.

Enters: a range of bytes of an event file. Leaves: bytes to be sent, and back. A file is what it is by its
first bytes, as for any log that is followed; a batch says where in it its bytes stand. So a batch that
comes twice is the same bytes at the same place, and no clock decides anything.

Doesn't look into the events: see `senders`.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scalple.ingest.errors import InputError

EVENTS_PATH = "/v1/events"
POSITIONS_PATH = "/v1/positions"
SENDER = "Scalple-Sender"
SIGNATURE = "Scalple-Signature"
CLOCK = "Scalple-Time"
"""In answers: the daemon's clock, in seconds since 1970, so that a sender notices that his differs."""
HEAD_MAX = 256 << 10
"""More isn't said of a batch: most of it is what the sender's follower remembers."""
STATE_MAX = 214_000
"""So many characters of base64: of as many files as a sender may have here."""
_SIGNED = b"scalple-ingest identity events, batch 1\n"
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileHead(BaseModel):
    """Which file, by its content."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=255)]
    """What it is called on the sender's host, without its folder."""
    head_bytes: Annotated[int, Field(ge=1, le=4096)]
    head_sha256: Hash
    incarnation: Annotated[int, Field(ge=0, lt=2**31)]


class Position(FileHead):
    """How far the daemon has a file."""

    end: Annotated[int, Field(ge=0, lt=2**62)]
    tail_sha256: Hash


class Positions(BaseModel):
    """All that the daemon has of one sender."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = 1
    positions: tuple[Position, ...]
    state: Annotated[str, Field(max_length=HEAD_MAX)] | None = None
    """What the sender's follower remembered with the newest batch."""


class BatchHead(BaseModel):
    """What a batch says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = 1
    sender: Annotated[str, Field(min_length=1, max_length=63)]
    file: FileHead
    begin: Annotated[int, Field(ge=0, lt=2**62)]
    """Where its bytes begin in the file."""
    state: Annotated[str, Field(max_length=STATE_MAX)] | None = None
    """What the sender's follower remembers (`shippedstate`); None: what it said before."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A head, and bytes of an event file."""

    head: BatchHead
    events: bytes

    def to_bytes(self) -> bytes:
        """One line of JSON, and the events as they are."""
        return self.head.model_dump_json().encode() + b"\n" + self.events

    @classmethod
    def from_bytes(cls, data: bytes) -> "Batch":
        """The inverse.

        Raises:
            InputError: it isn't one; says nothing of what it holds.
        """
        head, line_feed, events = data.partition(b"\n")
        if not line_feed or len(head) > HEAD_MAX or not events:
            raise InputError("not a batch of events")
        try:
            return cls(BatchHead.model_validate_json(head), events)
        except ValidationError:
            raise InputError("not a batch of events") from None


def sign(data: bytes, key: Ed25519PrivateKey) -> str:
    """The signature of a batch's bytes, in base64."""
    return base64.b64encode(key.sign(_SIGNED + data)).decode()


def is_signed(data: bytes, signature: str, key: Ed25519PublicKey) -> bool:
    """Whether that key has signed these bytes."""
    try:
        key.verify(base64.b64decode(signature, validate=True), _SIGNED + data)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
