"""Statements that could not be attributed because the pooler's log had not come so far yet.

Enters: rows as they are committed, and the pooler's lines as they become known. Leaves: from when on
statements are to be attributed anew, once the log tells of the time in question. A pooler that has nothing
to say writes its statistics once a minute; until then nobody can tell whether a session that has just
begun came through it. Only what evidence could name is waited for. Attributes nothing.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.evidence import Evidence
from scalple.correlate.rules import Actors
from scalple.correlate.sessions import started_us
from scalple.ingest.records import TEXT

MOST = 256
"""So many are told apart."""
KNOWN_US = 65_000_000
"""So long after its last line the pooler's clients are known to be there (`coverage` in intervals.sql)."""
_BEGUN = pa.array(["pooling-unknown"])
_SILENT = pa.array(["endpoint-not-alive", "no-client-known", "pool-not-seen"])
Waiting = tuple[int, int]
"""Up to when the log has to tell, and when the first such statement was logged; in µs since 1970."""


class Unheard:
    """What waits for the pooler's log.

    Args:
        waiting: as `plain` gave it.
    """

    def __init__(self, waiting: Sequence[Sequence[int]] = ()) -> None:
        self._waiting: list[Waiting] = [(int(until), int(since)) for until, since in waiting]

    def plain(self) -> list[list[int]]:
        """To be kept."""
        return [list(one) for one in self._waiting]

    def note(self, audit: pa.Table, evidence: Evidence, actors: Actors) -> None:
        """Rows (columns of AUDIT) that were attributed by this evidence."""
        heard_us = evidence.pooler_until_us
        if heard_us is None or not audit.num_rows:
            return
        found = {*self._waiting, *_begun(audit, heard_us, evidence, actors)}
        found |= _silent(audit, heard_us)
        self._waiting = sorted(found)
        while len(self._waiting) > MOST:  # the latest two wait for one another
            (_, one), (until, other) = self._waiting[-2:]
            self._waiting[-2:] = [(until, min(one, other))]

    def heard(self, events: pa.Table) -> int | None:
        """When the first statement was logged that these events (columns of EVIDENCE) may tell of."""
        lines = events.column("ts").filter(pc.equal(events.column("source"), "pgbouncer"))
        newest = pc.max(lines.cast(pa.int64())).as_py()
        if newest is None:
            return None
        told = [since for until, since in self._waiting if until <= newest]
        self._waiting = [one for one in self._waiting if one[0] > newest]
        return min(told, default=None)


def _begun(audit: pa.Table, heard_us: int, evidence: Evidence, actors: Actors) -> set[Waiting]:
    """Of sessions that began after the pooler's last line and that may be somebody's."""
    rows = audit.filter(pc.is_in(audit.column("attribution_reason").cast(TEXT), _BEGUN))
    if not rows.num_rows:
        return set()
    columns = ["session_id", "db_role", "client_addr"]
    table = pa.table({name: rows.column(name).cast(TEXT) for name in columns})
    table = table.append_column("client_port", rows.column("client_port"))
    table = table.append_column("log_us", rows.column("log_time").cast(pa.int64()))
    grouped = table.group_by([*columns, "client_port"]).aggregate([("log_us", "min")])
    found = set()
    for one in grouped.to_pylist():
        _, until = started_us(one["session_id"] or "")
        if until > heard_us and _may_be_named(one, evidence, actors):
            found.add((until, int(one["log_us_min"])))
    return found


def _may_be_named(one: Mapping[str, object], evidence: Evidence, actors: Actors) -> bool:
    if one["db_role"] in actors.roles or actors.identities:
        return True
    return (one["client_addr"], one["client_port"]) in evidence.endpoints


def _silent(audit: pa.Table, heard_us: int) -> set[Waiting]:
    """Logged when it was no longer known who was still there."""
    logged = audit.column("log_time").cast(pa.int64())
    is_late = pc.greater(logged, heard_us + KNOWN_US)
    reasons = audit.column("attribution_reason").cast(TEXT)
    late = logged.filter(pc.and_(is_late, pc.is_in(reasons, _SILENT)))
    if not len(late):
        return set()
    bounds = pc.min_max(late).as_py()
    return {(bounds["max"] - KNOWN_US, bounds["min"])}
