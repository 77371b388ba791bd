"""Lines of a PgBouncer log at `verbose=2` that say which client was on which server connection.

Enters: lines, in order. Leaves: events of four kinds, in the order in which the pooler did it:
`link` (a client was given a server connection; 1.21 and later), `replay` (its settings are applied
there), `served` (one of its transactions ended there), `pooler-query` (a query of the pooler's own).

PgBouncer is one thread, so the last ReadyForQuery that it read before it notes the time of a client's
transaction is that transaction's (src/server.c, handle_server_work(); src/objects.c, find_server()).
A client that only sent Sync or Close has made no transaction; that is seen as well. Joins nothing.
"""

import re
from typing import Any

from scalple.ingest.identity import canonical_address

_LINE = re.compile(
    rb"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+) \[(?P<pid>\d+)\] (?:DEBUG|NOISE) "
    rb"(?P<kind>[CS])-(?P<pointer>0x[0-9a-f]+): (?P<rest>.*)",
    re.DOTALL,
)
_SOCKET = re.compile(
    rb"@(?P<host>unix(?:\(\d+\))?|\d+(?:\.\d+){3}|\[[0-9a-fA-F:.]+\]):(?P<port>\d+) "
)
_CLIENT = re.compile(
    rb"linking client to S-(?P<server>0x[0-9a-f]+)|transaction time: \d+ us"
    rb"|read pkt='(?P<packet>.)'[, ].*",
    re.DOTALL,
)
_SERVER = re.compile(
    rb"varcache_apply: (?P<set>.*)|read pkt='Z',.*|(?:P: checking|resetting): (?P<own>.*)"
    rb"|server connect ok, send exec_on_connect",
    re.DOTALL,
)
AMBIGUOUS = "can be read in more than one way"
_MARKS = (
    b" linking client to S-",
    b" transaction time: ",
    b" read pkt='",
    b" varcache_apply: ",
    b" P: checking: ",
    b" resetting: ",
    b" send exec_on_connect",
)
_BEGINS_TRANSACTION = frozenset({b"Q", b"P", b"B", b"D", b"E", b"F"})


class PairingLines:
    """Reads the lines of one stretch of log; what lies before it isn't known."""

    def __init__(self) -> None:
        self._ready: dict[bytes, bytes] = {}
        """Per process the server connection that was ready last."""
        self._idle: set[tuple[bytes, bytes]] = set()
        """Clients whose last transaction is over and who have sent nothing since that begins one."""

    def read(self, line: bytes) -> tuple[str, dict[str, Any]] | str | None:
        """(time, event) of one line, None if it tells of no pairing, a reason if it may or may not.

        Names and settings are a client's free text: one that looks like the rest of such a line makes
        it ambiguous.
        """
        if b" LOG " in line[:60] or not any(mark in line for mark in _MARKS):
            return None
        frame = _LINE.fullmatch(line)
        if frame is None:
            return None
        is_client = frame["kind"] == b"C"
        form = _CLIENT if is_client else _SERVER
        rest = frame["rest"]
        sockets = list(_SOCKET.finditer(rest))
        readings = [
            (one, found)
            for one in sockets
            if (found := form.fullmatch(rest, one.end())) is not None
        ]
        if not readings:
            return None
        socket, found = readings[0]
        # What a setting is set to may look like anything; it stands behind the pooler's own words.
        applied = not is_client and found["set"] is not None and socket is sockets[0]
        if len(sockets) > 1 and not applied:
            return AMBIGUOUS
        pid, pointer = frame["pid"], frame["pointer"]
        event = (
            self._client(pid, pointer, socket, found)
            if is_client
            else self._server(pid, pointer, found)
        )
        if event is None:
            return None
        own = {"source": "pgbouncer", "sidecar": pid.decode()}
        return frame["time"].decode(), own | event

    def _client(
        self, pid: bytes, pointer: bytes, socket: "re.Match[bytes]", found: "re.Match[bytes]"
    ) -> dict[str, Any] | None:
        if found["packet"] is not None:
            if found["packet"] in _BEGINS_TRANSACTION:
                self._idle.discard((pid, pointer))
            return None
        server = found["server"]
        event = "link"
        if server is None:
            event, server = "served", self._ready.get(pid)
            if (pid, pointer) in self._idle:
                return None
            self._idle.add((pid, pointer))
        try:
            address = canonical_address(socket["host"].decode())
        except ValueError:
            return None
        return {
            "event": event,
            "connection": pointer.decode(),
            "client_addr": address,
            "client_port": int(socket["port"]),
            "detail": None if server is None else server.decode(),
        }

    def _server(
        self, pid: bytes, pointer: bytes, found: "re.Match[bytes]"
    ) -> dict[str, Any] | None:
        if found[0].startswith(b"read"):
            self._ready[pid] = pointer
            return None
        applied = found["set"] or found["own"]
        return {
            "event": "pooler-query" if found["set"] is None else "replay",
            "connection": pointer.decode(),
            "detail": None if applied is None else applied.decode("utf-8", "replace"),
        }
