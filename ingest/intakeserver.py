"""The intake's port: TLS, one request a connection, and nobody may take his time.

Enters: connections. Leaves: requests for `intake`, and its answers. A connection has so many seconds for all
it does, handshake included, however slowly its bytes come; so many connections are open at once, and a part
of them for each address. What breaks these rules is closed without an answer or a line in the log.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

from scalple.ingest.errors import ConfigError
from scalple.ingest.intake import Answer, Intake, Request, body_of
from scalple.ingest.place import Place
from scalple.ingest.servicelog import say
from scalple.ingest.shipment import CLOCK

HEADERS_MAX = 16 << 10
LINGER_S = 2.0
"""So long what nobody wants is read, so that the answer arrives."""
_REASONS = {200: "OK", 401: "Unauthorized", 429: "Too Many Requests"}


class _Broken(Exception):
    """The connection isn't worth an answer."""


class IntakeServer:
    """Listens while it is open.

    Args:
        intake: answers.
        context: makes the TLS context of each new connection, as it is by then.
        place: where to listen.
        connections_max: so many at once.
        seconds: a connection may take.

    Raises:
        ConfigError: it can't listen there.
    """

    def __init__(
        self,
        intake: Intake,
        context: Callable[[], ssl.SSLContext],
        place: Place,
        connections_max: int = 64,
        seconds: float = 20.0,
    ) -> None:
        self._intake, self._context = intake, context
        self._seconds = seconds
        self._most, self._most_each = connections_max, max(1, connections_max // 4)
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._ending = False
        host = place.host or "127.0.0.1"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, place.port), family=family, backlog=128)
        except OSError as error:
            raise ConfigError(f"can't listen on {place} for events: {error.strerror}") from error
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, name="intake", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # whoever waits for the next one wakes up
        self._thread.join()
        self._socket.close()

    def _accept(self) -> None:
        while not self._ending:
            try:
                client, (address, *_) = self._socket.accept()
            except OSError:  # no descriptors left, or gone before it was taken
                time.sleep(0.0 if self._ending else 0.05)
                continue
            with self._lock:
                is_room = self._open.total() < self._most and self._open[address] < self._most_each
                if is_room:
                    self._open[address] += 1
            if not is_room:
                client.close()
                continue
            try:
                threading.Thread(target=self._serve, args=(client, address), daemon=True).start()
            except RuntimeError:  # no more threads
                self._leave(client, address)

    def _leave(self, client: socket.socket, address: str) -> None:
        client.close()
        with self._lock:
            self._open[address] -= 1
            self._open += Counter()

    def _serve(self, client: socket.socket, address: str) -> None:
        try:
            with contextlib.suppress(_Broken, OSError, ConfigError):
                self._talk(client, time.monotonic() + self._seconds)
        except Exception as error:  # noqa: BLE001 (one request's fault is no other's)
            say("intake failed", why=type(error).__name__)
        finally:
            self._leave(client, address)

    def _talk(self, client: socket.socket, deadline: float) -> None:
        client.settimeout(_left(deadline))
        with self._context().wrap_socket(client, server_side=True) as secure:
            reader = _Reader(secure, deadline)
            request = reader.request()
            read = [False]

            def body() -> bytes:
                read[0] = True
                return reader.exactly(request.length)

            answer = self._intake.answer(request, body)
            secure.settimeout(_left(deadline))
            secure.sendall(_response(answer))
            if not read[0] and request.length:
                reader.linger(request.length)


class _Reader:
    """Reads until the deadline."""

    def __init__(self, secure: ssl.SSLSocket, deadline: float) -> None:
        self._secure, self._deadline = secure, deadline
        self._buffer = b""

    def _more(self, length: int = 1 << 16) -> bytes:
        self._secure.settimeout(_left(self._deadline))
        data = self._secure.recv(length)
        if not data:
            raise _Broken
        return data

    def request(self) -> Request:
        """The head of a request."""
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > HEADERS_MAX:
                raise _Broken
            self._buffer += self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise _Broken
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            name = name.lower()
            if not colon or name != name.strip() or name in headers:
                raise _Broken  # two lengths, or two tokens: which one counts?
            headers[name] = value.strip()
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):
            raise _Broken
        if len(length) > 12:
            raise _Broken
        certificate = self._secure.getpeercert() or None
        return Request(words[0], words[1], headers, int(length), certificate)

    def exactly(self, length: int) -> bytes:
        """So many bytes."""
        parts, missing = [self._buffer[:length]], length - len(self._buffer)
        while missing > 0:
            parts.append(self._more(min(missing, 1 << 16)))
            missing -= len(parts[-1])
        return b"".join(parts)

    def linger(self, length: int) -> None:
        """Let go of what is still coming."""
        self._deadline = min(self._deadline, time.monotonic() + LINGER_S)
        missing = length - len(self._buffer)
        while missing > 0:
            missing -= len(self._more())


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise _Broken
    return left


def _response(answer: Answer) -> bytes:
    body = body_of(answer)
    lines = [
        f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Refused')}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        f"{CLOCK}: {time.time():.3f}",
        *([f"Retry-After: {answer.retry_s}"] if answer.retry_s is not None else []),
        *(["WWW-Authenticate: Bearer"] if answer.status == 401 else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
