"""The event files of remote senders, as far as they have arrived: the same bytes, file by file.

Enters: batches that were checked. Leaves: files of identity events that are followed like any other, and how
far each has come. What is there is the only memory: a file's size says what has arrived, so that a crash at
any moment loses nothing that was acknowledged, and a batch that comes again changes nothing.

Doesn't check who sends: see `senders`.
"""

import base64
import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from scalple.ingest.compressed import may_be_compressed
from scalple.ingest.errors import InputError
from scalple.ingest.identity import may_become_events
from scalple.ingest.shipment import Batch, FileHead, Position, Positions
from scalple.ingest.sourcefile import HEAD_READ_BYTES, TAIL_BYTES, sha256

_NAME = re.compile(r"(\d+)-(\d+)-([0-9a-f]{64})-(.+)\.jsonl(?:\.old)?")
_ENDED = re.compile(r"(\d+)-(\d+)-([0-9a-f]{64})-(.+)\.end")
OLD = ".old"
"""Ends the name of a file to which nothing is expected to come: who follows it sees that it is over."""
OLD_S = 3600.0
"""So long it keeps that name at least."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_NAME_MAX = 100
_LINE_MAX = 1 << 20
"""A line that was broken off is at most so long."""
_NO_EVENTS_HINT = (
    "an event file begins with identity events, one JSON object a line; take this one out of the sender's "
    "[ship] events"
)
_FILES_HINT = (
    "those that were read and that nothing came to make room after [intake] keep_days; let several senders "
    "share the files"
)
_STATE = "state"
FILES_MAX = 10_000
"""So many files one sender may have here."""


class SpoolConflictError(Exception):
    """A batch doesn't go on where the file stands.

    Attributes:
        end: where it stands; None: it holds other bytes at that place.
    """

    def __init__(self, end: int | None) -> None:
        super().__init__("the batch doesn't go on where the file stands")
        self.end = end


@dataclass(slots=True)
class Spool:
    """What has arrived of one sender.

    Args:
        directory: for this sender alone; made when needed, 0700.
    """

    directory: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def positions(self) -> Positions:
        """How far each file has come. Raises OSError."""
        with self._lock:
            found = [one for path in self._files() if (one := _position(path)) is not None]
            found += [Position.model_validate_json(one.read_bytes()) for one in self._ended()]
            state = None
            with contextlib.suppress(FileNotFoundError):
                state = base64.b64encode((self.directory / _STATE).read_bytes()).decode()
            return Positions(positions=tuple(found), state=state)

    def add(self, batch: Batch, check: Callable[[bytes], None]) -> tuple[int, int]:
        """Put a batch on disk: (where the file ends then, how many bytes were new).

        Args:
            batch: where it belongs, and its bytes.
            check: is given the batch, with the line's beginning before it, while nothing else comes to
                this spool; raises what must not be taken.

        Raises:
            SpoolConflictError: it doesn't fit.
            InputError: such a file isn't taken.
            OSError: it couldn't be written; what was written is the beginning of the batch, or nothing.
        """
        with self._lock:
            self._make()
            path, begin, events = self._place(batch.head.file), batch.head.begin, batch.events
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                if begin > size:
                    raise SpoolConflictError(size)
                # A batch may end in the middle of a line; its other half is looked at with it.
                check(self._unfinished_line(descriptor, begin) + events)
                there = os.pread(descriptor, min(len(events), size - begin), begin)
                if events[: len(there)] != there:
                    raise SpoolConflictError(None)
                self._check_head(descriptor, batch)
                _check_kind(descriptor, batch)
                self._remember(batch.head.state)
                _write_all(descriptor, events[len(there) :])
                os.fsync(descriptor)  # also what an earlier process wrote and didn't wait for
            finally:
                os.close(descriptor)
                with contextlib.suppress(OSError):
                    if path.stat().st_size < batch.head.file.head_bytes:
                        path.unlink()  # less than recognises it, and never acknowledged
            _sync(self.directory)
            return max(size, begin + len(events)), len(events) - len(there)

    @staticmethod
    def _unfinished_line(descriptor: int, begin: int) -> bytes:
        """What stands behind the last line feed before that place: the beginning of a line.

        Raises:
            InputError: it is longer than any event.
        """
        first = max(0, begin - _LINE_MAX)
        before = os.pread(descriptor, begin - first, first)
        at = before.rfind(b"\n") + 1
        if not at and first:
            raise InputError(
                f"holds a line of more than {_LINE_MAX:,} bytes",
                hint="no event is so long: what stands behind it is sent once that line is in another file",
            )
        return before[at:]

    def tidy(self, keep_s: float, is_read: Callable[[Path], bool]) -> None:
        """Remove files that are older, and read to their ends; how far they went is kept.

        Args:
            keep_s: since when nothing may have come to a file, in seconds.
            is_read: whether all of a file is in the store, and nothing more is expected.
        """
        with self._lock:
            for path in self._files():
                said, now = path.stat(), time.time()
                if now - said.st_mtime < keep_s:
                    continue
                if path.suffix != OLD:
                    path.rename(path.with_name(path.name + OLD))
                elif now - said.st_ctime >= OLD_S and is_read(path):
                    self._end(path)

    def _end(self, path: Path) -> None:
        position = _position(path)
        if position is not None:
            ended = path.with_name(f"{path.name.removesuffix(OLD).removesuffix('.jsonl')}.end")
            _replace(ended, position.model_dump_json().encode())
        path.unlink()
        _sync(self.directory)

    def _check_head(self, descriptor: int, batch: Batch) -> None:
        """Whether it is the file that it is said to be."""
        length = batch.head.file.head_bytes
        if batch.head.begin >= length:
            return
        head = os.pread(descriptor, batch.head.begin, 0) + batch.events
        if len(head) < length or sha256(head[:length]) != batch.head.file.head_sha256:
            raise SpoolConflictError(None)

    def _remember(self, state: str | None) -> None:
        """What the sender's follower remembers: before the bytes, which are unfinished by it."""
        if state is None:
            return
        said = base64.b64decode(state, validate=False)
        path = self.directory / _STATE
        with contextlib.suppress(FileNotFoundError):
            if path.read_bytes() == said:
                return
        _replace(path, said)

    def _files(self) -> list[Path]:
        return self._named(_NAME)

    def _ended(self) -> list[Path]:
        return self._named(_ENDED)

    def _named(self, form: re.Pattern[str]) -> list[Path]:
        try:
            return sorted(one for one in self.directory.iterdir() if form.fullmatch(one.name))
        except FileNotFoundError:
            return []

    def _place(self, file: FileHead) -> Path:
        """Where it lies: under what it is, whatever it is called now.

        Raises:
            InputError: it would be one too many.
        """
        names, begins = os.listdir(self.directory), _begins(file)  # noqa: PTH208 (thousands)
        alike = [one for one in names if one.startswith(begins)]
        for one in alike:  # of a file that was removed, more comes: all is needed, to know it again
            if _ENDED.fullmatch(one):
                (self.directory / one).unlink()
        for one in alike:
            if _NAME.fullmatch(one):
                return self.directory / one
        if sum(_NAME.fullmatch(one) is not None for one in names) >= FILES_MAX:
            raise InputError(
                f"one sender's files can't be more than {FILES_MAX:,}", hint=_FILES_HINT
            )
        shown = _UNSAFE.sub("_", file.name.removesuffix(".jsonl"))[:_NAME_MAX] or "events"
        return self.directory / f"{begins}{shown}.jsonl"

    def _make(self) -> None:
        if not self.directory.is_dir():
            if not self.directory.parent.is_dir():
                self.directory.parent.mkdir(mode=0o700, parents=True)
            self.directory.mkdir(mode=0o700)
            _sync(self.directory.parent)


