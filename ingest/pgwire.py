"""PostgreSQL's wire protocol, as far as a relay has to read and write it: bytes <-> plain values.

Enters: single messages. Leaves: their fields, or messages made from fields. Formats after the
chapter "Message Formats" of PostgreSQL's documentation and src/interfaces/libpq/fe-protocol3.c,
protocol 3.0 and 3.2. Reads no socket and keeps no state; whatever is malformed is a `WireError`
with the SQLSTATE that the server would give.
"""

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

STARTUP_BYTES_MAX = 10_000
"""MAX_STARTUP_PACKET_LENGTH in src/include/libpq/pqcomm.h."""
CANCEL_BYTES_MAX = 16 + 256
"""A cancel request with the longest key that protocol 3.2 allows."""

CANCEL_REQUEST: Final = 80877102
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104

_CLUSTER = re.compile("-[bEeFijlnOPsT]+c")
"""Switches without a value before a -c (the getopt string of postgres.c)."""

header = struct.Struct(">BI").unpack_from
"""(kind, length) of a message; the length counts itself but not the kind."""
_UINT = struct.Struct(">I")
_SHORT = struct.Struct(">H")

FATAL = "FATAL"
PROTOCOL_VIOLATION = "08P01"
INVALID_AUTHORIZATION = "28000"
CONNECTION_FAILURE = "08006"
UNABLE_TO_CONNECT = "08001"
TOO_MANY_CONNECTIONS = "53300"
CANNOT_CONNECT_NOW = "57P03"
ADMIN_SHUTDOWN = "57P01"
INVALID_PARAMETER = "22023"
NOT_SUPPORTED = "0A000"


class WireError(Exception):
    """What the client did wrong or can't have, in the terms of an ErrorResponse."""

    def __init__(self, sqlstate: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Startup:
    """A startup packet."""

    version: int
    """Protocol: major in the upper, minor in the lower 16 bits."""
    parameters: tuple[tuple[str, str], ...]
    """In the order sent; a name may stand twice. Bytes that aren't UTF-8 are surrogates."""


def startup_code(packet: bytes) -> int:
    """The code or version of a packet without a kind (at least 8 bytes)."""
    return int.from_bytes(packet[4:8])


def startup_length(packet: bytes) -> int:
    """The length that the packet states (at least 4 bytes), checked.

    Raises:
        WireError: no startup packet, cancel request or encryption request has that length.
    """
    length = int.from_bytes(packet[:4])
    if not 8 <= length <= STARTUP_BYTES_MAX:
        raise WireError(PROTOCOL_VIOLATION, "invalid length of startup packet")
    return length


def read_startup(packet: bytes) -> Startup:
    """Read a whole startup packet.

    Raises:
        WireError: another protocol than 3.x, or pairs that don't end as they must.
    """
    version = startup_code(packet)
    if version >> 16 != 3:
        raise WireError(
            NOT_SUPPORTED,
            f"unsupported frontend protocol {version >> 16}.{version & 0xFFFF}: "
            "this relay supports 3.0 to 3.2",
        )
    body = packet[8:]
    if not body.endswith(b"\0"):
        raise WireError(PROTOCOL_VIOLATION, "invalid startup packet layout: no terminator")
    words = body[:-1].split(b"\0")
    # Every text ends with a NUL of its own, so that the last part of the split is empty.
    if words.pop() != b"" or len(words) % 2 or b"" in words[::2]:
        raise WireError(PROTOCOL_VIOLATION, "invalid startup packet layout: pairs don't match")
    texts = [word.decode("utf-8", "surrogateescape") for word in words]
    return Startup(version, tuple(zip(texts[::2], texts[1::2], strict=True)))


def startup_packet(startup: Startup) -> bytes:
    """The packet that says that."""
    texts = [text for pair in startup.parameters for text in pair]
    body = b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in texts) + b"\0"
    return _UINT.pack(len(body) + 8) + _UINT.pack(startup.version) + body


def split_options(text: str) -> list[str]:
    """The words of the `options` parameter: spaces part them, a backslash keeps the next character.

    As pg_split_opts() in src/backend/utils/init/postinit.c.
    """
    words: list[str] = []
    word: list[str] | None = None
    characters = iter(text)
    for character in characters:
        if character.isspace():
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        word = [] if word is None else word
        word.append(next(characters, "") if character == "\\" else character)
    return words if word is None else [*words, "".join(word)]


