"""What the server logs held before the new bytes, so that sessions go on where they stood.

Enters: log files of which some bytes are in the store. Leaves nothing: the last of those bytes run
through the correlator once more, and what comes out is dropped. Bounded: a session whose last
record lies further back than `BYTES_MAX` has lost its run, and its statements are `claimed` or
`candidates` until the pooler's next replay.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.correlator import Correlator
from scalple.ingest import csvlog, pgaudit
from scalple.ingest.logtime import LogTimes
from scalple.ingest.rejects import Block
from scalple.ingest.sourcefile import SourceFile

BYTES_MAX = 64 << 20
_SESSION = "connection authenticated: "


class WarmUp:
    """Feeds a correlator what the store has read already.

    Args:
        correlator: whose open sessions are to be as they were.
        stored: evidence of earlier runs (columns of EVIDENCE): the numbers that sessions have.
        timezone: as the operator stated it.
    """

    def __init__(self, correlator: Correlator, stored: pa.Table, timezone: str | None) -> None:
        self._correlator = correlator
        self._timezone = timezone
        self._pending: list[SourceFile] = []
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

    def note(self, file: SourceFile) -> None:
        """A file that holds nothing new, in the order of time."""
        self._pending.append(file)

    def catch_up(self, file: SourceFile) -> None:
        """Run what comes before the new bytes of `file` through the correlator."""
        left = BYTES_MAX
        parts: list[tuple[SourceFile, int]] = []
        for one in reversed([*self._pending, file]):
            begin = max(0, one.end - left)
            if begin < one.end:
                parts.append((one, begin))
            left -= one.end - begin
        self._pending.clear()
        for one, begin in reversed(parts):
            for block in self._blocks(one, begin):
                self._feed(block.table.combine_chunks())

    def _blocks(self, file: SourceFile, begin: int) -> Iterator[Block]:
        """The records of [begin, file.end), from the first that begins there."""
        window = SourceFile(file.path)
        window.size = file.end
        if begin:
            head = np.frombuffer(window.read(begin, csvlog.RECORD_BYTES_MAX), np.uint8)
            starts, _ = csvlog.record_starts(head)
            # The window may begin at a record by chance; its own first byte is no line's start.
            inside = starts[starts > 0]
            if not len(inside):
                return iter(())
            begin += int(inside[0])
        window.end = begin
        times = LogTimes(self._timezone, str(file.path))

        def parse(data: bytes, offset: int, final: bool) -> Block:
            return csvlog.parse_block(data, offset, times, final=final)

        return (piece.block for piece in window.pieces(parse))

    def _feed(self, log: pa.Table) -> None:
        """One block; cut where the numbers of the sessions' evidence jump."""
        cuts, numbers = self._cuts(log)
        for begin, end, number in zip(cuts, [*cuts[1:], log.num_rows], numbers, strict=True):
            piece = log.slice(begin, end - begin).combine_chunks()
            messages = piece.column("message").combine_chunks()
            marked = np.flatnonzero(np.asarray(pgaudit.is_audit(messages)))
            payload, ok = pgaudit.split_payloads(messages.take(pa.array(marked)))
            self._correlator.attribute(
                piece, marked[np.asarray(ok)], payload.combine_chunks(), number
            )

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
