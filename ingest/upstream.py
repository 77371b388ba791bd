"""The pooler's side of the sidecar: connections to it, their endpoints, and where a cancel has to go."""

import asyncio
import os
import socket
import ssl
import struct
from typing import Any

from scalple.ingest import pgwire
from scalple.ingest.peers import address_of
from scalple.ingest.place import Place
from scalple.ingest.sides import UpstreamSide


class Upstream:
    """One place to connect to.

    Args:
        place: a host and port, which may stand for several addresses, or a unix socket.
        tls: for encrypted connections.
    """

    def __init__(self, place: Place, tls: ssl.SSLContext | None) -> None:
        self.place = place
        self._tls = tls
        self._routes: dict[bytes, UpstreamSide] = {}

    async def connect(self, side: UpstreamSide, place: tuple[str, int] | None = None) -> None:
        """Open a connection to the pooler, encrypted if so configured."""
        loop = asyncio.get_running_loop()
        upstream = self.place
        if upstream.path is not None:
            await loop.create_unix_connection(lambda: side, upstream.path)
        else:
            host, port = place or (upstream.host or "", upstream.port)
            transport, _ = await loop.create_connection(lambda: side, host, port)
            connected: socket.socket = transport.get_extra_info("socket")
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            await self._secure(side, self._tls)

    async def _secure(self, side: UpstreamSide, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        assert side.transport is not None
        side.answer = loop.create_future()
        answer = side.answer
        side.transport.write(struct.pack(">II", 8, pgwire.SSL_REQUEST))
        if await answer != b"S":
            raise ConnectionRefusedError(0, "upstream doesn't offer TLS")
        host = self.place.host if context.check_hostname else None
        secured = await loop.start_tls(
            side.transport,
            side,
            context,
            server_hostname=host or self.place.host or "",
        )
        assert secured is not None
        side.connection_made(secured)

    def endpoint_of(self, transport: asyncio.Transport) -> dict[str, Any]:
        """The connection's own end, as the pooler sees its client."""
        if self.place.path is not None:
            port = int(self.place.path.rpartition(".")[2] or 0)
            return {"client_addr": f"unix({os.getpid()})", "client_port": port}
        name = transport.get_extra_info("sockname")
        return {"client_addr": address_of(name[0]), "client_port": int(name[1])}

    def remember_cancel(self, key: bytes, side: UpstreamSide) -> None:
        """A cancel request with that key belongs to that connection."""
        self._routes[key] = side

    def forget_cancel(self, key: bytes) -> None:
        """The connection of that key is over."""
        self._routes.pop(key, None)

    def cancel_route(self, key: bytes) -> tuple[str, int] | None:
        """The address that the connection of that key was opened to; None for the configured one."""
        side = self._routes.get(key)
        if side is None or side.transport is None:
            return None
        name = side.transport.get_extra_info("peername")
        return (name[0], name[1]) if isinstance(name, tuple) else None
