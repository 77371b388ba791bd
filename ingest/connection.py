"""One client's connection through the sidecar: from the first byte to the `close` event.

Enters: bytes on an accepted socket. Leaves: an `open` event on disk, then a startup packet upstream,
then whatever `Exchange` relays; or an ErrorResponse that says what is wrong. Both directions hold
each other back: what one side doesn't take, the other isn't asked for.

Doesn't decide who may come in (`credentials`), nor what passes (`exchange`).
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scalple.ingest import pgwire
from scalple.ingest.connectionevents import open_event, word_event
from scalple.ingest.credentials import Client, Opening
from scalple.ingest.exchange import Exchange
from scalple.ingest.greeting import Cancel, Encryption, Greeting
from scalple.ingest.owner import Ending, Word
from scalple.ingest.peers import client_of
from scalple.ingest.pgwire import Startup, WireError
from scalple.ingest.sides import (
    OPENING,
    WAITING_FULL,
    WRITE_BYTES_HIGH,
    ClientSide,
    Side,
    UpstreamSide,
)
from scalple.ingest.tags import new_tag, suffix_room, tagged_name
from scalple.ingest.whose import Identity

if TYPE_CHECKING:
    from scalple.ingest.sidecar import Sidecar

_FAREWELL_S = 1.0
_ENDINGS: dict[Ending, tuple[str, str] | tuple[str, str, str]] = {
    Ending.DRIFT: (
        pgwire.INVALID_AUTHORIZATION,
        "this connection changed its application_name, which the sidecar is to keep",
    ),
    Ending.REVOKED: (
        pgwire.INVALID_AUTHORIZATION,
        "the user that this connection has set isn't in the sidecar's identity file, or not now",
        "list it there, or let such users through unidentified (unlisted under [sidecar])",
    ),
    Ending.UNTAGGABLE: (
        pgwire.CONNECTION_FAILURE,
        "the sidecar couldn't set the connection's name",
    ),
    Ending.OUT_OF_STEP: (
        pgwire.CONNECTION_FAILURE,
        "a COPY failed in the extended protocol; the sidecar can't follow what comes next",
    ),
    Ending.MALFORMED: (pgwire.PROTOCOL_VIOLATION, "invalid message length"),
}


class Connection:
    """A client's connection; it is the `Owner` of its exchange."""

    def __init__(self, sidecar: "Sidecar", *, direct_tls: bool = False) -> None:
        self.sidecar = sidecar
        self.client = ClientSide(self)
        self.upstream = UpstreamSide(self)
        self.opening: Opening | None = None
        self.name = ""
        self.tag: str | None = None
        self.cancel: bytes | None = None
        self.send_client: Callable[[bytes], None] = _nowhere
        self.send_server: Callable[[bytes], None] = _nowhere
        self._direct_tls = direct_tls
        tls = sidecar.server_tls is not None
        self._greeting = Greeting(tls=tls, required=sidecar.tls_required, encrypted=direct_tls)
        self._exchange: Exchange | None = None
        self._asks: tuple[tuple[str, str], ...] = ()
        """Its startup parameters."""
        self._endpoint: dict[str, Any] | None = None
        self._room = 0
        self._held = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._cancels = False
        """It brings a cancel request, and waits for upstream to close."""
        self._lingers = False
        """The client has gone, and what it sent hasn't been answered."""

    # -- the first packets ----------------------------------------------------------------------

    def accepted(self) -> None:
        """The client's socket is open (again, when TLS has begun)."""
        transport = self.client.transport
        assert transport is not None
        self.send_client = transport.write
        if self._timer is None:
            self.sidecar.connections.add(self)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.sidecar.settings.startup_timeout_s, self._too_slow)
        if self._direct_tls:
            tls = transport.get_extra_info("ssl_object")
            if tls.selected_alpn_protocol() != "postgresql":
                self.refuse(
                    WireError(
                        pgwire.PROTOCOL_VIOLATION,
                        "received direct SSL connection request without ALPN protocol postgresql",
                    )
                )

    def from_client(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._closed:
            return
        if self._exchange is not None:
            self.sidecar.bytes_from_clients += len(data)
            self._exchange.client_data(data)
            return
        self._greeting.received += data
        if self._task is not None:
            # It speaks before it was let in: that waits, but not without bounds.
            if len(self._greeting.received) > WRITE_BYTES_HIGH:
                self.hold(OPENING)
            return
        try:
            self._greeted()
        except WireError as error:
            self.refuse(error)

    def _greeted(self) -> None:
        """Do what the client's first packets ask for, one after the other."""
        asked = self._greeting.next_request()
        if asked is None:
            return
        if asked is Encryption.REFUSED:
            self.send_client(b"N")
        elif asked is Encryption.TLS:
            context = self.sidecar.server_tls
            assert context is not None
            self._run(self._start_tls(context))
        elif isinstance(asked, Cancel):
            self._run(self._cancel(asked.packet))
        else:
            assert isinstance(asked, Startup)
            self._asks = asked.parameters
            self._run(self._open(asked))

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        transport = self.client.transport
        assert transport is not None
        transport.write(b"S")
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                transport,
                self.client,
                context,
                server_side=True,
                ssl_handshake_timeout=self.sidecar.settings.startup_timeout_s,
            )
        except (OSError, ssl.SSLError, ConnectionError) as error:
            self.sidecar.log("tls-failed", error=type(error).__name__)
            self.close()
            return
        assert secured is not None
        self._task = None
        self.client.connection_made(secured)
        if self._greeting.received:
            self.refuse(
                WireError(pgwire.PROTOCOL_VIOLATION, "received unencrypted data before TLS began")
            )

    def _too_slow(self) -> None:
        if self._exchange is None:
            self.refuse(
                WireError(
                    pgwire.PROTOCOL_VIOLATION, "timed out while waiting for the startup packet"
                )
            )

    def refuse(self, error: WireError) -> None:
        """Tell the client what is wrong, and close."""
        if self._closed:
            return
        self.sidecar.refused(error, self._described())
        text = pgwire.error_response(pgwire.FATAL, error.sqlstate, error.message, error.hint)
        self.send_client(text)
        self.close(told=True)

    def _run(self, work: Any) -> None:
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.sidecar.log("internal-error", error=repr(task.exception())[:300])
            self.close()

    # -- opening --------------------------------------------------------------------------------

    async def _open(self, startup: Startup) -> None:
        sidecar = self.sidecar
        try:
            sidecar.check_admission(self)
            opening = sidecar.credentials.open(startup, self._who())
        except WireError as error:
            self.refuse(error)
            return
        self.opening = opening
        try:
            await self._connect()
        except WireError as error:
            self.refuse(error)
            return
        transport = self.upstream.transport
        assert transport is not None
        if self.gone():
            transport.close()
            return
        endpoint = sidecar.upstream.endpoint_of(transport)
        self._room = suffix_room(str(endpoint["client_addr"]))
        self.name = sidecar.next_name()
        # Nobody watches a replication connection, so it bears no tag: its pool isn't closed.
        self.tag = None if opening.replication else new_tag()
        if not await self._announce(opening, endpoint):
            return
        if self.gone():
            self._say_closed()
            transport.close()
            return
        name = tagged_name(self.tag, opening.own_name, self._room) if self.tag else opening.own_name
        self._exchange = Exchange(
            self,
            opening.identity,
            self.tag or "",
            name,
            self._new_name,
            sidecar.variables,
            strict=sidecar.settings.strict,
            watched=self.tag is not None,
            private_statements=sidecar.settings.private_statements,
        )
        self.send_server = transport.write
        forwarded = opening.forwarded(name) if name else opening.startup
        transport.write(pgwire.startup_packet(forwarded))
        if self._timer is not None:
            self._timer.cancel()
        sidecar.opened(self)
        early, self._greeting.received = self._greeting.received, b""
        if early:
            self._exchange.client_data(early)
        self.free(OPENING)

    async def _connect(self) -> None:
        settings = self.sidecar.settings
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                await self.sidecar.upstream.connect(self.upstream)
        except (OSError, ssl.SSLError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            self.sidecar.totals["upstream_failures"] += 1
            self.sidecar.log("upstream-unreachable", upstream=settings.upstream, error=reason)
            raise WireError(
                pgwire.UNABLE_TO_CONNECT,
                f"the sidecar can't reach {settings.upstream}: {reason}",
                "is the pooler running, and does the sidecar's --upstream name it?",
            ) from None

    async def _announce(self, opening: Opening, endpoint: dict[str, Any]) -> bool:
        """Have the `open` event on disk; whether the connection may go on."""
        sidecar = self.sidecar
        try:
            tls = self._greeting.encrypted
            event = open_event(self.name, self.tag, endpoint, self._who(), opening, tls=tls)
            await sidecar.events.written_down([event])
            self._endpoint = endpoint
        except OSError as error:
            sidecar.log("events-unwritable", error=error.strerror or "")
            if sidecar.settings.on_event_failure == "refuse" or self._closed:
                self.refuse(
                    WireError(
                        pgwire.CANNOT_CONNECT_NOW,
                        "the sidecar can't record who opens this connection",
                        "its event file can't be written; see the sidecar's log",
                    )
                )
                return False
            # Passed untagged: its number is left out, so that readers see a gap.
            sidecar.unrecorded += 1
            sidecar.events.skip()
            self.tag = None
        return True

    def _described(self) -> dict[str, object]:
        """What a line of the log says of a client that isn't let in."""
        if self.client.transport is None:
            return {}
        client = self._who()
        said = {name.lower(): value for name, value in self._asks}
        return {
            "client_addr": client.address,
            "client_port": client.port,
            "database": said.get("database"),
            "db_role": said.get("user"),
        }

    def _who(self) -> Client:
        transport = self.client.transport
        assert transport is not None
        return client_of(transport)

    def _new_name(self, suffix: str) -> tuple[str, str]:
        """A new tag, and the application_name for it; `suffix` is what the pooler puts to names."""
        assert self.opening is not None
        tag = new_tag()
        name = tagged_name(tag, self.opening.own_name, len(suffix.encode()) or self._room)
        safe = "'" not in suffix and "\\" not in suffix and suffix.isascii()
        return tag, name + suffix if safe else name

    async def _cancel(self, packet: bytes) -> None:
        """Forward a cancel request to where its key is from, and wait for the end."""
        self._cancels = True
        try:
            async with asyncio.timeout(self.sidecar.settings.connect_timeout_s):
                upstream = self.sidecar.upstream
                await upstream.connect(self.upstream, upstream.cancel_route(packet[12:]))
        except (OSError, ssl.SSLError, TimeoutError) as error:
            self.sidecar.log("cancel-failed", error=type(error).__name__)
            self.close()
            return
        assert self.upstream.transport is not None
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.sidecar.settings.connect_timeout_s, self.close)
        # The client waits for the end of its connection, which comes when upstream closes.
        self.upstream.transport.write(packet)
        self.sidecar.cancels += 1

    # -- relaying -------------------------------------------------------------------------------

    def from_upstream(self, data: bytes) -> None:
        """Bytes from the pooler."""
        if self._exchange is not None:
            self.sidecar.bytes_from_upstream += len(data)
            self._exchange.server_data(data)
            if self._lingers and not self._exchange.at_large:
                self.close()

    def to_server(self, data: bytes) -> None:
        """Owner: send upstream."""
        self.send_server(data)

    def to_client(self, data: bytes) -> None:
        """Owner: send to the client."""
        self.send_client(data)

    def record(self, words: list[Word]) -> None:
        """Owner: write events, then let the exchange go on."""
        self.sidecar.events.write([word_event(self.name, word) for word in words], self._recorded)
        self.sidecar.note(words)

    def _recorded(self, error: OSError | None) -> None:
        if self._closed or self._exchange is None:
            return
        if error is None:
            self._exchange.recorded()
            return
        # Who comes next can't be put on record: nothing more may be sent.
        self.sidecar.log("events-unwritable", error=error.strerror or "")
        self.fail(pgwire.CANNOT_CONNECT_NOW, "the sidecar can't record whose statements follow")

    def hold_client(self) -> None:
        """Owner: the exchange holds enough."""
        self.hold(WAITING_FULL)

    def free_client(self) -> None:
        """Owner: the exchange takes more."""
        self.free(WAITING_FULL)

    def may_hold(self, size: int) -> bool:
        """Owner: room for a large query."""
        return self.sidecar.may_hold(size)

    def held_no_more(self, size: int) -> None:
        """Owner: the room is free."""
        self.sidecar.held_bytes -= size

    def who_is(self, name: str) -> Identity | None:
        """Owner: whom a variable names."""
        return self.sidecar.credentials.variable(name)

    def cancel_key(self, key: bytes) -> None:
        """Owner: remember where a cancel request with this key has to go."""
        self.cancel = key
        self.sidecar.upstream.remember_cancel(key, self.upstream)

    def end(self, why: Ending) -> None:
        """Owner: the exchange can't go on."""
        self.sidecar.ended(self.name, why)
        self.fail(*_ENDINGS[why])

    def hold(self, reason: int) -> None:
        """Don't read from the client."""
        transport = self.client.transport
        if not self._held and transport is not None and not transport.is_closing():
            transport.pause_reading()
        self._held |= reason

    def free(self, reason: int) -> None:
        """Read again, unless there is another reason not to."""
        if not self._held & reason:
            return
        self._held &= ~reason
        transport = self.client.transport
        if not self._held and transport is not None and not transport.is_closing():
            transport.resume_reading()

    # -- the end --------------------------------------------------------------------------------

    def gone(self) -> bool:
        """Whether it has been closed (meanwhile)."""
        return self._closed

    @property
    def idle(self) -> bool:
        """Outside of any transaction."""
        return self._exchange is None or self._exchange.idle

    @property
    def identity(self) -> Identity | None:
        """Whose the connection is, as it was opened."""
        return self.opening.identity if self.opening is not None else None

    @property
    def people(self) -> set[Identity]:
        """Whose it is: as it was opened, and as an identity variable says now."""
        now = None if self._exchange is None else self._exchange.identity
        return {one for one in (self.identity, now) if one is not None}

    def fail(self, sqlstate: str, text: str, hint: str | None = None) -> None:
        """End the connection with an error."""
        if not self._closed:
            self.send_client(pgwire.error_response(pgwire.FATAL, sqlstate, text, hint))
            self.close(told=True)

    def lost(self, side: Side) -> None:
        """One of the sockets has closed."""
        if side is self.client and self._cancels:
            # PgBouncer 1.18 dies of a cancel request whose client leaves first.
            self.send_client = _nowhere
            return
        if side is self.client and self._exchange is not None and self._exchange.at_large:
            # The server works off what it has: until then this client may be taken for another,
            # and its `close` must not say otherwise.
            if not self._lingers:
                self._lingers = True
                self.send_client = _nowhere
                upstream = self.upstream.transport
                if upstream is None or upstream.is_closing():
                    self.close()
                elif not self._exchange.client_gone():
                    # No end will come: it stays on record as drifted, without a `close`.
                    self._endpoint = None
                    self.close()
            return
        self.close()

    def close(self, *, told: bool = False) -> None:
        """Close both sides, and put that on record first; the second call does nothing.

        Args:
            told: the client has just been sent an error.
        """
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        pending = False
        if self._exchange is not None:
            # However it ended: the server goes on with what it has.
            pending = self._exchange.at_large
            self._exchange.close()
        self._say_closed(pending=pending)
        self.sidecar.closed(self)
        for side in (self.upstream, self.client):
            if side.transport is not None and not side.transport.is_closing():
                with contextlib.suppress(RuntimeError):
                    side.transport.resume_reading()
                if side is self.client and told and side.transport.can_write_eof():
                    # A reset would take back the error that the client hasn't read: what it still
                    # sends is read and thrown away for a moment.
                    side.transport.write_eof()
                    asyncio.get_running_loop().call_later(_FAREWELL_S, side.transport.close)
                else:
                    side.transport.close()

    def _say_closed(self, *, pending: bool = False) -> None:
        """The `close` event, before the endpoint can be anybody else's."""
        if self._endpoint is not None:
            event = {"event": "close", "connection": self.name, **self._endpoint}
            self.sidecar.events.write([event | ({"pending": True} if pending else {})])
            self._endpoint = None


def _nowhere(_data: bytes) -> None:
    """Before there is a socket."""
