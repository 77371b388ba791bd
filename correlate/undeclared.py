"""Columns that seem to hold personal data and aren't declared: seen in statements, and counted.

In: values that a detector recognised, with the columns they belong to; columns whose names say so.
Out: which rows they are in, and how often each column was seen in which way. Keeps no value.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scalple.correlate import masking

_LONG_NUMBER = re.compile(r"[0-9]{13,19}")

Ints = NDArray[np.int64]

COLUMNS_MAX = 2000
BY_NAME = "name"
TEXT = "text"
"""A longer text in which something is recognised."""
NUMBER = "number"
"""A number as long as a card's that is none: tells that a column holds something else."""
KINDS = ("email", "iban", "card", "phone", TEXT, NUMBER)
"""What values are recognised as."""


def kind_of_value(value: str) -> str | None:
    """What a value is recognised as; None for what isn't personal, or is a secret."""
    value = value.strip()
    if masking.is_email(value):
        return "email"
    if masking.is_iban(value):
        return "iban"
    if masking.is_card(value):
        return "card"
    if masking.is_phone(value):
        return "phone"
    if _LONG_NUMBER.fullmatch(value):
        return NUMBER
    return TEXT if masking.holds_personal(value) else None


@dataclass(frozen=True, slots=True)
class Seen:
    """Values of one kind in one undeclared column."""

    column: str
    kind: str
    owners: Ints
    """The texts or rows that have them, each once."""


def find(
    values: list[str],
    codes: Ints,
    slots: Ints,
    forms: Ints,
    owners: Ints,
    watched: Sequence[Mapping[int, str]],
) -> list[Seen]:
    """Which recognised values belong to undeclared columns.

    Args:
        values: distinct values.
        codes: each element's value; the following are per element, too.
        slots: which literal or parameter of its statement it is.
        forms: its statement's form.
        owners: its text or row.
        watched: per form, columns by slot.
    """
    kinds = np.array([_number(kind_of_value(value)) for value in values] or [-1])[codes]
    at = np.flatnonzero(kinds >= 0)
    if not len(at):
        return []
    keys, place = np.unique(np.stack([forms[at], slots[at]]), axis=1, return_inverse=True)
    names: dict[str, int] = {}
    columns = np.full(keys.shape[1], -1)
    for i, (form, slot) in enumerate(keys.T.tolist()):
        name = watched[form].get(slot)
        if name is not None:
            columns[i] = names.setdefault(name, len(names))
    column = columns[place.ravel()]
    both = np.where(column >= 0, column * len(KINDS) + kinds[at], -1)
    listed = list(names)
    return [
        Seen(listed[one // len(KINDS)], KINDS[one % len(KINDS)], np.unique(owners[at[both == one]]))
        for one in np.unique(both[both >= 0]).tolist()
    ]


def _number(kind: str | None) -> int:
    return -1 if kind is None else KINDS.index(kind)


@dataclass(slots=True)
class Sightings:
    """How many rows showed an undeclared column, by column and by what gave it away.

    Bounded: once there are COLUMNS_MAX columns, further ones are left out; clients name columns.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def note(self, column: str, how: str, rows: int) -> None:
        """`how`: `name`, or a kind of value."""
        if rows and (column in self.counts or len(self.counts) < COLUMNS_MAX):
            self.counts.setdefault(column, Counter())[how] += rows

    def add(self, other: "Sightings") -> None:
        for column, counts in other.counts.items():
            for how, rows in counts.items():
                self.note(column, how, rows)

    def to_bytes(self) -> bytes:
        """JSON: column -> how -> rows."""
        return json.dumps(self.counts, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Sightings":
        """The inverse. Raises ValueError."""
        found = cls()
        for column, counts in json.loads(data).items():
            for how, rows in counts.items():
                found.note(column, how, int(rows))
        return found


class FieldsOfRows:
    """Which undeclared columns each row shows, as codes for whole batches."""

    def __init__(self, rows: int) -> None:
        self.codes: Ints = np.zeros(rows, dtype=np.int64)
        self.columns: list[tuple[str, ...]] = [()]
        """By code."""

    def add(self, column: str, rows: Ints) -> None:
        here = np.zeros(len(self.codes), dtype=np.int64)
        here[rows] = 1
        distinct, codes = np.unique(self.codes * 2 + here, return_inverse=True)
        self.columns = [
            tuple(dict.fromkeys([*self.columns[both // 2], *([column] if both % 2 else [])]))
            for both in distinct.tolist()
        ]
        self.codes = codes.astype(np.int64)
