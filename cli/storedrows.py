"""What the store has already, for whoever goes on: evidence, and the rows of logs that are read again.

Enters: a store; blocks of logs. Leaves: evidence, the time of the newest statement; the rows of the blocks'
records.
"""

import datetime as dt
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import duckdb
import pyarrow as pa

from scalple.cli import subjectkeys
from scalple.cli.recordrows import ATTRIBUTED, RecordRows, touched_by
from scalple.correlate.record import EVIDENCE
from scalple.correlate.rules import Rules
from scalple.store.query import newest_statement
from scalple.store.reader import StoreReader
from scalple.store.rownames import RowNames
from scalple.store.views import connect_reader


@dataclass(slots=True)
class Stored:
    """One origin as earlier runs left it."""

    reader: StoreReader
    views: duckdb.DuckDBPyConnection
    newest: dt.datetime | None
    """When the newest statement was logged."""
    names: RowNames
    """Those that rows were written under, registered with `views`."""

    @classmethod
    def open(cls, directory: Path, origin: str, subject_key: bytes, *, by_period: bool) -> Self:
        """Under the writer's lock.

        Args:
            directory: the store.
            origin: which log of it.
            subject_key: that of this run.
            by_period: each period has its own.

        Raises:
            ConfigError: the subject key isn't the one that it goes on with.
        """
        reader = StoreReader.open(directory, origin)
        # It may have been changed before the lock.
        subjectkeys.check_goes_on(reader, subject_key, by_period=by_period)
        views = connect_reader(reader)
        names = RowNames(reader.audit_commits())
        names.register(views)
        return cls(reader, views, newest_statement(views), names)

    def evidence(self) -> Iterator[pa.Table]:
        """Columns of EVIDENCE, part by part."""
        return (one.table().cast(EVIDENCE) for one in self.reader.segments("evidence"))


@dataclass(slots=True)
class StoredRows:
    """Audit rows of one origin."""

    origin: str
    rules: Rules
    views: duckdb.DuckDBPyConnection | None
    """The store as it was before this run."""
    names: RowNames

    def of(
        self, blocks: Sequence[pa.Table], columns: Sequence[str] = ATTRIBUTED
    ) -> list[RecordRows]:
        """Those of the records of each block (LOG_SCHEMA), with these columns, whatever the block's file was
        called then; nothing where there is no store yet."""
        if self.views is None:
            return [RecordRows.none() for _ in blocks]
        views = self.views
        touched = functools.partial(touched_by, views, self.names, self.origin)
        return RecordRows.find(
            views, self.origin, blocks, columns, touched if self.rules.policies else None
        )
