"""The only writer of a store's files: what it has returned from survives a power cut.

Bytes and a path enter. A new file appears complete under its name or not at all: written without
a name (O_TMPFILE), fsynced, linked, and the directory fsynced through a descriptor that was open
before. An error before the link leaves nothing; an error after it leaves the state unknown and
is never retried, because after a failed fsync the kernel forgets what wasn't written. Whether it may
be written at all says a guard, asked last of all with the directory that the name will stand in.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path

from scalple.ingest.errors import CommitError, StoreError

TEMPORARY_SUFFIX = ".tmp"

_MENDS = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room within the quota",
    errno.EFBIG: "raise the limit for the size of files (ulimit -f)",
    errno.EACCES: "give back the right to write there",
    errno.EPERM: "give back the right to write there",
    errno.EROFS: "mount it for writing",
}

Guard = Callable[[Path, int], None]
"""Given a directory and its open descriptor, raises StoreError if it mustn't be written to."""


def create(path: Path, data: bytes, *, mode: int = 0o644, guard: Guard | None = None) -> None:
    """Creates a file that must not exist yet.

    Raises:
        FileExistsError: the name is taken; the file there is untouched.
        StoreError: nothing was created.
        CommitError: the name may or may not be there after a power cut.
    """
    with _directory(path.parent) as directory, _unnamed(path, data, mode, directory) as link:
        if guard is not None:
            guard(path.parent, directory)
        try:
            link(path.name)
            os.fsync(directory)
        except FileExistsError:
            raise
        except OSError as error:
            raise _unknown(path, error) from error


def replace(path: Path, data: bytes, *, guard: Guard | None = None) -> None:
    """Puts a file in place of the one under its name; a reader sees the old or the new one.

    Raises:
        StoreError: the old file is still there.
        CommitError: either of them may be there after a power cut.
    """
    temporary = path.name + TEMPORARY_SUFFIX
    with _directory(path.parent) as directory, _unnamed(path, data, 0o644, directory) as link:
        if guard is not None:
            guard(path.parent, directory)
        try:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
            link(temporary)
            os.rename(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
        except OSError as error:
            raise _unknown(path, error) from error


def make_directory(path: Path) -> None:
    """Creates a directory, its parents too, and makes the names durable."""
    if path.is_dir():
        return
    make_directory(path.parent)
    try:
        with _directory(path.parent) as parent:
            with suppress(FileExistsError):
                os.mkdir(path.name, dir_fd=parent)
            os.fsync(parent)
    except OSError as error:
        raise _refused("can't create directory", path, error) from error


def remove(path: Path, *, guard: Guard | None = None) -> None:
    """Removes a file that no manifest names; one that isn't there counts as removed.

    Raises:
        StoreError: it is still there.
        CommitError: it may be there again after a power cut.
    """
    with _directory(path.parent) as directory:
        if guard is not None:
            guard(path.parent, directory)
        try:
            with suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=directory)
        except OSError as error:
            raise _refused("can't remove", path, error) from error
        try:
            os.fsync(directory)
        except OSError as error:
            raise _unknown(path, error) from error


def shred(path: Path) -> None:
    """Overwrites a small file where it lies, and removes it; as far as a file system lets one.

    Raises:
        StoreError: it is still there, perhaps overwritten.
    """
    try:
        with _directory(path.parent) as directory:
            descriptor = os.open(path.name, os.O_WRONLY | os.O_NOFOLLOW, dir_fd=directory)
            try:
                _write_all(descriptor, os.urandom(os.fstat(descriptor).st_size))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.unlink(path.name, dir_fd=directory)
            os.fsync(directory)
    except OSError as error:
        raise StoreError(f"can't be destroyed: {error.strerror}", place=str(path)) from error


def remove_all(paths: Sequence[Path]) -> None:
    """Removes files in this order; when it returns, all of that is durable.

    Raises:
        StoreError: one can't be removed; those before it are gone.
    """
    for directory, some in groupby(paths, lambda path: path.parent):
        try:
            with _directory(directory) as descriptor:
                for path in some:
                    with suppress(FileNotFoundError):
                        os.unlink(path.name, dir_fd=descriptor)
                os.fsync(descriptor)
        except OSError as error:
            raise StoreError(
                f"can't be removed: {error.strerror}", place=str(directory), hint="run again"
            ) from error


class _Link:
    """Gives the unnamed file its name: fails when the name is taken, unlike a rename."""

    def __init__(self, source: str, directory: int, *, by_descriptor: bool) -> None:
        self._source = source
        self._directory = directory
        self._by_descriptor = by_descriptor

    def __call__(self, name: str) -> None:
        os.link(
            self._source,
            name,
            src_dir_fd=self._directory,
            dst_dir_fd=self._directory,
            follow_symlinks=self._by_descriptor,
        )


@contextmanager
def _unnamed(path: Path, data: bytes, mode: int, directory: int) -> Iterator[_Link]:
    """A written and fsynced file without a name in the directory; gone when nothing links it."""
    temporary = None
    try:
        try:
            descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, mode)
            link = _Link(f"/proc/self/fd/{descriptor}", directory, by_descriptor=True)
        except (OSError, AttributeError):  # file systems (NFS) and systems without O_TMPFILE
            # No name that another host, or a process that was killed, can have taken as well.
            temporary = f".{path.name}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            descriptor = os.open(temporary, flags, mode, dir_fd=directory)
            link = _Link(temporary, directory, by_descriptor=False)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        raise _refused("can't write", path, error) from error
    try:
        yield link
    finally:
        os.close(descriptor)
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _refused("can't open directory", path, error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _refused(what: str, path: Path, error: OSError) -> StoreError:
    """Nothing has happened; says what there is to do."""
    mend = _MENDS.get(error.errno or 0)
    hint = f"{mend}, and run again: it goes on from what is committed, none of which is lost"
    return StoreError(f"{what}: {error.strerror}", place=str(path), hint=hint if mend else None)


def _unknown(path: Path, error: OSError) -> CommitError:
    return CommitError(
        f"can't tell whether the write is durable: {error.strerror}",
        place=str(path),
        hint="stop, look after the disk, and open the store again: it recovers by itself",
    )
