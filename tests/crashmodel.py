"""A file system that keeps no more after a power cut than POSIX promises.

Enters: what a writer really asked of the system, step by step, and where the power went. Leaves:
every tree of files that may be there afterwards. Does not: know stores.

What was written to a file and not fsynced may be missing, cut off, or zeros. A name that was made,
replaced or removed in a directory that wasn't fsynced since may be there or not, each name for
itself: a rename may have made the new name and kept the old one, or neither.
"""

import hashlib
import itertools
import math
import os
import random
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

DIRECTORY = -1
"""Stands for a directory where otherwise the number of a file does."""
AT_ONCE = 8
"""Of more combinations of names at one moment some are drawn."""
_UNNAMED = os.O_TMPFILE
_BY_DESCRIPTOR = re.compile(r"/proc/self/fd/(\d+)")

Event = tuple[Any, ...]
Tree = dict[str, bytes | None]
"""Path -> bytes of a file; None for a directory."""


class Recorder:
    """The module `os`, which does everything and remembers what concerns files below a directory."""

    def __init__(self, base: Path) -> None:
        self.events: list[Event] = []
        self._base = base
        self._files: dict[int, int] = {}
        """Descriptor -> file that it writes to."""
        self._directories: dict[int, str] = {}
        self._names: dict[tuple[str, str], int] = {}
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def acknowledge(self) -> None:
        """What was done so far is promised to somebody."""
        self.events.append(("acknowledged",))

    def wait(self, stream: int, steps: int) -> None:
        """What follows isn't done before another thread has done so many steps."""
        self.events.append(("waits", stream, steps))

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        descriptor = os.open(path, flags, mode, dir_fd=dir_fd)
        self._files.pop(descriptor, None)
        self._directories.pop(descriptor, None)
        if flags & _UNNAMED == _UNNAMED or flags & os.O_CREAT:
            self._count += 1
            self._files[descriptor] = self._count
            self.events.append(("new", self._count))
            if dir_fd is not None:
                self._named(self._directories[dir_fd], str(path), self._count)
        elif flags & os.O_DIRECTORY:
            self._directories[descriptor] = os.path.relpath(path, self._base)
        return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        done = os.write(descriptor, data)
        self.events.append(("data", self._files[descriptor], bytes(data[:done])))
        return done

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)
        if descriptor in self._files:
            self.events.append(("sync", self._files[descriptor]))
        else:
            self.events.append(("sync names", self._directories[descriptor]))

    def link(self, source: str, name: str, **more: Any) -> None:
        os.link(source, name, **more)
        directory = self._directories[more["dst_dir_fd"]]
        found = _BY_DESCRIPTOR.fullmatch(source)
        file = self._files[int(found[1])] if found else self._names[directory, source]
        self._named(directory, name, file)

    def rename(self, source: str, name: str, **more: Any) -> None:
        os.rename(source, name, **more)  # noqa: PTH104 (by descriptors)
        directory = self._directories[more["dst_dir_fd"]]
        self._named(directory, name, self._names.pop((directory, source)))
        self.events.append(("name", directory, source, None))

    def unlink(self, name: str, *, dir_fd: int) -> None:
        os.unlink(name, dir_fd=dir_fd)
        self.events.append(("name", self._directories[dir_fd], name, None))

    def mkdir(self, name: str, mode: int = 0o777, *, dir_fd: int) -> None:
        os.mkdir(name, mode, dir_fd=dir_fd)
        self.events.append(("name", self._directories[dir_fd], name, DIRECTORY))

    def _named(self, directory: str, name: str, file: int) -> None:
        self._names[directory, name] = file
        self.events.append(("name", directory, name, file))


@dataclass
class _File:
    data: bytes = b""
    synced: int = 0

    def kept(self) -> list[bytes]:
        """What its bytes may be: all, those that were fsynced, some, zeros, some and zeros."""
        if self.synced == len(self.data):
            return [self.data]
        middle = (self.synced + len(self.data) + 1) // 2
        zeros = bytes(len(self.data) - middle)
        found = [
            self.data,
            self.data[: self.synced],
            self.data[:middle],
            self.data[:middle] + zeros,
            self.data[: self.synced] + bytes(len(self.data) - self.synced),
        ]
        return list(dict.fromkeys(found))


