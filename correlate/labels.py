"""Application names as numbers, the endpoint each one ends in, and the texts that set them.

Enters: the batch's application_name column and the texts of its SET, RESET and DISCARD. Leaves: a
code per name (0 is the empty one), the endpoint per code, and per record what its text does to the
name. Remembers the names seen and what stood in full before the server cut it.
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
    where_true,
)
from scalple.correlate.poolertext import Writing, is_cut, read_setting, suffix_endpoint
from scalple.ingest.records import TEXT

_SETTING_COMMANDS = pa.array(["SET", "RESET", "DISCARD", "DISCARD ALL"])


class Labels:
    """All application names seen so far.

    Args:
        evidence: which endpoints are known.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._names: dict[str, int] = {"": 0}
        self._name_endpoint: list[int] = [-1]
        self._uncut: dict[str, set[int]] = {}
        self._semicolons = False

    def number(self, column: pa.ChunkedArray) -> Ints:
        encoded = dictionary_encoded(pc.fill_null(column.cast(TEXT), ""))
        codes = np.array([self._name(one) for one in encoded.dictionary.to_pylist()], np.int64)
        return codes[codes_of(encoded)] if len(codes) else np.empty(0, np.int64)

    def _name(self, text: str) -> int:
        code = self._names.get(text)
        if code is None:
            code = self._names[text] = len(self._names)
            endpoint = suffix_endpoint(text)
            self._name_endpoint.append(
                self._evidence.endpoints.get(endpoint, -1) if endpoint else -1
            )
        return code

    def read_settings(self, batch: LogBatch) -> tuple[Ints, Bools, Bools]:
        """For each record: the label a replay-form SET sets; does it rename; does it empty."""
        n = batch.log.num_rows
        label = np.full(n, -1, np.int64)
        renames = np.zeros(n, bool)
        empties = np.zeros(n, bool)
        is_setting = where_true(
            pc.is_in(
                batch.payload.column("command").cast(TEXT),
                pa.array(["SET", "RESET", "DISCARD", "DISCARD ALL"]),
            )
        )
        rows = batch.audit_rows[is_setting]
        encoded = dictionary_encoded(
            batch.payload.column("statement").cast(TEXT).filter(pa.array(is_setting))
        )
        read = [read_setting(text) for text in encoded.dictionary.to_pylist()]
        self._semicolons |= any(one.writing is Writing.REPLAY for one in read)
        replay_forms = {Writing.REPLAY}
        if not self._semicolons:  # pgAudit 17 and later cut the semicolon
            replay_forms.add(Writing.REPLAY_WITHOUT_SEMICOLON)
        labels = np.full(len(read) + 1, -1, np.int64)
        changes = np.zeros(len(read) + 1, bool)
        clears = np.zeros(len(read) + 1, bool)
        for at, one in enumerate(read):
            if one.writing in replay_forms:
                labels[at] = -2 if one.name is None else self._replayed_name(one.name)
            elif one.writing is not Writing.OTHER:
                changes[at] = True
                clears[at] = one.writing is Writing.EMPTIES
        index = codes_of(encoded)
        label[rows], renames[rows], empties[rows] = labels[index], changes[index], clears[index]
        # A replay of the empty name is a reset that is played again.
        empties |= label == 0
        return label, renames, empties

    def _replayed_name(self, name: str) -> int:
        """Code of a replayed name; remembers the whole of one that the server will cut."""
        code = self._name(name)
        if is_cut(name):
            cut = name.encode()[:63].decode("utf-8", "ignore")
            if name != cut:
                self._uncut.setdefault(cut, set()).add(code)
        return code

    def endpoints(self) -> Ints:
        """Endpoint code per name code; a name that was cut counts for the one whole it had."""
        endpoints = np.array(self._name_endpoint, np.int64)
        for text, code in self._names.items():
            if is_cut(text) and len(text.encode()) == 63:
                wholes = self._uncut.get(text, set())
                endpoints[code] = endpoints[next(iter(wholes))] if len(wholes) == 1 else -1
        return endpoints
