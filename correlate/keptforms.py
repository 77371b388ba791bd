"""Forms of statements, kept from one run to the next: a run parses only what none before it has seen.

In: forms by skeleton under one catalog. Out: JSON, and back. A skeleton goes by its hash: what is kept
has names of tables and columns, as the record has them, and no text of a statement. Whether it may be
used (same program, rules and schema) and where it lies is the caller's to know.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scalple.correlate.form import Form, Target
from scalple.correlate.relations import Slot
from scalple.correlate.surroundings import Setting

Kept = tuple[Form, frozenset[str]]
"""A form, and the bare names of relations that it rests on."""


@dataclass(slots=True)
class KeptForms:
    """Those of one catalog.

    Attributes:
        known: by skeleton's hash, as an earlier run left them.
        used: of these, and of new ones, what this run needed; newest last.
    """

    known: Mapping[str, Kept] = field(default_factory=dict)
    used: dict[str, Kept] = field(default_factory=dict)

    def find(self, skeleton: str) -> Kept | None:
        """What is kept of a skeleton."""
        key = _key(skeleton)
        found = self.known.get(key)
        if found is not None:
            self.used[key] = found
        return found

    def add(self, skeleton: str, form: Form, rests_on: frozenset[str]) -> None:
        """Keeps one that had to be parsed."""
        self.used[_key(skeleton)] = (form, rests_on)

    @property
    def has_news(self) -> bool:
        """There is something that isn't kept yet."""
        return not self.used.keys() <= self.known.keys()

    def to_bytes(self, most: int) -> bytes:
        """So many of them, those that this run used before others."""
        every = {**self.known, **{k: self.known.get(k, v) for k, v in self.used.items()}}
        order = [*(k for k in self.known if k not in self.used), *self.used]
        kept = {k: _plain(*every[k]) for k in order[-most:]}
        text = json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode()
        return _digest(text) + text

    @classmethod
    def from_bytes(cls, data: bytes) -> "KeptForms":
        """The inverse. Raises ValueError, KeyError, TypeError or AttributeError for anything else,
        also for a file of which some byte was changed: a wrong number would mask another value."""
        digest, text = data[:65], data[65:]
        if _digest(text) != digest:
            raise ValueError("other bytes than were kept")
        return cls({str(key): _kept(value) for key, value in json.loads(text).items()})


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode() + b"\n"


def _key(skeleton: str) -> str:
    return hashlib.sha256(skeleton.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _plain(form: Form, rests_on: frozenset[str]) -> list[Any]:
    return [
        form.fingerprint,
        form.tables,
        form.columns,
        form.basis,
        form.shape,
        form.masked_fields,
        _targets_plain(form.literals),
        _targets_plain(form.parameters),
        form.redacts_parameters,
        form.comments,
        sorted(form.mentioned),
        [[one.name, [_slot_plain(slot) for slot in one.values]] for one in form.settings],
        form.suspected,
        list(form.watched_literals.items()),
        list(form.watched_parameters.items()),
        sorted(rests_on),
    ]


def _kept(value: list[Any]) -> Kept:
    (mark, tables, columns, basis, shape, masked, literals, parameters, redacts, comments) = value[
        :10
    ]
    (mentioned, settings, suspected, watched_literals, watched_parameters, rests_on) = value[10:]
    form = Form(
        str(mark),
        tuple(tables),
        None if columns is None else tuple(columns),
        str(basis),
        shape,
        None if masked is None else tuple(masked),
        _targets(literals),
        _targets(parameters),
        bool(redacts),
        tuple(comments),
        frozenset(mentioned),
        tuple(Setting(name, tuple(Slot(*slot) for slot in slots)) for name, slots in settings),
        tuple(suspected),
        {int(at): str(column) for at, column in watched_literals},
        {int(at): str(column) for at, column in watched_parameters},
    )
    return form, frozenset(map(str, rests_on))


def _targets_plain(targets: Mapping[Target, list[int]]) -> list[Any]:
    return [
        [one.rule, one.name, one.subjects, one.is_array, one.is_negative, numbers]
        for one, numbers in targets.items()
    ]


def _targets(value: list[Any]) -> dict[Target, list[int]]:
    return {
        Target(rule, name, tuple((i, c) for i, c in subjects), is_array, is_negative): list(numbers)
        for rule, name, subjects, is_array, is_negative, numbers in value
    }


def _slot_plain(slot: Slot) -> list[Any]:
    return [slot.number, slot.is_parameter, slot.is_array, slot.is_negative]