@dataclass
class Disk:
    """What is surely there, and what may be."""

    tree: Tree
    files: dict[int, _File] = field(default_factory=dict)
    names: dict[str, dict[str, int | None]] = field(default_factory=dict)
    """Per directory, what its fsynced names mean that changed."""
    pending: dict[str, list[tuple[str, int | None]]] = field(default_factory=dict)

    def happens(self, events: Iterable[Event]) -> int:
        """Goes on by these steps; returns how often something was acknowledged."""
        acknowledged = 0
        for what, *more in events:
            if what == "new":
                self.files[more[0]] = _File()
            elif what == "data":
                self.files[more[0]].data += more[1]
            elif what == "sync":
                self.files[more[0]].synced = len(self.files[more[0]].data)
            elif what == "name":
                self.pending.setdefault(more[0], []).append((more[1], more[2]))
            elif what == "sync names":
                self.names.setdefault(more[0], {}).update(self.pending.pop(more[0], []))
            elif what == "acknowledged":
                acknowledged += 1
        return acknowledged

    def kept(self) -> Iterator[Tree]:
        """Every tree that may be there if the power goes now."""
        choices = []
        for directory, changes in self.pending.items():
            values: dict[str, list[Any]] = {}
            for name, value in changes:
                values.setdefault(name, [...]).append(value)  # ...: as it was before
            choices += [[(directory, name, v) for v in found] for name, found in values.items()]
        for chosen in _some(choices):
            names = {directory: dict(found) for directory, found in self.names.items()}
            for directory, name, value in chosen:
                if value is not ...:
                    names.setdefault(directory, {})[name] = value
            yield from self._trees(names)

    def _trees(self, names: dict[str, dict[str, int | None]]) -> Iterator[Tree]:
        fixed = dict(self.tree)
        there: list[tuple[str, int]] = []
        for directory, found in names.items():
            for name, value in found.items():
                path = name if directory == "." else f"{directory}/{name}"
                fixed.pop(path, None)
                if value == DIRECTORY:
                    fixed[path] = None
                elif value is not None:
                    there.append((path, value))
        numbers = sorted({number for _, number in there})
        for contents in itertools.product(*(self.files[number].kept() for number in numbers)):
            data = dict(zip(numbers, contents, strict=True))
            tree = {**fixed, **{path: data[number] for path, number in there}}
            yield _reached(tree)


def _some(choices: list[list[Any]]) -> Iterator[tuple[Any, ...]]:
    """Every combination; of very many, some that are drawn, the first and the last among them."""
    if math.prod(map(len, choices)) <= AT_ONCE:
        yield from itertools.product(*choices)
        return
    yield tuple(one[0] for one in choices)
    yield tuple(one[-1] for one in choices)
    drawn = random.Random(len(choices))
    for _ in range(AT_ONCE - 2):
        yield tuple(drawn.choice(one) for one in choices)


def _reached(tree: Tree) -> Tree:
    """Without what stands in a directory whose own name is gone."""
    found: Tree = {}
    for path in sorted(tree):  # a directory comes before what is in it
        parent = path.rpartition("/")[0]
        if not parent or found.get(parent, b"") is None:
            found[path] = tree[path]
    return found


def moments(streams: Sequence[Sequence[Event]]) -> Iterator[tuple[int, ...]]:
    """How many steps each thread can have done at one moment, as far as they wait for one another."""
    waits = [
        (me, at, event[1], event[2])
        for me, events in enumerate(streams)
        for at, event in enumerate(events)
        if event[0] == "waits"
    ]
    for point in itertools.product(*(range(len(events) + 1) for events in streams)):
        if all(point[me] <= at or point[other] >= steps for me, at, other, steps in waits):
            yield point


def tree_of(base: Path) -> Tree:
    """What is below a directory."""
    return {
        str(path.relative_to(base)): None if path.is_dir() else path.read_bytes()
        for path in sorted(base.rglob("*"))
    }


def digest(tree: Tree, without: tuple[str, ...] = ()) -> bytes:
    """The same for the same tree only, or for trees that differ below these directories only."""
    hashed = hashlib.sha256()
    for path, data in sorted(tree.items()):
        if not any(name in path for name in without):
            hashed.update(path.encode() + b"\0" + (b"" if data is None else _sha256(data)) + b"\0")
    return hashed.digest()


@lru_cache(10_000)
def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Shelf:
    """Puts trees on a real file system; equal files are made once, since nobody writes into them."""

    def __init__(self, directory: Path) -> None:
        self.base = directory / "base"
        self._held = directory / "held"
        self._held.mkdir()
        self._made: dict[bytes, str] = {}

    def put(self, tree: Tree) -> Path:
        """The tree, in place of the one before."""
        shutil.rmtree(self.base, ignore_errors=True)
        self.base.mkdir()
        for path, data in sorted(tree.items()):
            if data is None:
                (self.base / path).mkdir()
                continue
            name = _sha256(data)
            if name not in self._made:
                held = self._held / name.hex()
                held.write_bytes(data)
                held.chmod(0o600)
                self._made[name] = str(held)
            os.link(self._made[name], f"{self.base}/{path}")
        return self.base

    def signature(self) -> bytes:
        """The same for the same tree as it is now: files of the shelf are known by their number."""
        hashed = hashlib.sha256()
        for directory, inner, files in os.walk(self.base):
            inner.sort()
            for name in sorted(files):
                path = f"{directory}/{name}"
                status = os.lstat(path)
                known = b"%d" % status.st_ino if status.st_nlink > 1 else Path(path).read_bytes()
                hashed.update(path.encode() + b"\0" + hashlib.sha256(known).digest())
        return hashed.digest()