def join_options(words: Iterable[str]) -> str:
    """The `options` parameter that holds these words."""
    return " ".join(
        "".join(f"\\{one}" if one.isspace() or one == "\\" else one for one in word)
        for word in words
    )


def options_settings(words: Sequence[str]) -> list[tuple[str, str | None, range]]:
    """(name, value, its words) of each setting in `options`; value None without an equals sign.

    `-c name=value`, `-cname=value` and `--name=value`; as in process_postgres_switches()
    (src/backend/tcop/postgres.c), dashes in a long option's name stand for underscores.
    """
    found: list[tuple[str, str | None, range]] = []
    at = 0
    while at < len(words):
        word, first = words[at], at
        at += 1
        if word == "-c" and at < len(words):
            setting = words[at]
            at += 1
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            setting = name.replace("-", "_") + equals + value
        elif word.startswith("-c"):
            setting = word[2:]
        elif _CLUSTER.match(word):
            raise WireError(
                INVALID_PARAMETER, "several switches in one word of options", "write -c by itself"
            )
        else:
            continue
        name, equals, value = setting.partition("=")
        found.append((name.strip(), value if equals else None, range(first, at)))
    return found


def message(kind: bytes, body: bytes) -> bytes:
    """One message."""
    return kind + _UINT.pack(len(body) + 4) + body


def query(text: str) -> bytes:
    """A simple query."""
    return message(b"Q", text.encode() + b"\0")


def error_response(
    severity: str, sqlstate: str, text: str, hint: str | None = None, detail: str | None = None
) -> bytes:
    """An ErrorResponse; texts become one line each."""
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": text, "D": detail, "H": hint}
    body = b"".join(
        f"{name}{' '.join(value.replace(chr(0), ' ').split())}".encode("utf-8", "replace") + b"\0"
        for name, value in fields.items()
        if value is not None
    )
    return message(b"E", body + b"\0")


def error_severity(body: bytes) -> bytes:
    """The severity of an ErrorResponse's body, in English (field V; S before 9.6)."""
    fields = {field[:1]: field[1:] for field in body.split(b"\0")}
    return fields.get(b"V", fields.get(b"S", b""))


def parameter_status(body: bytes) -> tuple[bytes, bytes]:
    """(name, value) of a ParameterStatus's body."""
    name, _, value = body.partition(b"\0")
    return name, value.removesuffix(b"\0")


@dataclass(frozen=True, slots=True)
class Parse:
    """Fields of a Parse message."""

    statement: bytes
    text: bytes
    types: tuple[int, ...]


def read_parse(body: bytes) -> Parse | None:
    """A Parse message's body; None if it is malformed (the server will say so)."""
    statement, found, rest = body.partition(b"\0")
    text, ended, types = rest.partition(b"\0")
    if (
        not found
        or not ended
        or len(types) < 2
        or len(types) != 2 + 4 * _SHORT.unpack_from(types)[0]
    ):
        return None
    return Parse(statement, text, struct.unpack(f">{(len(types) - 2) // 4}I", types[2:]))


@dataclass(frozen=True, slots=True)
class Bind:
    """Fields of a Bind message."""

    portal: bytes
    statement: bytes
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]

    def format_of(self, at: int) -> int:
        """0 for text, 1 for binary: none stated is text, one stated is everybody's."""
        if len(self.formats) <= 1:
            return self.formats[0] if self.formats else 0
        return self.formats[at] if at < len(self.formats) else -1


def read_bind(body: bytes) -> Bind | None:
    """A Bind message's body; None if it is malformed (the server will say so)."""
    portal, found, rest = body.partition(b"\0")
    statement, ended, rest = rest.partition(b"\0")
    if not found or not ended:
        return None
    try:
        (count,) = _SHORT.unpack_from(rest)
        formats = struct.unpack_from(f">{count}H", rest, 2)
        at = 2 + 2 * count
        (count,) = _SHORT.unpack_from(rest, at)
        at += 2
        values: list[bytes | None] = []
        for _ in range(count):
            (length,) = _UINT.unpack_from(rest, at)
            at += 4
            if length == 0xFFFFFFFF:
                values.append(None)
                continue
            value = rest[at : at + length]
            if len(value) != length:
                return None
            values.append(bytes(value))
            at += length
    except struct.error:
        return None
    return Bind(portal, statement, formats, tuple(values))
