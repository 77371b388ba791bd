"""Values within one batch: masked in place, and collected as names of subjects.

In: cut texts, lists of parameters, and the forms' targets. Out: masked texts and lists, and
(row or text, subject) pairs that become the column `subjects`. Works on all values of equal
target at once; Python runs per distinct value. Lives for one batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scalple.correlate import keeping, masking
from scalple.correlate.form import Form, Target
from scalple.correlate.record import SUBJECT
from scalple.correlate.subjects import Sealer

Ints = NDArray[np.int64]
_SUPPRESSED = "<long param suppressed>"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Subjects by owner: a text or a row."""

    owners: Ints
    subjects: Ints


def expand(pairs: Pairs, row_owner: Ints) -> Pairs:
    """Pairs of texts as pairs of the rows that have them."""
    if not len(pairs.owners):
        return pairs
    order = np.argsort(row_owner, kind="stable")
    owners = row_owner[order]
    first = np.searchsorted(owners, pairs.owners, side="left")
    count = np.searchsorted(owners, pairs.owners, side="right") - first
    return Pairs(order[_ranges(first, count)], np.repeat(pairs.subjects, count))


def in_order(parts: list[tuple[Ints, Pairs]]) -> Pairs:
    """Pairs sorted by the place of the value that names: a row's subjects stand as in its text."""
    if not parts:
        return Pairs(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    order = np.argsort(np.concatenate([place for place, _ in parts]), kind="stable")
    owners = np.concatenate([pairs.owners for _, pairs in parts])
    return Pairs(owners[order], np.concatenate([pairs.subjects for _, pairs in parts])[order])


def _ranges(first: Ints, count: Ints) -> Ints:
    """The numbers first, first + 1, … (count of them) for each pair, end to end."""
    ends = np.cumsum(count)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - count, count)
    return np.asarray(np.repeat(first, count) + within)


class Naming:
    """The batch's subjects: numbered here, made into lists at the end."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._found: list[bytes] = []
        self._origins: list[tuple[str, str]] = []
        self._counts: list[int] = []

    def add(self, name: str, column: str, basis: str, values: list[str]) -> Ints:
        """Numbers of the values' subjects; -1 for what names nobody."""
        found = self._sealer.name(name, values)
        number = np.arange(len(self._found), len(self._found) + len(found))
        self._found += found
        self._origins.append((column, basis))
        self._counts.append(len(found))
        number[[i for i, both in enumerate(found) if len(both) == 8]] = -1
        if _SUPPRESSED in values:
            number[values.index(_SUPPRESSED)] = -1
        return number

    def lists(self, pairs: list[Pairs], rows: int) -> pa.Array:
        """The column `subjects`: per row each subject once, in order of first mention."""
        owners = np.concatenate([p.owners for p in pairs]) if pairs else np.zeros(0, np.int64)
        numbers = np.concatenate([p.subjects for p in pairs]) if pairs else owners
        tokens = np.frombuffer(b"".join([both[:8] for both in self._found]), dtype=">u8").astype(
            np.uint64
        )
        order = np.argsort(owners, kind="stable")
        owners, numbers = owners[order], numbers[order].astype(np.int64)
        keep = self._first(owners, tokens[numbers])
        owners, numbers = owners[keep], numbers[keep]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=rows))])
        which = np.repeat(np.arange(len(self._counts)), self._counts)[numbers]
        origin = pa.array(which if len(which) else np.zeros(0, np.int64))
        columns = pa.array([c for c, _ in self._origins], pa.string()).take(origin)
        bases = pa.array([b for _, b in self._origins], pa.string()).take(origin)
        sealed = pa.array([both[8:] for both in self._found], pa.binary()).take(pa.array(numbers))
        structs = pa.StructArray.from_arrays(
            [pa.array(tokens[numbers]), columns, bases, sealed], fields=list(SUBJECT)
        )
        kind = pa.list_(pa.field("item", SUBJECT))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs, type=kind)

    @staticmethod
    def _first(owners: Ints, tokens: NDArray[np.uint64]) -> Ints:
        """Positions of the first mention of each token by each owner, in order."""
        if not (owners[1:] == owners[:-1]).any():
            return np.arange(len(owners))
        order = np.lexsort((tokens, owners))
        repeated = (owners[order][1:] == owners[order][:-1]) & (
            tokens[order][1:] == tokens[order][:-1]
        )
        keep = np.ones(len(owners), dtype=bool)
        keep[order[1:][repeated]] = False
        return np.flatnonzero(keep)


