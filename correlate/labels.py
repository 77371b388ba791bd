"""Application names as numbers, whose each one is, and the texts that set them.

Enters: the batch's application_name column and the texts of its settings. Leaves: a code per name
(0 is the empty one), its key (the tag that it begins with, or else the endpoint that it ends in), and
per record what its text does to the name. A name that the server cuts is resolved by what was replayed in full before: see `Wholes`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.evidence import Evidence
from scalple.correlate.logbatch import (
    Bools,
    Ints,
    LogBatch,
    codes_of,
    dictionary_encoded,
    where_in,
    where_true,
)
from scalple.correlate.numbered import Numbered
from scalple.correlate.pernumber import PerNumber
from scalple.correlate.poolertext import (
    NAME_BYTES_MAX,
    Writing,
    cut_forms,
    read_setting,
    suffix_endpoint,
)
from scalple.correlate.remembering import GONE_US
from scalple.ingest.records import TEXT
from scalple.ingest.tags import begins_with_tag

_SETTING_COMMANDS = pa.array(["SET", "RESET", "DISCARD", "DISCARD ALL"])
_NEVER = 2**62

NAMES_KEPT = 10_000
"""With more than that, those that nothing refers to are forgotten, whether or not the horizon moves."""
EMPTY_NAME = 0
"""Code of the empty name."""
UNKNOWN_NAME = 1
"""Code of a name that the log doesn't say."""


class Wholes:
    """Which endpoints stood behind a cut name, and since which record.

    The server cuts names to 63 bytes and tells the pooler, which from then on replays the cut
    form, or nothing at all where a backend already bears it. So all clients whose names are cut
    to the same form share it, and each of them had its whole name replayed before: at any time
    the name stands for whoever of them is alive, and names somebody only if that is one client.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._forms: Numbered[str] = Numbered()
        self._since: dict[tuple[int, int], int] = {}
        self._until_us = PerNumber(np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
        """Until when each endpoint was somebody's, as far as is known."""
        self.renew(evidence)

    def renew(self, evidence: Evidence) -> None:
        """Go on with what is known by now."""
        order = np.argsort(evidence.client_until_us, kind="stable")
        # Of whom the evidence tells no more, it may tell again once a horizon is set back.
        held = np.array(sorted(self.held()), np.int64)
        self._until_us = PerNumber(
            np.concatenate([held, evidence.client_endpoint[order]]),
            np.concatenate([self._until_us.of(held), evidence.client_until_us[order]]),
            0,
        )

    def forms(self, name: str) -> tuple[int, ...]:
        """Codes of the forms in which the server may keep this name; none if it keeps it whole."""
        return tuple(self._forms.of(form) for form in cut_forms(name))

    def add(self, forms: tuple[int, ...], endpoint: int, ordinal: int) -> None:
        """A name that ends in `endpoint` and is kept in `forms` was replayed in full."""
        for form in forms:
            self._since.setdefault((form, endpoint), ordinal)

    def forget(self, time_us: int) -> None:
        """Drop whoever has long been gone."""
        endpoints = np.array([endpoint for _, endpoint in self._since], np.int64)
        there = self._until_us.of(endpoints) >= time_us - GONE_US
        self._since = {
            pair: since
            for (pair, since), stays in zip(self._since.items(), there.tolist(), strict=True)
            if stays
        }

    def held(self) -> set[int]:
        """Keys of endpoints that it remembers."""
        return {endpoint for _, endpoint in self._since}

    def forget_forms(self, held: set[int]) -> None:
        """Keep these forms and those that somebody was replayed under."""
        self._forms.keep(held | {form for form, _ in self._since})

    def table(self) -> pa.Table:
        """form, endpoint, since."""
        pairs = np.array(list(self._since), np.int64).reshape(-1, 2)
        since = np.array(list(self._since.values()), np.int64)
        return pa.table({"form": pairs[:, 0], "endpoint": pairs[:, 1], "since": since})


