"""Times at which a pool's labels can't be trusted without a fresh replay.

Enters: statements of pooled sessions in log order, and which of them empty their client's
application_name. Leaves: for each statement whether such a client, one whose name is too long to be
replayed, or one whose name isn't known may have been served in its stead.

PgBouncer up to 1.21 doesn't replay an empty name, and no version replays an over-long one: such a
client's statements carry the name of whoever was served before. The scope is the pool, not the
backend, and it ends when that client disconnects.

A client of whom no event tells a name may have none, or an over-long one, of which PgBouncer says
nothing (1.18 warns of names of 90 to 105 bytes or so, not of longer ones). It stops being a doubt when its name is replayed under its own endpoint (which
takes `application_name_add_host`): a client that is replayed once is replayed always, but for the
resets. A client that a sidecar tags is never a doubt: it isn't served before it is tagged again.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scalple.correlate.closedpool import Spans, spans_of, touched
from scalple.correlate.evidence import Evidence
from scalple.correlate.logbatch import take

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NEVER = -(2**62)


@dataclass(slots=True)
class PoolDoubts:
    """Remembers, per pool, until when a reset casts doubt."""

    evidence: Evidence
    _until_us: dict[int, int] = field(default_factory=dict)
    _overlong_of: dict[int, list[int]] = field(default_factory=dict)
    _unnamed_of: dict[int, set[int]] = field(default_factory=dict)
    _unnamed_spans: dict[int, Spans] = field(default_factory=dict)

    def apply(
        self,
        rows: Ints,
        pool: Ints,
        time_us: Ints,
        begun_us: Ints,
        time_end_us: Ints,
        client: Ints,
        fresh: Bools,
        empties: Bools,
        replayed: Ints,
    ) -> tuple[Bools, Bools, Bools]:
        """(leaked, overlong, unnamed) per statement.

        Args:
            rows: the statements' positions in the log, ascending.
            pool: pool of each; negative if it has none.
            time_us: log time of each.
            begun_us: the earliest that each can have begun.
            time_end_us: the latest that this can have been.
            client: the client each surely belongs to, or -1.
            fresh: its transaction follows a replay directly.
            empties: it empties its client's application_name.
            replayed: the client whose endpoint the name in force ends in, or -1.
        """
        leaked = np.zeros(len(rows), bool)
        overlong = np.zeros(len(rows), bool)
        unnamed = np.zeros(len(rows), bool)
        for one in np.unique(pool[pool >= 0]).tolist():
            here = np.flatnonzero(pool == one)
            if self.evidence.resets_leak:
                leaked[here] = self._leaked(
                    one, time_us[here], client[here], fresh[here], empties[here]
                )
            begin, end = begun_us[here], time_end_us[here]
            overlong[here] = self._overlong(one, begin, end) & ~fresh[here]
            unnamed[here] = self._unnamed(one, begin, end, replayed[here]) & ~fresh[here]
        return leaked, overlong, unnamed

    def _leaked(
        self, pool: int, time_us: Ints, client: Ints, fresh: Bools, empties: Bools
    ) -> Bools:
        """Log order decides: the statement that empties a name is logged before its effect."""
        ends = np.full(len(time_us), _NEVER, np.int64)
        watched = take(self.evidence.client_tag >= 0, np.maximum(client, 0))
        known = empties & (client >= 0) & ~watched
        ends[known] = self.evidence.client_until_us[client[known]]
        unknown = empties & (client < 0)
        ends[unknown] = last_end(self.evidence, pool, time_us[unknown], untagged=True)
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

    def _unnamed(self, pool: int, time_us: Ints, time_end_us: Ints, replayed: Ints) -> Bools:
        """Whether a client is alive whose name nobody knows."""
        if pool not in self._unnamed_of:
            self._unnamed_of[pool] = self._find_unnamed(pool)
        unnamed = self._unnamed_of[pool]
        doubt = np.zeros(len(time_us), bool)
        if not unnamed:
            return doubt
        evidence = self.evidence
        # From here on in the log, each of these is known to be replayed.
        shown, first = np.unique(replayed, return_index=True)
        now_known = {
            int(client): int(at)
            for client, at in zip(shown, first, strict=True)
            if int(client) in unnamed
        }
        if now_known:
            self._unnamed_of[pool] = unnamed - now_known.keys()
        if now_known or pool not in self._unnamed_spans:
            self._unnamed_spans[pool] = spans_of(
                (pool, int(evidence.client_since_us[one]), int(evidence.client_until_us[one]))
                for one in self._unnamed_of[pool]
            )
        lasting = self._unnamed_spans[pool]
        if pool in lasting:
            doubt = touched(lasting[pool], time_us, time_end_us)
        latest = np.maximum.accumulate(time_end_us)
        for client, at in now_known.items():
            since, until = evidence.client_since_us[client], evidence.client_until_us[client]
            begin = int(np.searchsorted(latest, since))
            part = slice(begin, at)
            doubt[part] |= (time_end_us[part] >= since) & (time_us[part] <= until)
        return doubt

    def _find_unnamed(self, pool: int) -> set[int]:
        """Untagged clients of that pool whose application_name no event tells."""
        names = self.evidence.clients.column("application_name").to_pylist()
        members = np.flatnonzero(
            (self.evidence.client_pool == pool) & (self.evidence.client_tag < 0)
        )
        return {one for one in members.tolist() if not names[one]}

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
            for client in np.flatnonzero(
                (self.evidence.client_pool == pool) & (self.evidence.client_tag < 0)
            ).tolist()
            if names[client] is not None
            and is_overlong(names[client], addresses[client] or "", before_1_20=before_1_20)
        ]


def last_end(evidence: Evidence, pool: int, time_us: Ints, *, untagged: bool = False) -> Ints:
    """When the last client of the pool goes that was alive at each time: it may have been any.

    With `untagged`, any but those that a sidecar tags.
    """
    members = np.flatnonzero(evidence.client_pool == pool)
    if not len(members):
        return np.full(len(time_us), 2**62, np.int64)
    if untagged:
        members = members[evidence.client_tag[members] < 0]
        if not len(members):
            return np.full(len(time_us), _NEVER, np.int64)
    begins = evidence.client_since_us[members]
    order = np.argsort(begins)
    latest = np.maximum.accumulate(evidence.client_until_us[members][order])
    at = np.searchsorted(begins[order], time_us, side="right")
    return np.where(at > 0, latest[np.maximum(at - 1, 0)], _NEVER if untagged else 2**62)


def is_overlong(name: str, address: str, *, before_1_20: bool) -> bool:
    """Whether PgBouncer skips the replay of this name, with the suffix that it may put to it."""
    host = 64 if address.startswith("unix") else 2
    suffix = len(f" - {address}:65535") + host
    quoted = len(name.replace("'", "''").replace("\\", "\\\\").encode()) + suffix + len("E''")
    # src/varcache.c: the whole SET had to fit into 128 bytes; since 1.20 the value.
    return quoted + (len("SET application_name=;") if before_1_20 else 0) >= 126
