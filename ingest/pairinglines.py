"""Lines of a PgBouncer log at `verbose=2` that say which client was on which server connection.

Enters: lines, in order. Leaves: events, in the order in which the pooler did it: `link` (a client was
given a server connection; 1.21 and later), `replay` (its settings are applied there), `served` (one of
its transactions ended there), `pooler-query` (a query of the pooler's own), `unpaired` where a line
must be missing, and `pairing-begins` where reading begins: what was before isn't known.

PgBouncer is one thread, so the ReadyForQuery that it read right before it notes the time of a client's
transaction is that transaction's (src/server.c, handle_server_work(); src/objects.c, find_server()): the
lines stand one right behind the other, and where they don't, nothing is paired. A client that only sent
Sync or Close has made no transaction; that is seen as well. Joins nothing.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from scalple.ingest.identity import canonical_address

_LINE = re.compile(
    rb"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+) \[(?P<pid>\d+)\] (?:DEBUG|NOISE) "
    rb"(?P<kind>[CS])-(?P<pointer>0x[0-9a-f]+): (?P<rest>.*)",
    re.DOTALL,
)
_PID = re.compile(rb"\S+ \S+ \S+ \[(\d+)\]")
_SOCKET = re.compile(
    rb"@(?P<host>unix(?:\(\d+\))?|\d+(?:\.\d+){3}|\[[0-9a-fA-F:.]+\]):(?P<port>\d+) "
)
_CLIENT = re.compile(
    rb"linking client to S-(?P<server>0x[0-9a-f]+)|transaction time: \d+ us|query time: \d+ us"
    rb"|read pkt='(?P<packet>.)'[, ].*|unexpected ReadyForQuery.*",
    re.DOTALL,
)
_SERVER = re.compile(
    rb"varcache_apply: (?P<set>.*)|read pkt='Z',.*|(?:P: checking|resetting): (?P<own>.*)"
    rb"|server connect ok, send exec_on_connect|server login ok, start accepting queries"
    rb"|pop_outstanding_request: .*|release_server: .*",
    re.DOTALL,
)
_MARKS = (
    b" linking client to S-",
    b" transaction time: ",
    b" query time: ",
    b" read pkt='",
    b" varcache_apply: ",
    b" P: checking: ",
    b" resetting: ",
    b" send exec_on_connect",
    b" server login ok, ",
    b" pop_outstanding_request: ",
    b" unexpected ReadyForQuery",
    b" release_server: ",
)
_BEGINS_TRANSACTION = frozenset({b"Q", b"P", b"B", b"D", b"E", b"F"})
AMBIGUOUS = "can be read in more than one way"

Told = tuple[str, dict[str, Any]]


@dataclass(slots=True)
class _Process:
    """What the last lines of one process said."""

    ready: bytes | None = None
    """The server connection whose ReadyForQuery the line before was about."""
    answered: bytes | None = None
    """The same, when the line before noted the time of a query."""
    expected: set[bytes] = field(default_factory=set)
    """Server connections whose next ReadyForQuery is the pooler's own."""
    inside: dict[bytes, bytes] = field(default_factory=dict)
    """Server connections that answered a query, and whose transaction isn't over, and their clients."""
    linked: dict[bytes, bytes] = field(default_factory=dict)
    """Clients of server connections, from their link until these are given back."""
    links: bool = False
    """It notes links (1.21 and later)."""
    lost: list[bytes] = field(default_factory=list)
    """Server connections of which the last line shows that lines before are missing."""
    open: tuple[bytes, str] | None = None
    """A ReadyForQuery that hasn't been accounted for yet, and its time."""


