"""Checks many commits at once: on threads where hashing is all, in processes where rows are decoded.

Enters: the commits of all origins, and parts of their indexes. Leaves: what was found of each, in their
order, the same whatever the number of workers. A store that is small is checked right here: a process takes a second to start.
"""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from scalple.ingest.errors import StoreError
from scalple.store import source
from scalple.store.allocator import keep_memory
from scalple.store.commitcheck import CommitChecker, Found, Task
from scalple.store.layout import OriginLayout
from scalple.store.verifyreport import Fault

PROCESS_BYTES_MIN = 24 << 20
"""Segments of fewer bytes than this for each worker aren't worth a process."""
CHUNK_BYTES = 8 << 20
"""So many bytes of segments are handed over at once."""
COMMIT_BYTES = 32 << 10
"""A commit takes as long as reading so many bytes more than it has."""


@dataclass(frozen=True, slots=True)
class Work:
    """The commits of one origin that are to be checked."""

    layout: OriginLayout
    digests: Sequence[Mapping[str, str]]
    tasks: Sequence[Task]


Chunk = tuple[int, Sequence[Task]]
"""Which origin's, and the commits."""


class Part(Protocol):
    """Something else that has to be checked, and needs nothing of the commits."""

    @property
    def size(self) -> int:
        """How many bytes it reads."""

    def __call__(self) -> list[Fault]:
        """What is wrong; in whatever process it is called."""


def check_all(
    work: Sequence[Work],
    parts: Sequence[Part] = (),
    *,
    files_only: bool,
    workers: int,
    advance: Callable[[int], None],
    first_only: bool = False,
) -> tuple[list[list[Found]], list[list[Fault]]]:
    """What was found of every commit, origin by origin, and of every part.

    Args:
        work: the commits.
        parts: what else there is to check.
        files_only: hash files, decode nothing.
        workers: at most so many at once.
        advance: told how many more bytes of segments have been read.
        first_only: stop after commits with a fault; nothing is then said of the parts.

    Raises:
        StoreError: a process was ended from outside.
    """
    if not files_only:
        workers = min(workers, _cost(work, parts) // PROCESS_BYTES_MIN)
    found: list[list[Found]] = [[] for _ in work]
    faults: list[list[Fault]] = [[] for _ in parts]
    chunks = list(_chunks(work, CHUNK_BYTES))
    with _workers(work, files_only, workers) as (submit, check):
        others = [submit(part) for part in parts]  # first, as they take longest
        todo = [submit(check, chunk) for chunk in chunks]
        try:
            for (at, tasks), one in zip(chunks, todo, strict=True):
                some = one.result()
                found[at] += some
                advance(sum(task.size for task in tasks))
                if first_only and any(commit.faults for commit in some):
                    break
            else:
                faults = [one.result() for one in others]
        finally:
            for one in (*todo, *others):
                one.cancel()
    for commits in found:
        commits.sort(key=lambda commit: commit.n)
    return found, faults


def _cost(work: Sequence[Work], parts: Sequence[Part]) -> int:
    """In bytes; a commit costs something whatever its size."""
    sizes = [task.size + COMMIT_BYTES for one in work for task in one.tasks]
    return sum(sizes) + sum(part.size for part in parts)


class _Later:
    """What is done here, and no sooner than it is asked for: the Future of one worker."""

    def __init__(self, call: Callable[..., Any], *given: Any) -> None:
        self.result = partial(call, *given)

    def cancel(self) -> None:
        """Nothing was begun."""


Submit = Callable[..., Future[Any] | _Later]
Check = Callable[[Chunk], list[Found]]


@contextmanager
def _workers(
    work: Sequence[Work], files_only: bool, workers: int
) -> Iterator[tuple[Submit, Check]]:
    """Who works, and what checks a chunk there."""
    if workers <= 1:
        yield _Later, _Checkers(work, files_only=files_only).check
    elif files_only:
        # Hashing keeps no facts from one commit to the next: each chunk has a checker of its own.
        with ThreadPoolExecutor(workers, "scalple-hash") as threads:
            yield threads.submit, lambda chunk: _Checkers(work, files_only=True).check(chunk)
    else:
        alike = [replace(one, tasks=()) for one in work]
        given = (alike, _openers(work, workers))
        with ProcessPoolExecutor(workers, get_context("spawn"), _prepare, given) as pool:
            try:
                yield pool.submit, _check
            except BrokenProcessPool as error:
                raise StoreError(
                    "a process that checks rows was ended from outside, perhaps for want of memory",
                    hint="give --workers 1",
                ) from error


def _chunks(work: Sequence[Work], length: int) -> Iterator[Chunk]:
    """Commits in order, so many bytes of segments at a time."""
    for at, one in enumerate(work):
        some: list[Task] = []
        for task in one.tasks:
            some.append(task)
            if sum(commit.size for commit in some) >= length:
                yield at, some
                some = []
        if some:
            yield at, some


class _Checkers:
    """One checker per origin."""

    def __init__(self, work: Sequence[Work], *, files_only: bool) -> None:
        self._checkers = [
            CommitChecker(one.layout, one.digests, files_only=files_only) for one in work
        ]

    def check(self, chunk: Chunk) -> list[Found]:
        """What was found of each commit of a chunk."""
        at, tasks = chunk
        return list(self._checkers[at].check_all(tasks))


_checkers: _Checkers | None = None


def _openers(work: Sequence[Work], workers: int) -> dict[Path, source.Opener]:
    """How each process gets the files of stores that lie elsewhere; it fetches those of its commits."""
    directories = {one.layout.store_dir for one in work}
    remotes = {directory: source.source_of(directory) for directory in directories}
    return {directory: one.opener(workers) for directory, one in remotes.items() if one}


def _prepare(work: Sequence[Work], openers: Mapping[Path, source.Opener]) -> None:
    """In each process, once."""
    global _checkers
    for directory, opener in openers.items():
        source.mount(directory, opener())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was called
    keep_memory()
    _checkers = _Checkers(work, files_only=False)


def _check(chunk: Chunk) -> list[Found]:
    assert _checkers is not None
    return _checkers.check(chunk)
