"""What identity events say beside the actor's name: groups, ticket, purpose.

Enters: events (columns of EVIDENCE). Leaves: for a row's `attribution_evidence`, what the events among
it say. An event's words hold for the statements that cite it, and for no others: a ticket of the one
who opened a connection isn't the ticket of whoever took it over.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.logbatch import codes_of, dictionary_encoded
from scalple.ingest.records import TEXT


@dataclass(frozen=True, slots=True)
class Circumstances:
    """None where nothing is said."""

    groups: tuple[str, ...] | None = None
    ticket: str | None = None
    purpose: str | None = None


SILENCE = Circumstances()


class CitedEvents:
    """The events that say anything, by the number of their row.

    Args:
        events: columns of EVIDENCE, of one origin.
    """

    def __init__(self, events: pa.Table) -> None:
        said = pc.and_(pc.equal(events.column("source"), "identity"), events["detail"].is_valid())
        telling = events.filter(said)
        details = dictionary_encoded(telling.column("detail").cast(TEXT))
        known = [circumstances(text) for text in details.dictionary.to_pylist()]
        self._known = [one for one in known if one != SILENCE]
        place = np.cumsum([one != SILENCE for one in known], dtype=np.int64) - 1
        place[[one == SILENCE for one in known]] = -1
        codes = place[codes_of(details)] if len(known) else np.zeros(0, np.int64)
        seqs = telling.column("seq").to_numpy()[codes >= 0].astype(np.int64)
        order = np.argsort(seqs, kind="stable")
        self._seqs, self._codes = seqs[order], codes[codes >= 0][order]

    def of(self, cited: tuple[str, ...]) -> Circumstances:
        """What the first of these (`<origin>/evidence#<n>`) says that says anything."""
        for one in cited:
            number = one.rpartition("#")[2]
            if not number.isdigit() or not len(self._seqs):
                continue
            at = int(np.searchsorted(self._seqs, int(number)))
            if at < len(self._seqs) and int(self._seqs[at]) == int(number):
                return self._known[int(self._codes[at])]
        return SILENCE


def circumstances(detail: str | None) -> Circumstances:
    """Of an event's `detail`; what isn't of the form that the contract names says nothing."""
    try:
        said: Any = json.loads(detail or "{}")
    except ValueError:
        return SILENCE
    if not isinstance(said, dict):
        return SILENCE
    return Circumstances(
        _texts(said.get("groups")),
        _text(said.get("ticket")),
        _text(said.get("purpose")),
    )


def _texts(said: object) -> tuple[str, ...] | None:
    if not isinstance(said, list) or not all(isinstance(one, str) for one in said):
        return None
    return tuple(sorted(set(said)))


def _text(said: object) -> str | None:
    if isinstance(said, int) and not isinstance(said, bool):
        return str(said)
    return (said.strip() or None) if isinstance(said, str) else None
