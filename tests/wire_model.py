"""A small PostgreSQL of our own, behind an `Exchange`: speaks the protocol, keeps one name and one log.

Enters: bytes that an exchange sends upstream, cut in any way. Leaves: replies, and a log of what ran
under which application_name. Understands a toy language instead of SQL, but for the settings of
application_name and of identity variables, whose rules (transactions, rollback) are PostgreSQL's.
Independent of the code under test: it has a parser of its own.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from scalple.ingest.exchange import Exchange
from scalple.ingest.owner import Ending, Word
from scalple.ingest.variables import Variables
from scalple.ingest.whose import NOBODY, Identity

BASE = Identity("base", authn="asserted")
TAG = "a" * 13
_OWN = re.compile(r"SET application_name='([^']*)';")
_SETS = re.compile(r"""set (local )?app\."current_user" = '(\w*)'""")


def message(kind: str, body: bytes = b"") -> bytes:
    """One message."""
    return kind.encode() + struct.pack(">I", len(body) + 4) + body


def simple(text: str) -> bytes:
    """A simple query."""
    return message("Q", text.encode() + b"\0")


def extended(*texts: str, sync: bool = True, name: str = "") -> bytes:
    """Parse, Bind, Describe, Execute of each text, and a Sync."""
    parts = []
    for text in texts:
        parts.append(message("P", name.encode() + b"\0" + text.encode() + b"\0\0\0"))
        parts.append(message("B", b"\0" + name.encode() + b"\0" + b"\0" * 6))
        parts.append(message("D", b"P\0"))
        parts.append(message("E", b"\0" + b"\0" * 4))
    return b"".join(parts) + (message("S") if sync else b"")


@dataclass
class Server:
    """The model. `log` holds (text, application_name, value of the variable) of what ran."""

    name: str
    log: list[tuple[str, str, str]] = field(default_factory=list)
    out: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    status: str = "I"
    value: str = ""
    own_replies: list[bytes] = field(default_factory=list)
    _local: str | None = None
    _before: tuple[str, str] | None = None
    """(name, value) to go back to, inside a transaction block."""
    _implicit: tuple[str, str] | None = None
    """The same for the block that every segment is by itself."""
    _buffer: bytearray = field(default_factory=bytearray)
    _statements: dict[bytes, str] = field(default_factory=dict)
    _portal: str = ""
    _skipping: bool = False
    _copying: str = ""
    _reported: str = ""

    def feed(self, data: bytes) -> None:
        """Bytes from the exchange."""
        self._buffer += data
        while len(self._buffer) >= 5:
            length = struct.unpack_from(">I", self._buffer, 1)[0] + 1
            if len(self._buffer) < length:
                return
            whole = bytes(self._buffer[:length])
            del self._buffer[:length]
            self._take(whole)

    def _take(self, whole: bytes) -> None:
        kind, body = chr(whole[0]), whole[5:]
        own = _OWN.fullmatch(body[:-1].decode()) if kind == "Q" else None
        if own is None or not own[1].startswith("tag"):
            self.received += whole
        if self._copying:
            self._copy(kind)
            return
        if self._skipping and kind != "S":
            return
        if kind in "QPB" and self._implicit is None:
            self._implicit = (self.name, self.value)
        if kind == "Q":
            before = len(self.out)
            self._run(body[:-1].decode())
            if not self._copying:
                self._ready()
            if own is not None and own[1].startswith("tag"):
                self.own_replies.append(bytes(self.out[before:]))
        elif kind == "P":
            name, text, _ = body.split(b"\0", 2)
            self._statements[name] = text.decode()
            self.out += message("1")
        elif kind == "B":
            self._portal = self._statements[body.split(b"\0", 2)[1]]
            self.out += message("2")
        elif kind == "D":
            self.out += message("n")
        elif kind == "E":
            self._extended = True
            self._run(self._portal)
            self._extended = False
            self._skipping = self._skipping or self._failed
        elif kind == "S":
            self._skipping = False
            self._ready()

    _failed: bool = False
    _extended: bool = False

    def _copy(self, kind: str) -> None:
        if kind == "c":
            simple_protocol, self._copying = self._copying == "simple", ""
            self.out += message("C", b"COPY 1\0")
            if simple_protocol:
                self._ready()

    @property
    def current(self) -> str:
        """The variable's value in force."""
        return self.value if self._local is None else self._local

    def _run(self, text: str) -> None:
        self._failed = False
        for statement in (one.strip() for one in text.split(";")):
            if statement and not self._failed:
                self._one(statement)
        if self._failed:
            self.out += message("E", b"SERROR\0VERROR\0C42601\0Mno\0\0")
            if self.status == "T":
                self.status = "E"
            elif self.status == "I" and self._implicit is not None:
                self.name, self.value = self._implicit

    def _one(self, text: str) -> None:
        if self.status == "E" and text not in ("rollback", "commit"):
            self._failed = True
            return
        self.log.append((text, self.name, self.current))
        own = _OWN.fullmatch(text + ";")
        failed = self.status == "E"
        sets = _SETS.fullmatch(text)
        if text == "fail":
            self._failed = True
            return
        if text == "begin":
            if self.status == "I":
                self.status, self._before = "T", self._implicit
        elif text == "commit":
            self._end(commit=True)
        elif text == "rollback":
            self._end(commit=False)
        elif own:
            self.name = own[1]
        elif text.startswith("drift "):
            self.name = text[6:]
        elif sets:
            if sets[1]:
                self._local = sets[2]
            else:
                self.value, self._local = sets[2], None
        elif text == "row":
            # Row data that looks like what must be noticed elsewhere.
            fake = message("S", b"application_name\0evil\0") + message("Z", b"I")
            self.out += message("T", b"\0\0") + message("D", fake)
        elif text.startswith("copy stdin"):
            self.out += message("G", b"\0\0\0")
            if text.endswith("fail"):
                self._failed = True
            else:
                self._copying = "extended" if self._extended else "simple"
            return
        word = "ROLLBACK" if text == "commit" and failed else text.split()[0].upper()
        self.out += message("C", word.encode() + b"\0")

    def _end(self, *, commit: bool) -> None:
        before = self._before or self._implicit
        if (not commit or self.status == "E") and before is not None:
            self.name, self.value = before
        self._before, self._local, self.status = None, None, "I"
        self._implicit = (self.name, self.value)

    def _ready(self) -> None:
        self._implicit = None
        if self.status == "I":
            self._local = None
        if self.name != self._reported:
            self._reported = self.name
            self.out += message("S", b"application_name\0" + self.name.encode() + b"\0")
        self.out += message("Z", self.status.encode())


