"""Follows a sidecar's event files and sends them to a daemon on another host, each byte once.

Enters: event files as they grow. Leaves: signed batches, in order, one at a time; the next one goes when the
one before was acknowledged. What the daemon has is what it says it has: nothing is kept here, so that a
restart, on either side, goes on where the other one stands.
"""

import base64
import contextlib
import http.client
import json
import random
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from scalple.ingest.errors import InputError
from scalple.ingest.follower import OPEN_MAX, Follower
from scalple.ingest.generations import Generation, Known
from scalple.ingest.place import Place
from scalple.ingest.records import EVENT_SCHEMA
from scalple.ingest.rejects import Block
from scalple.ingest.servicelog import say
from scalple.ingest.shipment import (
    CLOCK,
    EVENTS_PATH,
    POSITIONS_PATH,
    SENDER,
    SIGNATURE,
    Batch,
    BatchHead,
    FileHead,
    Positions,
    sign,
)
from scalple.ingest.shippedstate import packed, unpacked
from scalple.ingest.sourcefile import Anchors, Piece

PAUSE_S = (1.0, 60.0)
"""After a failure it is tried again in so many seconds, twice as many each time."""
RETRY_MAX_S = 600.0
TIMEOUT_S = 30.0
CLOCK_S = 1.0
"""By more the clocks mustn't differ without a word."""
REFUSED_S = (60.0, 600.0)
"""A file that was refused is sent once more after so many seconds: if it has changed, and in any case."""
_ANSWER_MAX = 16 << 20
_SAID_MAX = 400


class NotTakenError(Exception):
    """The daemon didn't take it, or wasn't there.

    Attributes:
        retry_s: when it wants to be asked again.
    """

    def __init__(self, why: str, retry_s: float | None = None) -> None:
        super().__init__(why)
        self.retry_s = retry_s


class ElsewhereError(NotTakenError):
    """The daemon stands elsewhere than was thought: ask where."""


class FileRefusedError(NotTakenError):
    """The daemon doesn't take this file as it is; others it takes.

    Attributes:
        hint: what to do.
    """

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.hint = hint


class Reply(NamedTuple):
    """What the daemon said."""

    status: int
    said: dict[str, Any]
    retry_s: float | None


@dataclass(slots=True)
class Daemon:
    """The daemon's end.

    Args:
        place: where it listens.
        sender: who we are to it.
        key: signs.
        context: for TLS; it checks that the daemon is who it should be.
        token: shown with each request.
    """

    place: Place
    sender: str
    key: Ed25519PrivateKey
    context: ssl.SSLContext
    token: str | None = None
    timeout_s: float = TIMEOUT_S
    ahead_s: float = 0.0
    """By so much its clock is ahead of ours, as was seen last."""

    def positions(self) -> Positions:
        """What it has of us. Raises NotTakenError."""
        reply = self._ask("GET", POSITIONS_PATH)
        _check(reply)
        try:
            return Positions.model_validate_json(json.dumps(reply.said))
        except ValidationError:
            raise NotTakenError("the answer isn't what a daemon says") from None

    def take(self, batch: Batch) -> None:
        """Hand over a batch. Raises NotTakenError unless all of it is on the daemon's disk."""
        data = batch.to_bytes()
        reply = self._ask("POST", EVENTS_PATH, data, {SIGNATURE: sign(data, self.key)})
        if reply.status == 409:
            raise ElsewhereError("the daemon stands elsewhere in this file")
        if reply.status != 200 and "file" in reply.said:
            raise FileRefusedError(_said(reply, "error"), _said(reply, "hint"))
        _check(reply)
        if reply.said.get("end") != batch.head.begin + len(batch.events):
            raise ElsewhereError("the daemon has acknowledged something else")

    def _ask(
        self, method: str, path: str, data: bytes | None = None, more: dict[str, str] | None = None
    ) -> Reply:
        headers = {SENDER: self.sender} | (more or {})
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = http.client.HTTPSConnection(
            self.place.host or "", self.place.port, timeout=self.timeout_s, context=self.context
        )
        try:
            begun = time.time()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # It may have answered before it had read all.
                connection.request(method, path, data, headers)
            answer = connection.getresponse()
            said = answer.read(_ANSWER_MAX)
            self._note_clock(answer.headers.get(CLOCK), begun)
            retry = answer.headers.get("Retry-After", "")
            return Reply(answer.status, _json(said), float(retry) if retry.isdigit() else None)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotTakenError(f"no answer: {type(error).__name__}") from error
        finally:
            connection.close()

    def _note_clock(self, said: str | None, begun: float) -> None:
        """The daemon's clock against ours, in the middle between question and answer."""
        try:
            theirs = float(said or "")
        except ValueError:
            return
        ended = time.time()
        ahead = theirs - (begun + ended) / 2
        if abs(ahead) > CLOCK_S + (ended - begun) and abs(ahead - self.ahead_s) > CLOCK_S:
            say("clocks differ", daemon_ahead_s=round(ahead, 1))
        self.ahead_s = ahead


