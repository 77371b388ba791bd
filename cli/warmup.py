"""What the server logs held before the new bytes, so that sessions go on where they stood.

Enters: log files of which some bytes are in the store. Leaves nothing: the last of those bytes run
through the correlator once more, and what comes out is dropped. Bounded: a session whose last
record lies further back than `BYTES_MAX` has lost its run, and its statements are `claimed` or
`candidates` until the pooler's next replay.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.cli.recordrows import ATTRIBUTED, RecordRows
from scalple.cli.sources import Opened
from scalple.cli.storedrows import StoredRows
from scalple.correlate.correlator import UNNUMBERED, Correlator
from scalple.correlate.logbatch import where_in
from scalple.ingest import pgaudit
from scalple.ingest.container import RECORD_BYTES_MAX
from scalple.ingest.records import NONSTANDARD
from scalple.ingest.rejects import Block
from scalple.ingest.sourcefile import SourceFile

BYTES_MAX = 64 << 20
GROUP_BYTES = 4 << 20
"""The store is asked once about so much."""
_SESSION = "connection authenticated: "


def window(logs: Sequence[Opened]) -> list[tuple[Opened, int]]:
    """What is run through once more of logs in the order of time, and from where on each."""
    left = BYTES_MAX
    parts: list[tuple[Opened, int]] = []
    for one in reversed(logs):
        end = one.file.end
        begin = max(0, end - left)
        if begin < end:
            parts.append((one, begin))
        left -= end - begin
    return parts[::-1]


def begins_at(parts: Sequence[tuple[Opened, int]]) -> dt.datetime | None:
    """When the first record in it was logged; None if there is none."""
    for one, begin in parts:
        for block in _blocks(one, begin):
            first: dt.datetime | None = pc.min(block.table.column("log_time")).as_py()
            if first is not None:
                return first
    return None


def _blocks(opened: Opened, begin: int) -> Iterator[Block]:
    """The records of [begin, file.end), from the first that begins there."""
    window = SourceFile(opened.file.path)
    window.size = opened.file.end
    if begin:
        assert opened.reader is not None
        start = opened.reader.next_start(window.read(begin, RECORD_BYTES_MAX))
        if start is None:
            return iter(())
        begin += start
    window.end = begin
    return (piece.block for piece in window.pieces(opened.parse))


class Fed(NamedTuple):
    """What came out for some of a block's pgAudit records."""

    known: RecordRows
    """What the store has of the block."""
    offsets: pa.Array
    """Where the records begin."""
    columns: pa.Table
    """A row for each, as `Correlator.attribute` gives them."""


class WarmUp:
    """Feeds a correlator what the store has read already.

    Args:
        correlator: whose open sessions are to be as they were.
        stored: evidence of earlier runs (columns of EVIDENCE): the numbers that sessions have.
    """

    def __init__(self, correlator: Correlator, stored: pa.Table) -> None:
        self._correlator = correlator
        self._pending: list[Opened] = []
        of_sessions = stored.filter(pc.equal(stored.column("source"), "postgresql"))
        self._numbers: dict[tuple[str, int], int] = {
            (session, offset): seq
            for session, offset, seq in zip(
                of_sessions.column("connection").to_pylist(),
                of_sessions.column("source_offset").to_pylist(),
                of_sessions.column("seq").to_pylist(),
                strict=True,
            )
        }

    def note(self, file: Opened) -> None:
        """A file that holds nothing new, in the order of time."""
        self._pending.append(file)

    def catch_up(self, file: Opened, rows: StoredRows) -> None:
        """Run what comes before the new bytes of `file` through the correlator."""
        parts = window([*self._pending, file])
        self._pending.clear()
        self.run(parts, rows)

    def run(self, parts: Sequence[tuple[Opened, int]], rows: StoredRows) -> None:
        """Run through a window; `rows`: those of the store."""
        blocks = (
            block.table.combine_chunks() for one, begin in parts for block in _blocks(one, begin)
        )
        for _ in self.feed(blocks, rows, ()):
            pass  # what comes out is in the store

    def again(self, opened: Opened, rows: StoredRows) -> Iterator[Fed]:
        """Feed all that the store has read of a file once more; its rows have the columns ATTRIBUTED."""
        self._pending.clear()
        blocks = (block.table.combine_chunks() for block in _blocks(opened, 0))
        return self.feed(blocks, rows, ATTRIBUTED)

    def feed(
        self, blocks: Iterable[pa.Table], rows: StoredRows, columns: Sequence[str]
    ) -> Iterator[Fed]:
        """Blocks of logs, in their order; they are cut where the numbers of the sessions' evidence jump.

        Args:
            blocks: LOG_SCHEMA, each the records of one file.
            rows: those that the store has.
            columns: which of theirs are needed.
        """
        for group in _grouped(blocks):
            for log, known in zip(group, rows.of(group, columns), strict=True):
                for offsets, done in self._block(log, known):
                    yield Fed(known, offsets, done)

    def _block(self, log: pa.Table, known: RecordRows) -> Iterator[tuple[pa.Array, pa.Table]]:
        cuts, numbers = self._cuts(log)
        for begin, end, number in zip(cuts, [*cuts[1:], log.num_rows], numbers, strict=True):
            piece = log.slice(begin, end - begin).combine_chunks()
            messages = piece.column("message").combine_chunks()
            marked = np.flatnonzero(np.asarray(pgaudit.is_audit(messages)))
            lenient = where_in(piece.column("remark"), pa.array([NONSTANDARD]))[marked]
            payload, ok = pgaudit.split_payloads(messages.take(pa.array(marked)), lenient)
            audit = marked[np.asarray(ok)]
            offsets = piece.column("source_offset").take(pa.array(audit)).combine_chunks()
            done = self._correlator.attribute(
                piece,
                audit,
                payload.combine_chunks(),
                number,
                _first_seq(known, offsets),
                touched=known.touched(offsets),
            )
            yield offsets, done.columns

    def _cuts(self, log: pa.Table) -> tuple[list[int], list[int]]:
        """Rows at which a piece begins, and the number of the first session in each piece."""
        said = np.flatnonzero(
            np.asarray(pc.fill_null(pc.starts_with(log.column("message"), _SESSION), False))
        )
        sessions = log.column("session_id").take(pa.array(said)).cast(pa.string()).to_pylist()
        offsets = log.column("source_offset").take(pa.array(said)).to_pylist()
        cuts, numbers, following = [0], [0], None
        for row, key in zip(said.tolist(), zip(sessions, offsets, strict=True), strict=True):
            number = self._numbers.get(key)
            if number is None:
                continue  # it named nobody, and has no row of evidence
            if following is None:
                numbers[-1] = number
            elif number != following:
                cuts.append(row)
                numbers.append(number)
            following = number + 1
        return cuts, numbers


def _grouped(blocks: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Many small blocks, or a large one: a store of many files is slow to ask."""
    group: list[pa.Table] = []
    size = 0
    for one in blocks:
        group.append(one)
        size += one.nbytes
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _first_seq(known: RecordRows, offsets: pa.Array) -> int:
    """Number of the first of these rows; UNNUMBERED unless the others follow it."""
    if not len(offsets):
        return UNNUMBERED
    first, last = known.seq_of(offsets[0].as_py()), known.seq_of(offsets[-1].as_py())
    follows = first is not None and last == first + len(offsets) - 1
    return first if follows and first is not None else UNNUMBERED