class PairingLines:
    """Reads the lines of one stretch of log; what lies before it isn't known."""

    def __init__(self) -> None:
        self._processes: dict[bytes, _Process] = {}
        self._sent: dict[tuple[bytes, bytes], bool | None] = {}
        """Per client: since its last transaction it began one (True), sent nothing (None) or only
        such as begins none (False)."""

    def read(self, line: bytes) -> list[Told] | str | None:
        """(time, event) of one line, None if it tells of no pairing, a reason if it may or may not.

        Names and settings are a client's free text: one that looks like the rest of such a line makes
        it ambiguous.
        """
        if not any(mark in line for mark in _MARKS) or b" LOG " in line[:60]:
            return self._other(line)
        frame = _LINE.fullmatch(line)
        if frame is None:
            return self._other(line)
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
            return self._other(line)
        socket, found = readings[0]
        # What a setting is set to may look like anything; it stands behind the pooler's own words.
        applied = not is_client and found["set"] is not None and socket is sockets[0]
        if len(sockets) > 1 and not applied:
            return AMBIGUOUS
        pid, pointer, time = frame["pid"], frame["pointer"], frame["time"].decode()
        begins = pid not in self._processes
        process = self._processes.setdefault(pid, _Process())
        if is_client:
            event = self._client(process, (pid, pointer), socket, found)
        else:
            event = self._server(process, pointer, time, found)
        told = self._missing(process, pid, is_client, found) if process.open else []
        of_process = {"source": "pgbouncer", "sidecar": pid.decode()}
        if begins:
            told.insert(0, (time, {"event": "pairing-begins"} | of_process))
        for lost in process.lost:
            told.append((time, {"event": "unpaired", "connection": lost.decode()} | of_process))
        process.lost.clear()
        if event is not None:
            told.append((time, of_process | event))
        return told or None

    def _other(self, line: bytes) -> list[Told] | None:
        """A line between: what has to stand right behind each other doesn't."""
        if not self._processes:
            return None
        found = _PID.match(line)
        process = self._processes.get(found[1]) if found else None
        if process is None or found is None:
            return None
        process.ready = process.answered = None
        return [self._unpaired(process, found[1])] if process.open else None

    def _missing(
        self, process: _Process, pid: bytes, is_client: bool, found: "re.Match[bytes]"
    ) -> list[Told]:
        """A ReadyForQuery that isn't followed by the note of its query: that line is missing."""
        waits = found[0].startswith((b"read pkt='Z'", b"pop_outstanding"))
        if found[0].startswith(b"unexpected"):
            return []
        if (not is_client and waits) or (is_client and found[0].startswith(b"query time")):
            return []
        return [self._unpaired(process, pid)]

    def _unpaired(self, process: _Process, pid: bytes) -> Told:
        assert process.open is not None
        (server, time), process.open = process.open, None
        event = {"event": "unpaired", "connection": server.decode()}
        return time, {"source": "pgbouncer", "sidecar": pid.decode()} | event

    def _client(
        self,
        process: _Process,
        key: tuple[bytes, bytes],
        socket: "re.Match[bytes]",
        found: "re.Match[bytes]",
    ) -> dict[str, Any] | None:
        if found[0].startswith(b"unexpected"):
            return None  # stands between the two
        before, process.ready = process.ready, None
        answered, process.answered = process.answered, None
        if found["packet"] is not None:
            begins = found["packet"] in _BEGINS_TRANSACTION
            self._sent[key] = begins or bool(self._sent.get(key))
            return None
        if found[0].startswith(b"query time"):
            process.answered, process.open = before, None
            if before is not None:
                self._goes_on(process, before, key[1])
                process.inside[before] = key[1]
            return None
        server = found["server"]
        event = "link"
        if server is not None:
            process.links = True
            self._goes_on(process, server, None)
            process.linked[server] = key[1]
        else:
            event, server = "served", answered
            if server is not None:
                process.inside.pop(server, None)
                if process.links and process.linked.get(server) != key[1]:
                    process.lost.append(server)
            else:
                on = [one for one, client in process.linked.items() if client == key[1]]
                server = on[0] if len(on) == 1 else None
            # Nothing seen at all: a line is missing, and it has made one.
            if self._sent.get(key, True) is False:
                self._sent[key] = None
                return None
            self._sent[key] = None
        try:
            address = canonical_address(socket["host"].decode())
        except ValueError:
            return None
        return {
            "event": event,
            "connection": key[1].decode(),
            "client_addr": address,
            "client_port": int(socket["port"]),
            "detail": None if server is None else server.decode(),
        }

    def _goes_on(self, process: _Process, server: bytes, client: bytes | None) -> None:
        """A server connection goes on with a client, or with something new (None): was it free?"""
        if process.inside.get(server, client) != client:
            process.lost.append(server)
            process.inside.pop(server)

    def _server(
        self, process: _Process, pointer: bytes, time: str, found: "re.Match[bytes]"
    ) -> dict[str, Any] | None:
        said = found[0]
        if said.startswith(b"pop_outstanding"):
            return None  # stands between the two
        process.ready = process.answered = None
        if said.startswith(b"read"):
            if pointer in process.expected:
                process.expected.discard(pointer)
                return None
            process.ready, process.open = pointer, (pointer, time)
            return None
        if said.startswith(b"release_server"):
            # If it is given back in the middle of a transaction, the note of its end is missing.
            self._goes_on(process, pointer, None)
            process.linked.pop(pointer, None)
            return None
        if said.startswith(b"server login ok"):
            process.open = None  # the first ReadyForQuery ends the login
            return None
        self._goes_on(process, pointer, None)
        process.expected.add(pointer)
        applied = found["set"] or found["own"]
        return {
            "event": "pooler-query" if found["set"] is None else "replay",
            "connection": pointer.decode(),
            "detail": None if applied is None else applied.decode("utf-8", "replace"),
        }
