"""A server's network: a TCP proxy before it that can be taken away, be slow, keep silent, or refuse.

Enters: the server's endpoint. Leaves: another endpoint, which behaves as it is told from then on.
"""

import contextlib
import socket
import threading
import time
from typing import Self
from urllib.parse import urlsplit

from tests.stack import free_port

REFUSAL = (
    b'<?xml version="1.0"?><Error><Code>InvalidAccessKeyId</Code><Message>no</Message></Error>'
)


class TroubledServer:
    """Passes everything on while it is open and `up`."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        assert parts.hostname and parts.port
        self._server = (parts.hostname, parts.port)
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.delay_s = 0.0
        """Before each piece of an answer."""
        self.is_silent = False
        self.refuses = False
        self.requests = 0
        self._listening: socket.socket | None = None
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def is_down(self) -> bool:
        """Nobody gets through."""
        return self._listening is None

    def up(self) -> None:
        """Connections are accepted."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def down(self) -> None:
        """Connections are refused, and those that there were end."""
        listening, self._listening = self._listening, None
        for one in [listening, *self._open]:
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        self._open.clear()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                self._open.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            if self.refuses:
                client.recv(1 << 16)
                head = f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(REFUSAL)}\r\nConnection: close\r\n"
                client.sendall(head.encode() + b"\r\n" + REFUSAL)
                return
            with socket.create_connection(self._server) as server:
                self._open.add(server)
                back = threading.Thread(target=self._answer, args=(server, client), daemon=True)
                back.start()
                try:
                    while data := client.recv(1 << 16):
                        self.requests += 1
                        server.sendall(data)
                finally:
                    # To close it alone tells the server nothing while `_answer` reads from it: it would
                    # wait for the rest of a request that broke off.
                    with contextlib.suppress(OSError):
                        server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                while self.is_silent:
                    time.sleep(0.05)
                time.sleep(self.delay_s)
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
