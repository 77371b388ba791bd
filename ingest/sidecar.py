"""The sidecar: a relay before the pooler that knows who its clients are, writes it down, and tags them.

Enters: connections on TCP and unix sockets. Leaves: the same conversations at the pooler, each under
an application_name that begins with its tag, and identity events (docs/IDENTITY_EVENTS.md). One
process, one event loop (uvloop), thousands of connections.

This file holds the process: listening, the heartbeat, reload, drain. A connection's life is in
`connection`, what passes on it in `exchange`, who may come in in `credentials`.
"""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from scalple.ingest import pgwire
from scalple.ingest.connection import Connection
from scalple.ingest.credentials import Credentials
from scalple.ingest.errors import ConfigError, InputError
from scalple.ingest.eventfile import EventFile
from scalple.ingest.listening import allow_files, bound, first_byte, remove_socket
from scalple.ingest.owner import Ending, Word
from scalple.ingest.pgwire import WireError
from scalple.ingest.place import Place
from scalple.ingest.servicelog import say
from scalple.ingest.sidecarsettings import Reloadable, Settings
from scalple.ingest.sidecarstatus import Counters, faults
from scalple.ingest.statuspage import StatusPage
from scalple.ingest.systemd import notify
from scalple.ingest.upstream import Upstream
from scalple.ingest.variables import Variables
from scalple.ingest.whose import Identity

_WATCHDOG_S = 10.0
"""At least so often the watchdog is told that all is well."""
HELD_BYTES_MAX = 256 << 20
"""Room for queries that are read before they are sent, over all connections."""


