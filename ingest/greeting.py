"""A client's first packets: requests for encryption, a cancel, or the startup packet.

Enters: bytes as they arrive. Leaves: one request after the other, checked. Says nothing itself: the
connection answers. Whatever can't be is a `WireError`. Protocol as in "Message Flow", chapter "SSL
Session Encryption" of PostgreSQL's documentation.
"""

from dataclasses import dataclass
from enum import Enum

from scalple.ingest.pgwire import (
    CANCEL_BYTES_MAX,
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    INVALID_AUTHORIZATION,
    PROTOCOL_VIOLATION,
    SSL_REQUEST,
    Startup,
    WireError,
    read_startup,
    startup_code,
    startup_length,
)

_TLS_RECORD = 0x16


class Encryption(Enum):
    """What to answer to a request for encryption."""

    TLS = "S"
    REFUSED = "N"


@dataclass(frozen=True, slots=True)
class Cancel:
    """A cancel request, whole."""

    packet: bytes


class Greeting:
    """The packets of one client.

    Args:
        tls: TLS is offered.
        required: nobody comes in without.
        encrypted: TLS has begun with the first byte.
    """

    def __init__(self, *, tls: bool, required: bool, encrypted: bool) -> None:
        self.received = b""
        """What has come and hasn't been read."""
        self.encrypted = encrypted
        """The client's bytes come through TLS, from its answer on."""
        self._tls = tls
        self._required = required
        self._asked: set[int] = set()

    def next_request(self) -> Encryption | Cancel | Startup | None:
        """The next request, if it is whole.

        Raises:
            WireError: it can't be answered; the message is for the client.
        """
        packet = self.received
        if packet[:1] == bytes([_TLS_RECORD]):
            raise WireError(PROTOCOL_VIOLATION, "TLS isn't offered here", "use sslmode=disable")
        if len(packet) < 4 or len(packet) < (length := startup_length(packet)):
            return None
        code = startup_code(packet)
        if code in (SSL_REQUEST, GSSENC_REQUEST):
            return self._encryption(code, length)
        self.received = packet[length:]
        if code == CANCEL_REQUEST:
            if not 12 < length <= CANCEL_BYTES_MAX:
                raise WireError(PROTOCOL_VIOLATION, "invalid length of cancel request")
            return Cancel(packet[:length])
        if self._required and not self.encrypted:
            raise WireError(
                INVALID_AUTHORIZATION,
                "connections without TLS aren't accepted here",
                "use sslmode=require",
            )
        return read_startup(packet[:length])

    def _encryption(self, code: int, length: int) -> Encryption:
        if length != 8:
            raise WireError(PROTOCOL_VIOLATION, "invalid length of startup packet")
        if len(self.received) > length:
            # Whoever stands between could have put it there, to be taken for encrypted.
            raise WireError(
                PROTOCOL_VIOLATION, "received unencrypted data after an encryption request"
            )
        if code in self._asked or self.encrypted:
            raise WireError(PROTOCOL_VIOLATION, "unexpected request for encryption")
        self._asked.add(code)
        self.received = b""
        if code == GSSENC_REQUEST or not self._tls:
            return Encryption.REFUSED
        self.encrypted = True
        return Encryption.TLS
