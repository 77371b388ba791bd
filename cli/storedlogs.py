"""Server logs of which the store has read something, as far as they are still there, in the order of time.

Enters: what the files are called, and the positions that the store has reached. Leaves: files recognised by
content, each generation once, and their records. A file that is renamed or compressed meanwhile is found
again. One that can't be read is told of and passed over: what was in it is missed by whoever counts rows.
"""

import datetime as dt
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc

from scalple.cli.sources import Opened, anchors_of, open_one
from scalple.ingest.container import RECORD_BYTES_MAX, ReadOptions
from scalple.ingest.epoch import EPOCH
from scalple.ingest.errors import InputError
from scalple.ingest.heldfile import HeldFile
from scalple.ingest.rejects import Block
from scalple.ingest.sourcefile import Anchors, sha256
from scalple.store.manifest import Position

Generation = tuple[int, str, int]
"""Length and hash of a file's first bytes, and the number that tells it from others with the same."""
Paths = Callable[[], Iterable[Path]]
SOUGHT_BYTES = 1 << 20
"""A moment is looked for in a file to so many bytes."""
_SAMPLE_BYTES = 1 << 16


def generation_of(position: Position) -> Generation:
    """Whose position it is."""
    return position.head_bytes, position.head_sha256, position.incarnation


@dataclass(slots=True)
class StoredLog:
    """A server log, and how far the store has read it."""

    position: Position
    opened: Opened
    file: HeldFile
    """Open only while it is read."""
    first: dt.datetime = EPOCH
    """When its first record was logged."""

    @property
    def end(self) -> int:
        """Up to here the store has read it, in bytes."""
        return self.position.end

    @contextmanager
    def at_hand(self, paths: Paths) -> Iterator[bool]:
        """Open it, wherever it is now; whether it is anywhere."""
        found = self._is_here(self.file.path) or any(
            self._is_here(path) for _, _, path in sorted(_stamps(paths()), reverse=True)
        )
        try:
            yield found
        finally:
            self.file.close()

    def _is_here(self, path: Path) -> bool:
        try:
            file = HeldFile(path)
            is_it = _is_of(file, self.position, {})
        except (OSError, InputError):
            return False
        if not is_it:
            file.close()
            return False
        self.file.close()
        self.file = file
        return True

    def records(self, begin: int, end: int) -> Iterator[Block]:
        """The records of [begin, end), from the first that begins there; while it is at hand."""
        reader, file = self.opened.reader, self.file
        if begin:
            assert reader is not None
            start = reader.next_start(file.read(begin, min(RECORD_BYTES_MAX, end - begin)))
            if start is None:
                return
            begin += start
        file.go_on(Anchors(self.position.head_bytes, self.position.head_sha256, begin, ""))
        file.size, file.is_left, file.is_whole = end, True, True
        yield from (piece.block for piece in file.pieces(self.opened.parse))

    def place_of(self, moment: dt.datetime) -> int:
        """A place before every record that was logged from that moment on, near the first of them."""
        low, high = 0, self.end
        if self.file.is_compressed:
            return low  # whatever is sought, all of it is unpacked
        while high - low > SOUGHT_BYTES:
            middle = (low + high) // 2
            at = self.logged_at(middle)
            if at is not None and at < moment:
                low = middle
            else:
                high = middle
        return low

    def logged_at(self, place: int) -> dt.datetime | None:
        """When the first record was logged that begins behind a place."""
        length = _SAMPLE_BYTES
        while True:
            self.file.size = self.end
            end = min(self.end, place + length)
            for block in self.records(place, end):
                first: dt.datetime | None = pc.min(block.table.column("log_time")).as_py()
                if first is not None:
                    return first
            if end == self.end or length >= RECORD_BYTES_MAX:
                return None
            length *= 8


@dataclass(slots=True)
class StoredLogs:
    """Those that are there."""

    logs: list[StoredLog] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    """Files that can't be read, and why."""

    @classmethod
    def find(
        cls,
        paths: Paths,
        positions: Sequence[Position],
        options: ReadOptions,
        since: dt.datetime,
        spare_bytes: int,
    ) -> "StoredLogs":
        """Those with records that were logged since, and so many bytes before.

        Args:
            paths: where they may be.
            positions: the newest of each generation.
            options: how stderr logs are read.
            since: files that were last written before matter only for the bytes before it.
            spare_bytes: how many of those.
        """
        found = cls()
        taken: set[Generation] = set()
        for modified, size, path in sorted(_stamps(paths()), reverse=True):
            if modified < since.timestamp():
                if spare_bytes <= 0:
                    break
                spare_bytes -= size
            try:
                log = _opened(path, positions, options)
            except (InputError, OSError) as error:
                found.problems[str(path)] = str(error)
                continue
            if log is not None and generation_of(log.position) not in taken:
                taken.add(generation_of(log.position))
                found.logs.append(log)
        found.logs.sort(key=lambda one: one.first)
        return found


def _stamps(paths: Iterable[Path]) -> Iterable[tuple[float, int, Path]]:
    """When each was last written, and its size; links to one file are one."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        try:
            said = os.stat(path)  # noqa: PTH116 (follows links)
        except OSError:
            continue  # gone meanwhile
        if (said.st_dev, said.st_ino) not in seen and said.st_size:
            seen.add((said.st_dev, said.st_ino))
            yield said.st_mtime, said.st_size, path


def _is_of(file: HeldFile, position: Position, heads: dict[int, str]) -> bool:
    """Whether a file holds what the store has read of that generation."""
    length = position.head_bytes
    if not 0 < length <= file.size or not position.end:
        return False
    if length not in heads:
        heads[length] = sha256(file.read(0, length))
    return heads[length] == position.head_sha256 and file.holds(anchors_of(position))


def _opened(path: Path, positions: Sequence[Position], options: ReadOptions) -> StoredLog | None:
    """The file, if the store has read anything of it; closed again."""
    file = HeldFile(path)
    try:
        heads: dict[int, str] = {}
        found = [one for one in positions if _is_of(file, one, heads)]
        if not found:
            return None
        best = max(found, key=lambda one: one.end)
        log = StoredLog(best, open_one("postgres", file, options), file)
        log.first = log.logged_at(0) or EPOCH
        return log
    finally:
        file.close()
