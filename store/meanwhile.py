"""A second question asked of a store while the first one is being answered.

Enters: a call that has a connection to itself until it ends. Leaves its result. Planning a query keeps
one core busy, so that two questions take hardly longer than one; cursors of a connection share all but
temporary tables, variables and registered objects.
"""

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Generic, Self, TypeVar

import duckdb

T = TypeVar("T")


class Meanwhile(Generic[T]):
    """Begins the call when it is entered; has ended when it is left.

    Args:
        con: what the call uses, and nobody else until `result`.
        call: what is to be done.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, call: Callable[[], T]) -> None:
        self._con = con
        self._call = call
        self._results: list[T] = []
        self._error: BaseException | None = None
        # `Thread.join` that is interrupted takes a thread for ended that isn't (Python 3.11).
        self._ended = Event()
        self._thread = Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001  # raised where the result is needed
            self._error = error
        finally:
            self._ended.set()

    def result(self) -> T:
        """What came of it; raises what it raised."""
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._ended.wait()
        finally:
            # Whoever fails or is interrupted needs no second answer; a query that has yet to begin
            # doesn't hear of it the first time.
            while not self._ended.wait(0.05):
                self._con.interrupt()
            self._thread.join()