class Treatment:
    """Treats values by target: what stands in their place, and whom they name."""

    def __init__(self, sealer: Sealer, naming: Naming) -> None:
        self._sealer = sealer
        self._naming = naming
        self._maskers = masking.PLAIN_RULES | {"hash": masking.hasher(sealer.digest)}

    def masked(self, values: list[str], target: Target) -> pa.Array:
        """Each value's mask; an empty value and a suppressed one hide nothing."""
        if target.rule == "id" and not target.is_array:
            signed = _signed(values, target)
            masks = ["id:" + both[:6].hex() for both in self._sealer.name(target.name, signed)]
        elif (target.rule or "").startswith(keeping.PREFIX) and not target.is_array:
            masks = keeping.keep((target.rule or "").removeprefix(keeping.PREFIX), values)
        else:
            masks = [self._mask(value, target) for value in values]
        for kept in ("", _SUPPRESSED):
            if kept in values:
                masks[values.index(kept)] = kept
        return pa.array(masks, pa.string())

    def _mask(self, value: str, target: Target) -> str:
        rule = target.rule or ""
        masker = self._maskers.get(rule) or masking.masker_of(rule) or self._identifier(target.name)
        return masking.mask_array(value, masker) if target.is_array else masker(value)

    def _identifier(self, name: str) -> masking.Masker:
        return lambda value: "id:" + self._sealer.name(name, [value])[0][:6].hex()

    def named(self, values: list[str], codes: Ints, target: Target, basis: str) -> list[Pairs]:
        """(element, subject) pairs: which of the elements with these codes names whom."""
        found = []
        for name, column in target.subjects:
            signed = _signed(values, target)
            if not target.is_array:
                number = self._naming.add(name, column, basis, signed)[codes]
                names = number >= 0
                found.append(Pairs(np.flatnonzero(names), number[names]))
                continue
            parts = [masking.array_elements(value) for value in signed]
            number = self._naming.add(name, column, basis, [v for part in parts for v in part])
            sizes = np.array([len(part) for part in parts], dtype=np.int64)
            first, count = (np.cumsum(sizes) - sizes)[codes], sizes[codes]
            number = number[_ranges(first, count)]
            owners = np.repeat(np.arange(len(codes)), count)
            found.append(Pairs(owners[number >= 0], number[number >= 0]))
        return found


def _signed(values: list[str], target: Target) -> list[str]:
    return ["-" + value for value in values] if target.is_negative else values


@dataclass(slots=True)
class Replaced:
    """Elements of a string array that were masked, with what was there and what is there now."""

    elements: list[Ints] = field(default_factory=list)
    owners: list[Ints] = field(default_factory=list)
    values: list[pa.Array] = field(default_factory=list)
    masks: list[pa.Array] = field(default_factory=list)

    def add(self, elements: Ints, owners: Ints, values: pa.Array, masks: pa.Array) -> None:
        self.elements.append(elements)
        self.owners.append(owners)
        self.values.append(values)
        self.masks.append(masks)

    def within(self, size: int) -> NDArray[np.bool_]:
        mask = np.zeros(size, dtype=bool)
        for elements in self.elements:
            mask[elements] = True
        return mask

    def apply(self, base: pa.Array, texts: list[pa.Array]) -> pa.Array:
        """The base with its masked elements replaced by these texts."""
        if not self.elements:
            return base
        order = np.argsort(np.concatenate(self.elements), kind="stable")
        replacements = pa.concat_arrays(texts).take(pa.array(order))
        return pc.replace_with_mask(base, pa.array(self.within(len(base))), replacements)

    def equals(self, owners: Ints, values: pa.Array) -> tuple[Ints, pa.Array]:
        """Which of further values were masked elsewhere in the same owner, and their masks."""
        none = np.zeros(0, dtype=np.int64), pa.array([], pa.string())
        if not self.elements or not len(owners):
            return none
        known, masks = np.concatenate(self.owners), pa.concat_arrays(self.masks)
        size = len(known)
        both = pa.concat_arrays([*self.values, values]).dictionary_encode()
        codes = both.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        keys = np.concatenate([known, owners]) * (len(both.dictionary) + 1) + codes
        order = np.argsort(keys[:size], kind="stable")
        at = np.minimum(np.searchsorted(keys[:size][order], keys[size:]), size - 1)
        hits = np.flatnonzero(keys[:size][order][at] == keys[size:])
        return hits, masks.take(pa.array(order[at[hits]]))


def by_target(
    forms: Sequence[Form], kind: str, owner_form: Ints
) -> dict[Target, list[tuple[Ints, list[int]]]]:
    """For each target, owners (texts or rows) and the slots that have it there."""
    order = np.argsort(owner_form, kind="stable")
    bounds = np.searchsorted(owner_form[order], np.arange(len(forms) + 1))
    found: dict[Target, list[tuple[Ints, list[int]]]] = {}
    for i, form in enumerate(forms):
        for target, slots in getattr(form, kind).items():
            found.setdefault(target, []).append((order[bounds[i] : bounds[i + 1]], slots))
    return found
