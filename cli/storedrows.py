"""What the store has already, for whoever goes on: evidence, and the rows of a log file that is read again.

Enters: a store; where a record begins. Leaves: evidence, the time of the newest statement; the number of a
record's audit row, and what it touched. Of two files of one name it can't be told whose row it is: then
nothing is said.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from scalple.cli import subjectkeys
from scalple.cli.recordrows import RecordRows, touched_by
from scalple.correlate.policies import OF_ACCESS
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

    def of(self, log: pa.Table) -> RecordRows:
        """Those of the records of a block (LOG_SCHEMA), whatever their file was called then."""
        views = self.views
        assert views is not None
        if not self.rules.policies:
            return RecordRows.find(views, self.origin, log)
        return RecordRows.find(
            views, self.origin, log, lambda rows: touched_by(views, self.names, self.origin, rows)
        )

    def seq_of(self, name: str, offset: int) -> int | None:
        """Number of the audit row that was read there; None if that can't be told."""
        if self.views is None:
            return None
        found = self.views.execute(
            "SELECT seq FROM audit WHERE origin = $origin AND source_file = $name "
            "AND source_offset = $offset LIMIT 2",
            {"origin": self.origin, "name": name, "offset": offset},
        ).fetchall()
        return int(found[0][0]) if len(found) == 1 else None

    def touched(self, name: str, offsets: pa.Array) -> pa.Table | None:
        """What the rows touched that were read there, as far as it can be told; for policies."""
        if self.views is None or not self.rules.policies or not len(offsets):
            return None
        columns = [*OF_ACCESS, *(["names"] if self.names.lineages else [])]
        stored = self.views.sql(
            f"SELECT source_offset, {', '.join(columns)} FROM {self.names.source} "
            "WHERE origin = $origin AND source_file = $name "
            "AND source_offset BETWEEN $first AND $last "
            "QUALIFY count(*) OVER (PARTITION BY source_offset) = 1",
            params={
                "origin": self.origin,
                "name": name,
                "first": pc.min(offsets).as_py(),
                "last": pc.max(offsets).as_py(),
            },
        ).to_arrow_table()
        known = stored.column("source_offset").combine_chunks()
        return self.names.called(stored.select(columns)).take(pc.index_in(offsets, known))
