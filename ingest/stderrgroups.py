"""stderr lines -> records: which lines belong together, and what each record says.

Enters: the lines of a block and their heads. Leaves: where the last complete record ends, and up to
there a block. The result doesn't depend on where the block was cut: a record counts as complete
when so many lines begin after it that none of them can still belong to it.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.ingest.lineprefix import read_prefix
from scalple.ingest.localised import LABEL_OF, SEVERITY_OF
from scalple.ingest.logtime import LogTimes
from scalple.ingest.records import AMBIGUOUS, Lacks
from scalple.ingest.rejects import Block, Reject
from scalple.ingest.stderrcolumns import columns_of
from scalple.ingest.stderrhead import HEAD_BYTES, second_reading, suspects
from scalple.ingest.stderrlines import Lines
from scalple.ingest.stderrstrays import join_broken_heads, place_strays

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LONG = HEAD_BYTES
WITHOUT_PREFIX = "doesn't begin with log_line_prefix"
"""Why a line is rejected that no prefix matches."""
WINDOW = 64
"""So many lines may begin between a record and a line that completes it."""


@dataclass(slots=True)
class Groups:
    """Records and rejected lines of one block.

    Heads are counted by ordinals; `main` holds those of records.
    """

    lines: Lines
    heads: pa.Table
    text_begin: Ints
    """Where each head's text begins in the block."""
    text_end: Ints
    """Where it ends, the lines that continue it included."""
    owner: Ints
    """For a label's head the ordinal of its record; its own for a record's; -1 for an orphan."""
    fields: list[str | None]
    """The field that each distinct word is a label of; None for a severity."""
    word_of: Ints
    """Code of each head's word; -1 where none stands."""
    severities: list[str | None]
    stray: list[tuple[int, int]]
    """(first, last) line of each piece that is no record."""
    lacks: Lacks
    remarks: dict[int, str] = field(default_factory=dict)
    """By ordinal."""
    rewritten: dict[int, bytes] = field(default_factory=dict)
    """Texts that had to be put together, by ordinal."""
    bound: set[int] = field(default_factory=set)
    """Ordinals at which no cut may come: what stands before them says something about them."""

    @property
    def main(self) -> Ints:
        """Ordinals of the records' heads."""
        return np.flatnonzero(self.owner == np.arange(len(self.owner)))

    def last_end(self, *, final: bool) -> int:
        """How many bytes of the block hold complete records."""
        main = self.main
        if final:
            if len(main) and self._is_open(int(main[-1])):
                return int(self.lines.starts[self.heads.column("line")[int(main[-1])].as_py()])
            return self.lines.end
        # A record is complete if WINDOW heads follow; no cut may part a label from its record.
        limit = len(self.owner) - WINDOW
        parted = np.zeros(len(self.owner) + 1, np.int64)
        labels = np.flatnonzero((self.owner >= 0) & (self.owner != np.arange(len(self.owner))))
        np.add.at(parted, self.owner[labels] + 1, 1)
        np.add.at(parted, labels + 1, -1)
        whole = np.cumsum(parted)[main] == 0
        loose = ~np.isin(main, list(self.bound))
        cuts = main[whole & loose & (main <= limit) & (main > 0)]
        if not len(cuts):
            return 0
        return int(self.lines.starts[self.heads.column("line")[int(cuts[-1])].as_py()])

    def _is_open(self, head: int) -> bool:
        """More of it must follow: a quoted field of pgAudit's, or the place that logged it."""
        text = self.lines.data[self.text_begin[head] : self.text_end[head]]
        if text.startswith(b"AUDIT: ") and text.count(b'"') % 2 == 1:
            return True
        # A verbose record ends with its LOCATION; others may only look like one.
        verbose = self.heads.column("state")[head].is_valid and "location" in self.fields
        labels = self.word_of[np.flatnonzero(self.owner == head)]
        return verbose and "location" not in [self.fields[code] for code in labels.tolist()]

    def block(self, end: int, offset: int, times: LogTimes) -> Block:
        """The records that begin before `end`."""
        starts = self.lines.starts[self.heads.column("line").to_numpy()]
        kept = self.main[starts[self.main] < end]
        labels = np.flatnonzero((self.owner >= 0) & (self.owner != np.arange(len(self.owner))))
        labels = labels[starts[self.owner[labels]] < end]
        orphans = np.flatnonzero((self.owner < 0) & (starts < end))
        rejects = [
            Reject(offset + int(starts[one]), self._raw(one), self._why(one))
            for one in orphans.tolist()
        ]
        for first, last in self.stray:
            begin = int(self.lines.starts[first])
            if begin < end:
                raw = self.lines.data[begin : self._line_stop(last)]
                rejects.append(Reject(offset + begin, raw, WITHOUT_PREFIX))
        texts = self._texts()
        table, bad = columns_of(self, kept, labels, texts, offset, times)
        rejects += [
            Reject(offset + int(starts[one]), self._raw(one), reason) for one, reason in bad
        ]
        rejects.sort(key=lambda one: one.offset)
        return Block(table, rejects, end)

    def _why(self, orphan: int) -> str:
        if self.remarks.get(orphan) == AMBIGUOUS:
            return "can be read in more than one way"
        return "continues no record before it"

    def _line_stop(self, line: int) -> int:
        return int(self.lines.starts[line + 1]) if line + 1 < len(self.lines) else self.lines.end

    def _raw(self, head: int) -> bytes:
        begin = self.lines.starts[self.heads.column("line")[head].as_py()]
        stop = self.lines.data.find(b"\n", int(self.text_end[head])) + 1
        return self.lines.data[begin:stop]

    def _texts(self) -> pa.Array:
        """Each head's text, binary, with one tab taken off behind each line break."""
        n = len(self.text_begin)
        offsets = np.empty(2 * n + 1, np.int32)
        offsets[:-1:2], offsets[1::2] = self.text_begin, self.text_end
        offsets[-1] = self.lines.end
        pieces = pa.Array.from_buffers(
            pa.binary(), 2 * n, [None, pa.py_buffer(offsets), pa.py_buffer(self.lines.data)]
        )
        texts = pieces.take(pa.array(np.arange(0, 2 * n, 2)))
        if self.lines.is_tabbed.any():
            texts = pc.replace_substring(texts, b"\r\n\t" if self.lines.is_crlf else b"\n\t", b"\n")
        if self.rewritten:
            mask = np.zeros(n, bool)
            mask[list(self.rewritten)] = True
            values = [self.rewritten[one] for one in np.flatnonzero(mask).tolist()]
            texts = pc.replace_with_mask(texts, pa.array(mask), pa.array(values, pa.binary()))
        return texts


