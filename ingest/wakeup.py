"""Wakes a follower early when something happens in a folder; the only user of watchdog.

Enters: folders. Leaves: a `wait` that ends at its timeout, or sooner. It says that something may have
changed, never what: events are lost when the kernel's queue overflows, over NFS there are none, and
watches may be used up. The periodic scan finds everything; without events it is found a little later.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from watchdog.events import (
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

_CHANGES: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileDeletedEvent,
]
"""Not that a file was opened or closed: the follower does that itself."""


# It complains where something happens just as nothing is watched any more, which is as it should be.
logging.getLogger("watchdog").addHandler(logging.NullHandler())


class Watcher(Protocol):
    """What is needed of watchdog's observers."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def schedule(
        self,
        event_handler: FileSystemEventHandler,
        path: str,
        *,
        event_filter: list[type[FileSystemEvent]] | None = None,
    ) -> object: ...
    def unschedule_all(self) -> None: ...


class _Bell(FileSystemEventHandler):
    def __init__(self, rung: threading.Event) -> None:
        self._rung = rung

    def dispatch(self, event: FileSystemEvent) -> None:
        self._rung.set()


class Wakeup:
    """Waits for changes in some folders.

    After an event nothing is watched until the next `wait`: a busy server would ring thousands of times,
    and one scan finds all of it.

    Args:
        observer: makes what watches; watchdog's for this system by default.
    """

    def __init__(self, observer: Callable[[], Watcher] = Observer) -> None:
        self._rung = threading.Event()
        self._bell = _Bell(self._rung)
        self.problem: str | None = None
        """Why nothing, or not everything, is watched: scans alone have to find it."""
        self._observer: Watcher | None = None
        self._watched: dict[Path, int] = {}
        """Folders, and their inodes: one that was made anew isn't watched any more."""
        try:
            self._observer = observer()
            self._observer.start()
        except (OSError, RuntimeError) as error:  # scans go on
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.problem = f"folders can't be watched: {' '.join(str(error).split())[:200]}"
        self.close()

    def wait(self, timeout: float, folders: Iterable[Path] = ()) -> bool:
        """Wait until something changes in one of the folders.

        Args:
            timeout: at most so long, in seconds.
            folders: those that exist are watched, without what is below them.

        Returns:
            Whether something was noticed.
        """
        self._watch(folders)
        noticed = self._rung.wait(timeout)
        if noticed:
            self._watch_nothing()
            self._rung.clear()
        return noticed

    def _watch(self, folders: Iterable[Path]) -> None:
        if self._observer is None:
            return
        there = {one: inode for one in folders if (inode := _inode(one)) is not None}
        if self._watched.items() - there.items():
            self._watch_nothing()
        self.problem = None
        for folder in there.keys() - self._watched.keys():
            try:
                self._observer.schedule(self._bell, str(folder), event_filter=_CHANGES)
                self._watched[folder] = there[folder]
            except OSError as error:
                self.problem = f"{folder}: can't be watched: {error.strerror or error}"

    def _watch_nothing(self) -> None:
        if self._observer is not None:
            self._observer.unschedule_all()
        self._watched = {}

    def wake(self) -> None:
        """End a `wait` from another thread, or the next one at once."""
        self._rung.set()

    def close(self) -> None:
        """Watch nothing any more."""
        if self._observer is not None:
            self._observer.stop()
        self._observer = None


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino if folder.is_dir() else None
    except OSError:
        return None
