"""The sidecar: a relay before the pooler that knows who its clients are, writes it down, and tags them.

Enters: connections on TCP and unix sockets. Leaves: the same conversations at the pooler, each under
an application_name that begins with its tag, and identity events (docs/IDENTITY_EVENTS.md). One
process, one event loop (uvloop), thousands of connections.

This file holds the process: listening, the heartbeat, reload, drain. A connection's life is in
`connection`, what passes on it in `exchange`, who may come in in `credentials`.
"""

import asyncio
import contextlib
import ipaddress
import json
import os
import pwd
import resource
import signal
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from scalple.ingest import pgwire
from scalple.ingest.connection import Connection, UpstreamSide
from scalple.ingest.credentials import Client, Credentials
from scalple.ingest.errors import ConfigError, InputError
from scalple.ingest.eventfile import EventFile
from scalple.ingest.owner import Word
from scalple.ingest.pgwire import WireError
from scalple.ingest.place import Place
from scalple.ingest.sidecarstatus import StatusPage
from scalple.ingest.variables import Variables

HELD_BYTES_MAX = 256 << 20
"""Room for queries that are read before they are sent, over all connections."""
_FILES_A_CONNECTION = 2
_FILES_OF_OUR_OWN = 64


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The operator's certificate for clients."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """Who signs client certificates; without it none are asked for."""
    required: bool = False

    def context(self) -> ssl.SSLContext:
        """Raises ConfigError if the files can't be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["postgresql"])
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_OPTIONAL
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"can't use the TLS files: {error.strerror or error}", place=str(self.certificate)
            ) from error
        return context


@dataclass(frozen=True, slots=True)
class Settings:
    """What stays the same while a sidecar runs."""

    listen: tuple[Place, ...]
    upstream: Place
    events: Path
    name: str | None = None
    strict: bool = False
    on_event_failure: str = "refuse"
    heartbeat_s: int = 10
    startup_timeout_s: float = 10.0
    connect_timeout_s: float = 10.0
    drain_s: float = 30.0
    max_connections: int = 5000
    rotate_bytes: int = 0
    upstream_tls: ssl.SSLContext | None = None
    end_revoked: bool = False
    socket_mode: int = 0o660


@dataclass(frozen=True, slots=True)
class Reloadable:
    """What a SIGHUP may change."""

    credentials: Credentials
    variables: Variables
    tls: TlsFiles | None = None


class Sidecar:
    """A running sidecar.

    Args:
        settings: where it listens and writes.
        load: makes what can be reloaded; called at the start and on SIGHUP. Raises ConfigError.
    """

    def __init__(self, settings: Settings, load: Callable[[], Reloadable]) -> None:
        self.settings = settings
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
        self.last_heartbeat: float = 0.0
        self.addresses: list[Any] = []
        """Where it listens, once it does."""
        self._cancel_routes: dict[bytes, Connection] = {}
        self._servers: list[socket.socket] = []
        self._stop = asyncio.Event()
        self._opened = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- the process ----------------------------------------------------------------------------

    async def run(self, ready: Callable[[], Awaitable[None] | None] | None = None) -> None:
        """Serve until SIGTERM or SIGINT (or `stop`), then drain.

        Raises:
            ConfigError, InputError: it can't start.
        """
        loop = asyncio.get_running_loop()
        self._apply(self._load())
        _allow_files(self.settings.max_connections)
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
            if ready is not None and (more := ready()) is not None:
                await more
            await self._stop.wait()
            notify("STOPPING=1")
            await self._drain()
            beat.cancel()
            self.events.write([{"event": "stop"}], lambda _error: None)
        finally:
            for server in self._servers:
                loop.remove_reader(server)
                _remove_socket(server)
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
            self._apply(self._load())
        except ConfigError as error:
            self.log("reload-failed", error=str(error))
            return
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
            identity = connection.identity
            if identity is None or identity.actor is None:
                continue
            listed = self.credentials.listed(identity)
            if listed is None or listed.actor is None:
                self.totals["revoked"] += 1
                connection.fail(
                    pgwire.ADMIN_SHUTDOWN, "this connection's user isn't admitted any more"
                )

    async def _heartbeat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.last_heartbeat = loop.time()
            await asyncio.sleep(self.settings.heartbeat_s)
            event: dict[str, Any] = {"event": "heartbeat"}
            if self.unrecorded:
                event["unrecorded"] = self.unrecorded
            if not _still_there(self.settings.events):
                self.events.reopen()
            self.events.write([event])
            if self.settings.end_revoked:
                self._end_revoked()
            notify("WATCHDOG=1")

    async def _drain(self) -> None:
        self.accepting = False
        loop = asyncio.get_running_loop()
        for server in self._servers:
            loop.remove_reader(server)
            _remove_socket(server)
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
            server = _bound(place, self.settings.socket_mode)
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
                    if await _first_byte(client) == b"\x16":
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
            raise WireError(pgwire.TOO_MANY_CONNECTIONS, "sorry, too many clients already")
        if not self.accepting:
            raise WireError(pgwire.CANNOT_CONNECT_NOW, "the sidecar is stopping")

    # -- what connections ask for ---------------------------------------------------------------

    async def connect(self, side: UpstreamSide, place: tuple[str, int] | None = None) -> None:
        """Open a connection to the pooler, encrypted if so configured."""
        loop = asyncio.get_running_loop()
        upstream = self.settings.upstream
        if upstream.path is not None:
            await loop.create_unix_connection(lambda: side, upstream.path)
        else:
            host, port = place or (upstream.host or "", upstream.port)
            transport, _ = await loop.create_connection(lambda: side, host, port)
            connected: socket.socket = transport.get_extra_info("socket")
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.settings.upstream_tls is not None:
            await self._secure(side, self.settings.upstream_tls)

    async def _secure(self, side: UpstreamSide, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        assert side.transport is not None
        side.answer = loop.create_future()
        answer = side.answer
        side.transport.write(struct.pack(">II", 8, pgwire.SSL_REQUEST))
        if await answer != b"S":
            raise ConnectionRefusedError(0, "upstream doesn't offer TLS")
        host = self.settings.upstream.host if context.check_hostname else None
        secured = await loop.start_tls(
            side.transport,
            side,
            context,
            server_hostname=host or self.settings.upstream.host or "",
        )
        assert secured is not None
        side.connection_made(secured)

    def endpoint_of(self, transport: asyncio.Transport) -> dict[str, Any]:
        """The connection's own end, as the pooler sees its client."""
        if self.settings.upstream.path is not None:
            port = int(self.settings.upstream.path.rpartition(".")[2] or 0)
            return {"client_addr": f"unix({os.getpid()})", "client_port": port}
        name = transport.get_extra_info("sockname")
        return {"client_addr": _address(name[0]), "client_port": int(name[1])}

    def client_of(self, transport: asyncio.Transport) -> Client:
        """What is known of the client at the other end."""
        peer = transport.get_extra_info("socket")
        certificate = transport.get_extra_info("peercert") or None
        if peer.family == socket.AF_UNIX:
            size = struct.calcsize("3i")
            data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            pid, uid, _gid = struct.unpack("3i", data)
            try:
                account = pwd.getpwuid(uid).pw_name
            except KeyError:
                account = str(uid)
            return Client(f"unix({pid})", None, None, account)
        name = transport.get_extra_info("peername") or ("", 0)
        return Client(_address(name[0]), int(name[1]), certificate)

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
            self._cancel_routes.pop(connection.cancel, None)

    def refused(self, error: WireError) -> None:
        """A client was refused."""
        self.refusals[error.sqlstate] += 1
        self.log("refused", sqlstate=error.sqlstate, error=error.message)

    def note(self, words: list[Word]) -> None:
        """Count what happens on open connections."""
        for word in words:
            self.totals[word.event] += 1

    def remember_cancel(self, key: bytes, connection: Connection) -> None:
        """A cancel request with that key belongs to that connection."""
        self._cancel_routes[key] = connection

    def cancel_route(self, key: bytes) -> tuple[str, int] | None:
        """The address that the connection of that key was opened to; None for the configured one."""
        connection = self._cancel_routes.get(key)
        if connection is None or connection.upstream.transport is None:
            return None
        name = connection.upstream.transport.get_extra_info("peername")
        return (name[0], name[1]) if isinstance(name, tuple) else None

    def may_hold(self, size: int) -> bool:
        """Room for a query of that size; given back through `held_bytes`."""
        if self.held_bytes + size > HELD_BYTES_MAX:
            return False
        self.held_bytes += size
        return True

    def log(self, event: str, **fields: object) -> None:
        """One line of JSON on stderr: what happened, without anybody's data."""
        head = {"ts": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
        with contextlib.suppress(OSError):  # whoever reads the log must not stop the relay
            print(json.dumps(head | fields, default=str), file=sys.stderr, flush=True)


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
        with StatusPage(sidecar, status):
            await sidecar.run()

    uvloop.run(main())


def notify(text: str) -> None:
    """Tell systemd, if it asked to be told (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


async def _first_byte(client: socket.socket) -> bytes:
    """The first byte that the client sends, left where it is."""
    loop = asyncio.get_running_loop()
    try:
        return client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        readable = asyncio.Event()
        loop.add_reader(client, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(client)
    return client.recv(1, socket.MSG_PEEK)


def _address(text: str) -> str:
    """One spelling per address; an IPv4 address that came over IPv6 is that IPv4 address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _bound(place: Place, socket_mode: int) -> socket.socket:
    """A socket that listens there. Raises OSError."""
    if place.path is not None:
        server = _unix_server(place.path, socket_mode)
    else:
        family, *_, address = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        server = socket.socket(family, socket.SOCK_STREAM)
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(address)
        except OSError:
            server.close()
            raise
    server.listen(1024)
    server.setblocking(False)
    return server


def _unix_server(path: str, mode: int) -> socket.socket:
    if len(path) > 107:
        raise ConfigError(f"the socket's path is too long: {path}")
    if Path(path).exists():
        if not Path(path).is_socket():
            raise ConfigError(f"{path} is there, and is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            if probe.connect_ex(path) == 0:
                raise ConfigError(f"somebody listens on {path}")
        Path(path).unlink()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o777 & ~mode)
    try:
        server.bind(path)
    finally:
        os.umask(old)
    return server


def _remove_socket(server: socket.socket) -> None:
    if server.family == socket.AF_UNIX:
        with contextlib.suppress(OSError):
            Path(server.getsockname()).unlink()
    server.close()


def _allow_files(connections: int) -> None:
    """As many open files as the connections need, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections * _FILES_A_CONNECTION + _FILES_OF_OUR_OWN
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, soft), hard))


def _still_there(path: Path) -> bool:
    return path.exists()
