"""A batch's statement texts and bind values, masked in place.

In: cut texts and lists of bind values with the forms' targets. Out: texts and lists in which
values that are tied to a declared column, values equal to those, and what a detector recognises
are replaced and nothing else is changed; and the subjects that the values name. Values shorter
than four characters occur by chance: they are masked only where they are tied to a column.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scalple.correlate import masking, undeclared
from scalple.correlate.form import REDACT, STATEMENT, Form
from scalple.correlate.settingmasks import PersonalSettings
from scalple.correlate.templates import Lexed
from scalple.correlate.values import Pairs, Replaced, Treatment, by_target, in_order

Ints = NDArray[np.int64]
_SHORTEST = 4
_LEAST_SUSPICIOUS = 5  # a@b.c


class LiteralMasks:
    """Literals and comments of a batch's distinct texts."""

    def __init__(
        self,
        treatment: Treatment,
        lexed: Lexed,
        forms: Sequence[Form],
        settings: PersonalSettings,
    ) -> None:
        named: list[tuple[Ints, Pairs]] = []
        self._lexed = lexed
        self._forms = forms
        self.seen: list[undeclared.Seen] = []
        """Undeclared columns in which a detector recognised values; the owners are texts."""
        self._replaced = Replaced()
        self._texts: list[pa.Array] = []  # what stands in the statement, in step with _replaced
        self._comments, self._comment_owners = self._find_comments(forms)
        for target, places in by_target(forms, "literals", lexed.form).items():
            elements = [(lexed.starts[t][:, None] + 2 * np.array(n) + 1).ravel() for t, n in places]
            owners = np.concatenate([np.repeat(t, len(n)) for t, n in places])
            where = np.concatenate(elements)
            coded = lexed.segments.take(pa.array(where)).dictionary_encode()
            values = _unquoted(coded.dictionary)
            if target.subjects:
                codes = coded.indices.to_numpy(zero_copy_only=False)
                for found in treatment.named(values, codes, target, "literal"):
                    named.append((where[found.owners], Pairs(owners[found.owners], found.subjects)))
            if target.rule:
                masks = treatment.masked(values, target)
                codes = coded.indices
                self._replaced.add(where, owners, _take(values, codes), masks.take(codes))
                same = pc.equal(masks, "" if target is not STATEMENT else _texts(values))
                shown = pc.if_else(same, coded.dictionary, _quoted(masks))
                self._texts.append(shown.take(codes))
        self.subjects = in_order(named)
        self._redact_settings(settings)
        self._mask_loose()

    def _redact_settings(self, settings: PersonalSettings) -> None:
        for where, owners in settings.literals:
            free = ~self._replaced.within(len(self._lexed.segments))[where]
            where, owners = where[free], owners[free]
            values = _texts(_unquoted(self._lexed.segments.take(pa.array(where))))
            masks = pa.array([masking.REDACTED] * len(where), pa.string())
            self._replaced.add(where, owners, values, masks)
            self._texts.append(_quoted(masks))

    def _find_comments(self, forms: Sequence[Form]) -> tuple[Ints, Ints]:
        slots = [(i, np.array(form.comments)) for i, form in enumerate(forms) if form.comments]
        owners = [np.flatnonzero(self._lexed.form == i) for i, _ in slots]
        where = [
            (self._lexed.starts[t][:, None] + 2 * n + 1).ravel()
            for t, (_, n) in zip(owners, slots, strict=True)
        ]
        repeated = [np.repeat(t, len(n)) for t, (_, n) in zip(owners, slots, strict=True)]
        return _joined(where), _joined(repeated)

    def _mask_loose(self) -> None:
        """Literals that no column accounts for: equal to a masked one, or recognisable."""
        lengths = pc.binary_length(self._lexed.segments).to_numpy(zero_copy_only=False)
        loose = lengths >= _SHORTEST
        counts = np.diff(self._lexed.starts)
        first = np.repeat(self._lexed.starts[:-1], counts)
        loose &= (np.arange(len(lengths)) - first) % 2 == 1
        loose &= ~self._replaced.within(len(lengths))
        loose[self._comments] = False
        where = np.flatnonzero(loose)
        owners = np.searchsorted(self._lexed.starts, where, side="right") - 1
        segments = self._lexed.segments.take(pa.array(where))
        rest = self._mask_equal(where, owners, segments)
        where, owners, segments = where[rest], owners[rest], segments.filter(pa.array(rest))
        suspicious = _suspicious(segments, masking.SUSPICIOUS)
        coded = segments.filter(pa.array(suspicious)).dictionary_encode()
        if len(coded):
            found = [masking.scrub_literal(s) for s in coded.dictionary.to_pylist()]
            texts = _take(found, coded.indices)
            values = coded.cast(pa.string())
            self._replaced.add(where[suspicious], owners[suspicious], values, texts)
            self._texts.append(texts)
            self._see(where[suspicious], owners[suspicious], coded)

    def _see(self, where: Ints, owners: Ints, coded: pa.Array) -> None:
        """Note the undeclared columns that have something recognised in them."""
        self.seen = undeclared.find(
            [masking.unquote(segment) for segment in coded.dictionary.to_pylist()],
            coded.indices.to_numpy(),
            (where - self._lexed.starts[owners] - 1) // 2,
            self._lexed.form[owners],
            owners,
            [form.watched_literals for form in self._forms],
        )

    def _mask_equal(self, where: Ints, owners: Ints, segments: pa.Array) -> NDArray[np.bool_]:
        """Masks what equals a masked literal of the same text; returns what remains."""
        rest = np.ones(len(where), dtype=bool)
        masked = np.zeros(len(self._lexed.form), dtype=bool)
        for known in self._replaced.owners:
            masked[known] = True
        near = np.flatnonzero(masked[owners])
        coded = segments.take(pa.array(near)).dictionary_encode()
        values = [v if len(v) >= _SHORTEST else "" for v in _unquoted(coded.dictionary)]
        plain = _take(values, coded.indices)
        hits, masks = self._replaced.equals(owners[near], plain)
        hits, masks = _without_empty(hits, masks, plain)
        if len(hits):
            at = near[hits]
            rest[at] = False
            self._replaced.add(where[at], owners[at], plain.take(pa.array(hits)), masks)
            self._texts.append(_quoted(masks))
        return rest

    def hide_in_comments(self, bound: Replaced, row_text: Ints) -> None:
        """Comments: what a detector recognises, and what was masked in the same statement."""
        if not len(self._comments):
            return
        hidden = self._hidden(bound, row_text)
        segments = self._lexed.segments.take(pa.array(self._comments))
        suspicious = _suspicious(segments, masking.SUSPICIOUS_COMMENT).tolist()
        changed, texts = [], []
        for i, (comment, owner) in enumerate(
            zip(segments.to_pylist(), self._comment_owners.tolist(), strict=True)
        ):
            text = masking.scrub(comment, is_comment=True) if suspicious[i] else comment
            for value, mask in hidden.get(owner, ()):
                text = text.replace(value, mask)
            if text != comment:
                changed.append(i)
                texts.append(text)
        if changed:
            at = np.array(changed)
            replaced = pa.array(texts, pa.string())
            self._replaced.add(self._comments[at], self._comment_owners[at], replaced, replaced)
            self._texts.append(replaced)

    def _hidden(self, bound: Replaced, row_text: Ints) -> dict[int, list[tuple[str, str]]]:
        """Masked values, by those texts that have comments."""
        commented = np.zeros(len(self._lexed.form) + 1, dtype=bool)
        commented[self._comment_owners] = True
        found: dict[int, list[tuple[str, str]]] = {}
        for replaced, text_of in ((self._replaced, None), (bound, row_text)):
            for owners, values, masks in zip(
                replaced.owners, replaced.values, replaced.masks, strict=True
            ):
                texts = owners if text_of is None else text_of[owners]
                near = np.flatnonzero(commented[texts] & (texts >= 0))
                index = pa.array(near)
                triples = zip(
                    texts[near].tolist(),
                    values.take(index).to_pylist(),
                    masks.take(index).to_pylist(),
                    strict=True,
                )
                for text, value, mask in triples:
                    if len(value) >= _SHORTEST and value != mask:
                        found.setdefault(text, []).append((value, mask))
        return found

    def texts(self) -> pa.Array:
        """The masked texts, in lexing order."""
        segments = self._replaced.apply(self._lexed.segments, self._texts)
        offsets = pa.array(self._lexed.starts, pa.int32())
        return pc.binary_join(pa.ListArray.from_arrays(offsets, segments), "")


