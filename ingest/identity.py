"""Identity events: JSON Lines written by the sidecar or a gateway -> connection events.

Enters: bytes that begin at a line's start. Leaves: a table of `EVENT_SCHEMA` and the lines that
are no valid event, with a reason. Unknown keys are kept in `detail`. One pydantic model a line:
events are per connection, not per statement.

Doesn't decide how long an identity holds: see `scalple.correlate.intervals`.
"""

import datetime as dt
import functools
import ipaddress
import json
import re
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from scalple.ingest.lines import complete_lines, consumed_bytes, distinct_keys
from scalple.ingest.records import EVENT_SCHEMA
from scalple.ingest.rejects import Block, Reject


@functools.lru_cache(maxsize=1 << 14)
def canonical_address(text: str) -> str:
    """One spelling per address: IPv6 compressed; `unix` forms as they are. Raises ValueError."""
    if text.startswith("unix"):
        return text
    return str(ipaddress.ip_address(text.strip("[]")))


def utc(moment: dt.datetime) -> dt.datetime:
    """The same instant in UTC. Raises ValueError for one that no clock of this century shows."""
    if not 1970 <= moment.year < 2200:
        raise ValueError("not between 1970 and 2200")
    return moment.astimezone(dt.UTC)


Address = Annotated[str, AfterValidator(canonical_address)]
Port = Annotated[int, Field(ge=0, le=65535)]
Text = Annotated[str, Field(min_length=1, max_length=4096)]


class IdentityEvent(BaseModel):
    """One event; names and meaning as in the design's section on identity events."""

    model_config = ConfigDict(extra="allow", strict=False)

    v: Literal[1]
    event: Literal["start", "stop", "heartbeat", "open", "close", "identify", "drift"]
    ts: Annotated[AwareDatetime, AfterValidator(utc)]
    sidecar: Text
    seq: Annotated[int, Field(ge=0, lt=2**63)]
    connection: Text | None = None
    client_addr: Address | None = None
    client_port: Port | None = None
    peer_addr: Address | None = None
    peer_port: Port | None = None
    tag: Annotated[str, Field(pattern=r"^[a-z0-9]{1,32}$")] | None = None
    database: str | None = None
    db_role: str | None = None
    application_name: str | None = None
    actor: Text | None = None
    email: Text | None = None
    actor_kind: Literal["human", "service", "agent"] | None = None
    on_behalf_of: Text | None = None
    authn: Literal["jwt", "mtls", "peercred", "asserted"] | None = None
    heartbeat_s: Annotated[int, Field(ge=1, le=86_400)] | None = None
    """In `start`: seconds between heartbeats."""

    @model_validator(mode="after")
    def _complete(self) -> "IdentityEvent":
        """A connection's events name it; `open` and `identify` say who, if only `null`."""
        if self.event in ("open", "close", "identify", "drift") and self.connection is None:
            raise ValueError(f"{self.event} without connection")
        if self.event == "open" and (self.client_addr is None or self.client_port is None):
            raise ValueError("open without client_addr and client_port")
        if self.event in ("open", "identify") and "actor" not in self.model_fields_set:
            raise ValueError(f"{self.event} without actor (null if unidentified)")
        return self


_COLUMNS = tuple(EVENT_SCHEMA.names)
_FIELDS = frozenset(IdentityEvent.model_fields)
_KEY = re.compile(rb'"\s*:')
_LIKE_AN_EVENT = re.compile(rb'^[ \t\r\v\f]*\{[^\n]*"event"', re.MULTILINE)
_BEGUN = re.compile(rb"^[ \t\r\v\f]*\{[^\n]*\Z", re.MULTILINE)


def looks_like_events(head: bytes) -> bool:
    """Whether a file that begins so is one of identity events: a line that is no event is kept as
    unparsed, but all of them can't be."""
    return _LIKE_AN_EVENT.search(head) is not None


def may_become_events(head: bytes) -> bool:
    """Whether a file whose first bytes these are is one, or its last line may still become an event."""
    return looks_like_events(head) or _BEGUN.search(head) is not None


def parse_events(data: bytes, offset: int, path: str) -> Block:
    """Parse the complete lines of `data`.

    Args:
        data: bytes that begin at a line's start.
        offset: where they stand in the file, in bytes.
        path: the file's name as it is to be recorded.
    """
    events: list[IdentityEvent] = []
    offsets: list[int] = []
    rejects: list[Reject] = []
    for at, line in complete_lines(data, offset):
        if not line.strip():
            continue
        try:
            event = IdentityEvent.model_validate_json(line)
        except ValidationError as error:
            rejects.append(Reject(at, line, _reason(error)))
            continue
        if _says_twice(line, event):
            rejects.append(Reject(at, line, "not an identity event: a key stands twice"))
            continue
        events.append(event)
        offsets.append(at)
    return Block(_table(events, offsets, path), rejects, consumed_bytes(data))


def _says_twice(line: bytes, event: IdentityEvent) -> bool:
    """Whether a key stands twice: the parser takes the last one, another reader the first."""
    keys = len(event.model_fields_set) + len(event.model_extra or {})
    if len(_KEY.findall(line)) == keys:
        return False
    try:
        json.loads(line, object_pairs_hook=distinct_keys)
    except ValueError:
        return True
    return False


def _table(events: list[IdentityEvent], offsets: list[int], path: str) -> pa.Table:
    """Column by column: there may be an event for every connection of a year."""
    said = [vars(event) for event in events]
    columns: dict[str, list[Any]] = {
        name: [values[name] for values in said] for name in _COLUMNS if name in _FIELDS
    }
    columns |= {
        "source": ["identity"] * len(events),
        "sidecar_seq": [event.seq for event in events],
        "detail": [_detail(event) for event in events],
        "source_file": [path] * len(events),
        "source_offset": offsets,
    }
    return pa.table(
        [pa.array(columns[field.name], field.type) for field in EVENT_SCHEMA], schema=EVENT_SCHEMA
    )


def _detail(event: IdentityEvent) -> str | None:
    """What has no column of its own, as JSON."""
    rest = dict(event.model_extra or {})
    if event.heartbeat_s is not None:
        rest["heartbeat_s"] = event.heartbeat_s
    return json.dumps(rest, sort_keys=True, ensure_ascii=False) if rest else None


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"not an identity event: {where + ': ' if where else ''}{first['msg']}"