class Labels:
    """All application names seen so far.

    Args:
        evidence: which endpoints are known.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._names: Numbered[str] = Numbered()
        self._most = NAMES_KEPT
        self._keys: dict[int, int] = {}
        """Per code the key, -1 where there is none, or the server may have cut it off."""
        self._per_code: PerNumber | None = None
        self.lost: set[int] = set()
        """Names whose client the evidence told of, and doesn't any more."""
        self._unknown_tags: set[int] = set()
        self._announced: set[int] = set()
        """Names under a later tag whose first SET, the sidecar's own, has been seen."""
        self._forms: dict[int, tuple[int, ...]] = {}
        self.wholes = Wholes(evidence)
        self._records = 0
        self._semicolon_since = _NEVER
        self._name("")
        self._name("\0")  # no name can hold it

    def renew(self, evidence: Evidence) -> None:
        """Go on with what is known by now: names keep their codes, and may stand for somebody else."""
        self._evidence = evidence
        self.wholes.renew(evidence)
        for text, code in self._names.items():
            before = self._keys[code]
            self._read(text, code)
            if before >= 0 and self._keys[code] != before:
                self.lost.add(code)
            elif before < 0 <= self._keys[code]:
                self.lost.discard(code)

    @property
    def has_many(self) -> bool:
        """It is worth while to forget some."""
        return len(self._names) > self._most

    def forget(self, held: set[int], time_us: int | None) -> None:
        """Keep the names of these codes; others get a new one when they come again.

        Args:
            held: codes that are remembered elsewhere.
            time_us: nothing to come began before, if that is known.
        """
        kept = {EMPTY_NAME, UNKNOWN_NAME, *held}
        kept |= {code for code in self._announced if self._keys[code] in self._evidence.later_tags}
        self._names.keep(kept)
        self._keys = {code: key for code, key in self._keys.items() if code in kept}
        self._forms = {code: forms for code, forms in self._forms.items() if code in kept}
        self._unknown_tags &= kept
        self.lost &= kept
        self._announced &= kept
        self._per_code = None
        self._most = max(NAMES_KEPT, 2 * len(self._names))
        if time_us is not None:
            self.wholes.forget(time_us)
        self.wholes.forget_forms({form for forms in self._forms.values() for form in forms})

    def number(self, column: pa.ChunkedArray, unsaid: Bools) -> Ints:
        """A code for each record's name; UNKNOWN_NAME where its container doesn't say it."""
        encoded = dictionary_encoded(column)
        names = [self._name(one or "") for one in encoded.dictionary.to_pylist()]
        codes = np.array([*names, EMPTY_NAME], np.int64)[codes_of(encoded)]
        return np.where(unsaid, UNKNOWN_NAME, codes)

    def _name(self, text: str) -> int:
        is_new = text not in self._names
        code = self._names.of(text)
        if is_new:
            self._read(text, code)
        return code

    def _read(self, text: str, code: int) -> None:
        """Note the key of a name, and whether it begins with a tag of which no event tells."""
        self._per_code = None
        self._forms.pop(code, None)
        self._unknown_tags.discard(code)
        tag = self._evidence.tags.get(text.partition(" ")[0])
        if tag is not None:
            self._keys[code] = self._tagged(tag, text)
            return
        if forms := self.wholes.forms(text):
            self._forms[code] = forms
        self._keys[code] = -1 if forms else self._suffix(text)
        if begins_with_tag(text):
            self._unknown_tags.add(code)

    def _tagged(self, tag: int, text: str) -> int:
        """The tag's key, unless the name ends in the endpoint of another connection."""
        end = suffix_endpoint(text)
        if end is None or end[0].startswith("unix"):
            return tag
        own = self._evidence.endpoint_of(np.array([tag]))[0]
        return tag if self._evidence.endpoints.get(end) == own else -1

    def _suffix(self, text: str) -> int:
        endpoint = suffix_endpoint(text)
        return self._evidence.endpoints.get(endpoint, -1) if endpoint else -1

    def keys(self, codes: Ints) -> Ints:
        """The key of each name; -1 where there is none, or the server may have cut it off."""
        if self._per_code is None:
            count = len(self._keys)
            self._per_code = PerNumber(
                np.fromiter(self._keys, np.int64, count),
                np.fromiter(self._keys.values(), np.int64, count),
            )
        return self._per_code.of(codes)

    def unknown_tags(self, codes: Ints) -> Bools:
        """Which names begin with a tag of which no event tells."""
        return np.isin(codes, list(self._unknown_tags))

    def connections(self, codes: Ints) -> Ints:
        """Of each name the connection whose tag it begins with, or -1."""
        return self._evidence.connection_of.of(self.keys(codes))

    def whose(self, codes: Ints) -> Ints:
        """Of each name a number of the client that it stands for; names of one connection have one."""
        connections = self.connections(codes)
        return np.where(connections >= 0, 2 * connections + 1, 2 * codes)

    @staticmethod
    def code_of(whose: int) -> int:
        """The name that such a number (`whose`) was made of; -1 if it was made of a connection."""
        return whose // 2 if whose >= 0 and whose % 2 == 0 else -1

    def announcing(self, label: Ints) -> Bools:
        """Which records are the sidecar's own SET of a later tag: the first that bears it.

        The pooler replays a name only after somebody has set it.
        """
        first = np.zeros(len(label), bool)
        rows = np.flatnonzero(label >= 0)
        for code, row in zip(*np.unique(label[rows], return_index=True), strict=True):
            if int(code) not in self._announced and self._keys[code] in self._evidence.later_tags:
                self._announced.add(int(code))
                first[rows[row]] = True
        return first

    def cut_forms(self, codes: Ints) -> tuple[Ints, Ints]:
        """Of each name the one or two forms that it is kept in if it may be cut, or -1."""
        cut = np.array(list(self._forms), np.int64)
        first = np.array([forms[0] for forms in self._forms.values()], np.int64)
        second = np.array(
            [forms[1] if forms[1:] else -1 for forms in self._forms.values()], np.int64
        )
        return PerNumber(cut, first).of(codes), PerNumber(cut, second).of(codes)

    def read_settings(
        self, batch: LogBatch, rows: Ints, encoded: pa.DictionaryArray
    ) -> tuple[Ints, Bools, Bools, Ints]:
        """For each record: the label a replay-form SET sets; does it rename; does it empty; and
        the endpoint in the text of a renaming, or -1.

        A label of -1 is none, of -2 a replay of other settings than the name.

        Args:
            batch: the records.
            rows, encoded: as `texts_of_settings` found them.
        """
        n = batch.log.num_rows
        label = np.full(n, -1, np.int64)
        renames = np.zeros(n, bool)
        empties = np.zeros(n, bool)
        index = codes_of(encoded)
        read = [read_setting(text) for text in encoded.dictionary.to_pylist()]
        replays = np.array([one.writing is Writing.REPLAY for one in read], bool)[index]
        stripped = np.array(
            [one.writing is Writing.REPLAY_WITHOUT_SEMICOLON for one in read], bool
        )[index]
        if replays.any():
            self._semicolon_since = min(
                self._semicolon_since, self._records + int(rows[replays][0])
            )
        # pgAudit 17 and later cut the semicolon; up to 16 nobody but a client leaves it out.
        replays |= stripped & (self._records + rows < self._semicolon_since)
        names = np.array(
            [-2 if one.name is None else self._name(one.name) for one in read], np.int64
        )
        changes = np.array([one.writing is not Writing.OTHER for one in read], bool)
        clears = np.array([one.writing is Writing.EMPTIES for one in read], bool)
        label[rows] = np.where(replays, names[index], -1)
        renames[rows] = changes[index] & ~replays
        empties[rows] = clears[index]
        known = self._evidence.endpoints
        mentioned = np.array(
            [max((known.get(end, -1) for end in one.mentions), default=-1) for one in read],
            np.int64,
        )
        taken = np.full(n, -1, np.int64)
        taken[rows] = mentioned[index]
        self._learn_wholes(rows[replays], index[replays], [one.name for one in read])
        self._records += n
        # A replay of the empty name is a reset that is played again.
        return label, renames, empties | (label == EMPTY_NAME), taken

    def _learn_wholes(self, rows: Ints, index: Ints, names: list[str | None]) -> None:
        distinct, first = np.unique(index, return_index=True)
        for at, row in zip(distinct.tolist(), rows[first].tolist(), strict=True):
            name = names[at]
            # Exactly as long as the server allows: whole, or cut just there; nobody can tell.
            if name is None or len(name.encode("utf-8", "surrogateescape")) == NAME_BYTES_MAX:
                continue
            forms = self._forms.get(self._names.of(name))
            endpoint = self._suffix(name)
            if forms and endpoint >= 0:
                self.wholes.add(forms, endpoint, self._records + row)

    def borne(self, label: Ints, name: Ints) -> Ints:
        """Labels that their own record bears; one that it doesn't is taken for nobody's.

        pgAudit writes a SET's line when it is done, so the line already bears the new name. A line
        before it, of another setting in the same message, doesn't yet; a forged one never does.
        """
        named = np.maximum(label, 0)
        other = (label >= 0) & (name != UNKNOWN_NAME) & ~np.isin(named, list(self._forms))
        other &= self.keys(named) != self.keys(name)
        return np.where(other, EMPTY_NAME, label)

    def ordinals(self, batch: LogBatch) -> Ints:
        """Where the batch's pgAudit records stand among all records read so far; call it last."""
        return np.asarray(self._records - batch.log.num_rows + batch.audit_rows, np.int64)


def texts_of_settings(batch: LogBatch) -> tuple[Ints, pa.DictionaryArray]:
    """Records whose statement may change a setting, and their texts."""
    texts = batch.payload.column("statement")
    chosen = where_in(batch.payload.column("command"), _SETTING_COMMANDS)
    chosen |= _calls_set_config(texts)
    chosen &= ~batch.forged
    encoded = dictionary_encoded(texts.cast(TEXT).filter(pa.array(chosen)))
    return batch.audit_rows[chosen], encoded


def _calls_set_config(texts: pa.ChunkedArray) -> Bools:
    """Statements of any kind that hold a call of set_config."""
    encoded = dictionary_encoded(texts)
    calls = where_true(pc.match_substring(encoded.dictionary, "set_config", ignore_case=True))
    return np.append(calls, False)[codes_of(encoded)]