class ParameterMasks:
    """Bind values of a batch's rows."""

    def __init__(
        self,
        treatment: Treatment,
        lists: pa.Array,
        row_form: Ints,
        forms: Sequence[Form],
        settings: list[tuple[Ints, int]],
    ) -> None:
        """`settings`: rows, and the number of the parameter that is a personal setting's value."""
        named: list[tuple[Ints, Pairs]] = []
        self.replaced = Replaced()
        self.seen: list[undeclared.Seen] = []
        """The same; the owners are rows."""
        self._lists = lists
        self._values = lists.flatten()
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._starts = self._ends - counts
        self._counts = counts
        for target, places in by_target(forms, "parameters", row_form).items():
            where, owners = self._elements(places)
            coded = self._values.take(pa.array(where)).dictionary_encode()
            values = coded.dictionary.to_pylist()
            if target.subjects:
                codes = coded.indices.to_numpy(zero_copy_only=False)
                for found in treatment.named(values, codes, target, "parameter"):
                    named.append((where[found.owners], Pairs(owners[found.owners], found.subjects)))
            if target.rule:
                self._add(where, owners, coded, values, treatment.masked(values, target))
        self.subjects = in_order(named)
        self._redact_settings(treatment, settings)
        self._redact_unread(treatment, row_form, forms)
        self._mask_loose(row_form, forms)

    def _elements(self, places: list[tuple[Ints, list[int]]]) -> tuple[Ints, Ints]:
        where, owners = [], []
        for rows, numbers in places:
            for number in numbers:
                bound = rows[self._counts[rows] >= number]
                where.append(self._starts[bound] + number - 1)
                owners.append(bound)
        return _joined(where), _joined(owners)

    def _add(
        self, where: Ints, owners: Ints, coded: pa.Array, values: list[str], masks: pa.Array
    ) -> None:
        codes = coded.indices
        self.replaced.add(where, owners, _take(values, codes), masks.take(codes))

    def _redact_settings(self, treatment: Treatment, settings: list[tuple[Ints, int]]) -> None:
        for rows, number in settings:
            where, owners = self._elements([(rows, [number])])
            free = ~self.replaced.within(len(self._values))[where]
            coded = self._values.take(pa.array(where[free])).dictionary_encode()
            values = coded.dictionary.to_pylist()
            self._add(where[free], owners[free], coded, values, treatment.masked(values, REDACT))

    def _redact_unread(self, treatment: Treatment, row_form: Ints, forms: Sequence[Form]) -> None:
        """Of a statement that wasn't read or wasn't logged, any parameter may be personal; so may one
        that the text doesn't mention by its number (a function's argument that goes by its name)."""
        told = [0 if form.redacts_parameters else _first_numbers(form.mentioned) for form in forms]
        known = np.array([*told, 0])[row_form]
        rows = np.flatnonzero(self._counts > known)
        if len(rows):
            owners = np.repeat(rows, self._counts[rows])
            first = np.repeat(
                np.cumsum(self._counts[rows]) - self._counts[rows], self._counts[rows]
            )
            number = np.arange(len(owners)) - first
            where = self._starts[owners] + number
            loose = number >= known[owners]
            for at, form in enumerate(forms):
                if len(form.mentioned) > told[at] and not form.redacts_parameters:  # with gaps
                    later = np.isin(number + 1, sorted(form.mentioned))
                    loose &= ~((row_form[owners] == at) & later)
            loose &= ~self.replaced.within(len(self._values))[where]
            where, owners = where[loose], owners[loose]
            coded = self._values.take(pa.array(where)).dictionary_encode()
            values = coded.dictionary.to_pylist()
            self._add(where, owners, coded, values, treatment.masked(values, REDACT))

    def _mask_loose(self, row_form: Ints, forms: Sequence[Form]) -> None:
        lengths = pc.binary_length(self._values).to_numpy(zero_copy_only=False)
        where = np.flatnonzero((lengths >= _SHORTEST) & ~self.replaced.within(len(lengths)))
        owners = np.searchsorted(self._ends, where, side="right")
        values = self._values.take(pa.array(where))
        hits, masks = self.replaced.equals(owners, values)
        self.replaced.add(where[hits], owners[hits], values.take(pa.array(hits)), masks)
        rest = np.ones(len(where), dtype=bool)
        rest[hits] = False
        rest[rest] = _suspicious(values.filter(pa.array(rest)), masking.SUSPICIOUS)
        coded = values.filter(pa.array(rest)).dictionary_encode()
        found = coded.dictionary.to_pylist()
        self._add(
            where[rest], owners[rest], coded, found, _texts([masking.scrub(v) for v in found])
        )
        if len(coded):
            self.seen = undeclared.find(
                found,
                coded.indices.to_numpy(),
                where[rest] - self._starts[owners[rest]] + 1,
                row_form[owners[rest]],
                owners[rest],
                [form.watched_parameters for form in forms],
            )

    def lists(self) -> pa.Array:
        values = self.replaced.apply(self._values, self.replaced.masks)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), self._ends]).astype(np.int32)
        absent = self._lists.is_null() if self._lists.null_count else None
        return pa.ListArray.from_arrays(pa.array(offsets), values, mask=absent)


