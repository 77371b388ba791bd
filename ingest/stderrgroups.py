"""stderr lines -> records: which lines belong together, and what each record says.

Enters: the lines of a block and their heads. Leaves: where the last complete record ends, and up to
there a block. The result doesn't depend on where the block was cut: a record counts as complete
when so many lines begin after it that none of them can still belong to it.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.ingest.lineprefix import read_prefix
from scalple.ingest.localised import LABEL_OF, SEVERITY_OF
from scalple.ingest.logtime import LogTimes
from scalple.ingest.prefixguess import KNOWN, ranked
from scalple.ingest.records import AMBIGUOUS, NONSTANDARD
from scalple.ingest.rejects import Block, Reject
from scalple.ingest.stderrcolumns import columns_of
from scalple.ingest.stderrhead import HEAD_BYTES, match_one, second_reading, suspects

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LONG = HEAD_BYTES
WITHOUT_PREFIX = "doesn't begin with log_line_prefix"
"""Why a line is rejected that no prefix matches."""
WINDOW = 64
"""So many lines may begin between a record and a line that completes it."""
INJECTED_BYTES = 160
"""More than the names of user and database, which a client chooses, can bring into a log."""
_JOINED_LINES_MAX = 4
_COMMAS_MIN = 8
"""Between the fields of pgAudit's message; fewer are half of one."""
_COMMAS_BEFORE_STATEMENT = 7
_AUDIT = re.compile(rb"AUDIT:\s+")
_BEGINS = re.compile(rb".{0,40}?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_TAB, _LF, _CR, _BLANK = 9, 10, 13, 32


class Lines:
    """The lines of a block.

    Args:
        data: the block.
        end: behind its last line end.
        is_crlf: a carriage return before the line end belongs to it.
    """

    def __init__(self, data: bytes, end: int, is_crlf: bool) -> None:
        self.data, self.end, self.is_crlf = data, end, is_crlf
        self.view = np.frombuffer(data, np.uint8, end)
        breaks = np.flatnonzero(self.view == _LF)
        self.starts = np.concatenate([np.zeros(1, np.int64), breaks[:-1] + 1])
        self.ends = breaks
        if is_crlf:
            self.ends = breaks - ((self.view[breaks - 1] == _CR) & (breaks > self.starts))
        offsets = np.append(self.starts, end).astype(np.int32)
        self.array = pa.Array.from_buffers(
            pa.binary(), len(breaks), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        )
        """Each with its line end."""
        first = self.view[self.starts]
        self.is_tabbed = first == _TAB
        self.is_empty = self.ends == self.starts
        self.is_indented = first == _BLANK
        self.may_begin = ~self.is_tabbed & ~self.is_empty

    def __len__(self) -> int:
        return len(self.starts)

    def lengths(self, at: Ints) -> Ints:
        """In bytes, of the lines at these places."""
        return np.asarray(self.ends[at] - self.starts[at])

    def bytes_of(self, line: int) -> bytes:
        """One line without its end."""
        return self.data[self.starts[line] : self.ends[line]]

    def text(self, line: int) -> str:
        """One line as text, for a look at it."""
        return self.bytes_of(line).decode("utf-8", "replace")


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
        """The text is pgAudit's, and a quoted field in it doesn't end."""
        text = self.lines.data[self.text_begin[head] : self.text_end[head]]
        return text.startswith(b"AUDIT: ") and text.count(b'"') % 2 == 1

    def block(self, end: int, offset: int, times: LogTimes) -> Block:
        """The records that begin before `end`."""
        starts = self.lines.starts[self.heads.column("line").to_numpy()]
        kept = self.main[starts[self.main] < end]
        labels = np.flatnonzero((self.owner >= 0) & (self.owner != np.arange(len(self.owner))))
        labels = labels[starts[self.owner[labels]] < end]
        orphans = np.flatnonzero((self.owner < 0) & (starts < end))
        rejects = [
            Reject(offset + int(starts[one]), self._raw(one), "continues no record before it")
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


def read_groups(lines: Lines, heads: pa.Table) -> Groups:
    """Put the lines of a block together."""
    heads, strays = _join_broken_heads(lines, heads)
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
    )
    _own(groups)
    _place_strays(groups, strays)
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


# -- lines that no prefix matches ------------------------------------------------------------------


@dataclass(slots=True)
class Strays:
    """Lines that begin nothing and continue nothing by a tab."""

    at: list[int]
    cover: Bools
    """Which lines they are, as a mask: none of them continues what stands before, so far."""
    nonstandard: set[int] = field(default_factory=set)
    """Lines whose heads were put together."""
    doubtful: set[int] = field(default_factory=set)
    """Heads' lines that follow half a head, so that a client's name may have brought them in."""


def _join_broken_heads(lines: Lines, heads: pa.Table) -> tuple[pa.Table, Strays]:
    """Heads that go over several lines, because a name in them has line breaks."""
    at = heads.column("line").to_numpy()
    cover = lines.may_begin.copy()
    cover[at] = False
    strays = Strays(np.flatnonzero(cover).tolist(), cover)
    if not strays.at:
        return heads, strays
    known = set(at.tolist())
    prefixes = dict.fromkeys(heads.column("prefix").unique().to_pylist())
    added: list[pa.Table] = []
    for line in strays.at:
        if not cover[line]:
            continue
        found = None
        for text in prefixes:
            found = found or _joined(lines, line, text, known, cover, strays)
        found = found or _wrapped(lines, line, list(prefixes), cover, strays)
        if found is not None:
            added.append(found)
    if added:
        heads = pa.concat_tables([heads, *added]).combine_chunks()
        order = np.argsort(heads.column("line").to_numpy(), kind="stable")
        heads = heads.take(pa.array(order))
    strays.at = np.flatnonzero(cover).tolist()
    return heads, strays


def _joined(
    lines: Lines, line: int, text: str, known: set[int], cover: Bools, strays: Strays
) -> pa.Table | None:
    """The head that begins in this line and ends in one of the next, if there is one."""
    prefix = read_prefix(text)
    lead = prefix.lead
    if not {"u", "d"} & set(prefix.escapes) or lead is None or not lead.match(lines.bytes_of(line)):
        return None
    for last in range(line + 1, min(line + _JOINED_LINES_MAX, len(lines))):
        if last in known:
            # Half a head, then a whole one: either may be what a client called itself.
            stop = int(lines.ends[line]) + INJECTED_BYTES
            while last in known or (last < len(lines) and lines.starts[last] < stop):
                if lines.starts[last] >= stop:
                    break
                strays.doubtful.add(last)
                last += 1
            return None
        raw = lines.data[lines.starts[line] : lines.ends[last]]
        found = match_one(line, raw, prefix)
        if found is not None:
            cover[line : last + 1] = False
            return found
    return None


def _wrapped(
    lines: Lines, line: int, stated: list[str], cover: Bools, strays: Strays
) -> pa.Table | None:
    """A record of pgAudit's whose prefix was wrapped into the next lines by a copy."""
    flat = lines.bytes_of(line).strip()
    if not _BEGINS.match(flat):
        return None
    for last in range(line + 1, min(line + _JOINED_LINES_MAX, len(lines))):
        more = lines.bytes_of(last).strip()
        if not cover[last] or _BEGINS.match(more):
            return None
        flat += b" " + more
        if b"AUDIT: " not in flat:
            continue
        prefixes = [read_prefix(text, strict=True) for text in dict.fromkeys((*stated, *KNOWN))]
        best = ranked([flat.decode("utf-8", "replace")], prefixes)
        found = match_one(line, flat, best[0]) if best else None
        if found is not None:
            cover[line : last + 1] = False
            strays.nonstandard.add(line)
            return found
    return None


def _place_strays(groups: Groups, strays: Strays) -> None:
    """Lines without tab continue a text that can't be complete; others are no record's."""
    at = groups.heads.column("line").to_numpy()
    for head in np.searchsorted(at, sorted(strays.nonstandard)).tolist():
        groups.remarks[head] = NONSTANDARD
        groups.rewritten[head] = _flattened(groups, head)
    bare = np.flatnonzero(groups.word_of < 0)
    for head in bare.tolist():
        groups.remarks[head] = NONSTANDARD
    for head in np.flatnonzero(np.isin(at, list(strays.doubtful))).tolist():
        groups.remarks[head] = AMBIGUOUS
        groups.bound.add(head)
    for line in strays.at:
        head = int(np.searchsorted(at, line)) - 1
        if head >= 0 and _continues(groups, head, line):
            groups.remarks.setdefault(head, NONSTANDARD)
            stop = _stop_of(groups, strays, line)
            more = groups.lines.data[groups.lines.starts[line] : groups.lines.ends[stop]]
            groups.rewritten[head] = _appended(_text_of(groups, head), more)
            groups.text_end[head] = groups.lines.ends[stop]
            strays.cover[line] = False
        elif groups.stray and _adjacent(groups, strays, groups.stray[-1][1], line):
            groups.stray[-1] = (groups.stray[-1][0], _stop_of(groups, strays, line))
        else:
            groups.stray.append((line, _stop_of(groups, strays, line)))


def _flattened(groups: Groups, head: int) -> bytes:
    """The text of a head that was put together: from where AUDIT stands."""
    begin = groups.lines.starts[groups.heads.column("line")[head].as_py()]
    raw = groups.lines.data[begin : groups.text_end[head]]
    return b"AUDIT: " + _AUDIT.split(raw, 1)[1]


def _continues(groups: Groups, head: int, line: int) -> bool:
    end = int(groups.text_end[head])
    if groups.lines.data[end : groups.lines.starts[line]].strip(b"\r\n"):
        return False  # something else stands in between
    if _BEGINS.match(groups.lines.bytes_of(line)):
        return False  # another record, of an unknown form
    if groups.word_of[head] < 0:
        return True
    text = _text_of(groups, head)
    if text.startswith(b"AUDIT:"):
        return text.count(b'"') % 2 == 1 or text.count(b",") < _COMMAS_MIN
    return bool(groups.lines.is_indented[line])


def _text_of(groups: Groups, head: int) -> bytes:
    raw = groups.lines.data[groups.text_begin[head] : groups.text_end[head]]
    return groups.rewritten.get(head, raw.replace(b"\n\t", b"\n"))


def _appended(text: bytes, more: bytes) -> bytes:
    """Where a copy was wrapped, a line break replaces a blank; between fields there was none."""
    more = more.replace(b"\n\t", b"\n")
    if text == b"AUDIT:":
        return text + b" " + more.lstrip()
    if text.count(b'"') % 2 or not text.startswith(b"AUDIT: "):
        return text + b"\n" + more
    if text.count(b",") < _COMMAS_BEFORE_STATEMENT:
        return text.rstrip() + more.lstrip()
    return text + b" " + more.lstrip()


def _stop_of(groups: Groups, strays: Strays, line: int) -> int:
    """The last line that continues a stray one by a tab."""
    last = line
    while last + 1 < len(groups.lines) and groups.lines.is_tabbed[last + 1]:
        last += 1
    return last


def _adjacent(groups: Groups, strays: Strays, last: int, line: int) -> bool:
    between = groups.lines.data[groups.lines.ends[last] : groups.lines.starts[line]]
    return not between.strip(b"\r\n")
