"""The rows that the store has of a block of a server log, told by what the records are.

Enters: the store's views and the records of a block. Leaves: the rows of these records, their numbers, and
what they touched. What the file was called when it was read is no matter: a log that was renamed or
compressed since is the same log, and another one of the same name isn't. Rows that are alike in all that
tells records apart are counted and left out. Changes nothing.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.policies import OF_ACCESS
from scalple.store.rownames import RowNames
from scalple.store.views import REVISABLE

ATTRIBUTED = tuple(one for one in REVISABLE if one not in ("success", "sqlstate", "subjects"))
"""Columns that evidence decides."""
_KEY = ("source_offset", "log_time", "session_id", "session_line_num")
Touched = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True)
class RecordRows:
    """What the store has of one block."""

    rows: pa.Table
    """`seq`, what tells records apart, and ATTRIBUTED, as the views show them."""
    alike: frozenset[int]
    """Offsets of records of which the store has several rows."""
    _places: dict[int, int]
    _touched: Callable[[], pa.Table] | None

    @classmethod
    def find(
        cls,
        views: duckdb.DuckDBPyConnection,
        origin: str,
        log: pa.Table,
        touched: Touched | None = None,
    ) -> Self:
        """Look for them.

        Args:
            views: the store.
            origin: which log of it.
            log: LOG_SCHEMA, the records of one file.
            touched: `rows` -> what they touched, row by row; None where nobody asks.
        """
        found = _found(views, origin, log)
        single = pc.equal(found.column("times"), 1)
        several = found.filter(pc.invert(single)).column("source_offset")
        rows = found.filter(single).drop_columns(["times"])
        places = {offset: at for at, offset in enumerate(rows.column("source_offset").to_pylist())}
        asked_once = functools.cache(lambda: touched(rows)) if touched else None
        return cls(rows, frozenset(several.to_pylist()), places, asked_once)

    def places(self, offsets: pa.Array) -> pa.Array:
        """Where in `rows` the records at these offsets are; NULL: nowhere, or it can't be told."""
        return pa.array([self._places.get(one) for one in offsets.to_pylist()], pa.int64())

    def seq_of(self, offset: int) -> int | None:
        """Number of the row of the record there."""
        place = self._places.get(offset)
        return None if place is None else int(self.rows.column("seq")[place].as_py())

    def touched(self, offsets: pa.Array) -> pa.Table | None:
        """What the rows of these records touched, for policies; NULL where it can't be told."""
        if self._touched is None or not self.rows.num_rows:
            return None
        return self._touched().take(self.places(offsets))


def _found(views: duckdb.DuckDBPyConnection, origin: str, log: pa.Table) -> pa.Table:
    """Every row of these records, and `times`: how many there are of the same record."""
    columns = ", ".join(f'"{one}"' for one in dict.fromkeys(("seq", *_KEY, *ATTRIBUTED)))
    same = " AND ".join(f"a.{one} IS NOT DISTINCT FROM r.{one}" for one in _KEY)
    times = log.column("log_time")
    views.register("records", pa.table({one: _plain(log.column(one)) for one in _KEY}))
    try:
        return views.sql(
            f"SELECT {columns}, count(*) OVER (PARTITION BY a.source_offset) AS times "
            f"FROM audit a SEMI JOIN records r ON {same} "
            "WHERE a.origin = $origin AND a.log_time BETWEEN $first AND $last",
            params={
                "origin": origin,
                "first": pc.min(times).as_py(),
                "last": pc.max(times).as_py(),
            },
        ).to_arrow_table()
    finally:
        views.unregister("records")


def touched_by(
    views: duckdb.DuckDBPyConnection, names: RowNames, origin: str, rows: pa.Table
) -> pa.Table:
    """What these rows touched, row by row, as the store has it.

    Args:
        views: the store.
        names: those that its rows were written under, registered with `views`.
        origin: which log of it.
        rows: with `seq`; at least one.
    """
    columns = [*OF_ACCESS, *(["names"] if names.lineages else [])]
    seqs = rows.column("seq").combine_chunks()
    found = views.sql(
        f"SELECT seq, {', '.join(columns)} FROM {names.source} "
        "WHERE origin = $origin AND seq BETWEEN $first AND $last",
        params={"origin": origin, "first": pc.min(seqs).as_py(), "last": pc.max(seqs).as_py()},
    ).to_arrow_table()
    at = pc.index_in(seqs, found.column("seq").combine_chunks())
    return names.called(found.select(columns)).take(at)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
