"""The right to write an origin: one process has it at a time, and loses it only with its death.

A layout enters; a Lease leaves, or an error that says who has it. It is an flock on the origin's
directory: no file, no clock, no time after which it ends, and nothing to clean up. What makes a
holder harmless that has lost it without knowing is not the lock but the checks made with it, on the
very directory that is written to, right before each name is given (docs/adr/0017). Whether a commit
continues the log is the manifest's exclusive creation, in `writer`. Readers need none of this.
"""

import fcntl
import os
import time
import weakref
from pathlib import Path

from scalple.ingest.errors import ConfigError, RaceError, StoreError
from scalple.store import filesystem, holder, source
from scalple.store.layout import OriginLayout

LOCK_SECONDS = 0.5
"""How long a lock is waited for: `verify` holds it for an instant to see who does."""
LOCK_PAUSE_SECONDS = 0.02

_Identity = tuple[int, int]


class Lease:
    """Held from `acquire` until `release`, or until the process ends. Not inherited by a fork."""

    def __init__(self, layout: OriginLayout, descriptor: int) -> None:
        self._layout = layout
        self._descriptor = descriptor
        _held.add(self)

    @property
    def is_held(self) -> bool:
        """Whether this process has it, as far as it was told."""
        return self._descriptor >= 0

    def release(self) -> None:
        """Gives the origin to whoever wants it."""
        if self.is_held:
            os.close(self._descriptor)
            self._descriptor = -1

    def check(self) -> None:
        """Returns while the right to write is this process's.

        Raises:
            RaceError: the lock is lost, or the directory isn't the one that was locked; or this is
                a fork of the process that has it.
        """
        place = str(self._layout.directory)
        if not self.is_held:
            raise RaceError(
                "this process has no lock on the origin",
                place=place,
                hint="a fork of the writer's process must open the store itself",
            )
        if not self.is_in_place():
            raise RaceError(
                "the store's directory was moved or replaced while it was open for writing; "
                "nothing of this batch was committed",
                place=place,
                hint="see which directory is the store, and run again: it goes on from what is "
                "committed there",
            )
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # does nothing if held
        except OSError as error:
            raise RaceError(
                f"the lock on the origin was lost; it is held {holder.describe(self._descriptor)}",
                place=place,
                hint="one writer per origin; run again, it goes on behind the other's commits",
            ) from error

    def guard(self, path: Path, directory: int) -> None:
        """Returns if a directory that was opened for writing is the locked one, or in it.

        To be called with the descriptor that the name is then made in, so that it can't become
        another directory in between.

        Args:
            path: the directory, as it was named.
            directory: the descriptor.

        Raises:
            RaceError: as `check`.
        """
        self.check()
        inside = path.relative_to(self._layout.directory)
        if _identity(os.stat(inside, dir_fd=self._descriptor)) != _identity(os.fstat(directory)):
            raise RaceError(
                "the directory was replaced while it was open for writing; nothing of this batch "
                "was committed",
                place=str(path),
                hint="see which directory is the store, and run again",
            )

    def is_in_place(self) -> bool:
        """Whether the path still leads to the directory that was locked."""
        return self.is_held and _leads_to(self._layout.directory, self._descriptor)


_held: weakref.WeakSet[Lease] = weakref.WeakSet()


def _abandon() -> None:
    """A fork shares the lock with its parent, and would hold it on when that is killed."""
    for lease in _held:
        lease.release()


os.register_at_fork(after_in_child=_abandon)


def acquire(layout: OriginLayout, seconds: float = LOCK_SECONDS) -> Lease:
    """The right to write the origin; another holder is waited for, so many seconds.

    Raises:
        ConfigError: the origin doesn't exist.
        StoreError: another writer holds it, or nothing can be locked there.
    """
    until = time.monotonic() + seconds
    while True:
        descriptor = _opened(layout)
        try:
            if source.source_of(layout.store_dir) is None:
                filesystem.refuse_shared(layout.store_dir, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _leads_to(layout.directory, descriptor):
                return Lease(layout, descriptor)
            os.close(descriptor)  # it was replaced between the two calls
            if time.monotonic() >= until:
                raise StoreError("is being replaced all the time", place=str(layout.directory))
        except BlockingIOError as error:
            who = holder.describe(descriptor) if time.monotonic() >= until else ""
            os.close(descriptor)
            if who:
                raise _refused(layout, who) from error
            time.sleep(LOCK_PAUSE_SECONDS)
        except OSError as error:
            os.close(descriptor)
            raise StoreError(
                f"can't be locked, so that two writers could be at work: {error.strerror}",
                place=str(layout.directory),
                hint="keep the store where flock works, on a local disk",
            ) from error
        except BaseException:
            os.close(descriptor)
            raise


def is_locked(layout: OriginLayout) -> bool:
    """Whether a writer is at work on the origin right now; needs the right to read it only."""
    descriptor = os.open(layout.directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks there, so that nobody can write
        return False
    finally:
        os.close(descriptor)
    return False


def _opened(layout: OriginLayout) -> int:
    try:
        return os.open(layout.directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(
            f"no origin {layout.origin!r} in this store: {error.strerror}",
            place=str(layout.store_dir),
            hint="an origin is created by the first batch that is told its name",
        ) from error


def _refused(layout: OriginLayout, who: str) -> StoreError:
    return StoreError(
        f"another writer has this origin open: it is held {who}",
        place=str(layout.directory),
        hint="one writer per origin: wait for it, or end that process; its lock goes with it, and "
        "what it hadn't committed is read again. Or write to another origin",
    )


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return _identity(path.stat()) == _identity(os.fstat(descriptor))
    except OSError:
        return False


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino
