"""Times at which a pool's labels can't be trusted without a fresh replay.

Enters: statements of pooled sessions in log order, and which of them empty their client's
application_name. Leaves: for each statement whether such a client, or one whose name is too long
to be replayed, may have been served in its stead.

PgBouncer up to 1.21 doesn't replay an empty name, and no version replays an over-long one: such a
client's statements carry the name of whoever was served before. The scope is the pool, not the
backend, and it ends when that client disconnects.

What can't be seen: from 1.20 on PgBouncer skips an over-long name silently. A client that goes round
the sidecar (so that no event tells its name) under such a name passes for whoever was served before,
in every transaction that doesn't follow a replay directly. `confirmed` is wrong there only by that:
a client of the pool, unannounced, that chose a name of more than about 100 bytes. Up to 1.19 the
pooler's warning tells of it, and a statement right after a replay is right in any case.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scalple.correlate.evidence import Evidence

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NEVER = -(2**62)


@dataclass(slots=True)
class PoolDoubts:
    """Remembers, per pool, until when a reset casts doubt."""

    evidence: Evidence
    _until_us: dict[int, int] = field(default_factory=dict)
    _overlong_of: dict[int, list[int]] = field(default_factory=dict)

    def apply(
        self,
        rows: Ints,
        pool: Ints,
        time_us: Ints,
        time_end_us: Ints,
        client: Ints,
        fresh: Bools,
        empties: Bools,
    ) -> tuple[Bools, Bools]:
        """(leaked, overlong) per statement.

        Args:
            rows: the statements' positions in the log, ascending.
            pool: pool of each; negative if it has none.
            time_us: log time of each.
            time_end_us: the latest that this can have been.
            client: the client each surely belongs to, or -1.
            fresh: its transaction follows a replay directly.
            empties: it empties its client's application_name.
        """
        leaked = np.zeros(len(rows), bool)
        overlong = np.zeros(len(rows), bool)
        for one in np.unique(pool[pool >= 0]).tolist():
            here = np.flatnonzero(pool == one)
            if self.evidence.resets_leak:
                leaked[here] = self._leaked(
                    one, time_us[here], client[here], fresh[here], empties[here]
                )
            overlong[here] = self._overlong(one, time_us[here], time_end_us[here]) & ~fresh[here]
        return leaked, overlong

    def _leaked(
        self, pool: int, time_us: Ints, client: Ints, fresh: Bools, empties: Bools
    ) -> Bools:
        """Log order decides: the statement that empties a name is logged before its effect."""
        ends = np.full(len(time_us), _NEVER, np.int64)
        known = empties & (client >= 0)
        ends[known] = self.evidence.client_until_us[client[known]]
        unknown = empties & (client < 0)
        ends[unknown] = last_end(self.evidence, pool, time_us[unknown])
        until = np.maximum.accumulate(np.concatenate([[self._until_us.get(pool, _NEVER)], ends]))
        self._until_us[pool] = int(until[-1])
        return np.asarray((time_us <= until[:-1]) & ~fresh)

    def _overlong(self, pool: int, time_us: Ints, time_end_us: Ints) -> Bools:
        """Whether a client whose name can't be replayed is alive on the pool."""
        doubt = np.zeros(len(time_us), bool)
        for client in self._overlong_clients(pool):
            doubt |= (time_end_us >= self.evidence.client_since_us[client]) & (
                time_us <= self.evidence.client_until_us[client]
            )
        for warned_us in self.evidence.too_long_us:
            end = int(last_end(self.evidence, pool, np.array([warned_us]))[0])
            doubt |= (time_end_us >= warned_us) & (time_us <= end)
        return doubt

    def _overlong_clients(self, pool: int) -> list[int]:
        if pool not in self._overlong_of:
            self._overlong_of[pool] = self._find_overlong(pool)
        return self._overlong_of[pool]

    def _find_overlong(self, pool: int) -> list[int]:
        clients = self.evidence.clients
        names = clients.column("application_name").to_pylist()
        addresses = clients.column("client_addr").to_pylist()
        before_1_20 = self.evidence.short_names_only
        return [
            client
            for client in np.flatnonzero(self.evidence.client_pool == pool).tolist()
            if names[client] is not None
            and is_overlong(names[client], addresses[client] or "", before_1_20=before_1_20)
        ]


def last_end(evidence: Evidence, pool: int, time_us: Ints) -> Ints:
    """When the last client of the pool goes that was alive at each time: it may have been any."""
    members = np.flatnonzero(evidence.client_pool == pool)
    if not len(members):
        return np.full(len(time_us), 2**62, np.int64)
    begins = evidence.client_since_us[members]
    order = np.argsort(begins)
    latest = np.maximum.accumulate(evidence.client_until_us[members][order])
    at = np.searchsorted(begins[order], time_us, side="right")
    return np.where(at > 0, latest[np.maximum(at - 1, 0)], 2**62)


def is_overlong(name: str, address: str, *, before_1_20: bool) -> bool:
    """Whether PgBouncer skips the replay of this name, with the suffix that it may put to it."""
    host = 64 if address.startswith("unix") else 2
    suffix = len(f" - {address}:65535") + host
    quoted = len(name.replace("'", "''").replace("\\", "\\\\").encode()) + suffix + len("E''")
    # src/varcache.c: the whole SET had to fit into 128 bytes; since 1.20 the value.
    return quoted + (len("SET application_name=;") if before_1_20 else 0) >= 126
