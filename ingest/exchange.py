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

One thing is sent otherwise than it came. A Sync that follows a COPY FROM STDIN in one segment is
skipped by the server, or not, depending on when the COPY fails; then nobody can tell which
ReadyForQuery answers what. So a Flush goes in its place, and the Sync itself follows when the answer
isn't the call for data.
"""

from collections.abc import Callable
from typing import Final

from scalple.ingest.owner import Ending, Owner, Word
from scalple.ingest.pgwire import error_severity, header, parameter_status, query
from scalple.ingest.segment import Reader, Segment
from scalple.ingest.serverstream import ServerStream
from scalple.ingest.tagging import Tagging
from scalple.ingest.variables import Variables
from scalple.ingest.whose import NOBODY, STATUS_FAILED, STATUS_IDLE, STATUS_OPEN, Identity, Whose

MESSAGE_BYTES_MAX: Final = 16 << 20
"""Queries up to this size are read before they are sent; of a larger one nothing is known."""
WAITING_BYTES_HIGH: Final = 256 << 10

# Messages of the client.
Q, P, B, E, F, S, H = b"QPBEFSH"
_DATA, _DONE, _FAIL, _PASSWORD = b"dcfp"
_NEVER_WAIT = frozenset(b"dcfp")
_READ_WHOLE = frozenset(b"QPFBEC")
_PLAIN = frozenset(b"BE")
"""Nearly all of these are of the unnamed statement that stands before them."""
# Messages of the server that mean something else there.
_READY, _STATUS, _COPY_IN, _COPY_BOTH, _KEY, _COMPLETE, _ERROR = b"ZSGWKCE"
_EMPTY, _SUSPENDED = b"Is"
_WATCHED: Final = frozenset(b"ZSGWKCEIs")

_SYNC: Final = b"S\0\0\0\4"
_FLUSH: Final = b"H\0\0\0\4"
_PADDING_BYTES_MAX: Final = 16 << 20

MANY = "several-statements-in-one-message"
UNCLEAR = "unclear-setting"


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
        private_statements: nobody else's prepared statements can be meant by this client's names.
    """

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
        private_statements: bool = False,
    ) -> None:
        self.ready = False
        """The login is over."""
        self._owner = owner
        self._strict = strict
        self._watched = watched
        self._reader = Reader(variables, private=private_statements)
        self._whose = Whose(identity, owner.who_is)
        # The tag.
        self._tagging = Tagging(tag, name, new_name)
        self._identity = identity
        """Whose the tag in force is."""
        self._drift: list[Word] = []
        self._wanted = False
        """A new tag has to be set before the next segment."""
        self._nobody_for: str | None = None
        """The next tag is nobody's, for this reason."""
        self._asked = False
        """Our own SET follows when the events are on disk."""
        self._own = False
        """Our own SET is being answered."""
        self._own_failed = False
        self._untaggable = False
        self._paused = False
        """Events are being written."""
        self._closing = False
        # The client's stream.
        self._segment = Segment()
        self._answering: int | None = Q
        """What ended the segment that is being answered; the login counts as one."""
        self._copying = False
        self._sync_kept = False
        """A Sync waits to see whether the segment asks for data."""
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
        self._stream = ServerStream(_WATCHED, self._watch, self._ready_for_query, owner.to_client)

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
    def identity(self) -> Identity:
        """Whose the next statement is."""
        return self._whose.now

    @property
    def idle(self) -> bool:
        """Between transactions, with nothing on the way."""
        at_rest = self._answering is None and not self._segment.begun and not self._own
        return self.ready and at_rest and self._status == STATUS_IDLE

    @property
    def at_large(self) -> bool:
        """What was sent may still write the pooler's form: its end has to be awaited."""
        return self._segment.recorded and (self._answering is not None or self._segment.begun)

    def client_gone(self) -> bool:
        """The client has left; what it sent goes on, to an end that it gets here.

        False if it can't have one, because too much of a message is missing.
        """
        self._waiting.clear()
        self._stopped = True
        if self._skip > _PADDING_BYTES_MAX:
            return False
        if self._skip:
            self._owner.to_server(bytes(self._skip))
            self._skip = 0
        if self._answering is None or self._sync_kept:
            self._answering, self._sync_kept = S, False
            self._owner.to_server(_SYNC)
        return True

    def close(self) -> None:
        """The connection has ended; nothing is sent any more."""
        self._closing = True
        self._reader.forget()
        self._waiting.clear()
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
                self._close_with(Ending.MALFORMED)
                return
            end = at + 1 + length
            if kind in _NEVER_WAIT:
                if kind != _DATA and kind != _PASSWORD:
                    self._copying = False
                first = min(end, size) if first == at else first
            elif self._copying and kind in (S, H) and end <= size:
                # The server skips them while it waits for data, and so do we.
                self._leave_out(data, at, first)
                return
            elif self._answering is not None or self._copying:
                self._stop(data, at, first)
                return
            else:
                if self._wanted and not self._segment.begun and at == first:
                    self._stop(data, at, first)
                    self._tag_anew()
                    return
                if kind in _READ_WHOLE and not (
                    kind in _PLAIN
                    and not self._segment.acts
                    and self._reader.does_nothing(kind, data, at + 5)
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
                self._segment.executed += kind == E
                if kind == S and self._segment.copies and self._segment.executed == 1:
                    self._keep_sync(data, at, first)
                    return
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

    def _keep_sync(self, data: bytes, at: int, first: int) -> None:
        """Send the segment up to its Sync, and have it answered without."""
        self._answering, self._sync_kept = S, True
        self._send(data[:at] + _FLUSH, at + len(_FLUSH), first)
        # Nothing may come in between, not even data.
        self._stop(data[at + len(_SYNC) :], 0, 0)

    def _leave_out(self, data: bytes, at: int, first: int) -> None:
        """Send what stands before a Sync or Flush, and go on behind it."""
        self._send(data, at, first)
        del self._waiting[: len(_SYNC)]
        if self._waiting:
            self._process(self._taken())

    def _send_sync(self) -> None:
        """No data is asked for: the Sync that was kept is due."""
        if self._sync_kept:
            self._sync_kept = False
            self._owner.to_server(_SYNC)

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
            reader.unread(segment)
        elif kind == Q:
            reader.query(segment, data[at + 5 : end - 1])
        elif kind == P:
            reader.parse(data[at + 5 : end])
        elif kind == B:
            reader.bind(data[at + 5 : end])
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
            self._write(self._retired(reason))
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
        retired: list[Word] = []
        if self._nobody_for is not None and self._status == STATUS_OPEN:
            # The segment may take our own setting back: those names are nobody's either.
            retired = self._retired(self._nobody_for)
        self._tagging.anew()
        self._identity = identity
        self._asked = True
        word = Word("identify", self._tagging.tag, identity, self._nobody_for)
        self._write([*self._drift_words(), *retired, word])

    def _retired(self, reason: str) -> list[Word]:
        """That the tag in force, and those that a rollback may give back, are nobody's from now on."""
        return [Word("identify", tag, NOBODY, reason) for tag in self._tagging.may_return()]

    def _note_drift(self, reason: str, name: str | None = None) -> None:
        if self._watched:
            tag = self._tagging.tag
            self._drift.append(Word("drift", tag, reason=reason, application_name=name))

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
            self._owner.to_server(query(f"SET application_name='{self._tagging.name}';"))
        else:
            self._release()

    # -- from the server ------------------------------------------------------------------------

    def server_data(self, data: bytes) -> None:
        """Bytes from the server."""
        self._stream.feed(data)

    def _watch(self, kind: int, body: bytes) -> bool:
        """Take note of a message; whether the client is to see it."""
        if kind == _READY:
            return not self._own
        if kind == _STATUS:
            return self._parameter(body)
        if kind in (_COMPLETE, _EMPTY, _SUSPENDED):
            if self._own:
                return False
            self._completed(body.rstrip(b"\0"))
        elif kind == _ERROR:
            if self._own:
                self._own_failed = True
                # One that ends the session is the client's to see.
                return error_severity(body) in (b"FATAL", b"PANIC")
            self._failed()
        elif kind == _COPY_IN:
            self._copying, self._segment.copies = True, False
            if self._answering == S:
                # The server skips a Sync that comes before the data; one that was kept is dropped.
                self._sync_skipped, self._sync_kept = not self._sync_kept, False
                self._answering = None
                self._segment.begun = True
                self._release()
        elif kind == _COPY_BOTH and self._watched:
            # Nothing but a replication connection can get here, and those aren't watched.
            self._close_with(Ending.OUT_OF_STEP)
        elif kind == _KEY and not self.ready:
            self._owner.cancel_key(body)
        return True

    def _completed(self, word: bytes) -> None:
        if word in (b"COMMIT", b"ROLLBACK"):
            self._segment.ended.add(word)
        self._segment.copies = False
        self._send_sync()
        self._copy_over()

    def _failed(self) -> None:
        self._segment.failed, self._segment.copies = True, False
        if self._sync_skipped:
            # Whether the server had read the Sync before it failed can't be told, and so not to
            # which segment the next ReadyForQuery belongs.
            self._close_with(Ending.OUT_OF_STEP)
            return
        self._send_sync()
        self._copy_over()

    def _copy_over(self) -> None:
        """The server takes no more data; in the extended protocol it waits for a Sync."""
        if self._copying and self._answering is None:
            self._copying = False
            self._release()

    def _close_with(self, why: Ending) -> None:
        self._closing = True
        self._owner.end(why)

    def _parameter(self, body: bytes) -> bool:
        """A ParameterStatus; whether the client is to see it."""
        name, value = parameter_status(body)
        if name == b"client_encoding":
            self._reader.reads_utf8 = value.upper() in (b"UTF8", b"SQL_ASCII")
        if name != b"application_name":
            return True
        changed = self._tagging.report(value)
        if self._own:
            return False
        if self.ready and changed:
            self._wanted = True
            if not self._tagging.is_ours(value):
                self._note_drift("changed", value.decode("utf-8", "replace"))
        return True

    def _ready_for_query(self, status: int) -> None:
        self._status = status
        self._tagging.answered(status)
        if self._own:
            self._own_answered()
            return
        if not self.ready:
            self.ready = True
            self._tagging.logged_in()
            self._wanted = not self._tagging.held
        elif self._answering is None:
            # Nothing was asked: the count is lost, and with it the certainty.
            self._wanted = True
            self._note_drift("out-of-step")
        self._answering = None
        self._copying = self._sync_kept = self._sync_skipped = False
        segment, self._segment = self._segment, Segment()
        self._reader.answered(failed=segment.failed, idle=status == STATUS_IDLE)
        if not self._whose.settle(segment, status):
            self._close_with(Ending.REVOKED)
        self._segment.scoped = self._whose.in_scope
        self._wanted |= segment.prepared or segment.recorded
        self._go_on()

    def _own_answered(self) -> None:
        self._own = False
        if self._own_failed:
            self._close_with(Ending.UNTAGGABLE)
            return
        self._wanted = False
        self._nobody_for = None
        if not self._untaggable and not self._tagging.held:
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
            self._owner.record(self._drift_words())
            self._close_with(Ending.DRIFT)
            return
        self._wanted |= self._whose.now != self._identity
        if self._watched and self._wanted and not self._skip and self._status != STATUS_FAILED:
            self._tag_anew()
        else:
            self._release()
