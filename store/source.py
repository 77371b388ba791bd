"""Stores that lie elsewhere: a directory here stands for each, and is filled as it is read.

Everything above knows a store by its directory. Of a directory that stands for a bucket this module
knows the Source, by which the reader gets files before it opens them and the writer publishes them.
For any other directory it does nothing. What a Source does is `remote`'s.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from scalple.store import durable

Wanted = tuple[Path, str, int | None]
"""A file of the store, the SHA-256 of its bytes, and how many they are if that is known."""


class Source(Protocol):
    """Where a store is that has a directory here."""

    @property
    def url(self) -> str:
        """As a user names it."""

    @property
    def may_write(self) -> bool:
        """Whether it was opened to be written as well."""

    def prepare_writing(self, origin: str) -> None:
        """Raises StoreError when commits can't be safe there."""

    def refresh(self, origin: str) -> None:
        """Bring head and manifests to the directory as they are now, for the writer."""

    def steady(self) -> AbstractContextManager[None]:
        """While it lasts, no other process here brings newer heads."""

    def fetch(self, wanted: Iterable[Wanted]) -> None:
        """Put files into the directory; on return they have these bytes, or VerificationError."""

    def load(self, path: Path, sha256: str) -> bytes:
        """The bytes of a file, from here if they have this hash, and else as they are there: who asks
        checks them. Raises VerificationError when it is missing."""

    def create(self, path: Path, data: bytes) -> None:
        """Create a file there; raises FileExistsError when others have created it."""

    def replace(self, path: Path, data: bytes) -> None:
        """Replace a file there."""

    def names(self) -> Iterator[tuple[Path, int]]:
        """Every file there, as a path below the directory, and its length."""

    def read(self, path: Path, sha256: str) -> bytes:
        """The bytes that a file has there; raises VerificationError unless they have this hash."""

    @property
    def keeps_versions(self) -> bool | None:
        """Whether what was replaced is kept there; None when that isn't told."""

    def history(self) -> Iterator[tuple[Path, list[bytes], bool]]:
        """Files that were replaced or deleted: all their contents, and whether one is there now."""

    def opener(self, share: int) -> "Opener":
        """How another process opens it to read, as one of so many: for `mount` there."""

    def close(self) -> None:
        """It isn't needed any more."""


Opener = Callable[[], Source]
"""Goes from one process to another."""


_standing_for: dict[Path, Source] = {}


def mount(directory: Path, source: Source) -> None:
    """From now on the directory stands for the source, in this process."""
    if before := _standing_for.get(directory):
        before.close()
    _standing_for[directory] = source


def unmount() -> None:
    """No directory stands for anything any more."""
    while _standing_for:
        _standing_for.popitem()[1].close()


def source_of(directory: Path) -> Source | None:
    """What the directory stands for, if it does."""
    return _standing_for.get(directory)


def shown(directory: Path) -> str:
    """The store as its user knows it."""
    source = source_of(directory)
    return source.url if source else str(directory)


def said(text: str) -> str:
    """A message with the names that its reader knows, in place of the directories here."""
    for directory, source in _standing_for.items():
        text = text.replace(str(directory), source.url)
    return text


def fetch(directory: Path, wanted: Iterable[Wanted]) -> None:
    """Make sure that files of a store are here."""
    if source := source_of(directory):
        source.fetch(wanted)


def forget(directory: Path, paths: Iterable[Path]) -> None:
    """Files that nobody needs any more aren't kept here; where a store stands nothing is removed."""
    if source_of(directory):
        for path in paths:
            path.unlink(missing_ok=True)


def steady(directory: Path) -> AbstractContextManager[None]:
    """While it lasts, heads and manifests here belong together."""
    source = source_of(directory)
    return source.steady() if source else nullcontext()


def create(directory: Path, path: Path, data: bytes, guard: durable.Guard | None = None) -> None:
    """Create a file of a store, where it stands first; its name must be free there.

    `guard`: of a store in a directory; in a bucket the condition of the request is the guard.

    Raises as `durable.create`.
    """
    source = source_of(directory)
    if source is None:
        durable.create(path, data, guard=guard)
        return
    source.create(path, data)
    try:
        durable.create(path, data)
    except FileExistsError:
        if path.read_bytes() != data:  # a part of the cache that was damaged
            durable.replace(path, data)


def replace(directory: Path, path: Path, data: bytes, guard: durable.Guard | None = None) -> None:
    """Replace a file of a store, where it stands first; otherwise as `create`."""
    source = source_of(directory)
    if source:
        source.replace(path, data)
    durable.replace(path, data, guard=None if source else guard)
