"""PgBouncer's log (1.12 to 1.25) -> connection events.

Enters: bytes that begin at a line's start. Leaves: a table of `EVENT_SCHEMA` with the lines that
open and close client and server connections and start the process, and the lines that are no
PgBouncer log line or can be read in two ways. Sources: libusual logging.c, src/util.c
log_socket_prefix(), src/client.c, src/objects.c.

User and database names are a client's free text and stand unquoted in the line, before any
password is checked: every way to read a line is tried, and one that can be read in two ways names
nobody. A `login attempt` is not a successful login; whoever derives intervals looks at how the
connection ended. What `verbose=2` tells of pairings is for `pairinglines`.
"""

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from scalple.ingest.identity import canonical_address
from scalple.ingest.lines import complete_lines, consumed_bytes
from scalple.ingest.logtime import ZONE, LogTimes, NotATimeError
from scalple.ingest.pairinglines import PairingLines
from scalple.ingest.records import EVENT_SCHEMA
from scalple.ingest.rejects import Block, Reject

_FRAME = re.compile(
    rf"(?P<time>\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} (?:{ZONE})) \[(?P<pid>\d+)\] "
    r"(?P<level>FATAL|ERROR|WARNING|LOG|DEBUG|NOISE) (?P<text>.*)",
    re.DOTALL,
)
_SOCKET = re.compile(r"(?P<kind>[CS])-(?P<pointer>0x[0-9a-f]+): (?P<rest>.*)", re.DOTALL)
_HOST = r"(?P<host>unix(?:\(\d+\))?|\d+(?:\.\d+){3}|\[[0-9a-fA-F:.]+\]|\(bad-af\))"
_PREFIX = re.compile(rf"(?P<names>.*)@{_HOST}:(?P<port>\d+)", re.DOTALL)
_LOGIN_TAIL = re.compile(
    r"tls=(?:no|TLSv[\d.]+/[\w-]+(?:/\w+=[\w?-]+)*)(?: replication=(?:no|yes|database))?"
)
_CONNECT = re.compile(
    r"(?P<left>.*) new connection to server(?: \(from (?P<from>\S+)\))?", re.DOTALL
)
_CLOSE = re.compile(r"(?P<left>.*) closing because: (?P<reason>.*) \(age=\d+s?\)", re.DOTALL)
_FROM = re.compile(r"\[?(?P<addr>[0-9a-fA-F:.]+?)\]?:(?P<port>\d+)")

_LOGIN = " login attempt: db="
_LOGINS, _CLOSINGS, _USERS, _TLS = map(
    re.compile, (_LOGIN, " closing because: ", " user=", " tls=")
)
_INTERESTING = (
    b" login attempt: db=",
    b" closing because: ",
    b" new connection to server",
    b" process up: PgBouncer ",
    b"got too long value, skipping",
    b" stats: ",
    b" got SIG",
    b" server connections dropped, exiting",
)
_UNREADABLE = "tells of a connection, but can't be read"
_ABOUT_CONNECTIONS = (_LOGIN, " closing because: ", " new connection to server")
# Lines of the process itself -> event; `alive` only says that the log covers that moment.
_PROCESS = {
    "stats: ": "alive",
    "got SIG": "process-down",
    "server connections dropped, exiting": "process-down",
}


def looks_like_pgbouncer(head: bytes) -> bool:
    """Whether the first bytes of a file hold a PgBouncer log line."""
    return any(_FRAME.fullmatch(_text(line)) for _, line in complete_lines(head + b"\n", 0))


