"""How far a doubt reaches that a client casts on its pool: to the client's end, which may not be known yet.

Enters: who cast it, or when, where it isn't known who. Leaves: the end by the evidence of now. While a log is
followed, the end of a client that is still there moves on, and clients are counted anew: so those who
cast it are kept under what stays, rather than the end.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scalple.correlate.evidence import Evidence

Ints = npt.NDArray[np.int64]

NEVER = -(2**62)
UNBOUNDED = 2**62


class Stay(NamedTuple):
    """A client under what stays, whatever becomes known later."""

    login: int | None
    """Event of the pooler's log that it came with."""
    word: int | None
    """Identity event that says who it is."""
    since_us: int


class Stays:
    """The clients of some evidence, by what stays of them; read when somebody is first looked for."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._stays: list[Stay] = []
        self._clients: dict[Stay, int] = {}
        self._of_login: dict[int, list[int]] = {}
        self._of_word: dict[int, list[int]] = {}

    def of(self, client: int) -> Stay:
        """What stays of a client."""
        self._read()
        return self._stays[client]

    def end_us(self, stay: Stay) -> int | None:
        """When it goes; its whole connection, if what was said of it then isn't said any more; None if
        nothing is known of it now."""
        clients = self.clients(stay)
        ends = self._evidence.client_until_us
        return max(int(ends[one]) for one in clients) if clients else None

    def clients(self, stay: Stay) -> list[int]:
        """Who that is now: usually one."""
        self._read()
        exact = self._clients.get(stay)
        if exact is not None:
            return [exact]
        if stay.login is not None:
            return self._of_login.get(stay.login, [])
        return self._of_word.get(stay.word, []) if stay.word is not None else []

    def _read(self) -> None:
        clients = self._evidence.clients
        if self._stays or not clients.num_rows:
            return
        self._stays = [
            Stay(login, word, since)
            for login, word, since in zip(
                clients.column("pooler_seq").to_pylist(),
                clients.column("identity_seq").to_pylist(),
                self._evidence.client_since_us.tolist(),
                strict=True,
            )
        ]
        for client, stay in enumerate(self._stays):
            self._clients.setdefault(stay, client)
            if stay.login is not None:
                self._of_login.setdefault(stay.login, []).append(client)
            if stay.word is not None:
                self._of_word.setdefault(stay.word, []).append(client)


@dataclass(slots=True)
class Reach:
    """One pool's or one name's doubt: it lasts until the last of those who cast it has gone."""

    stays: dict[Stay, int] = field(default_factory=dict)
    """Who cast it, and his end as it was known last, in µs."""
    unknown_us: int | None = None
    """When somebody did last of whom it isn't known who he is: it may have been any that was there."""

    def cast(self, stays: Stays, clients: Ints, unknown_us: Ints) -> None:
        """Note who cast it now, and when somebody unknown did."""
        for client in np.unique(clients).tolist():
            stay = stays.of(client)
            self.stays[stay] = stays.end_us(stay) or NEVER
        if len(unknown_us):
            latest = int(unknown_us.max())
            self.unknown_us = latest if self.unknown_us is None else max(latest, self.unknown_us)

    def end_us(self, evidence: Evidence, stays: Stays, pool: int) -> int:
        """Until when it lasts, by what is known now."""
        for stay, known in self.stays.items():
            end = stays.end_us(stay)
            self.stays[stay] = known if end is None else end
        ends = [NEVER, *self.stays.values()]
        if self.unknown_us is not None:
            ends.append(
                int(last_end(evidence, pool, np.array([self.unknown_us]), untagged=True)[0])
            )
        return max(ends)

    def forget(self, before_us: int) -> None:
        """Drop who has long gone."""
        self.stays = {stay: end for stay, end in self.stays.items() if end >= before_us}


def last_end(evidence: Evidence, pool: int, time_us: Ints, *, untagged: bool = False) -> Ints:
    """When the last client of the pool goes that was alive at each time: it may have been any.

    With `untagged`, any but those that a sidecar tags.
    """
    members = np.flatnonzero(evidence.client_pool == pool)
    if not len(members):
        return np.full(len(time_us), UNBOUNDED, np.int64)
    if untagged:
        members = members[evidence.client_tag[members] < 0]
        if not len(members):
            return np.full(len(time_us), NEVER, np.int64)
    begins = evidence.client_since_us[members]
    order = np.argsort(begins)
    latest = np.maximum.accumulate(evidence.client_until_us[members][order])
    at = np.searchsorted(begins[order], time_us, side="right")
    return np.where(at > 0, latest[np.maximum(at - 1, 0)], NEVER if untagged else UNBOUNDED)
