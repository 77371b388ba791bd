"""Records what a client and a server say to each other, in the order in which it came.

Enters: a server's port. Leaves: a port to connect to instead, and afterwards the bytes of each turn, from
behind the startup packet on. For one connection. Does not: understand or change any of it.
"""

import contextlib
import select
import socket
import threading
from typing import Self

from tests.stack import HOST


class Recorder:
    """A relay for one connection. Use it by `with`; `turns` is complete afterwards."""

    def __init__(self, upstream_port: int) -> None:
        self.turns: list[tuple[str, bytes]] = []
        """`client` or `server`, and what it sent."""
        self._upstream_port = upstream_port
        self._server = socket.create_server((HOST, 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._relay, name="recorder")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)
        self._server.close()

    def _relay(self) -> None:
        client, _ = self._server.accept()
        with client, socket.create_connection((HOST, self._upstream_port)) as server:
            server.sendall(client.recv(65536))  # the startup packet
            other = {client: server, server: client}
            names = {client: "client", server: "server"}
            while True:
                for side in select.select(list(other), [], [], 30)[0]:
                    data = b""
                    with contextlib.suppress(ConnectionResetError):
                        data = side.recv(65536)
                    if not data:
                        return
                    self.turns.append((names[side], data))
                    with contextlib.suppress(BrokenPipeError):
                        other[side].sendall(data)