def parse_log(
    data: bytes,
    offset: int,
    path: str,
    times: LogTimes,
    *,
    final: bool = True,
    pairing: PairingLines | None = None,
) -> Block:
    """Parse the complete messages of `data`.

    A message goes on where the next line begins with a tab: a client's names may hold line
    breaks, and a line read without its rest could say what PgBouncer never said.

    Args:
        data: bytes that begin at a line's start.
        offset: where they stand in the file, in bytes.
        path: the file's name as it is to be recorded.
        times: resolves the zone of the time stamps.
        final: nothing follows for now; otherwise the last message waits for the next line.
        pairing: what the bytes before said of pairings, where the log is read in pieces.
    """
    messages = list(_messages(data, offset))
    consumed = consumed_bytes(data)
    if not final and messages:
        consumed = messages.pop()[0] - offset
    rows: list[dict[str, Any]] = []
    stamps: list[str] = []
    rejects: list[Reject] = []
    pairing = PairingLines() if pairing is None else pairing
    for at, whole in messages:
        line = whole.removesuffix(b"\r")  # of a file from elsewhere: PgBouncer ends no line so
        paired = pairing.read(line)
        if isinstance(paired, str):
            rejects.append(Reject(at, line, paired))
            continue
        if paired is not None:
            stamps += [stamp for stamp, _ in paired]
            rows += [told | {"source_file": path, "source_offset": at} for _, told in paired]
        interesting = any(mark in line for mark in _INTERESTING)
        if not interesting and line[4:5] == b"-" and line[10:11] == b" ":
            continue
        frame = _FRAME.fullmatch(_text(line))
        if frame is None:
            rejects.append(Reject(at, line, "not a PgBouncer log line"))
            continue
        event = _event(frame["text"]) if interesting else None
        if event == _UNREADABLE and frame["level"] != "LOG":
            event = None  # other levels say much about connections
        if event is not None and not _is_time(frame["time"]):
            event = "not a time"
        if isinstance(event, str):
            rejects.append(Reject(at, line, event))
        elif event is not None:
            stamps.append(frame["time"])
            rows.append(
                event
                | {
                    "source": "pgbouncer",
                    "sidecar": frame["pid"],
                    "source_file": path,
                    "source_offset": at,
                }
            )
    try:
        moments = times.resolve(pa.array(stamps, pa.string()))
    except NotATimeError:
        rows, stamps = _with_times(rows, stamps, times, rejects, data, offset)
        moments = times.resolve(pa.array(stamps, pa.string()))
    table = pa.Table.from_pylist(rows, schema=EVENT_SCHEMA)
    at = table.schema.get_field_index("ts")
    return Block(table.set_column(at, "ts", moments), rejects, consumed)