def read_groups(lines: Lines, heads: pa.Table, lacks: Lacks) -> Groups:
    """Put the lines of a block together; `lacks` is what the log lacks besides its prefix."""
    heads, strays = join_broken_heads(lines, heads)
    at = heads.column("line").to_numpy()
    n = len(at)
    text_begin = lines.starts[at] + heads.column("begin").to_numpy()
    groups = Groups(
        lines,
        heads,
        text_begin,
        _text_ends(lines, at, strays.cover),
        np.full(n, -1, np.int64),
        *_words(heads),
        stray=[],
        lacks=lacks,
    )
    _own(groups)
    place_strays(groups, strays)
    _mark_second_readings(groups)
    return groups


def _words(heads: pa.Table) -> tuple[list[str | None], Ints, list[str | None]]:
    encoded = heads.column("word").combine_chunks().dictionary_encode()
    words = [word.decode() for word in encoded.dictionary.to_pylist()]
    codes = np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(), np.int64)
    # A word may be one language's severity and another's label: then the severity counts.
    fields = [None if word in SEVERITY_OF else LABEL_OF.get(word) for word in words]
    return [*fields, None], codes, [*(SEVERITY_OF.get(word) for word in words), None]


def _text_ends(lines: Lines, at: Ints, cover: Bools) -> Ints:
    """Where the text of the head in each of these lines ends: before the next line that begins."""
    begins = np.zeros(len(lines), bool)
    begins[at] = True
    begins |= cover
    firsts = np.flatnonzero(begins)
    following = np.append(firsts[1:], len(lines)) - 1
    last = following[np.searchsorted(firsts, at)]
    # Empty lines behind a text are nobody's.
    while (blank := lines.is_empty[last] & (last > at)).any():
        last = last - blank
    return np.asarray(lines.ends[last])


