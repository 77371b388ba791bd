"""What was fetched of a bucket's store, kept for the next question, within a bound.

Files of the store enter under the names that they have there; paths leave. When room is needed, the
files go first that were used longest ago; those that a living process has taken hold of stay. Only
segments and objects count and go: heads and manifests are small and always needed. It checks no
contents: who reads a file does.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scalple.ingest.errors import StoreError
from scalple.store.layout import SEGMENT_BYTES_MAX

ADDED_UNSEEN = 100
_USED = "used.json"
_COUNTED = ("segments", "objects")
_TEMPORARY = ".tmp"
_ABANDONED_S = 3600.0
"""A file that was begun so long ago and isn't whole is nobody's any more."""


class Cache:
    """One store's cache: `store` has the layout of a local store."""

    def __init__(self, directory: Path, bytes_max: int, *, keeps: bool = True) -> None:
        """`keeps`: what is taken hold of stays, and all of it for the next time; otherwise it is only
        for what is being read at the moment, and goes with `close`."""
        self.store = directory / "store"
        self._directory = directory
        self._bytes_max = bytes_max
        self._keeps = keeps
        self._added = 0
        self._total: int | None = None
        self._used: dict[str, float] = {}
        self._sessions = directory / "sessions"
        for one in (self.store, self._sessions):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._session = self._sessions / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._held = self._session.open("a+", encoding="utf-8")
        fcntl.flock(self._held, fcntl.LOCK_EX)

    @contextmanager
    def locked(self, *, alone: bool) -> Iterator[None]:
        """With others that only read, or alone."""
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    def share(self, of: int) -> int:
        """How much one of so many processes may have here: a segment always fits."""
        return max(self._bytes_max // of, min(self._bytes_max, SEGMENT_BYTES_MAX))

    def hold(self, path: Path) -> bool:
        """Whether the file is here; it then stays as long as this process lives."""
        name = str(path.relative_to(self.store))
        if self._keeps and name not in self._used:
            with self.locked(alone=False):
                self._held.write(f"{name}\n")
                self._held.flush()
        self._used[name] = time.time()
        return path.exists()

    def add(self, path: Path, data: bytes) -> None:
        """Put a file into the cache, in place of the one under its name.

        Raises:
            StoreError: there is no room for it, or it can't be written.
        """
        with self.locked(alone=True):
            self._make_room(len(data))
            temporary = _begin(path, len(data))  # so that others count it from now on
        _fill(temporary, data)
        with self.locked(alone=True):  # who counts at this moment would find neither name
            _finish(temporary, path)

    def _make_room(self, wanted: int) -> None:
        # Others add as well: the directory is looked at again now and then, and whenever it is full.
        self._added += 1
        known = self._total if self._added % ADDED_UNSEEN else None
        if known is not None and known + wanted <= self._bytes_max:
            self._total = known + wanted
            return
        files = self._files()
        total = sum(size for _, size, _ in files) + wanted
        self._total = total
        if total <= self._bytes_max:
            return
        held = self._held_by_anybody()
        for name, size, last in sorted(files, key=lambda file: file[2]):
            if total <= self._bytes_max:
                break
            # Somebody may be writing it.
            is_fresh = name.endswith(_TEMPORARY) and last > time.time() - _ABANDONED_S
            if name not in held and not is_fresh:
                (self.store / name).unlink(missing_ok=True)
                total -= size
        self._total = total
        if total > self._bytes_max:
            raise StoreError(
                f"the cache is full: {total:,} bytes are needed at once, {self._bytes_max:,} allowed",
                place=str(self._directory),
                hint="raise [s3] cache_mb; a question needs all segments that it looks at",
            )

    def _files(self) -> list[tuple[str, int, float]]:
        """Name, size, and when it was last used."""
        used = self._load()
        found = []
        for folder in _COUNTED:
            for path in self.store.glob(f"*/{folder}/*"):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    name = str(path.relative_to(self.store))
                    last = max(used.get(name, 0.0), self._used.get(name, 0.0), status.st_mtime)
                    found.append((name, status.st_size, last))
        return found

    def _held_by_anybody(self) -> set[str]:
        held = set(self._used) if self._keeps else set()
        for session in self._sessions.iterdir():
            with contextlib.suppress(FileNotFoundError), session.open(encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    held.update(file.read().splitlines())
                else:  # whoever made it is gone
                    session.unlink(missing_ok=True)
        return held

    def _load(self) -> dict[str, float]:
        try:
            said = json.loads((self._directory / _USED).read_text())
            return {str(name): float(last) for name, last in said.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # then the files' own times decide

    def close(self) -> None:
        """Remember when files were used; let go of them."""
        if self._held.closed:
            return
        if not self._keeps:
            self._held.close()
            shutil.rmtree(self._directory, ignore_errors=True)
            return
        with contextlib.suppress(OSError), self.locked(alone=True):
            there = {name for name, _, _ in self._files()}
            known = {name: last for name, last in self._load().items() if name in there}
            write(self._directory / _USED, json.dumps(known | self._used).encode())
        self._session.unlink(missing_ok=True)
        self._held.close()


def write(path: Path, data: bytes) -> None:
    """A file of the cache: whole or not at all. It need not survive a power cut.

    Raises:
        StoreError: it can't be written.
    """
    temporary = _begin(path, len(data))
    _fill(temporary, data)
    _finish(temporary, path)


def _begin(path: Path, size: int) -> Path:
    """A temporary file for it that has its size already."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY}")
    with _gone_if_it_fails(temporary):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.truncate(size)
    return temporary


def _fill(temporary: Path, data: bytes) -> None:
    with _gone_if_it_fails(temporary), temporary.open("r+b") as file:
        file.write(data)


def _finish(temporary: Path, path: Path) -> None:
    with _gone_if_it_fails(temporary):
        temporary.replace(path)


@contextmanager
def _gone_if_it_fails(temporary: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"the cache can't be written: {error.strerror}",
            place=str(temporary.parent),
            hint="[s3] cache_dir names another directory",
        ) from error
