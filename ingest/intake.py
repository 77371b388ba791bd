"""What the daemon answers to those who send it identity events.

Enters: requests, read from the network. Leaves: events in the spool, and answers. The order of the checks is
that of what they cost: who it is and whether he may send so much now are looked at before anything is
read of what he sends. Answers and logs say why, never what.

Reads no socket: see `intakeserver`.
"""

import base64
import errno
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from scalple.ingest.errors import InputError
from scalple.ingest.senders import Allowance, Sender
from scalple.ingest.servicelog import say
from scalple.ingest.shipment import (
    EVENTS_PATH,
    HEAD_MAX,
    POSITIONS_PATH,
    SENDER,
    SIGNATURE,
    Batch,
    is_signed,
)
from scalple.ingest.spool import Spool, SpoolConflictError

FULL_RETRY_S = 30
"""Who finds the daemon behind may come again then."""
SAID_S = 60.0
"""The same refusal is written to the log once in that time."""
_BURST_S = 10.0
_WRONG = frozenset({403, 404, 405, 411, 413, 422})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken."""

    batch_bytes: int = 1 << 20
    """Of events, in one request."""
    bytes_s: int = 1 << 20
    """Of each sender."""
    backlog_bytes: int = 1 << 30
    """Taken and not committed yet, of all."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, before its body is read."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    length: int
    certificate: Mapping[str, Any] | None
    """Of the client, verified."""


class Answer(NamedTuple):
    """Status, JSON, and when to come again."""

    status: int
    body: dict[str, Any]
    retry_s: int | None = None


class Refusal(Exception):
    """An answer that isn't the one hoped for."""

    def __init__(self, status: int, why: str, retry_s: int | None = None, **more: object) -> None:
        super().__init__(why)
        self.answer = Answer(status, {"error": why, **more}, retry_s)


