"""Checks many commits at once: on threads where hashing is all, in processes where rows are decoded.

Enters: the commits of all origins. Leaves: what was found of each, in their order, the same whatever
the number of workers. A store that is small is checked right here: a process takes a second to start.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from scalple.ingest.errors import StoreError
from scalple.store import source
from scalple.store.allocator import keep_memory
from scalple.store.commitcheck import CommitChecker, Found, Task
from scalple.store.layout import OriginLayout

PROCESS_BYTES_MIN = 24 << 20
"""Segments of fewer bytes than this for each worker aren't worth a process."""
CHUNK_BYTES = 8 << 20
"""So many bytes of segments are handed over at once."""


@dataclass(frozen=True, slots=True)
class Work:
    """The commits of one origin that are to be checked."""

    layout: OriginLayout
    digests: Sequence[Mapping[str, str]]
    tasks: Sequence[Task]


Chunk = tuple[int, Sequence[Task]]
"""Which origin's, and the commits."""


def check_all(
    work: Sequence[Work],
    *,
    files_only: bool,
    workers: int,
    advance: Callable[[int], None],
    first_only: bool = False,
) -> list[list[Found]]:
    """What was found of every commit, origin by origin.

    Args:
        work: the commits.
        files_only: hash files, decode nothing.
        workers: at most so many at once.
        advance: told how many more bytes of segments have been read.
        first_only: stop after commits with a fault.

    Raises:
        StoreError: a process was ended from outside.
    """
    total = sum(task.size for one in work for task in one.tasks)
    if not files_only:
        workers = min(workers, total // PROCESS_BYTES_MIN)
    found: list[list[Found]] = [[] for _ in work]
    chunks = list(_chunks(work, 1 if first_only else CHUNK_BYTES))
    for (at, tasks), some in _checked(work, chunks, files_only, workers):
        found[at] += some
        advance(sum(task.size for task in tasks))
        if first_only and any(commit.faults for commit in some):
            break
    for one in found:
        one.sort(key=lambda commit: commit.n)
    return found


def _checked(
    work: Sequence[Work], chunks: Sequence[Chunk], files_only: bool, workers: int
) -> Iterator[tuple[Chunk, list[Found]]]:
    if files_only and workers > 1:
        with ThreadPoolExecutor(workers, "scalple-hash") as threads:
            # Hashing keeps no facts from one commit to the next: each chunk has a checker of its own.
            todo = [threads.submit(_Checkers(work, files_only=True).check, one) for one in chunks]
            yield from _results(chunks, todo)
    elif workers > 1:
        given = (list(work), _openers(work, workers))
        with ProcessPoolExecutor(workers, get_context("spawn"), _prepare, given) as pool:
            try:
                yield from _results(chunks, [pool.submit(_check, one) for one in chunks])
            except BrokenProcessPool as error:
                raise StoreError(
                    "a process that checks rows was ended from outside, perhaps for want of memory",
                    hint="give --workers 1",
                ) from error
    else:
        here = _Checkers(work, files_only=files_only)
        for chunk in chunks:
            yield chunk, here.check(chunk)


def _results(
    chunks: Iterable[Chunk], futures: Sequence[Future[list[Found]]]
) -> Iterator[tuple[Chunk, list[Found]]]:
    try:
        for chunk, future in zip(chunks, futures, strict=True):
            yield chunk, future.result()
    finally:
        for future in futures:
            future.cancel()


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
