"""A loopback relay that knows who its clients are and writes identity events about them.

Enters: TCP connections on a port that belongs to one actor.
Leaves: the same bytes at the upstream server, and JSON Lines events: the `open` of a connection is on
disk before its first byte goes upstream.
Does not: change a byte, set a tag, speak TLS, or check who its clients are (the port says it). It is
the tests' own emitter of events, independent of the product's sidecar.
"""

import asyncio
import contextlib
import json
import os
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Actor:
    """Who is behind a client; `name` None is a client that is seen but not identified."""

    name: str | None
    email: str | None = None
    kind: str = "human"
    authn: str = "jwt"
    on_behalf_of: str | None = None

    def fields(self) -> dict[str, object]:
        """The actor's keys of an `open` event."""
        if self.name is None:
            return {"actor": None}
        known = {
            "actor": self.name,
            "email": self.email,
            "actor_kind": self.kind,
            "on_behalf_of": self.on_behalf_of,
            "authn": self.authn,
        }
        return {key: value for key, value in known.items() if value is not None}


class EventFile:
    """An append-only file of identity events of one sidecar, numbered without holes."""

    def __init__(self, path: Path, sidecar: str) -> None:
        self.path = path
        self.sidecar = sidecar
        self._sequence = 0
        self._file = path.open("ab", buffering=0)

    def write(self, event: str, fields: dict[str, object], *, durable: bool = True) -> None:
        """Appends one event; when `durable`, it is on disk when this returns."""
        self._sequence += 1
        head: dict[str, object] = {
            "v": 1,
            "event": event,
            "ts": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "sidecar": self.sidecar,
            "seq": self._sequence,
        }
        line = json.dumps(head | fields, ensure_ascii=False, separators=(",", ":"))
        self._file.write(line.encode() + b"\n")
        if durable:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file; writes nothing."""
        self._file.close()


class Relay:
    """Relays to one upstream port, one listening port per actor. Use it by `with`."""

    def __init__(
        self,
        upstream_port: int,
        events: Path,
        *,
        sidecar: str = "app1-7f3a",
        heartbeat_s: int = 10,
    ) -> None:
        self.upstream_port = upstream_port
        self.heartbeat_s = heartbeat_s
        self.events = EventFile(events, sidecar)
        self.connections: set[_Client] = set()
        self.opened = 0
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self.events.write("start", {"heartbeat_s": self.heartbeat_s})
        self._thread.start()
        self._beat = asyncio.run_coroutine_threadsafe(self._heartbeat(), self._loop)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._beat.cancel()
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.events.write("stop", {})
        self.events.close()

    def listen(self, actor: Actor) -> int:
        """Opens a port for one actor's clients; the port."""
        return asyncio.run_coroutine_threadsafe(self._listen(actor), self._loop).result(10)

    async def _listen(self, actor: Actor) -> int:
        server = await self._loop.create_server(lambda: _Client(self, actor), HOST, 0)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self.heartbeat_s)
            self.events.write("heartbeat", {}, durable=False)

    async def _shut(self) -> None:
        for server in self._servers:
            server.close()
        # Clients that just closed are still on their way out; only what stays is cut off.
        for _ in range(100):
            if not self.connections:
                return
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.end()
        while self.connections:
            await asyncio.sleep(0.01)


class _Side(asyncio.Protocol):
    """One half of a relayed connection: what it receives goes to its peer."""

    peer: "_Side | None" = None
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.transport.write(data)

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None:
            with contextlib.suppress(RuntimeError):
                self.peer.transport.resume_reading()


class _Upstream(_Side):
    def __init__(self, client: "_Client") -> None:
        self.peer = self.client = client

    def connection_lost(self, error: Exception | None) -> None:
        # asyncio closes the socket after this call: until then nobody else can get its port.
        self.client.end()


class _Client(_Side):
    def __init__(self, relay: Relay, actor: Actor) -> None:
        self.relay = relay
        self.actor = actor
        self._startup = bytearray()
        self._endpoint: dict[str, object] | None = None
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.relay.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.transport.write(data)
            return
        self._startup += data
        complete = len(self._startup) >= 8 and len(self._startup) >= int.from_bytes(
            self._startup[:4]
        )
        if complete and self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def connection_lost(self, error: Exception | None) -> None:
        self.end()

    def end(self) -> None:
        """Writes the `close` event, then closes both sides; the second call does nothing."""
        if self not in self.relay.connections:
            return
        self.relay.connections.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._endpoint is not None:
            self.relay.events.write("close", self._endpoint, durable=False)
        if self.peer is not None:
            self.peer.transport.close()
        self.transport.close()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        upstream = socket.socket()
        try:
            # Binding first makes the endpoint known, and writable, before anything is sent.
            upstream.bind((HOST, 0))
            upstream.setblocking(False)
            self._announce(upstream.getsockname())
            await loop.sock_connect(upstream, (HOST, self.relay.upstream_port))
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, side = await loop.create_connection(lambda: _Upstream(self), sock=upstream)
        except (OSError, asyncio.CancelledError):
            upstream.close()
            self.end()
            return
        self.peer = side
        side.transport.write(bytes(self._startup))

    def _announce(self, endpoint: tuple[str, int]) -> None:
        self.relay.opened += 1
        self._endpoint = {
            "connection": f"{self.relay.events.sidecar}/{self.relay.opened}",
            "client_addr": endpoint[0],
            "client_port": endpoint[1],
        }
        peer = self.transport.get_extra_info("peername")
        seen: dict[str, object] = {"peer_addr": peer[0], "peer_port": peer[1]}
        self.relay.events.write(
            "open", self._endpoint | seen | self._startup_fields() | self.actor.fields()
        )

    def _startup_fields(self) -> dict[str, object]:
        """What the client says in its startup packet: text pairs after length and version."""
        words = bytes(self._startup[8:]).rstrip(b"\0").split(b"\0")
        said = dict(zip(words[::2], words[1::2], strict=False))
        names = {b"database": "database", b"user": "db_role", b"application_name": None}
        return {
            name or key.decode(): said[key].decode(errors="replace")
            for key, name in names.items()
            if key in said
        }
