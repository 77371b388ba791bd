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

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scalple.correlate.closedpool import (
    NO_SPANS,
    Spans,
    joined,
    not_over,
    rows_of,
    spans_of,
    touched,
)
from scalple.correlate.evidence import Evidence
from scalple.correlate.logbatch import take
from scalple.correlate.reach import NEVER, Reach, Stay, Stays, last_end
from scalple.correlate.remembering import GONE_US

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class PoolDoubts:
    """Remembers, per pool, until when a reset casts doubt."""

    evidence: Evidence
    _stays: Stays = field(init=False)
    _reach: dict[int, Reach] = field(default_factory=dict)
    _until_us: dict[int, int] = field(default_factory=dict)
    _overlong_spans: Spans = field(default_factory=dict)
    _passed_overlong: Spans = field(default_factory=dict)
    _passed_unnamed: Spans = field(default_factory=dict)
    """Of clients that the evidence doesn't tell of any more."""
    _unnamed_of: dict[int, set[int]] = field(default_factory=dict)
    _unnamed_spans: Spans = field(default_factory=dict)
    _shown: dict[int, dict[Stay, int]] = field(default_factory=dict)
    """Per pool the clients that are known to be replayed, and when the evidence told of each last."""

    def __post_init__(self) -> None:
        self._stays = Stays(self.evidence)

    def renew(self, evidence: Evidence, now_us: int) -> None:
        """Go on with what is known by now; `now_us` is the time of the last record."""
        if evidence.horizon_us is not None:
            self._pass_on(evidence.horizon_us)
        self.evidence, self._stays = evidence, Stays(evidence)
        self._overlong_spans.clear()
        self._unnamed_of.clear()
        self._unnamed_spans.clear()
        for pool, reach in self._reach.items():
            self._until_us[pool] = reach.end_us(evidence, self._stays, pool)
            reach.forget(now_us - GONE_US)
        for pool, shown in self._shown.items():
            told = {
                stay: now_us if self._stays.clients(stay) else last for stay, last in shown.items()
            }
            self._shown[pool] = {
                stay: last for stay, last in told.items() if last >= now_us - GONE_US
            }

    def _pass_on(self, horizon_us: int) -> None:
        """Keep the doubts of those whom the new evidence may leave out."""
        pools = set(self.evidence.pools.values())
        overlong = {pool: self._overlong_of(pool) for pool in pools}
        unnamed = {pool: self._unnamed_spans_of(pool) for pool in pools}
        self._passed_overlong = joined(overlong, {}, horizon_us)
        self._passed_unnamed = joined(unnamed, {}, horizon_us)

    def forget(self, before_us: int) -> None:
        """Let go of what was over by then."""
        self._passed_overlong = not_over(self._passed_overlong, before_us)
        self._passed_unnamed = not_over(self._passed_unnamed, before_us)

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
        ends = np.full(len(time_us), NEVER, np.int64)
        watched = take(self.evidence.client_tag >= 0, np.maximum(client, 0))
        known = empties & (client >= 0) & ~watched
        ends[known] = self.evidence.client_until_us[client[known]]
        unknown = empties & (client < 0)
        ends[unknown] = last_end(self.evidence, pool, time_us[unknown], untagged=True)
        if empties.any():
            reach = self._reach.setdefault(pool, Reach())
            reach.cast(self._stays, client[known], time_us[unknown])
        until = np.maximum.accumulate(np.concatenate([[self._until_us.get(pool, NEVER)], ends]))
        self._until_us[pool] = int(until[-1])
        return np.asarray((time_us <= until[:-1]) & ~fresh)

    def _overlong(self, pool: int, time_us: Ints, time_end_us: Ints) -> Bools:
        """Whether a client whose name can't be replayed is alive on the pool."""
        return touched(self._overlong_of(pool), time_us, time_end_us)

    def _overlong_of(self, pool: int) -> tuple[Ints, Ints]:
        """When such clients are alive."""
        if pool not in self._overlong_spans:
            evidence = self.evidence
            rows = self._alive(pool, self._find_overlong(pool))
            warned = np.array(evidence.too_long_us, np.int64)
            ends = last_end(evidence, pool, warned)
            rows += [(pool, *span) for span in zip(warned.tolist(), ends.tolist(), strict=True)]
            rows += rows_of(self._passed_overlong, pool)
            self._overlong_spans[pool] = spans_of(rows).get(pool, NO_SPANS)
        return self._overlong_spans[pool]

    def _unnamed(self, pool: int, time_us: Ints, time_end_us: Ints, replayed: Ints) -> Bools:
        """Whether a client is alive whose name nobody knows."""
        unnamed = self._unnamed_clients(pool)
        doubt = np.zeros(len(time_us), bool)
        if not unnamed and pool not in self._passed_unnamed:
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
            known = self._shown.setdefault(pool, {})
            known |= {self._stays.of(one): int(time_end_us[at]) for one, at in now_known.items()}
            self._unnamed_spans.pop(pool, None)
        doubt = touched(self._unnamed_spans_of(pool), time_us, time_end_us)
        latest = np.maximum.accumulate(time_end_us)
        for client, at in now_known.items():
            since, until = evidence.client_since_us[client], evidence.client_until_us[client]
            begin = int(np.searchsorted(latest, since))
            part = slice(begin, at)
            doubt[part] |= (time_end_us[part] >= since) & (time_us[part] <= until)
        return doubt

    def _unnamed_clients(self, pool: int) -> set[int]:
        """Those of whom it isn't known yet that they are replayed."""
        if pool not in self._unnamed_of:
            shown = {one for stay in self._shown.get(pool, ()) for one in self._stays.clients(stay)}
            self._unnamed_of[pool] = self._find_unnamed(pool) - shown
        return self._unnamed_of[pool]

    def _unnamed_spans_of(self, pool: int) -> tuple[Ints, Ints]:
        """When they are alive, and when those were of whom the evidence tells no more."""
        if pool not in self._unnamed_spans:
            rows = self._alive(pool, self._unnamed_clients(pool))
            rows += rows_of(self._passed_unnamed, pool)
            self._unnamed_spans[pool] = spans_of(rows).get(pool, NO_SPANS)
        return self._unnamed_spans[pool]

    def _alive(self, pool: int, clients: Iterable[int]) -> list[tuple[int, int, int]]:
        """(pool, begin, end) of each."""
        evidence = self.evidence
        return [
            (pool, int(evidence.client_since_us[one]), int(evidence.client_until_us[one]))
            for one in clients
        ]

    def _members(self, pool: int) -> Ints:
        """Its untagged clients; those that were over at the horizon are known from before."""
        evidence = self.evidence
        there = (evidence.client_pool == pool) & (evidence.client_tag < 0)
        if evidence.horizon_us is not None:
            there &= evidence.client_until_us >= evidence.horizon_us
        return np.flatnonzero(there)

    def _find_unnamed(self, pool: int) -> set[int]:
        """Untagged clients of that pool whose application_name no event tells."""
        names = self.evidence.clients.column("application_name").to_pylist()
        return {one for one in self._members(pool).tolist() if not names[one]}

    def _find_overlong(self, pool: int) -> list[int]:
        clients = self.evidence.clients
        names = clients.column("application_name").to_pylist()
        addresses = clients.column("client_addr").to_pylist()
        before_1_20 = self.evidence.short_names_only
        return [
            client
            for client in self._members(pool).tolist()
            if names[client] is not None
            and is_overlong(names[client], addresses[client] or "", before_1_20=before_1_20)
        ]


def is_overlong(name: str, address: str, *, before_1_20: bool) -> bool:
    """Whether PgBouncer skips the replay of this name, with the suffix that it may put to it."""
    host = 64 if address.startswith("unix") else 2
    suffix = len(f" - {address}:65535") + host
    quoted = len(name.replace("'", "''").replace("\\", "\\\\").encode()) + suffix + len("E''")
    # src/varcache.c: the whole SET had to fit into 128 bytes; since 1.20 the value.
    return quoted + (len("SET application_name=;") if before_1_20 else 0) >= 126