def _first_numbers(mentioned: frozenset[int]) -> int:
    """How many there are from 1 on without a gap."""
    return next(n for n in range(len(mentioned) + 1) if n + 1 not in mentioned)


def _texts(values: list[str]) -> pa.Array:
    return pa.array(values, pa.string())


def _take(values: list[str], codes: pa.Array) -> pa.Array:
    return _texts(values).take(codes)


def _quoted(masks: pa.Array) -> pa.Array:
    """Masks as they stand in a statement: always strings."""
    return pc.binary_join_element_wise("'", pc.replace_substring(masks, "'", "''"), "'", "")


def _unquoted(segments: pa.Array) -> list[str]:
    """Values of literals. Numbers and strings without doubled quotes come at once."""
    quotes = pc.count_substring(segments, "'")
    if pc.all(pc.equal(quotes, 0)).as_py() and not pc.any(pc.starts_with(segments, "$")).as_py():
        return list(segments.to_pylist())
    if pc.all(pc.and_(pc.equal(quotes, 2), pc.starts_with(segments, "'"))).as_py():
        return list(pc.utf8_slice_codeunits(segments, 1, -1).to_pylist())
    return [masking.unquote(segment) for segment in segments.to_pylist()]


def _joined(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _suspicious(values: pa.Array, pattern: str) -> NDArray[np.bool_]:
    long = pc.greater_equal(pc.binary_length(values), _LEAST_SUSPICIOUS)
    found = pc.match_substring_regex(values, pattern)
    return np.asarray(pc.and_(long, found).to_numpy(zero_copy_only=False), dtype=bool)


def _without_empty(hits: Ints, masks: pa.Array, values: pa.Array) -> tuple[Ints, pa.Array]:
    told = pc.not_equal(values.take(pa.array(hits)), "")
    return hits[told.to_numpy(zero_copy_only=False)], masks.filter(told)
