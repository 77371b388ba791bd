"""Clients that were seen taking another client's name: from then on the name speaks for both.

Enters: statements of pooled sessions in log order, with the endpoint that their run was opened for
and the one that their own name ends in. Leaves: for each statement whether its run's name has been
taken by another client that still lives.

A client that sets another's name has it replayed by the pooler from then on, exactly as its
owner's; the only honest sign is the moment of the change, seen inside the taker's own run. (One
that sends the replay's exact text in a transaction of its own can't be told from the pooler, which
is why such names are never more than `confirmed`.)
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scalple.correlate.evidence import Evidence
from scalple.correlate.reach import NEVER, Reach, Stays, last_end
from scalple.correlate.remembering import GONE_US

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Takeovers:
    """Remembers, per pool and endpoint, until when its name is somebody else's as well."""

    evidence: Evidence
    _stays: Stays = field(init=False)
    _reach: dict[tuple[int, int], Reach] = field(default_factory=dict)
    _until_us: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stays = Stays(self.evidence)

    def renew(self, evidence: Evidence, now_us: int) -> None:
        """Go on with what is known by now; `now_us` is the time of the last record."""
        self.evidence, self._stays = evidence, Stays(evidence)
        for pair, reach in self._reach.items():
            self._until_us[pair] = reach.end_us(evidence, self._stays, pair[0])
            reach.forget(now_us - GONE_US)
        gone = now_us - GONE_US
        # Of somebody unknown the evidence may tell no more, and tell again once a horizon is set back.
        self._reach = {
            pair: one
            for pair, one in self._reach.items()
            if max(self._until_us[pair], one.unknown_us or NEVER) >= gone
        }

    def held(self) -> set[int]:
        """Keys that it remembers."""
        return {key for _, key in (*self._until_us, *self._reach)}

    def apply(self, pool: Ints, time_us: Ints, owner: Ints, borne: Ints, client: Ints) -> Bools:
        """Which statements stand in a run whose name another client has taken.

        Args:
            pool: pool of each statement; negative if it has none.
            time_us: log time of each.
            owner: key (endpoint or tag) that the statement's run was opened for, or -1.
            borne: key of the statement's own application_name, or -1.
            client: the client the statement surely belongs to, or -1.
        """
        taken = np.zeros(len(pool), bool)
        takes = (pool >= 0) & (owner >= 0) & (borne >= 0) & (owner != borne)
        if takes.any():
            # One connection may bear several tags, one after the other.
            holder = self.evidence.connection_of
            held = holder.of(owner)
            takes &= ~((held >= 0) & (held == holder.of(borne)))
        pairs = set(zip(pool[takes].tolist(), borne[takes].tolist(), strict=True))
        for one, endpoint in pairs | set(self._until_us):
            here = np.flatnonzero((pool == one) & ((owner == endpoint) | (borne == endpoint)))
            ends = np.full(len(here), NEVER, np.int64)
            acts = takes[here] & (borne[here] == endpoint)
            rows = here[acts]
            ends[acts] = np.where(
                client[rows] >= 0,
                self.evidence.client_until_us[client[rows]],
                # A client that a sidecar tags isn't served again before it has its own name.
                last_end(self.evidence, one, time_us[rows], untagged=True),
            )
            if acts.any():
                reach = self._reach.setdefault((one, endpoint), Reach())
                sure = client[rows] >= 0
                reach.cast(self._stays, client[rows][sure], time_us[rows][~sure])
            before = self._until_us.get((one, endpoint), NEVER)
            until = np.maximum.accumulate(np.concatenate([[before], ends]))
            taken[here] |= (time_us[here] <= until[:-1]) & (owner[here] == endpoint)
            self._until_us[(one, endpoint)] = int(until[-1])
        self._forget(time_us)
        return taken

    def _forget(self, time_us: Ints) -> None:
        """Drop what has long ended."""
        if len(time_us):
            now = int(time_us.max()) - GONE_US
            self._until_us = {pair: end for pair, end in self._until_us.items() if end >= now}
