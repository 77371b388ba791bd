"""What the server logs held before the new bytes, so that sessions go on where they stood.

Enters: log files of which some bytes are in the store. Leaves nothing: the last of those bytes run
through the correlator once more, and what comes out is dropped. Bounded: a session whose last
record lies further back than `BYTES_MAX` has lost its run, and its statements are `claimed` or
`candidates` until the pooler's next replay.
"""

import datetime as dt
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.cli.sources import Opened
from scalple.correlate.correlator import UNNUMBERED, Correlator
from scalple.correlate.logbatch import where_in
from scalple.ingest import pgaudit
from scalple.ingest.container import RECORD_BYTES_MAX
from scalple.ingest.records import NONSTANDARD
from scalple.ingest.rejects import Block
from scalple.ingest.sourcefile import SourceFile

BYTES_MAX = 64 << 20
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


class WarmUp:
    """Feeds a correlator what the store has read already.

    Args:
        correlator: whose open sessions are to be as they were.
        stored: evidence of earlier runs (columns of EVIDENCE): the numbers that sessions have.
        seq_of: number of the audit row that was read from that file name and offset, if it is known.
        touched: what the rows touched that were read from that file name and those offsets, as the
            store has it, for policies; None where it isn't needed.
    """

    def __init__(
        self,
        correlator: Correlator,
        stored: pa.Table,
        seq_of: Callable[[str, int], int | None] = lambda _name, _offset: None,
        touched: Callable[[str, pa.Array], pa.Table | None] = lambda _name, _offsets: None,
    ) -> None:
        self._correlator = correlator
        self._seq_of = seq_of
        self._touched = touched
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

    def catch_up(self, file: Opened) -> None:
        """Run what comes before the new bytes of `file` through the correlator."""
        parts = window([*self._pending, file])
        self._pending.clear()
        self.run(parts)

    def run(self, parts: Sequence[tuple[Opened, int]]) -> None:
        """Run through a window."""
        for one, begin in parts:
            for block in _blocks(one, begin):
                seq_of = functools.partial(self._seq_of, one.file.path.name)
                touched = functools.partial(self._touched, one.file.path.name)
                for _ in self.feed(block.table.combine_chunks(), seq_of, touched):
                    pass  # what comes out is in the store

    def again(self, opened: Opened) -> Iterator[pa.Table]:
        """The records of all that the store has read of a file, block by block, to be fed once more."""
        self._pending.clear()
        return (block.table.combine_chunks() for block in _blocks(opened, 0))

    def feed(
        self,
        log: pa.Table,
        seq_of: Callable[[int], int | None],
        touched: Callable[[pa.Array], pa.Table | None],
    ) -> Iterator[tuple[pa.Array, pa.Table]]:
        """One block: (offsets, columns) of its pgAudit records; cut where the numbers of the sessions' evidence jump.

        `seq_of` gives the number of the row at an offset, `touched` what the rows at some offsets touched.
        """
        cuts, numbers = self._cuts(log)
        for begin, end, number in zip(cuts, [*cuts[1:], log.num_rows], numbers, strict=True):
            piece = log.slice(begin, end - begin).combine_chunks()
            messages = piece.column("message").combine_chunks()
            marked = np.flatnonzero(np.asarray(pgaudit.is_audit(messages)))
            lenient = where_in(piece.column("remark"), pa.array([NONSTANDARD]))[marked]
            payload, ok = pgaudit.split_payloads(messages.take(pa.array(marked)), lenient)
            rows = marked[np.asarray(ok)]
            offsets = piece.column("source_offset").take(pa.array(rows)).combine_chunks()
            done = self._correlator.attribute(
                piece,
                rows,
                payload.combine_chunks(),
                number,
                self._first_seq(seq_of, offsets),
                touched=touched(offsets),
            )
            yield offsets, done.columns

    def _first_seq(self, seq_of: Callable[[int], int | None], offsets: pa.Array) -> int:
        """Number of the first of these rows; UNNUMBERED unless the others follow it."""
        if not len(offsets):
            return UNNUMBERED
        first, last = seq_of(offsets[0].as_py()), seq_of(offsets[-1].as_py())
        follows = first is not None and last == first + len(offsets) - 1
        return first if follows and first is not None else UNNUMBERED

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
