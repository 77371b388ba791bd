"""The file of identity events that a sidecar writes: append-only, numbered without holes, on disk.

Enters: events without head. Leaves: JSON Lines with `v`, `ts`, `sidecar` and `seq`; whoever waits is
told when its events are on disk (`fdatasync`), many of them by one sync. The numbering goes on where
the newest file ended, across restarts and rotation. One writer a file, held by a lock beside it.

Doesn't know what the events mean. A write that fails leaves the file as it was and uses no number.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scalple.ingest.errors import ConfigError, InputError

Event = dict[str, Any]
Done = Callable[[OSError | None], None]

_TAIL_BYTES = 1 << 20
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class EventFile:
    """An open file of events; `start` and `stop` it within a running event loop.

    Args:
        path: the file that is written; older ones stand beside it.
        sidecar: the writer's name; without one, the name that the file already has, or a new one.
        rotate_bytes: above this size the file is renamed and a new one begun; 0 for never.

    Raises:
        ConfigError: another process writes this file, or another sidecar did.
        InputError: the file can't be opened, or its end can't be read.
    """

    def __init__(self, path: Path, sidecar: str | None = None, *, rotate_bytes: int = 0) -> None:
        self.path = path = path.resolve()
        self._rotate_bytes = rotate_bytes
        self._lock = self._locked()
        self._seq, known = last_written(path, sidecar)
        if sidecar is not None and known is not None and known != sidecar:
            os.close(self._lock)
            raise ConfigError(
                f"this file was written by the sidecar {known!r}, not {sidecar!r}",
                place=str(path),
                hint="give every sidecar a file of its own",
            )
        self.sidecar = sidecar or known or _made_up_name()
        self._file = self._opened()
        self._queue: list[tuple[list[Event], Done | None]] = []
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "events")
        self._task: asyncio.Task[None] | None = None
        self._reopen = False
        self._skipped = 0
        self.written = 0
        """Events written since the start."""
        self.failing: OSError | None = None
        """Why the last write failed, if it did."""
        self.waiting_since: float | None = None
        """When the oldest unwritten event was handed in (the loop's clock)."""

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def write(self, events: list[Event], done: Done | None = None) -> None:
        """Write events, in the order of the calls; `done` is told when they are on disk or failed.

        Never raises. Events without `done` are synced with the next that have one.
        """
        if not self._queue:
            self.waiting_since = asyncio.get_running_loop().time()
        self._queue.append((events, done))
        self._wake.set()

    async def written_down(self, events: list[Event]) -> None:
        """Write events and wait until they are on disk.

        Raises:
            OSError: they are not.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: OSError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.write(events, done)
        await future

    def skip(self) -> None:
        """Leave a number out: something happened that couldn't be written down."""
        self._skipped += 1

    def reopen(self) -> None:
        """Go on in a new file if ours was renamed or removed (at the next write)."""
        self._reopen = True

    async def stop(self) -> None:
        """Write what is left and close."""
        if self._task is not None:
            while self._queue and not self._task.done():
                await asyncio.sleep(0.005)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown()
        os.close(self._file)
        os.close(self._lock)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._queue = self._queue, []
            self.waiting_since = None
            if not batch:
                continue
            sync = any(done is not None for _, done in batch)
            events = [event for part, _ in batch for event in part]
            error: OSError | None = None
            try:
                await asyncio.shield(loop.run_in_executor(self._thread, self._append, events, sync))
            except OSError as failed:
                error = failed
            self.failing = error
            if error is None:
                self.written += len(events)
            else:
                # Nobody waits for these, so nobody will say them again: readers see a hole.
                unsaid = [event for part, done in batch if done is None for event in part]
                self._skipped += sum(event["event"] != "heartbeat" for event in unsaid)
            for _, done in batch:
                if done is not None:
                    done(error)

    # -- in the writing thread ------------------------------------------------------------------

    def _append(self, events: list[Event], sync: bool) -> None:
        changing = self._reopen or 0 < self._rotate_bytes <= _size(self._file)
        if changing and self._change_files():
            # So that the newest file always tells where the numbering stands.
            events = [{"event": "heartbeat"}, *events]
            sync = True
        begin = _size(self._file)
        before, skipped = self._seq, self._skipped
        self._seq += skipped
        lines = b"".join(self._lines(events))
        try:
            _write_all(self._file, lines)
            if sync:
                os.fdatasync(self._file)
        except OSError:
            # Nobody has seen a number of these: the file goes back to where it was.
            self._seq = before
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, begin)
            raise
        self._seq += len(events)
        self._skipped -= skipped

    def _lines(self, events: Iterable[Event]) -> Iterable[bytes]:
        for ahead, event in enumerate(events, start=1):
            head: Event = {
                "v": 1,
                "event": event["event"],
                "ts": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "sidecar": self.sidecar,
                "seq": self._seq + ahead,
            }
            yield json.dumps(head | event, separators=(",", ":")).encode() + b"\n"

    def _change_files(self) -> bool:
        """Go on in a new file if ours was moved or is full; whether there is a new one.

        Raises OSError, and then nothing has changed.
        """
        try:
            there = self.path.stat()
        except FileNotFoundError:
            there = None
        ours = os.fstat(self._file)
        same = there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
        full = self._rotate_bytes and ours.st_size >= self._rotate_bytes
        if same and full:
            name = f"{self.path.stem}-{self._seq:012d}{self.path.suffix}"
            self.path.rename(self.path.with_name(name))
            same = False
        if not same:
            new = _open_file(self.path)
            os.fdatasync(self._file)
            old, self._file = self._file, new
            os.close(old)
        self._reopen = False
        return not same

    def _opened(self) -> int:
        try:
            return _open_file(self.path)
        except OSError as error:
            raise InputError(
                f"can't write events: {error.strerror}",
                place=str(self.path),
                hint="the directory has to exist and belong to the sidecar's account",
            ) from error

    def _locked(self) -> int:
        name = self.path.with_name(f".{self.path.name}.lock")
        try:
            lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(
                f"can't write events: {error.strerror}",
                place=str(self.path),
                hint="the directory has to exist and belong to the sidecar's account",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise ConfigError(
                "another sidecar writes this file",
                place=str(self.path),
                hint="give every sidecar a file of its own",
            ) from error
        return lock


def last_written(path: Path, sidecar: str | None) -> tuple[int, str | None]:
    """(number, writer) of the newest event in this file or the ones rotated away from it.

    0 and None where there is none.
    """
    best: tuple[int, str | None] = (-1, None)
    # Our own rotation's names, and logrotate's: another sidecar's file may begin alike.
    older = re.compile(
        rf"{re.escape(path.stem)}-\d{{12}}{re.escape(path.suffix)}"
        rf"|{re.escape(path.name)}(?:\.\d+|-\d{{8}}(?:-\d+)?)"
    )
    for one in [path, *(near for near in path.parent.glob("*") if older.fullmatch(near.name))]:
        seq, writer = _last_event(one)
        if one == path and seq >= 0 and sidecar is None:
            sidecar = writer
        if seq > best[0] and (one == path or sidecar is None or writer == sidecar):
            best = (seq, writer)
    return best


def _last_event(path: Path) -> tuple[int, str | None]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return -1, None
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            event = json.loads(line)
            return int(event["seq"]), str(event["sidecar"])
    return -1, None


def _made_up_name() -> str:
    host = _UNSAFE.sub("-", socket.gethostname().split(".", 1)[0]).strip("-") or "sidecar"
    return f"{host[:40]}-{secrets.token_hex(2)}"


def _open_file(path: Path) -> int:
    """Open for appending, behind a whole line."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = _size(file)
        if size and os.pread(file, 1, size - 1) != b"\n":
            # A crash cut the last line short: it stays, as a line that is no event.
            _write_all(file, b"\n")
        _sync_directory(path.parent)
    except OSError:
        os.close(file)
        raise
    return file


def _size(file: int) -> int:
    return os.fstat(file).st_size


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