def _check_kind(descriptor: int, batch: Batch) -> None:
    """Whether who follows the file will find events in it. What is compressed would be read, and wasn't
    checked.

    Raises:
        InputError: it isn't a file of events.
    """
    if batch.head.begin >= HEAD_READ_BYTES:
        return
    head = (os.pread(descriptor, batch.head.begin, 0) + batch.events)[:HEAD_READ_BYTES]
    if may_be_compressed(head):
        raise InputError("begins like a compressed file", hint=_NO_EVENTS_HINT)
    if not may_become_events(head):
        raise InputError("holds no identity event", hint=_NO_EVENTS_HINT)


def _begins(file: FileHead) -> str:
    return f"{file.incarnation}-{file.head_bytes}-{file.head_sha256}-"


def _replace(path: Path, data: bytes) -> None:
    """The file holds these bytes, or what it held before."""
    fresh = path.with_name(f".{path.name}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.rename(path)


def _position(path: Path) -> Position | None:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        if end < int(found[2]):
            return None
        tail = os.pread(file.fileno(), TAIL_BYTES, max(0, end - TAIL_BYTES))
    incarnation, head_bytes, head_sha256, name = found.groups()
    return Position(
        name=f"{name}.jsonl",
        head_bytes=int(head_bytes),
        head_sha256=head_sha256,
        incarnation=int(incarnation),
        end=end,
        tail_sha256=sha256(tail),
    )


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
