"""One relayed conversation after its startup packet: what passes, what waits, and when to tag anew.

Enters: bytes from the client and from the server, cut in any way. Leaves: the same bytes at the
other side, in order, but for the tag: the exchange's own `SET application_name` and its replies,
which the client never sees. No socket, no clock: an `Owner` sends and records.

A client speaks in *segments*: a simple query, or extended messages up to a Sync; the server ends
each with ReadyForQuery. The next segment isn't sent before that has come, so that what a segment
did to the name is known before anything else runs: a ParameterStatus says so, row data is never
looked into. Four occasions ask for a new tag, which is set before the next segment and after its
`identify` event is on disk:

- the client, or what it called, changed its application_name (*drift*);
- it set or reset an identity variable, and the statement succeeded;
- a transaction ended that had variables of its own, or took our own setting back;
- a segment sets a variable *and* goes on: whose the rest is can't be told, so that it runs under a
  tag of nobody, and the tag after it is somebody's again.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from scalple.ingest.pgwire import error_severity, header, parameter_status, query
from scalple.ingest.segment import Reader, Segment
from scalple.ingest.tags import TAG_LENGTH
from scalple.ingest.variables import Parameter, Setting, Variables
from scalple.ingest.whose import NOBODY, STATUS_FAILED, STATUS_IDLE, STATUS_OPEN, Identity, Whose

MESSAGE_BYTES_MAX: Final = 16 << 20
"""Queries up to this size are read before they are sent; of a larger one nothing is known."""
WAITING_BYTES_HIGH: Final = 256 << 10
_WATCHED_BYTES_MAX: Final = 1 << 16
_TAGS_KEPT = 64

# Messages of the client.
Q, P, B, E, C, F, S, H = b"QPBECFSH"
_DATA, _DONE, _FAIL, _PASSWORD = b"dcfp"
_NEVER_WAIT = frozenset(b"dcfp")
_READ_WHOLE = frozenset(b"QPF")
_READ_IF_WATCHED = frozenset(b"BEC")
# Messages of the server that mean something else there.
_READY, _STATUS, _COPY_IN, _COPY_BOTH, _KEY, _COMPLETE, _ERROR = b"ZSGWKCE"

_SYNC: Final = b"S\0\0\0\4"

MANY = "several-statements-in-one-message"
UNREAD = "too-large-to-read"
UNCLEAR = "unclear-setting"


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
    """What an exchange needs of whoever holds the sockets."""

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


class Exchange:
    """The state of one conversation.

    Args:
        owner: sends and records.
        identity: whose the connection is.
        tag: the tag that its `open` event announced.
        name: the application_name that was forwarded, beginning with the tag.
        new_name: makes (tag, application_name) anew, given what the pooler put behind the name.
        variables: which settings change who it is.
        strict: drift ends the connection.
        watched: False for connections that are only passed on (replication, or untagged).
    """

    __slots__ = (
        "_answering",
        "_asked",
        "_block_tags",
        "_closing",
        "_copying",
        "_drift",
        "_forwarded",
        "_held",
        "_identity",
        "_need",
        "_new_name",
        "_next_name",
        "_nobody_for",
        "_own",
        "_own_failed",
        "_owner",
        "_paused",
        "_reader",
        "_reported",
        "_segment",
        "_server_rest",
        "_server_skip",
        "_skip",
        "_status",
        "_stopped",
        "_strict",
        "_suffix",
        "_sync_skipped",
        "_tag",
        "_tags",
        "_untaggable",
        "_variables_set",
        "_waiting",
        "_wanted",
        "_watched",
        "_whose",
        "drifts",
        "ready",
        "retags",
    )

    def __init__(
        self,
        owner: Owner,
        identity: Identity,
        tag: str,
        name: str,
        new_name: Callable[[str], tuple[str, str]],
        variables: Variables,
        *,
        strict: bool = False,
        watched: bool = True,
    ) -> None:
        self.ready = False
        """The login is over."""
        self.drifts = 0
        self.retags = 0
        self._owner = owner
        self._strict = strict
        self._watched = watched
        self._new_name = new_name
        self._reader = Reader(variables)
        self._whose = Whose(identity)
        # The tag.
        self._identity = identity
        """Whose the tag in force is."""
        self._tag = tag
        self._tags: deque[bytes] = deque([tag.encode()], _TAGS_KEPT)
        self._block_tags: set[str] = set()
        """Tags that a rollback might give back."""
        self._forwarded = name.encode()
        self._reported: bytes | None = None
        """The application_name as the server said it last."""
        self._suffix = ""
        self._drift: list[Word] = []
        self._wanted = False
        """A new tag has to be set before the next segment."""
        self._nobody_for: str | None = None
        """The next tag is nobody's, for this reason."""
        self._next_name = ""
        self._asked = False
        """Our own SET follows when the events are on disk."""
        self._own = False
        """Our own SET is being answered."""
        self._own_failed = False
        self._variables_set: set[str] = set()
        """Variables that have said who it is."""
        self._untaggable = False
        self._paused = False
        """Events are being written."""
        self._closing = False
        # The client's stream.
        self._segment = Segment()
        self._answering: int | None = Q
        """What ended the segment that is being answered; the login counts as one."""
        self._copying = False
        self._sync_skipped = False
        """A Sync was sent before the data of a COPY."""
        self._status = STATUS_FAILED
        self._waiting = bytearray()
        """Bytes that haven't been sent, in order."""
        self._stopped = False
        """They wait for more than their own completion."""
        self._need = 0
        """How many of them there have to be before they are read again."""
        self._held = 0
        """Room that was asked for."""
        self._skip = 0
        """Bytes of the current message that pass unread."""
        # The server's stream.
        self._server_rest = b""
        self._server_skip = 0

    # -- from the client ------------------------------------------------------------------------

    def client_data(self, data: bytes) -> None:
        """Bytes from the client."""
        if not self._watched:
            self._owner.to_server(data)
            return
        if self._stopped or self._paused or self._own:
            self._waiting += data
            if len(self._waiting) > WAITING_BYTES_HIGH:
                self._owner.hold_client()
            return
        if self._waiting:
            self._waiting += data
            if len(self._waiting) < self._need:
                return
            data = self._taken()
        self._process(data)

    @property
    def idle(self) -> bool:
        """Between transactions, with nothing on the way."""
        at_rest = self._answering is None and not self._segment.begun and not self._own
        return self.ready and at_rest and self._status == STATUS_IDLE

    @property
    def at_large(self) -> bool:
        """What was sent may still write the pooler's form: its end has to be awaited."""
        return self._segment.recorded and (self._answering is not None or self._segment.begun)

    def client_gone(self) -> None:
        """The client has left; what it sent goes on. A segment without an end gets one."""
        self._waiting.clear()
        self._stopped = True
        if self._answering is None:
            self._answering = S
            self._owner.to_server(_SYNC)

    def close(self) -> None:
        """The connection has ended; nothing is sent any more."""
        self._closing = True
        if self._held:
            self._owner.held_no_more(self._held)
            self._held = 0

    def _taken(self) -> bytes:
        data = bytes(self._waiting)
        self._waiting.clear()
        self._need = 0
        if self._held:
            self._owner.held_no_more(self._held)
            self._held = 0
        return data

    def _release(self) -> None:
        """Go on with what waits."""
        if self._paused or self._own or self._closing:
            return
        self._stopped = False
        if self._waiting and len(self._waiting) >= self._need:
            self._process(self._taken())
        if len(self._waiting) <= WAITING_BYTES_HIGH or not self._stopped:
            self._owner.free_client()

    def _process(self, data: bytes) -> None:
        """Read the client's messages and send them, up to the first that has to wait."""
        size = len(data)
        at = self._skip
        if at >= size:
            self._skip -= size
            self._owner.to_server(data)
            return
        self._skip = 0
        first = at  # where the segment begins, unless some of it has been sent already
        flushed = False
        while size - at >= 5:
            kind, length = header(data, at)
            if length < 4:
                self._closing = True
                self._owner.end(Ending.MALFORMED)
                return
            end = at + 1 + length
            if kind in _NEVER_WAIT:
                if kind != _DATA and kind != _PASSWORD:
                    self._copying = False
                first = min(end, size) if first == at else first
            elif self._answering is not None or self._copying:
                self._stop(data, at, first)
                return
            else:
                if self._wanted and not self._segment.begun and at == first:
                    self._stop(data, at, first)
                    self._tag_anew()
                    return
                if kind in _READ_WHOLE or (
                    kind in _READ_IF_WATCHED and (self._reader.watches or self._segment.acts)
                ):
                    if end > size and self._wait_for_whole(length):
                        self._need = 1 + length
                        break
                    self._read(kind, data, at, end)
                    if self._segment.unrecorded or self._segment.untold:
                        if not self._segment.begun:
                            at = first
                            self._segment, seen = self._segment.again(), self._segment
                        else:
                            seen = self._segment
                        self._stop(data, at, first)
                        self._take_care(seen)
                        return
                flushed |= kind == H
                if kind in (Q, S, F):
                    self._answering = kind
            if end > size:
                self._skip = end - size
                at = size
                break
            at = end
        if self._answering is None and self._segment.settings and not flushed and not self._skip:
            at = self._keep_back(first, at)
        self._send(data, at, first)

    def _wait_for_whole(self, length: int) -> bool:
        """Whether an incomplete query can be kept until the rest is here."""
        if length <= WAITING_BYTES_HIGH:
            return True
        if length > MESSAGE_BYTES_MAX or not self._owner.may_hold(length):
            return False
        self._held = length
        return True

    def _keep_back(self, first: int, at: int) -> int:
        """A segment that sets a variable waits for its end, to see whether anything follows."""
        segment = self._segment
        if segment.begun or segment.prepared or at - first > WAITING_BYTES_HIGH:
            return at
        self._segment = segment.again()
        return first

    def _send(self, data: bytes, upto: int, first: int) -> None:
        if upto < len(data):
            # In front: nothing can have come in meanwhile.
            self._waiting[:0] = data[upto:]
        if upto:
            self._segment.begun |= upto > first and self._answering is None
            self._owner.to_server(data if upto == len(data) else data[:upto])

    def _stop(self, data: bytes, at: int, first: int) -> None:
        """Send what stands before `at`; the rest waits for `_release`."""
        self._send(data, at, first)
        self._stopped = True
        if len(self._waiting) > WAITING_BYTES_HIGH:
            self._owner.hold_client()

    def _read(self, kind: int, data: bytes, at: int, end: int) -> None:
        segment, reader = self._segment, self._reader
        if end > len(data):
            # Too large: it may do anything.
            segment.mixed = True
            segment.unclear |= reader.used
            segment.formed = True
            return
        if kind == Q:
            reader.query(segment, data[at + 5 : end - 1])
        elif kind == P:
            reader.parse(data[at + 5 : end])
        elif kind == B:
            reader.bind(segment, data[at + 5 : end])
        elif kind == F:
            reader.function_call(segment, data[at + 5 : end])
        elif kind == E:
            reader.execute(segment, data[at + 5 : end])
        else:
            reader.close(data[at + 5 : end])

    # -- before a segment is sent ---------------------------------------------------------------

    def _take_care(self, seen: Segment) -> None:
        """The segment can't be sent as it is: put on record what it does, or tag it as nobody's."""
        segment = self._segment
        if not seen.untold:
            # Right before it is sent: the tag of nobody, if one is due, has been set by then.
            segment.recorded = True
            self._note_drift("replay-form")
            self._write(self._drift_words())
            return
        segment.prepared = True
        reason = UNCLEAR if seen.unclear else MANY
        if self._identity == NOBODY:
            self._release()
        elif segment.begun or self._status == STATUS_FAILED or self._untaggable:
            # The name can't be set now: the tag in force speaks for nobody from here on.
            self._identity = NOBODY
            self._write([Word("identify", tag, NOBODY, reason) for tag in self._may_return()])
        else:
            self._nobody_for = reason
            self._tag_anew()

    def _tag_anew(self) -> None:
        """Record whose the next statements are, under a new tag, and set it."""
        if self._status == STATUS_FAILED:
            # Only a rollback can run, and it gives back the name that was before.
            self._wanted = False
            self._release()
            self._wanted = True
            return
        identity = self._whose.now if self._nobody_for is None else NOBODY
        retired = []
        if self._nobody_for is not None and self._status == STATUS_OPEN:
            # The segment may take our own setting back: those names are nobody's either.
            retired = [
                Word("identify", tag, NOBODY, self._nobody_for) for tag in self._may_return()
            ]
        self._tag, self._next_name = self._new_name(self._suffix)
        self._tags.append(self._tag.encode())
        self._identity = identity
        self._asked = True
        word = Word("identify", self._tag, identity, self._nobody_for)
        self._write([*self._drift_words(), *retired, word])

    def _may_return(self) -> list[str]:
        """The tag in force, and those that a rollback may give back."""
        return sorted({self._tag, *self._block_tags})

    def _note_drift(self, reason: str, name: str | None = None) -> None:
        self.drifts += 1
        self._drift.append(Word("drift", self._tag, reason=reason, application_name=name))

    def _drift_words(self) -> list[Word]:
        words, self._drift = self._drift, []
        return words

    def _write(self, words: list[Word]) -> None:
        self._paused = True
        self._owner.record(words)

    def recorded(self) -> None:
        """The events are on disk."""
        self._paused = False
        if self._closing:
            return
        if self._asked:
            self._asked = False
            self._own, self._own_failed = True, False
            self.retags += 1
            self._owner.to_server(query(f"SET application_name='{self._next_name}';"))
        else:
            self._release()

    # -- from the server ------------------------------------------------------------------------

    def server_data(self, data: bytes) -> None:
        """Bytes from the server."""
        if not self._watched and self.ready:
            self._owner.to_client(data)
            return
        if self._server_rest:
            data = self._server_rest + data
            self._server_rest = b""
        size = len(data)
        at = self._server_skip
        if at >= size:
            self._server_skip -= size
            self._owner.to_client(data)
            return
        self._server_skip = 0
        begin = 0
        while size - at >= 5:
            kind, length = header(data, at)
            end = at + 1 + length
            if kind in _WATCHED:
                if end > size and length < _WATCHED_BYTES_MAX:
                    break
                keep = self._watch(kind, data[at + 5 : end])
                if kind == _READY or not keep:
                    upto = end if keep else at
                    if upto > begin:
                        self._owner.to_client(data[begin:upto])
                    begin = end
                    if kind == _READY:
                        self._ready_for_query(data[end - 1])
            if end > size:
                self._server_skip = end - size
                at = size
                break
            at = end
        if at < size:
            self._server_rest = data[at:]
        if at > begin:
            self._owner.to_client(data if not begin and at == size else data[begin:at])

    def _watch(self, kind: int, body: bytes) -> bool:
        """Take note of a message; whether the client is to see it."""
        if kind == _READY:
            return not self._own
        if kind == _STATUS:
            return self._parameter(body)
        if kind == _COMPLETE:
            if self._own:
                return False
            word = body.rstrip(b"\0")
            if word in (b"COMMIT", b"ROLLBACK"):
                self._segment.ended.add(word)
        elif kind == _ERROR:
            if self._own:
                self._own_failed = True
                # One that ends the session is the client's to see.
                return error_severity(body) in (b"FATAL", b"PANIC")
            self._segment.failed = True
            self._copy_ended()
        elif kind == _COPY_IN:
            self._copying = True
            if self._answering == S:
                # In the extended protocol, a Sync sent before the data is skipped.
                self._answering = None
                self._segment.begun = True
                self._sync_skipped = True
        elif kind == _COPY_BOTH:
            self._watched = False
        elif not self.ready:
            self._owner.cancel_key(body)
        return True

    def _copy_ended(self) -> None:
        if not self._copying or self._answering is not None:
            return
        self._copying = False
        if self._sync_skipped:
            # Whether the server had read the Sync before it failed can't be told, and so not to
            # which segment the next ReadyForQuery belongs.
            self._closing = True
            self._owner.end(Ending.OUT_OF_STEP)
            return
        self._release()

    def _parameter(self, body: bytes) -> bool:
        """A ParameterStatus; whether the client is to see it."""
        name, value = parameter_status(body)
        if name != b"application_name":
            return True
        before, self._reported = self._reported, value
        if self._own:
            return False
        if self.ready and value != before:
            self._wanted = True
            # A rollback gives back an earlier name of ours; anything else is somebody's doing.
            if value[:TAG_LENGTH] not in self._tags:
                self._note_drift("changed", value.decode("utf-8", "replace"))
        return True

    def _ready_for_query(self, status: int) -> None:
        self._status = status
        if status == STATUS_IDLE:
            self._block_tags.clear()
        self._block_tags.add(self._tag)
        if self._own:
            self._own_answered()
            return
        if not self.ready:
            self._logged_in()
        elif self._answering is None:
            # Nothing was asked: the count is lost, and with it the certainty.
            self._wanted = True
            self._note_drift("out-of-step")
        self._answering = None
        self._copying = False
        self._sync_skipped = False
        segment, self._segment = self._segment, Segment()
        self._reader.ended(failed=segment.failed)
        self._settle(segment)
        self._segment.scoped = self._whose.in_scope
        if status == STATUS_IDLE:
            self._reader.transaction_over()
        self._wanted |= segment.prepared or segment.recorded
        self._go_on()

    def _own_answered(self) -> None:
        self._own = False
        if self._own_failed:
            self._closing = True
            self._owner.end(Ending.UNTAGGABLE)
            return
        self._wanted = False
        self._nobody_for = None
        if not self._untaggable and not (self._reported or b"").startswith(self._tag.encode()):
            # Whatever stands there doesn't hold names, or doesn't tell.
            self._untaggable = True
            self._note_drift("not-held")
            self._write(self._drift_words())
            return
        self._release()

    def _go_on(self) -> None:
        """Set a new tag at once, if one is needed: the client is likely to be thinking."""
        if self._closing:
            return
        if self._drift and self._strict:
            self._closing = True
            self._owner.record(self._drift_words())
            self._owner.end(Ending.DRIFT)
            return
        self._wanted |= self._whose.now != self._identity
        if self._watched and self._wanted and not self._skip and self._status != STATUS_FAILED:
            self._tag_anew()
        else:
            self._release()

    def _logged_in(self) -> None:
        self.ready = True
        reported = self._reported or b""
        if reported.startswith(self._forwarded):
            self._suffix = reported[len(self._forwarded) :].decode("utf-8", "replace")
        elif not reported.startswith(self._tag.encode()):
            self._wanted = self._watched

    def _settle(self, segment: Segment) -> None:
        """What the segment did to who it is, now that its end is known."""
        status, ended = self._status, frozenset(segment.ended)
        self._whose.completed(status, ended)
        if not segment.settings and not segment.unclear:
            return
        if segment.failed and not segment.mixed:
            return
        untold = b"ROLLBACK" in ended or (bool(ended) and status != STATUS_IDLE)
        if segment.unclear or segment.failed or (segment.mixed and untold):
            if ended:
                self._whose.lose(status)
            elif status != STATUS_FAILED:
                self._whose.set(NOBODY, status, local=False)
            return
        for setting in segment.settings:
            assert not isinstance(setting.value, Parameter)
            identity = self._named(setting)
            if identity is None:
                self._closing = True
                self._owner.end(Ending.REVOKED)
                return
            self._whose.set(identity, status, local=setting.local is True)

    def _named(self, setting: Setting) -> Identity | None:
        """Whom a setting that succeeded names; None ends the connection."""
        base = self._whose.base
        if setting.value is not None:
            assert not isinstance(setting.value, Parameter)
            self._variables_set.add(setting.variable or "")
            return self._owner.who_is(setting.value)
        if setting.variable is None:
            self._variables_set.clear()
            return base
        if setting.variable not in self._variables_set:
            return self._whose.now  # another variable than the one that says who it is
        # With two of them, whichever is left may say somebody else.
        return base if len(self._variables_set) == 1 else NOBODY


_WATCHED: Final = frozenset((_READY, _STATUS, _COPY_IN, _COPY_BOTH, _KEY, _COMPLETE, _ERROR))
