"""The two sockets of a relayed connection, as asyncio's protocols: what they receive goes to it.

Both directions hold each other back: while one socket's buffer is full, the other isn't read.
"""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scalple.ingest.connection import Connection

WRITE_BYTES_HIGH = 256 << 10
UPSTREAM_FULL, WAITING_FULL, OPENING = 1, 2, 4
"""Reasons not to read from a client."""


class Side(asyncio.Protocol):
    """One socket of a connection."""

    transport: asyncio.Transport | None = None

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        transport.set_write_buffer_limits(WRITE_BYTES_HIGH)  # type: ignore[attr-defined]

    def connection_lost(self, error: Exception | None) -> None:
        self.connection.lost(self)


class ClientSide(Side):
    """The application's socket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.connection.accepted()

    def data_received(self, data: bytes) -> None:
        self.connection.from_client(data)

    def pause_writing(self) -> None:
        upstream = self.connection.upstream.transport
        if upstream is not None and not upstream.is_closing():
            upstream.pause_reading()

    def resume_writing(self) -> None:
        upstream = self.connection.upstream.transport
        if upstream is not None and not upstream.is_closing():
            upstream.resume_reading()


class UpstreamSide(Side):
    """The pooler's socket."""

    answer: asyncio.Future[bytes] | None = None
    """Waits for the one byte that answers an SSLRequest."""

    def data_received(self, data: bytes) -> None:
        if self.answer is not None:
            answer, self.answer = self.answer, None
            answer.set_result(data)
            return
        self.connection.from_upstream(data)

    def pause_writing(self) -> None:
        self.connection.hold(UPSTREAM_FULL)

    def resume_writing(self) -> None:
        self.connection.free(UPSTREAM_FULL)

    def connection_lost(self, error: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error or ConnectionResetError("closed"))
        super().connection_lost(error)
