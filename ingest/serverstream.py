"""The server's bytes, cut into messages: what passes, and what has to be looked at on the way.

Enters: bytes, cut in any way. Leaves: the same bytes in order, but for messages that are kept from the
client. Only the kinds that are watched are looked into; all others, rows among them, pass by their
length, also in pieces.
"""

from collections.abc import Callable

from scalple.ingest.pgwire import header

_READY = ord("Z")
_WHOLE_BYTES_MAX = 1 << 16
"""A watched message that is longer passes unread; none that is meant is so long."""


class ServerStream:
    """One direction of a conversation.

    Args:
        watched: kinds of messages to show.
        watch: shown (kind, body); whether the client is to see the message.
        ready: told the status of a ReadyForQuery, after all before it has been sent.
        send: to the client.
    """

    def __init__(
        self,
        watched: frozenset[int],
        watch: Callable[[int, bytes], bool],
        ready: Callable[[int], None],
        send: Callable[[bytes], None],
    ) -> None:
        self._watched = watched
        self._watch = watch
        self._ready = ready
        self._send = send
        self._rest = b""
        self._skip = 0
        """Bytes of the current message that pass unread."""

    def feed(self, data: bytes) -> None:
        """Bytes from the server."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        size = len(data)
        at = self._skip
        if at >= size:
            self._skip -= size
            self._send(data)
            return
        self._skip = 0
        begin = 0
        while size - at >= 5:
            kind, length = header(data, at)
            end = at + 1 + length
            if kind in self._watched:
                if end > size and length < _WHOLE_BYTES_MAX:
                    break
                keep = self._watch(kind, data[at + 5 : end])
                if kind == _READY or not keep:
                    upto = end if keep else at
                    if upto > begin:
                        self._send(data[begin:upto])
                    begin = end
                    if kind == _READY:
                        self._ready(data[end - 1])
            if end > size:
                self._skip = end - size
                at = size
                break
            at = end
        if at < size:
            self._rest = data[at:]
        if at > begin:
            self._send(data if not begin and at == size else data[begin:at])