@dataclass(slots=True)
class Intake:
    """Takes events from those who may send them.

    Args:
        directory: each sender's files lie in a folder of his name.
        senders: who may send.
        limits: how much.
    """

    directory: Path
    senders: tuple[Sender, ...]
    limits: Limits = Limits()
    counts: Counter[str] = field(default_factory=Counter)
    """Requests by the status of their answer."""
    refused: Counter[str] = field(default_factory=Counter)
    """Of each sender, requests that will be refused as they are however often they come."""
    taken_bytes: int = 0
    _waiting: int = 0
    _allowances: dict[str, Allowance] = field(default_factory=dict)
    _spools: dict[str, Spool] = field(default_factory=dict)
    _said: dict[tuple[str, str], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def replace(self, senders: Iterable[Sender], limits: Limits) -> None:
        """Others may send from now on, or more."""
        with self._lock:
            self.senders, self.limits = tuple(senders), limits
            self._allowances.clear()

    def note_backlog(self, waiting: int) -> None:
        """So many bytes of events weren't committed at the last round."""
        with self._lock:
            self._waiting = waiting

    def sender_of(self, path: Path) -> str | None:
        """Whose file that is; None if it didn't come from a sender."""
        try:
            return path.relative_to(self.directory).parts[0]
        except (ValueError, IndexError):
            return None

    def tidy(self, keep_s: float, is_read: Callable[[Path], bool]) -> None:
        """Remove what is old and read, as `Spool.tidy`. Raises OSError."""
        for sender in self.senders:
            self._spool(sender).tidy(keep_s, is_read)

    def answer(self, request: Request, body: Callable[[], bytes]) -> Answer:
        """Answer a request; `body` reads what was sent with it."""
        sender: Sender | None = None
        try:
            sender = self._sender(request)
            if request.path == POSITIONS_PATH:
                return self._counted(self._positions(sender))
            self._check_room(sender, request.length)
            return self._counted(self._take(sender, request, body()))
        except Refusal as refusal:
            self._tell(sender, refusal)
            return self._counted(refusal.answer)

    def _counted(self, answer: Answer) -> Answer:
        with self._lock:
            self.counts[str(answer.status)] += 1
        return answer

    # -- who, and how much --------------------------------------------------------------------

    def _sender(self, request: Request) -> Sender:
        asked = {EVENTS_PATH: "POST", POSITIONS_PATH: "GET"}.get(request.path)
        if asked is None:
            raise Refusal(404, "nothing is here")
        if request.method != asked:
            raise Refusal(405, f"{asked} only")
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        token = text.strip().encode() if scheme.lower() == "bearer" and text.strip() else None
        name = request.headers.get(SENDER.lower(), "")
        found: Sender | None = None
        for one in self.senders:  # all of them: how long it takes tells nothing
            is_shown = one.is_shown(token, request.certificate)
            if one.name == name and is_shown:
                found = one
        if found is None:
            raise Refusal(401, "not known, or not shown to be who it says")
        return found

    def _check_room(self, sender: Sender, length: int) -> None:
        if not length:
            raise Refusal(411, "the length has to be said")
        if length > self.limits.batch_bytes + HEAD_MAX:
            raise Refusal(413, "too large", limit=self.limits.batch_bytes)
        with self._lock:
            if self._waiting + length > self.limits.backlog_bytes:
                raise Refusal(503, "too much waits to be committed", FULL_RETRY_S)
            allowance = self._allowances.get(sender.name)
            if allowance is None:
                most = max(self.limits.bytes_s * _BURST_S, self.limits.batch_bytes + HEAD_MAX)
                allowance = Allowance(self.limits.bytes_s, most)
                self._allowances[sender.name] = allowance
            wait_s = allowance.wait_s(length)
        if wait_s:
            raise Refusal(429, "too much at once", max(1, math.ceil(wait_s)))

    # -- what ---------------------------------------------------------------------------------

    def _positions(self, sender: Sender) -> Answer:
        try:
            return Answer(200, self._spool(sender).positions().model_dump())
        except OSError as error:
            raise Refusal(503, "the spool can't be read", FULL_RETRY_S) from error

    def _take(self, sender: Sender, request: Request, data: bytes) -> Answer:
        if not is_signed(data, request.headers.get(SIGNATURE.lower(), ""), sender.key):
            raise Refusal(403, "not signed by this sender")
        try:
            batch = Batch.from_bytes(data)
            if batch.head.state is not None:
                base64.b64decode(batch.head.state, validate=True)
        except (InputError, ValueError):
            raise Refusal(422, "not a batch of events") from None
        if batch.head.sender != sender.name:
            raise Refusal(403, "signed for another sender")
        if len(batch.events) > self.limits.batch_bytes:
            raise Refusal(413, "too large", limit=self.limits.batch_bytes)
        spool = self._spool(sender)
        try:
            end, new = spool.add(batch, partial(_check, sender))
        except SpoolConflictError as conflict:
            where = {} if conflict.end is None else {"end": conflict.end}
            raise Refusal(409, "doesn't go on where the file stands", **where) from conflict
        except InputError as error:  # of this file: its sender goes on with others
            named = batch.head.file.name
            raise Refusal(422, error.what, file=named, hint=error.hint) from error
        except OSError as error:
            is_full = error.errno in _FULL
            why = "no room in the spool" if is_full else "the spool can't be written"
            raise Refusal(507 if is_full else 503, why, FULL_RETRY_S) from error
        with self._lock:
            self.taken_bytes += new
            self._waiting += new
        return Answer(200, {"end": end})

    def _spool(self, sender: Sender) -> Spool:
        with self._lock:
            return self._spools.setdefault(sender.name, Spool(self.directory / sender.name))

    def _tell(self, sender: Sender | None, refusal: Refusal) -> None:
        """In the log, not for each of many."""
        key = ("" if sender is None else sender.name, str(refusal))
        now = time.monotonic()
        with self._lock:
            if sender is not None and refusal.answer.status in _WRONG:
                self.refused[sender.name] += 1
            if now - self._said.get(key, -SAID_S) < SAID_S:
                return
            self._said[key] = now
        say(
            "intake refused",
            sender=sender and sender.name,
            status=refusal.answer.status,
            why=key[1],
        )


def _check(sender: Sender, lines: bytes) -> None:
    if (why := sender.fault(lines)) is not None:
        raise Refusal(403, why)


def body_of(answer: Answer) -> bytes:
    """As JSON."""
    return json.dumps(answer.body).encode() + b"\n"
