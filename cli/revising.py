"""Statements that are in the store, attributed once more with all evidence that is known by now.

Enters: server logs of which some bytes are in the store, read again, and the rows as the store shows
them. Leaves: a revision for every row whose attribution has become another one. What was logged is never
revised, and nothing is taken away: the store keeps what was known before.

This is the way that evidence which came late takes: events shipped from another host, a pooler's log
found later, an operator's new map of who is who.
"""

import datetime as dt
import json
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scalple.cli.recordrows import ATTRIBUTED
from scalple.cli.sources import Opened
from scalple.cli.storedrows import StoredRows
from scalple.cli.warmup import Fed, WarmUp
from scalple.correlate.answers import ROLLED_BACK
from scalple.correlate.record import REVISIONS

REASON = "later-evidence"
FINDINGS = "findings"


class Reviser:
    """Compares what the store says with what is known now.

    Args:
        rows: the store as it was before this run.
        warmup: reads what the store has read.
    """

    def __init__(self, rows: StoredRows, warmup: WarmUp) -> None:
        self._rows = rows
        self._warmup = warmup
        self.alike = 0
        """Statements of which the store has several rows that can't be told apart."""
        self.absent = 0
        """Statements of which the store has no row."""

    def revise(self, log: Opened) -> Iterator[pa.Table]:
        """Revisions of the rows that came from what the store has read of `log`.

        Args:
            log: the log, whose beginning is in the store, under whatever name.
        """
        for fed in self._warmup.again(log, self._rows):
            before, now = matched(fed)
            alike = sum(one in fed.known.alike for one in fed.offsets.to_pylist())
            self.alike += alike
            self.absent += len(fed.offsets) - alike - before.num_rows
            table = changed(before, now)
            if table.num_rows:
                yield table

    def doubts(self) -> Iterator[str]:
        """What wasn't revised, and why."""
        if self.alike:
            yield (
                f"{self.alike:,} statements aren't revised: the store has the same records, at the same "
                "places, from several files, so their rows can't be told apart"
            )
        if self.absent:
            yield (
                f"{self.absent:,} statements aren't revised: the store has no rows of them. They have "
                "expired, or were read with another time zone or log_line_prefix: give the one of then"
            )


def matched(fed: Fed) -> tuple[pa.Table, pa.Table]:
    """Rows of the store and what is known of them now, for the records that have a row."""
    places = fed.known.places(fed.offsets)
    there = pc.is_valid(places)
    return fed.known.rows.take(places.filter(there)), fed.columns.filter(there)


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
