"""Server logs of which the store has read something, as far as they are still there, in the order of time.

Enters: what the files are called, and the positions that the store has reached. Leaves: files opened and
recognised by content, each generation once. A file that can't be read is told of and passed over: what
was in it is missed by whoever counts rows.
"""

import datetime as dt
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc

from scalple.cli.sources import Opened, anchors_of, open_one
from scalple.cli.warmup import blocks
from scalple.ingest.container import RECORD_BYTES_MAX, ReadOptions
from scalple.ingest.errors import InputError
from scalple.ingest.sourcefile import SourceFile, sha256
from scalple.store.manifest import Position

Generation = tuple[int, str, int]
"""Length and hash of a file's first bytes, and the number that tells it from others with the same."""
SOUGHT_BYTES = 1 << 20
"""A moment is looked for in a file to so many bytes."""
_SAMPLE_BYTES = 1 << 16
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def generation_of(position: Position) -> Generation:
    """Whose position it is."""
    return position.head_bytes, position.head_sha256, position.incarnation


@dataclass(frozen=True, slots=True)
class StoredLog:
    """A server log, and how far the store has read it."""

    generation: Generation
    opened: Opened
    end: int
    """In bytes."""
    first: dt.datetime
    """When its first record was logged."""

    def place_of(self, moment: dt.datetime) -> int:
        """A place before every record that was logged from that moment on, near the first of them."""
        low, high = 0, self.end
        if self.opened.file.is_compressed:
            return low  # whatever is sought, all of it is unpacked
        while high - low > SOUGHT_BYTES:
            middle = (low + high) // 2
            at = self._logged_at(middle)
            if at is not None and at < moment:
                low = middle
            else:
                high = middle
        return low

    def _logged_at(self, place: int) -> dt.datetime | None:
        """When the first record was logged that begins behind a place."""
        for block in blocks(self.opened, place, min(self.end, place + RECORD_BYTES_MAX)):
            first: dt.datetime | None = pc.min(block.table.column("log_time")).as_py()
            return first
        return None


@dataclass(slots=True)
class StoredLogs:
    """Those that are there."""

    logs: list[StoredLog] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    """Files that can't be read, and why."""

    @classmethod
    def find(
        cls,
        paths: Iterable[Path],
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
        for modified, size, path in sorted(_stamps(paths), reverse=True):
            if modified < since.timestamp():
                if spare_bytes <= 0:
                    break
                spare_bytes -= size
            try:
                log = _opened(path, positions, options)
            except InputError as error:
                found.problems[str(path)] = str(error)
                continue
            if log is not None and log.generation not in taken:
                taken.add(log.generation)
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


def _opened(path: Path, positions: Sequence[Position], options: ReadOptions) -> StoredLog | None:
    """The file, if the store has read anything of it."""
    file = SourceFile(path)
    heads: dict[int, str] = {}
    best: Position | None = None
    for position in positions:
        length = position.head_bytes
        if not 0 < length <= file.size or not position.end:
            continue
        if length not in heads:
            heads[length] = sha256(file.read(0, length))
        if heads[length] != position.head_sha256 or (best and position.end <= best.end):
            continue
        if file.holds(anchors_of(position)):
            best = position
    if best is None:
        return None
    opened = open_one("postgres", file, options)
    file.go_on(anchors_of(best))
    return StoredLog(generation_of(best), opened, best.end, _first_time(opened, best.end))


def _first_time(opened: Opened, end: int) -> dt.datetime:
    for block in blocks(opened, 0, min(end, _SAMPLE_BYTES)):
        first: dt.datetime | None = pc.min(block.table.column("log_time")).as_py()
        if first is not None:
            return first
    return _EPOCH