def _own(groups: Groups) -> None:
    """Give labels to the last record of their process, if that began not long before."""
    n = len(groups.owner)
    ordinal = np.arange(n)
    is_label = np.array([one is not None for one in groups.fields], bool)[groups.word_of]
    groups.owner[~is_label] = ordinal[~is_label]
    labels = np.flatnonzero(is_label)
    if not len(labels):
        return
    process = _process(groups.heads)
    order = np.argsort(process, kind="stable")
    ranked = np.where(is_label[order], -1, np.arange(n))
    latest = np.maximum.accumulate(ranked)
    found = np.where(latest >= 0, order[np.maximum(latest, 0)], -1)
    same = (latest >= 0) & (process[np.maximum(found, 0)] == process[order])
    owner = np.empty(n, np.int64)
    owner[order] = np.where(same, found, -1)
    owner[ordinal - owner > WINDOW] = -1
    groups.owner[labels] = owner[labels]
    # A field can be said once.
    codes = groups.word_of[labels]
    key = groups.owner[labels] * (len(groups.fields) + 1) + codes
    _, first = np.unique(key, return_index=True)
    again = np.ones(len(labels), bool)
    again[first] = False
    groups.owner[labels[again]] = -1


def _process(heads: pa.Table) -> Ints:
    """A code per process, from its pid or session; all lines are one's where neither stands."""
    for name in ("f_p", "f_c"):
        column = heads.column(name)
        if column.null_count < len(column):
            codes = column.combine_chunks().dictionary_encode().indices
            return np.asarray(pc.fill_null(codes, -1).to_numpy(), np.int64)
    return np.zeros(heads.num_rows, np.int64)


def _withdraw(groups: Groups, head: int, line: bytes) -> None:
    """Read in one way it is no statement, in the other it may be one: then it isn't read at all."""
    is_record = groups.owner[head] == head
    text = groups.lines.data[groups.text_begin[head] : groups.text_end[head]]
    if not is_record or (b"AUDIT: " in line and not text.startswith(b"AUDIT: ")):
        groups.owner[groups.owner == head] = -1
        groups.owner[head] = -1


def _mark_second_readings(groups: Groups) -> None:
    at = groups.heads.column("line").to_numpy()
    # From here to the end of the line: what follows in further lines is no prefix.
    n = len(at)
    offsets = np.empty(2 * n + 1, np.int32)
    offsets[:-1:2], offsets[1::2] = (
        groups.text_begin,
        np.maximum(groups.text_begin, groups.lines.ends[at]),
    )
    offsets[-1] = groups.lines.end
    pieces = pa.Array.from_buffers(
        pa.binary(), 2 * n, [None, pa.py_buffer(offsets), pa.py_buffer(groups.lines.data)]
    )
    texts = pieces.take(pa.array(np.arange(0, 2 * n, 2)))
    prefixes = groups.heads.column("prefix")
    begins = groups.heads.column("begin")
    for head in suspects(texts).tolist():
        prefix = read_prefix(prefixes[head].as_py())
        line = int(at[head])
        if prefix.is_open and second_reading(
            groups.lines.bytes_of(line), begins[head].as_py(), prefix
        ):
            groups.remarks[head] = AMBIGUOUS
            _withdraw(groups, head, groups.lines.bytes_of(line))