class Sidecar:
    """A running sidecar.

    Args:
        settings: where it listens and writes.
        load: makes what can be reloaded; called at the start and on SIGHUP. Raises ConfigError.
    """

    def __init__(self, settings: Settings, load: Callable[[], Reloadable]) -> None:
        self.settings = settings
        self.upstream = Upstream(settings.upstream, settings.upstream_tls)
        self._load = load
        self.credentials = Credentials()
        self.variables = Variables(())
        self.server_tls: ssl.SSLContext | None = None
        self.tls_required = False
        self.events: EventFile
        self.connections: set[Connection] = set()
        self.accepting = False
        self.totals: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.bytes_from_clients = 0
        self.bytes_from_upstream = 0
        self.cancels = 0
        self.unrecorded = 0
        self.held_bytes = 0
        self.addresses: list[Any] = []
        """Where it listens, once it does."""
        self._servers: list[socket.socket] = []
        self._stop = asyncio.Event()
        self._opened = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- the process ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT (or `stop`), then drain.

        Raises:
            ConfigError, InputError: it can't start.
        """
        loop = asyncio.get_running_loop()
        self._apply(self._load())
        allow_files(self.settings.max_connections)
        settings = self.settings
        self.events = EventFile(settings.events, settings.name, rotate_bytes=settings.rotate_bytes)
        try:
            self._servers = [self._listening(place) for place in settings.listen]
            self.events.start()
            await self._say_start()
            for number, act in (
                (signal.SIGTERM, self.stop),
                (signal.SIGINT, self.stop),
                (signal.SIGHUP, self.reload),
            ):
                with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
                    loop.add_signal_handler(number, act)
            for server in self._servers:
                loop.add_reader(server, self._accept, server)
            self.accepting = True
            beat = self._background(self._heartbeat())
            self.log(
                "listening",
                listen=[str(place) for place in self.addresses],
                upstream=str(settings.upstream),
                events=str(settings.events),
                sidecar=self.events.sidecar,
            )
            notify("READY=1")
            await self._stop.wait()
            notify("STOPPING=1")
            await self._drain()
            beat.cancel()
            self.events.write([{"event": "stop"}], lambda _error: None)
        finally:
            for server in self._servers:
                loop.remove_reader(server)
                remove_socket(server)
            await self.events.stop()
        self.log("stopped")

    def stop(self) -> None:
        """Stop: no new connections, those at rest end, the others may finish what they do."""
        self._stop.set()

    async def _say_start(self) -> None:
        event = {"event": "start", "heartbeat_s": self.settings.heartbeat_s}
        try:
            await self.events.written_down([event])
        except OSError as error:
            raise InputError(
                f"can't write events: {error.strerror}", place=str(self.settings.events)
            ) from error

    def reload(self) -> None:
        """Read rules, keys and certificates again; go on in a new event file if ours was moved."""
        self.events.reopen()
        self.events.write([{"event": "heartbeat"}])
        try:
            loaded = self._load()
            self._apply(loaded)
        except ConfigError as error:
            self.log("reload-failed", error=str(error))
            return
        if loaded.needs_restart:
            self.log("reloaded", needs_restart=loaded.needs_restart)
        else:
            self.log("reloaded")
        if self.settings.end_revoked:
            self._end_revoked()

    def _apply(self, loaded: Reloadable) -> None:
        context = loaded.tls.context() if loaded.tls is not None else None
        before = self.credentials.tokens
        if before is not None and loaded.credentials.tokens is not None:
            loaded.credentials.tokens.remember(before)
        self.credentials = loaded.credentials
        self.variables = loaded.variables
        self.server_tls = context
        self.tls_required = loaded.tls is not None and loaded.tls.required

    def _end_revoked(self) -> None:
        for connection in list(self.connections):
            if any(map(self._is_revoked, connection.people)):
                self.totals["revoked"] += 1
                self.log("revoked", connection=connection.name)
                connection.fail(
                    pgwire.ADMIN_SHUTDOWN,
                    "this connection's user isn't in the sidecar's identity file any more",
                )

    def _is_revoked(self, identity: Identity) -> bool:
        listed = self.credentials.listed(identity)
        return identity.actor is not None and (listed is None or listed.actor is None)

    async def _heartbeat(self) -> None:
        due = 0.0
        while True:
            # systemd may want to hear more often than readers of the events.
            step = min(_WATCHDOG_S, self.settings.heartbeat_s - due)
            await asyncio.sleep(step)
            notify("WATCHDOG=1")
            due += step
            if due < self.settings.heartbeat_s:
                continue
            due = 0.0
            event: dict[str, Any] = {"event": "heartbeat"}
            if self.unrecorded:
                event["unrecorded"] = self.unrecorded
            if not self.settings.events.exists():
                self.events.reopen()
            self.events.write([event])
            if self.settings.end_revoked:
                self._end_revoked()

    async def _drain(self) -> None:
        self.accepting = False
        loop = asyncio.get_running_loop()
        for server in self._servers:
            loop.remove_reader(server)
            remove_socket(server)
        self._servers.clear()
        until = loop.time() + self.settings.drain_s
        self.log("draining", connections=len(self.connections))
        while self.connections and loop.time() < until:
            for connection in list(self.connections):
                if connection.idle:
                    connection.fail(
                        pgwire.ADMIN_SHUTDOWN, "terminating connection: the sidecar is stopping"
                    )
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.fail(
                pgwire.ADMIN_SHUTDOWN, "terminating connection: the sidecar is stopping"
            )

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- listening ------------------------------------------------------------------------------

    def _listening(self, place: Place) -> socket.socket:
        try:
            server = bound(place, self.settings.socket_mode)
        except OSError as error:
            raise ConfigError(
                f"can't listen on {place}: {error.strerror}", hint="is the address in use?"
            ) from error
        name = server.getsockname()
        self.addresses.append(
            Place(path=name) if isinstance(name, str) else Place(name[0], int(name[1]))
        )
        return server

    def _accept(self, server: socket.socket) -> None:
        for _ in range(64):
            try:
                client, _address = server.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of files or memory: those who wait are served when there is room again.
                self.log("can't-accept", error=error.strerror or "")
                loop = asyncio.get_running_loop()
                loop.remove_reader(server)
                loop.call_later(0.2, self._accept_again, server)
                return
            client.setblocking(False)
            self.totals["accepted"] += 1
            self._background(self._admit(client))

    def _accept_again(self, server: socket.socket) -> None:
        if self.accepting:
            asyncio.get_running_loop().add_reader(server, self._accept, server)

    async def _admit(self, client: socket.socket) -> None:
        """Give the socket its transport: TLS from the first byte on, if that is how it begins."""
        loop = asyncio.get_running_loop()
        tls = None
        try:
            if client.family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self.server_tls is not None and client.family != socket.AF_UNIX:
                async with asyncio.timeout(self.settings.startup_timeout_s):
                    if await first_byte(client) == b"\x16":
                        tls = self.server_tls
            connection = Connection(self, direct_tls=tls is not None)
            await loop.connect_accepted_socket(
                lambda: connection.client,
                client,
                ssl=tls,
                ssl_handshake_timeout=self.settings.startup_timeout_s if tls else None,
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            self.log("lost-before-startup", error=type(error).__name__)
            client.close()

    def check_admission(self, connection: Connection) -> None:
        """Raises WireError when there are too many connections."""
        if len(self.connections) > self.settings.max_connections:
            raise WireError(
                pgwire.TOO_MANY_CONNECTIONS,
                f"the sidecar has {self.settings.max_connections} connections already",
                "raise max_connections under [sidecar]",
            )
        if not self.accepting:
            raise WireError(pgwire.CANNOT_CONNECT_NOW, "the sidecar is stopping")

    # -- what connections ask for ---------------------------------------------------------------

    def next_name(self) -> str:
        """A name for a connection: unique in this life of this sidecar."""
        self._opened += 1
        return f"{self.events.sidecar}/{os.getpid()}.{self._opened}"

    def opened(self, connection: Connection) -> None:
        """A connection is relayed from now on."""
        identity = connection.identity
        self.totals["opened"] += 1
        self.totals["identified"] += identity is not None and identity.actor is not None

    def closed(self, connection: Connection) -> None:
        """A connection is over."""
        self.connections.discard(connection)
        if connection.cancel is not None:
            self.upstream.forget_cancel(connection.cancel)

    def refused(self, error: WireError, who: dict[str, object]) -> None:
        """A client was refused."""
        self.refusals[error.sqlstate] += 1
        self.log("refused", sqlstate=error.sqlstate, error=error.message, **who)

    def ended(self, connection: str, why: Ending) -> None:
        """A connection couldn't go on."""
        self.totals["ended"] += 1
        self.log("ended", connection=connection, why=why.value)

    def note(self, words: list[Word]) -> None:
        """Count what happens on open connections."""
        for word in words:
            self.totals[word.event] += 1

    def may_hold(self, size: int) -> bool:
        """Room for a query of that size; given back through `held_bytes`."""
        if self.held_bytes + size > HELD_BYTES_MAX:
            return False
        self.held_bytes += size
        return True

    def log(self, event: str, **fields: object) -> None:
        """One line of JSON on stderr: what happened, without anybody's data."""
        say(event, **fields)


def serve(settings: Settings, load: Callable[[], Reloadable], status: Place | None = None) -> None:
    """Run a sidecar in this process until it is told to stop.

    Args:
        settings: where it listens and writes.
        load: what can be reloaded.
        status: where to answer about readiness and metrics.

    Raises:
        ConfigError, InputError: it can't start.
    """

    async def main() -> None:
        sidecar = Sidecar(settings, load)
        if status is None:
            await sidecar.run()
            return
        with StatusPage(Counters(sidecar), lambda: faults(sidecar), status):
            await sidecar.run()

    uvloop.run(main())
