"""Generations by their first bytes: which of them a file may be a copy of.

Enters: first bytes of generations. Leaves: those that other bytes agree with, as far as either goes.
Bytes that agree prove nothing; files are compared elsewhere.
"""

from collections.abc import Iterator

from scalple.ingest.generations import Generation
from scalple.ingest.heldfile import WEAK_BYTES


class Beginnings:
    """Generations that are read, or whose files are there."""

    def __init__(self) -> None:
        self._whole: dict[bytes, list[Generation]] = {}
        self._shorter: dict[bytes, list[Generation]] = {}
        """Those that had fewer than WEAK_BYTES when they were found."""

    def add(self, begins: bytes, generation: Generation) -> None:
        """One that begins so."""
        begins = begins[:WEAK_BYTES]
        index = self._whole if len(begins) == WEAK_BYTES else self._shorter
        alike = index.setdefault(begins, [])
        if generation not in alike:
            alike.append(generation)

    def like(self, begins: bytes) -> list[Generation]:
        """Those that begin with these bytes, or whose few bytes these begin with."""
        begins = begins[:WEAK_BYTES]
        found = list(self._whole.get(begins, []))
        for shorter, ones in self._shorter.items():
            found += ones if begins.startswith(shorter) else []
        if len(begins) < WEAK_BYTES:
            for longer, ones in (*self._whole.items(), *self._shorter.items()):
                found += ones if longer.startswith(begins) else []
        return found

    def trim(self, wanted: int) -> None:
        """Let go of those whose files are gone, if there are many more than `wanted`."""
        if len(self._whole) + len(self._shorter) > 2 * wanted + 100:
            self._whole = dict(_still_there(self._whole))
            self._shorter = dict(_still_there(self._shorter))


def _still_there(
    index: dict[bytes, list[Generation]],
) -> Iterator[tuple[bytes, list[Generation]]]:
    for begins, ones in index.items():
        if kept := [one for one in ones if not one.is_loose]:
            yield begins, kept