def _json(data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _said(reply: Reply, key: str) -> str:
    return str(reply.said.get(key) or "")[:_SAID_MAX]


def _check(reply: Reply) -> None:
    if reply.status != 200:
        why = _said(reply, "error")
        raise NotTakenError(f"{reply.status}: {why}" if why else str(reply.status), reply.retry_s)


@dataclass(slots=True)
class Shipper:
    """Sends what the event files hold.

    Args:
        daemon: takes them.
        patterns: the event files.
        batch_bytes: at most so many in one request.
    """

    daemon: Daemon
    patterns: Sequence[str]
    batch_bytes: int = 256 << 10
    sent_bytes: int = 0
    failures: int = 0
    clock: Callable[[], float] = time.monotonic
    is_behind: bool = False
    """There was more than could be open at once: the next round needn't wait."""
    _follower: Follower | None = field(default=None)
    _remembered: str | None = None
    """What the daemon was told that the follower remembers."""
    _told: set[str] = field(default_factory=set)
    _refused: dict[Generation, tuple[int, float]] = field(default_factory=dict)
    """Files that are passed over: how large they were, and when that was."""
    _refusals: set[tuple[Path, str]] = field(default_factory=set)
    """Those that were told of."""

    def round(self) -> int:
        """Send what is there now; the number of bytes that the daemon has taken. A file that it refuses is
        told of once and passed over.

        Raises:
            NotTakenError: it can't be sent now; the next round begins by asking where the daemon stands.
        """
        before = self.sent_bytes
        try:
            follower = self._follower = self._follower or self._begin()
            self._take_up()
            ready = follower.scan()
            self.is_behind = len(ready) >= OPEN_MAX
            for generation in ready:
                try:
                    for piece in generation.pieces(_whole_lines):
                        self._send(follower, generation, piece)
                        generation.commit(piece.anchors)
                except FileRefusedError as error:
                    self._pass_over(generation, error)
        except InputError as error:  # cut while it was read
            self.close()
            raise NotTakenError(str(error)) from error
        except (NotTakenError, OSError):
            self.close()
            raise
        unread = {f"{path}: {why}" for path, why in follower.problems.items()}
        for one in sorted(unread - self._told):
            say("can't be read", what=one)
        self._told = unread
        for gap in follower.take_gaps():
            said = "events lost" if gap.bytes_min else "events may be lost"
            say(said, file=gap.path, reason=gap.reason, after=gap.after, what=gap.detail)
        return self.sent_bytes - before

    @property
    def folders(self) -> list[Path]:
        """Where something may change."""
        return self._follower.folders if self._follower else []

    def close(self) -> None:
        """Let go of the files."""
        if self._follower is not None:
            self._follower.close()
            self._follower, self._remembered = None, None
            self._refused.clear()

    def pause_s(self, error: NotTakenError) -> float:
        """So long to wait after a failure."""
        self.failures += 1
        if isinstance(error, ElsewhereError) and self.failures == 1:
            return 0.0
        first, most = PAUSE_S
        pause = min(most, first * 2.0 ** min(self.failures - 1, 10))
        wanted = min(error.retry_s or 0.0, RETRY_MAX_S)
        # Not all senders at once, when a daemon comes back.
        return max(wanted, pause * random.uniform(0.5, 1.0))

    def _pass_over(self, generation: Generation, error: FileRefusedError) -> None:
        """Nothing of a file that was refused is lost: it is sent from there once it is taken."""
        generation.set_aside()
        self._refused[generation] = (generation.size, self.clock())
        if (generation.path, str(error)) not in self._refusals:
            self._refusals.add((generation.path, str(error)))
            say("file passed over", file=generation.path, why=str(error), hint=error.hint)

    def _take_up(self) -> None:
        changed_s, most_s = REFUSED_S
        for generation, (size, at) in list(self._refused.items()):
            since = self.clock() - at
            if since >= most_s or (since >= changed_s and generation.size != size):
                generation.take_up()
                del self._refused[generation]

    def _begin(self) -> Follower:
        has = self.daemon.positions()
        folders = Follower(self.patterns).folders or [Path()]
        known = [
            Known(
                next(
                    (f / one.name for f in folders if (f / one.name).exists()),
                    folders[0] / one.name,
                ),
                Anchors(one.head_bytes, one.head_sha256, one.end, one.tail_sha256),
                one.incarnation,
            )
            for one in has.positions
        ]
        state = None if has.state is None else _state(has)
        return Follower(self.patterns, known, state=state)

    def _send(self, follower: Follower, generation: Generation, piece: Piece) -> None:
        state = base64.b64encode(packed(follower.unfinished())).decode()
        file = FileHead(
            name=generation.path.name,
            head_bytes=piece.anchors.head_bytes,
            head_sha256=piece.anchors.head_sha256,
            incarnation=generation.incarnation,
        )
        at = piece.begin
        for events in _cut(piece.data[: piece.anchors.end - piece.begin], self.batch_bytes):
            said = None if state == self._remembered else state
            head = BatchHead(sender=self.daemon.sender, file=file, begin=at, state=said)
            self.daemon.take(Batch(head, events))
            self._remembered = state
            self.failures = 0
            self.sent_bytes += len(events)
            at += len(events)


def _state(has: Positions) -> bytes | None:
    try:
        return unpacked(base64.b64decode(has.state or ""), has.positions)
    except (InputError, ValueError):
        raise NotTakenError("the answer isn't what a daemon says") from None


def _cut(data: bytes, most: int) -> Iterator[bytes]:
    """Parts of at most so many bytes, at the ends of lines where there are any; the first one holds at
    least the head that tells what file it is."""
    at = 0
    while at < len(data):
        end = min(len(data), at + most)
        if end < len(data):
            line = data.rfind(b"\n", at + min(most, 4096), end)
            end = line + 1 if line >= 0 else end
        yield data[at:end]
        at = end


def _whole_lines(data: bytes, _offset: int, final: bool) -> Block:
    """All of it up to the last line feed; the rest as well where nothing more will come."""
    length = len(data) if final else data.rfind(b"\n") + 1
    return Block(_NOTHING, [], length)


_NOTHING: pa.Table = EVENT_SCHEMA.empty_table()

Wait = Callable[[float], bool]
"""Waits for so many seconds; whether to end."""


def ship(shipper: Shipper, rest: Callable[[list[Path]], object], wait: Wait) -> None:
    """Rounds, until it is told to end.

    Args:
        shipper: what sends.
        rest: waits until something may have changed in these folders.
        wait: waits for some seconds; whether to end.
    """
    failing = False
    while not wait(0.0):
        try:
            shipper.round()
        except (NotTakenError, OSError) as error:
            taken = error if isinstance(error, NotTakenError) else NotTakenError(str(error))
            pause = shipper.pause_s(taken)
            if pause:
                failing = True
                say("not sent", why=str(taken), again_in_s=round(pause, 1))
            if wait(pause):
                return
            continue
        if failing:
            failing = False
            say("sent again")
        if not shipper.is_behind:
            rest(shipper.folders)
