"""Statements that are in the store, attributed once more with all evidence that is known by now.

Enters: server logs of which some bytes are in the store, read again, and the rows as the store shows
them. Leaves: a revision for every row whose attribution has become another one. What was logged is never
revised, and nothing is taken away: the store keeps what was known before.

This is the way that evidence which came late takes: events shipped from another host, a pooler's log
found later, an operator's new map of who is who.
"""

import datetime as dt
import json
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from scalple.cli.sources import Opened
from scalple.cli.warmup import WarmUp
from scalple.correlate.answers import ROLLED_BACK
from scalple.correlate.record import REVISIONS
from scalple.store.views import REVISABLE

REASON = "later-evidence"
FINDINGS = "findings"
ATTRIBUTED = tuple(one for one in REVISABLE if one not in ("success", "sqlstate", "subjects"))
"""Columns that evidence decides."""


class Reviser:
    """Compares what the store says with what is known now.

    Args:
        con: the views over the store as it was before this run.
        origin: the log's name.
        warmup: reads what the store has read.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, origin: str, warmup: WarmUp) -> None:
        self._con = con
        self._origin = origin
        self._warmup = warmup
        self.revised = 0
        self.unknown: list[str] = []
        """Files whose rows can't be told from another file's of the same name."""

    def revise(self, log: Opened, names: Counter[str]) -> Iterator[pa.Table]:
        """Revisions of the rows that came from what the store has read of `log`.

        Args:
            log: the log, whose beginning is in the store.
            names: how many logs of each file name the store knows.
        """
        name = log.file.path.name
        comparable = names[name] == 1
        if not comparable:
            self.unknown.append(name)
        stored = self._stored(name) if comparable else pa.table({"source_offset": [], "seq": []})
        known = {
            offset: row for row, offset in enumerate(stored.column("source_offset").to_pylist())
        }
        seqs = stored.column("seq")

        def seq_of(offset: int) -> int | None:
            return int(seqs[known[offset]].as_py()) if offset in known else None

        for piece, columns in self._warmup.again(log, seq_of):
            if not comparable:
                continue
            offsets = piece.to_pylist()
            rows = np.array([known.get(offset, -1) for offset in offsets], np.int64)
            at = np.flatnonzero(rows >= 0)
            if len(at):
                table = changed(stored.take(pa.array(rows[at])), columns.take(pa.array(at)))
                self.revised += table.num_rows
                if table.num_rows:
                    yield table

    def _stored(self, name: str) -> pa.Table:
        columns = ", ".join(f'"{one}"' for one in ATTRIBUTED)
        return self._con.sql(
            f"SELECT seq, source_offset, {columns} FROM audit "
            "WHERE origin = $origin AND source_file = $name ORDER BY seq",
            params={"origin": self._origin, "name": name},
        ).to_arrow_table()


def changed(before: pa.Table, now: pa.Table, taken_back: Collection[int] = frozenset()) -> pa.Table:
    """Rows of REVISIONS without numbers, for the rows that differ.

    Args:
        before: `seq` and the columns ATTRIBUTED as the store shows them.
        now: the columns ATTRIBUTED, row by row.
        taken_back: numbers of rows that turned out to be rolled back since `before` was read.
    """
    old = {name: _plain(before.column(name)) for name in ATTRIBUTED}
    new = {name: _plain(now.column(name)) for name in ATTRIBUTED}
    seqs = before.column("seq").to_pylist()
    rows: list[dict[str, Any]] = []
    moment = dt.datetime.now(dt.UTC)
    for at, seq in enumerate(seqs):
        if seq in taken_back:
            old[FINDINGS][at] = _rolled_back(old[FINDINGS][at])
        if ROLLED_BACK in (old[FINDINGS][at] or ()):
            # That the log said so, maybe in a later block, holds whatever the evidence says.
            new[FINDINGS][at] = _rolled_back(new[FINDINGS][at])
        changes = {name: new[name][at] for name in ATTRIBUTED if new[name][at] != old[name][at]}
        if changes:
            rows.append(
                {
                    "audit_seq": seq,
                    "changes": json.dumps(changes, sort_keys=True, ensure_ascii=False),
                    "evidence": new["attribution_evidence"][at],
                    "reason": REASON,
                    "revised_at": moment,
                }
            )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _rolled_back(found: list[str] | None) -> list[str]:
    return [*(one for one in found or () if one != ROLLED_BACK), ROLLED_BACK]


_SCHEMA = pa.schema([REVISIONS.field(name) for name in REVISIONS.names[2:]])


def _plain(column: pa.ChunkedArray) -> list[Any]:
    return list(column.to_pylist())
