"""stderr lines that no prefix matches: halves of heads, what copies wrapped, and foreign lines.

Enters: the lines of a block, its heads, later its groups. Leaves: heads that go over several lines
put together, texts of copies continued, and the rest as pieces that are no record. A line that
follows half a head is marked: a client's name may have brought it into the log.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scalple.ingest.lineprefix import read_prefix
from scalple.ingest.prefixguess import KNOWN, SEVERITY, ranked
from scalple.ingest.records import AMBIGUOUS, NONSTANDARD
from scalple.ingest.stderrhead import match_one
from scalple.ingest.stderrlines import Lines

if TYPE_CHECKING:
    from scalple.ingest.stderrgroups import Groups

Bools = npt.NDArray[np.bool_]

INJECTED_BYTES = 160
"""More than the names of user and database, which a client chooses, can bring into a log."""
_JOINED_LINES_MAX = 4
_REST_BYTES = 200
_SEVERITY = re.compile(rf"{SEVERITY}\s?:  ".encode())
_COPIED_BYTES_MAX = 1 << 16
"""A copy for people isn't longer; what a client writes may be."""
_GAP_BYTES_MAX = 64
_COMMAS_MIN = 8
"""Between the fields of pgAudit's message; fewer are half of one."""
_COMMAS_BEFORE_STATEMENT = 7
_AUDIT = re.compile(rb"AUDIT:\s+")
_BEGINS = re.compile(rb".{0,40}?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


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


def join_broken_heads(lines: Lines, heads: pa.Table) -> tuple[pa.Table, Strays]:
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
        found = match_one(line, raw, prefix) if _SEVERITY.search(raw) else None
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


def place_strays(groups: "Groups", strays: Strays) -> None:
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
    _doubt_what_names_may_have_brought(groups, strays, at)
    for line in strays.at:
        head = int(np.searchsorted(at, line)) - 1
        if head >= 0 and _continues(groups, head, line):
            groups.remarks.setdefault(head, NONSTANDARD)
            stop = _stop_of(groups, line)
            more = groups.lines.data[groups.lines.starts[line] : groups.lines.ends[stop]]
            groups.rewritten[head] = _appended(_text_of(groups, head), more)
            groups.text_end[head] = groups.lines.ends[stop]
            strays.cover[line] = False
        elif groups.stray and _adjacent(groups, groups.stray[-1][1], line):
            groups.stray[-1] = (groups.stray[-1][0], _stop_of(groups, line))
        else:
            groups.stray.append((line, _stop_of(groups, line)))


def _doubt_what_names_may_have_brought(
    groups: "Groups", strays: Strays, at: npt.NDArray[np.int64]
) -> None:
    """Heads right before the rest of a line, or before a failure that quotes a name of several
    lines: names of user and database with line breaks may have looked like whole lines."""
    starts = groups.lines.starts[at]
    ends = [
        int(groups.lines.starts[line])
        for line in strays.at
        if _SEVERITY.search(groups.lines.bytes_of(line)[:_REST_BYTES])
    ]
    fatal = np.array([one == "FATAL" for one in groups.severities], bool)[groups.word_of]
    for head in np.flatnonzero(fatal).tolist():
        if b"\n\t" in groups.lines.data[groups.text_begin[head] : groups.text_end[head]]:
            ends.append(int(starts[head]))
    for end in ends:
        first = int(np.searchsorted(starts, end - INJECTED_BYTES * 2))
        for head in range(first, int(np.searchsorted(starts, end))):
            groups.remarks[head] = AMBIGUOUS
            groups.bound.add(head)
            groups.bound.add(min(head + 1, len(at) - 1))


def _flattened(groups: "Groups", head: int) -> bytes:
    """The text of a head that was put together: from where AUDIT stands."""
    begin = groups.lines.starts[groups.heads.column("line")[head].as_py()]
    raw = groups.lines.data[begin : groups.text_end[head]]
    return b"AUDIT: " + _AUDIT.split(raw, 1)[1]


def _continues(groups: "Groups", head: int, line: int) -> bool:
    end, begin = int(groups.text_end[head]), int(groups.lines.starts[line])
    if begin - end > _GAP_BYTES_MAX or groups.lines.data[end:begin].strip(b"\r\n"):
        return False  # something else stands in between
    if end - groups.text_begin[head] > _COPIED_BYTES_MAX:
        return False
    if _BEGINS.match(groups.lines.bytes_of(line)):
        return False  # another record, of an unknown form
    if groups.word_of[head] < 0:
        return True
    text = _text_of(groups, head)
    if text.startswith(b"AUDIT:"):
        return text.count(b'"') % 2 == 1 or text.count(b",") < _COMMAS_MIN
    return bool(groups.lines.is_indented[line])


def _text_of(groups: "Groups", head: int) -> bytes:
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


def _stop_of(groups: "Groups", line: int) -> int:
    """The last line that continues a stray one by a tab."""
    last = line
    while last + 1 < len(groups.lines) and groups.lines.is_tabbed[last + 1]:
        last += 1
    return last


def _adjacent(groups: "Groups", last: int, line: int) -> bool:
    between = groups.lines.data[groups.lines.ends[last] : groups.lines.starts[line]]
    return not between.strip(b"\r\n")
