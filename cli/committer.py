"""Batches -> manifests, in order, on a thread of its own.

Enters: rows by kind, positions, what shaped them. Leaves: durable commits, and counts in the outcome.
What went wrong there is raised where the next batch is handed over. Decides nothing about rows.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import pyarrow as pa

from scalple.cli.declarations import SIGHTINGS
from scalple.cli.outcome import Outcome
from scalple.correlate.undeclared import Sightings
from scalple.store.manifest import Position
from scalple.store.writer import StoreWriter

BATCHES_WAITING = 2
"""How many batches may wait for their commit, the one that is being written included."""


class Committer:
    """Commits batches in order, one at a time, on a thread of its own."""

    def __init__(self, writer: StoreWriter, objects: dict[str, bytes], outcome: Outcome) -> None:
        self._writer = writer
        self._objects = objects
        self._outcome = outcome
        self._pool = ThreadPoolExecutor(1, "commit")
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is None:
            self.wait()
        self.close()

    def close(self) -> None:
        """Takes nothing more; what was handed over is finished."""
        self._pool.shutdown(wait=True)

    def submit(
        self,
        tables: dict[str, pa.Table],
        positions: list[Position],
        objects: dict[str, bytes] | None = None,
        sightings: Sightings | None = None,
    ) -> None:
        """Commit after the batches before; returns once few enough are waiting.

        Args:
            tables: rows by kind.
            positions: how far they reach.
            objects: what shaped these rows besides the declarations in force.
            sightings: undeclared columns that they show.
        """
        self.wait(BATCHES_WAITING - 1)
        whole = self._objects | (objects or {})
        if sightings is not None and sightings.counts:
            whole |= {SIGHTINGS: sightings.to_bytes()}
            self._outcome.sightings.add(sightings)
        self._pending.append(self._pool.submit(self._commit, tables, positions, whole))

    def wait(self, waiting: int = 0) -> None:
        """Until no more than that many batches aren't durable; raises what went wrong."""
        while len(self._pending) > waiting:
            self._pending.popleft().result()

    def _commit(
        self, tables: dict[str, pa.Table], positions: list[Position], objects: dict[str, bytes]
    ) -> None:
        kept = {kind: table for kind, table in tables.items() if table.num_rows}
        self._writer.commit(kept, positions, objects)
        self._outcome.add(kept)
