"""Sessions whose end isn't in the log, although others' ends are.

Enters: a batch's records, and the open sessions. Leaves: where it turned out that a session is over
that nothing said ended: the server started anew, or its process id is another session's now. What it did
last may be missing; no numbering shows that. Says nothing where the log reports no ends at all
(`log_disconnections = off`).
"""

from dataclasses import dataclass, field

import numpy as np

from scalple.correlate.logbatch import Bools, Ints, LogBatch
from scalple.correlate.sessions import Session

_STARTED = "database system is ready to accept connections"


@dataclass(slots=True)
class Endings:
    """What has to be remembered between batches."""

    _told: bool = False
    """The log reports how sessions end."""
    _of_process: dict[int, int] = field(default_factory=dict)
    """Per process id the session that it was last."""
    _missed: set[int] = field(default_factory=set)

    def find(
        self, batch: LogBatch, session_of: Ints, ended: Bools, sessions: dict[int, Session]
    ) -> list[tuple[int, Session]]:
        """(record that shows it, session), in order.

        Args:
            batch: the records.
            session_of: a code per session, for each record.
            ended: which records end their session.
            sessions: the open ones, those that end in this batch included.
        """
        codes, firsts = np.unique(session_of, return_index=True)
        begun = dict(zip(codes.tolist(), firsts.tolist(), strict=True))
        ends = np.flatnonzero(ended)
        over = dict(zip(session_of[ends[::-1]].tolist(), ends[::-1].tolist(), strict=True))
        told_from = -1 if self._told else int(ends[0]) if len(ends) else len(session_of)
        self._told |= bool(len(ends))

        def missed(code: int, row: int) -> bool:
            session = sessions.get(code)
            return (
                session is not None
                and session.role is not None
                and code not in self._missed
                and begun.get(code, -1) < row
                and over.get(code, row) >= row
                and told_from < row
            )

        found: list[tuple[int, int]] = []
        for code, row in sorted(begun.items(), key=lambda one: one[1]):
            process = sessions[code].process_id if code in sessions else None
            if process is None:
                continue
            before = self._of_process.get(process)
            self._of_process[process] = code
            if before is not None and before != code and missed(before, row):
                found.append((row, before))
        for row in np.flatnonzero(batch.begins(_STARTED)).tolist():
            found += [(row, code) for code in sorted(sessions) if missed(code, row)]
        distinct = {code: row for row, code in sorted(found, reverse=True)}
        self._missed |= distinct.keys()
        self._missed &= sessions.keys()
        return [
            (row, sessions[code])
            for row, code in sorted((row, code) for code, row in distinct.items())
        ]