class Bench:
    """An exchange between a client's bytes and a model server; it is the exchange's owner.

    Args:
        variables: names of identity variables.
        cut: cuts a run of bytes into the pieces in which it arrives.
    """

    def __init__(
        self,
        cut: Callable[[bytes], list[bytes]] = lambda data: [data],
        variables: tuple[str, ...] = ("app.current_user",),
        *,
        slow_disk: bool = False,
        strict: bool = False,
    ) -> None:
        self.server = Server(TAG + " app")
        self.words: list[Word] = []
        self.to_the_client = bytearray()
        self.endings: list[Ending] = []
        self.holding = 0
        self.held = False
        self._cut = cut
        self._made = 0
        self._slow = slow_disk
        self._unrecorded = 0
        self._upstream = bytearray()
        self.exchange = Exchange(
            self, BASE, TAG, TAG + " app", self._new_name, Variables(variables), strict=strict
        )
        self.server._reported = ""
        self.server._ready()
        self.settle()

    def _new_name(self, suffix: str) -> tuple[str, str]:
        self._made += 1
        tag = f"tag{self._made:010d}"
        return tag, f"{tag} app{suffix}"

    def client(self, data: bytes) -> None:
        """The client sends."""
        for piece in self._cut(data):
            self.exchange.client_data(piece)
            if not self._slow:
                self.settle()
        self.settle()

    def settle(self) -> None:
        """Let everything happen that can."""
        while self._upstream or self.server.out or self._unrecorded:
            if self._unrecorded:
                self._unrecorded -= 1
                self.exchange.recorded()
            if self._upstream:
                data = bytes(self._upstream)
                self._upstream.clear()
                self.server.feed(data)
            if self.server.out:
                data = bytes(self.server.out)
                self.server.out.clear()
                for piece in self._cut(data):
                    self.exchange.server_data(piece)

    def who(self, name: str) -> str | None:
        """Whom a name stands for, by the last word about its tag."""
        tag = name.split(" ")[0]
        if tag == TAG and not any(word.tag == TAG for word in self.words):
            return BASE.actor
        said = [word for word in self.words if word.tag == tag and word.event == "identify"]
        assert said or tag == TAG, name
        identity = said[-1].identity if said else BASE
        assert identity is not None
        return identity.actor

    # What the exchange asks of its owner.

    def to_server(self, data: bytes) -> None:
        self._upstream += data

    def to_client(self, data: bytes) -> None:
        self.to_the_client += data

    def record(self, words: list[Word]) -> None:
        self.words += words
        self._unrecorded += 1

    def hold_client(self) -> None:
        self.held = True

    def free_client(self) -> None:
        self.held = False

    def may_hold(self, size: int) -> bool:
        self.holding += size
        return True

    def held_no_more(self, size: int) -> None:
        self.holding -= size

    def end(self, why: Ending) -> None:
        self.endings.append(why)

    def who_is(self, name: str) -> Identity | None:
        return NOBODY if name == "unlisted" else None if name == "revoked" else Identity(name)

    def cancel_key(self, key: bytes) -> None:
        raise AssertionError("the model sends none")
