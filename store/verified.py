"""Files whose bytes were once checked, remembered so that a question needn't hash them again.

A path and the hash its bytes must have enter; the call returns or raises. What is remembered is
device, inode, size, mtime and ctime, in files in the user's cache directory, one per directory that
was read: a question of an index needn't load what is known of the log's thousands of segments.
Whoever can change a file without changing these can deceive a question, but not `verify`, which
never asks here.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from scalple.ingest.errors import VerificationError

REMEMBERED_MAX = 100_000
RACY_NS = 2_000_000_000
"""A file younger than this isn't remembered: a change could hide in the clock's grain."""


def default_cache_file() -> Path:
    """Beside which files the memory is kept for this user."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    except RuntimeError:  # nobody's home: then nothing is remembered
        base = os.devnull
    return Path(base) / "scalple" / "verified.json"


class VerifiedFiles:
    """The memory; without a file it lasts as long as the object."""

    def __init__(self, cache_file: Path | None) -> None:
        self._cache_file = cache_file
        self._known: dict[Path, dict[str, str]] = {}
        self._changed: set[Path] = set()

    def check(self, path: Path, sha256: str, size: int | None = None) -> None:
        """Returns when the file's bytes have this hash, now or when last looked at.

        Raises:
            VerificationError: missing, another length, or other bytes.
        """
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a store has thousands of them
            try:
                before = os.fstat(file)
                if size is not None and before.st_size != size:
                    raise VerificationError(
                        f"length differs: expected {size}, found {before.st_size}", place=str(path)
                    )
                known = self._of(path.parent)
                if known.get(_identity(before)) == sha256:
                    return
                with open(file, "rb", closefd=False) as bytes_of:
                    found = hashlib.file_digest(bytes_of, "sha256").hexdigest()
                after = os.fstat(file)
            finally:
                os.close(file)
        except OSError as error:
            raise VerificationError(f"can't read: {error.strerror}", place=str(path)) from error
        if found != sha256:
            raise VerificationError(
                f"SHA-256 differs: expected {sha256}, found {found}", place=str(path)
            )
        if _identity(before) == _identity(after) and time.time_ns() - after.st_ctime_ns > RACY_NS:
            known[_identity(after)] = sha256
            self._changed.add(path.parent)

    def save(self) -> None:
        """Keeps the memory for the next process; that it can't be kept is no error."""
        for directory in self._changed:
            file = self._file(directory)
            if file is None:
                continue
            known = {**_load(file), **self._known[directory]}
            newest = dict(list(known.items())[-REMEMBERED_MAX:])
            temporary = file.with_suffix(f".{os.getpid()}")
            with contextlib.suppress(OSError):
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                temporary.write_text(json.dumps(newest))
                temporary.replace(file)
        self._changed.clear()

    def _of(self, directory: Path) -> dict[str, str]:
        if directory not in self._known:
            file = self._file(directory)
            self._known[directory] = _load(file) if file else {}
        return self._known[directory]

    def _file(self, directory: Path) -> Path | None:
        if self._cache_file is None:
            return None
        name = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:16]
        return self._cache_file.with_name(f"{self._cache_file.stem}-{name}.json")


def _identity(status: os.stat_result) -> str:
    numbers = (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    return ":".join(map(str, numbers))


def _load(cache_file: Path) -> dict[str, str]:
    try:
        known = json.loads(cache_file.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {str(identity): str(sha256) for identity, sha256 in known.items()}
