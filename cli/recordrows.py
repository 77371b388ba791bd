"""The rows that the store has of blocks of server logs, told by what the records are.

Enters: the store's views and the records of blocks. Leaves: the rows of each block's records, their
numbers, and what they touched. What the file was called when it was read is no matter: a log that was renamed or
compressed since is the same log, and another one of the same name isn't. Rows that are alike in all that
tells records apart are counted and left out. Changes nothing.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import duckdb
import numpy as np
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
    """`seq`, what tells records apart, and the columns that were asked for, as the views show them."""
    alike: frozenset[int]
    """Offsets of records of which the store has several rows."""
    _places: dict[int, int]
    _touched: Callable[[], pa.Table] | None

    @classmethod
    def none(cls) -> Self:
        """Of a block of which there are no rows."""
        return cls(pa.table({"seq": pa.array([], pa.int64())}), frozenset(), {}, None)

    @classmethod
    def find(
        cls,
        views: duckdb.DuckDBPyConnection,
        origin: str,
        blocks: Sequence[pa.Table],
        columns: Sequence[str],
        touched: Touched | None = None,
    ) -> list[Self]:
        """Look for them: one question for all blocks, which are to be near each other in time.

        Args:
            views: the store.
            origin: which log of it.
            blocks: LOG_SCHEMA, each the records of one file.
            columns: what is asked of the rows.
            touched: `rows` -> what they touched, row by row; None where nobody asks.
        """
        found = _found(views, origin, blocks, columns).sort_by("block")
        single = found.filter(pc.equal(found.column("times"), 1))
        several = found.filter(pc.greater(found.column("times"), 1))
        asked_once = functools.cache(lambda: touched(single)) if touched else None
        return [
            cls._of(_of_block(single, n), _of_block(several, n), asked_once)
            for n in range(len(blocks))
        ]

    @classmethod
    def _of(
        cls,
        part: tuple[int, pa.Table],
        several: tuple[int, pa.Table],
        touched: Callable[[], pa.Table] | None,
    ) -> Self:
        begin, rows = part
        places = {offset: at for at, offset in enumerate(rows.column("source_offset").to_pylist())}
        alike = frozenset(several[1].column("source_offset").to_pylist())
        mine = (lambda: touched().slice(begin, len(rows))) if touched else None
        return cls(rows.drop_columns(["times", "block"]), alike, places, mine)

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


def _found(
    views: duckdb.DuckDBPyConnection,
    origin: str,
    blocks: Sequence[pa.Table],
    columns: Sequence[str],
) -> pa.Table:
    """Every row of these records, the number of their `block`, and `times`: how many rows there are of the
    same record."""
    wanted = ", ".join(f'a."{one}"' for one in dict.fromkeys(("seq", *_KEY, *columns)))
    same = " AND ".join(f"a.{one} IS NOT DISTINCT FROM r.{one}" for one in _KEY)
    records = pa.concat_tables(
        pa.table({one: _plain(log.column(one)) for one in _KEY}).append_column(
            "block", pa.array([n] * log.num_rows, pa.int32())
        )
        for n, log in enumerate(blocks)
    )
    times = records.column("log_time")
    views.register("records", records)
    try:
        return views.sql(
            f"SELECT {wanted}, r.block, count(*) OVER (PARTITION BY r.block, a.source_offset) AS times "
            f"FROM audit a JOIN records r ON {same} "
            "WHERE a.origin = $origin AND a.log_time BETWEEN $first AND $last",
            params={
                "origin": origin,
                "first": pc.min(times).as_py(),
                "last": pc.max(times).as_py(),
            },
        ).to_arrow_table()
    finally:
        views.unregister("records")


def _of_block(found: pa.Table, block: int) -> tuple[int, pa.Table]:
    """Where its rows begin in rows that are sorted by block, and they."""
    blocks = found.column("block").to_numpy()
    begin, end = np.searchsorted(blocks, [block, block + 1]).tolist()
    return begin, found.slice(begin, end - begin)


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