def _with_times(
    rows: list[dict[str, Any]],
    stamps: list[str],
    times: LogTimes,
    rejects: list[Reject],
    data: bytes,
    offset: int,
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows whose times can be resolved; the lines of the others are rejected."""
    kept: list[tuple[dict[str, Any], str]] = []
    for row, stamp in zip(rows, stamps, strict=True):
        try:
            times.resolve(pa.array([stamp], pa.string()))
        except NotATimeError as error:
            begin = row["source_offset"] - offset
            rejects.append(
                Reject(row["source_offset"], data[begin:].split(b"\n", 1)[0], error.what)
            )
        else:
            kept.append((row, stamp))
    return [row for row, _ in kept], [stamp for _, stamp in kept]


def _messages(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Lines, each with those that continue it: PgBouncer puts a tab behind every line break."""
    begin, message = offset, b""
    for at, line in complete_lines(data, offset):
        if line.startswith(b"\t"):
            message += b"\n" + line[1:]
            continue
        if message:
            yield begin, message
        begin, message = at, line
    if message:
        yield begin, message


def _is_time(stamp: str) -> bool:
    try:
        dt.datetime.fromisoformat(stamp[:23])
    except ValueError:
        return False
    return True


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _clean(text: str) -> str:
    """Names as they can be stored: bytes that are no UTF-8 become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _event(text: str) -> dict[str, Any] | str | None:
    """The event of a line's message, None if it holds none, a reason if it is ambiguous."""
    if text.startswith("process up: PgBouncer "):
        version = text.removeprefix("process up: PgBouncer ").split(",", 1)[0]
        return {"event": "process-up", "detail": version}
    for beginning, event in _PROCESS.items():
        if text.startswith(beginning):
            return {"event": event}
    if "got too long value, skipping" in text and not _SOCKET.fullmatch(text):
        return {"event": "too-long-value"}
    socket = _SOCKET.fullmatch(text)
    readings = list(_readings(socket["kind"], socket["rest"])) if socket else []
    if socket is None or not readings:
        # Before its address is known a server connection has none: nothing to tell of it.
        tells = any(mark in text for mark in _ABOUT_CONNECTIONS) and "@(bad-af):" not in text
        return _UNREADABLE if tells else None
    if len(readings) > 1:
        return "can be read in more than one way"
    names = readings[0]
    return {**names, "connection": socket["pointer"]}


@dataclass(frozen=True, slots=True)
class _Socket:
    """The part of a line that log_socket_prefix() wrote."""

    names: str
    addr: str
    port: int


def _socket(left: str) -> _Socket | None:
    prefix = _PREFIX.fullmatch(left)
    if prefix is None or prefix["host"] == "(bad-af)":
        return None
    try:
        return _Socket(prefix["names"], canonical_address(prefix["host"]), int(prefix["port"]))
    except ValueError:
        return None


def _readings(kind: str, rest: str) -> Iterator[dict[str, Any]]:
    """Every self-consistent way to read the message of a socket's line."""
    if kind == "C":
        yield from _logins(rest)
    elif (connect := _CONNECT.fullmatch(rest)) and (socket := _socket(connect["left"])):
        yield from _server_connects(socket, connect["from"])
    close = _CLOSE.fullmatch(rest)
    if close is None:
        return
    # The reason is PgBouncer's own text, or the client's inside quotes that it doesn't write;
    # the first " closing because: " that follows a well-formed prefix ends the names.
    lefts = {rest[: found.start()] for found in _CLOSINGS.finditer(rest)}
    sockets = [socket for left in lefts if (socket := _socket(left))]
    for socket in sockets:
        reason = rest[rest.index(" closing because: ") + len(" closing because: ") :]
        closed = {"detail": _clean(reason.rsplit(" (age=", 1)[0])}
        if kind == "S":
            yield {"event": "server-close"} | closed
            continue
        endpoint = {"client_addr": socket.addr, "client_port": socket.port}
        yield {"event": "client-close"} | endpoint | login_names(socket.names) | closed


def _logins(rest: str) -> Iterator[dict[str, Any]]:
    for found in _LOGINS.finditer(rest):
        socket = _socket(rest[: found.start()])
        if socket is None:
            continue
        right = rest[found.end() :]
        for middle in _USERS.finditer(right):
            for tail in _TLS.finditer(right[middle.end() :]):
                user = right[middle.end() : middle.end() + tail.start()]
                database = right[: middle.start()]
                end = right[middle.end() + tail.start() + 1 :]
                if not _LOGIN_TAIL.fullmatch(end):
                    continue
                if socket.names == f"{database}/{user}":
                    known: str | None = _clean(database)
                elif socket.names == f"(nodb)/{user}":
                    known = None  # mock authentication: never an identity
                else:
                    continue
                yield {
                    "event": "client-login",
                    "client_addr": socket.addr,
                    "client_port": socket.port,
                    "database": known,
                    "db_role": _clean(user),
                    "detail": end,
                }


def login_names(names: str) -> dict[str, Any]:
    """Database and role of a client, as the prefix of its lines has them; neither if that can't be said.

    One that hasn't logged in has no database; a request to cancel has its victim's, but no role.
    """
    database, slash, role = names.partition("/")
    if not slash or "/" in role:
        return {"database": None, "db_role": None}
    inside = database != "(nodb)" and role != "(nouser)"
    return {"database": _clean(database) if inside else None, "db_role": _clean(role)}


def _server_connects(socket: _Socket, local: str | None) -> Iterator[dict[str, Any]]:
    database, slash, role = socket.names.partition("/")
    if not slash or "/" in role:
        return  # a name with a slash: which part is the database can't be said
    endpoint = _FROM.fullmatch(local) if local else None
    yield {
        "event": "server-connect",
        "client_addr": canonical_address(endpoint["addr"]) if endpoint else "unix",
        "client_port": int(endpoint["port"]) if endpoint else None,
        "database": _clean(database),
        "db_role": _clean(role),
    }
