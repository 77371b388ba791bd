"""A client that speaks the protocol byte by byte, so that it can say what no driver says.

Enters: a host, a port and startup parameters. Leaves: messages as they come back. For trust and
cleartext-free logins only. Does not: understand what it sends.
"""

import socket
import struct
from typing import Self

from tests.stack import HOST
from tests.wire_model import message


class RawClient:
    """A connection to a server or relay that lets it in without a password."""

    def __init__(
        self, port: int, parameters: dict[str, str] | None = None, timeout: float = 10.0
    ) -> None:
        self.socket = socket.create_connection((HOST, port), timeout)
        self._buffer = b""
        if parameters:
            pairs = [word for pair in parameters.items() for word in pair]
            body = b"".join(word.encode() + b"\0" for word in pairs) + b"\0"
            self.socket.sendall(struct.pack(">II", len(body) + 8, 196608) + body)
            self.until_ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *messages: bytes) -> None:
        """Send them at once."""
        self.socket.sendall(b"".join(messages))

    def receive(self) -> tuple[str, bytes]:
        """The next message: (kind, body). Raises EOFError when there is none."""
        while True:
            if len(self._buffer) >= 5:
                length = struct.unpack_from(">I", self._buffer, 1)[0] + 1
                if len(self._buffer) >= length:
                    whole, self._buffer = self._buffer[:length], self._buffer[length:]
                    return chr(whole[0]), whole[5:]
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._buffer += data

    def until_ready(self, times: int = 1) -> list[tuple[str, bytes]]:
        """Messages up to that many ReadyForQuery; raises what an error that ends the session says."""
        got: list[tuple[str, bytes]] = []
        while times:
            kind, body = self.receive()
            got.append((kind, body))
            if kind == "E" and b"FATAL" in body:
                raise ConnectionError(body.decode("utf-8", "replace").replace("\0", " "))
            times -= kind == "Z"
        return got

    def run(self, text: str) -> list[tuple[str, bytes]]:
        """A simple query, answered."""
        self.send(message("Q", text.encode() + b"\0"))
        return self.until_ready()
