"""A bar for people who wait: how much is read, how fast; on stderr, and nothing where nobody looks.

What a verb counts enters. Loaded late: to draw takes longer to load than a small store to verify.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """What is told of the work."""

    def __call__(
        self, *, total: float | None = None, advance: float = 0, statements: int = 0
    ) -> None:
        """How much there is, and how much more of it is done."""


@contextmanager
def bar(what: str, *, statements: bool = False) -> Iterator[Bar]:
    """A bar while the work lasts; with `statements` their number stands beside it."""
    if not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = [TextColumn("{task.description}"), BarColumn(), DownloadColumn()]
    columns.append(TransferSpeedColumn())
    if statements:
        columns.append(TextColumn("{task.fields[statements]:,} statements"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None, statements=0)
        done = 0

        def tell(*, total: float | None = None, advance: float = 0, statements: int = 0) -> None:
            nonlocal done
            done += statements
            progress.update(task, total=total, advance=advance, statements=done)

        yield tell


def _ignore(*, total: float | None = None, advance: float = 0, statements: int = 0) -> None:
    return
