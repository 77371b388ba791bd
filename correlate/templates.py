"""Statement texts cut into what every statement of one form shares and what varies.

In: distinct statement texts. Out: per text its segments, fixed and variable in turn, so that
joining them gives the text back byte for byte; and per text its skeleton, in which each variable
segment (string, number, comment) is one marker byte. Texts with equal skeletons have the same
form. `normalise` and `fingerprint` work on a skeleton.

Lexing follows PostgreSQL's scan.l with standard_conforming_strings on. Two routes: a scan in
columns for ordinary texts, and `split`, exact and slower, for those with comments, dollar quotes,
prefixed strings or quotes within quotes. Nothing here parses SQL or knows what a literal means.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

STRING, NUMBER, COMMENT = "\x01", "\x02", "\x03"
MARKERS = re.compile("[\x01\x02\x03]")

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]

_CHUNK = 1 << 20  # bytes scanned at once: the temporaries stay in cache

_W = r"A-Za-z0-9_$.\x80-\U0010ffff"  # a dotted name or a number is one run of these
_TAG = r"\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$"
_PIECE = re.compile(
    rf"""(?>[^{_W}'"/\-]++ | /(?!\*) | -(?!-) | "[^"]*+(?>""[^"]*+)*+"?
           | (?! [eEbBxXnN]' | [uU]&' | {_TAG} | \.?[0-9] ) [{_W}]++ )*+
       (?: (?P<string> [eE]'(?>[^'\\]++|\\.|'')*+\\?'?
                     | (?:[bBxXnN]|[uU]&)?'[^']*+(?>''[^']*+)*+'? )
         | (?P<number> \.?[0-9][0-9_.]*[eE][+-][0-9][{_W}]*+ | \.?[0-9][{_W}]*+ )
         | (?P<comment> --[^\n\r]*+ )
         | (?P<block> /\* )
         | (?P<dollar> {_TAG} ) )?""",
    re.VERBOSE | re.DOTALL,
)
_EDGE = re.compile(r"/\*|\*/")
_MARKER_OF = {"string": STRING, "dollar": STRING, "number": NUMBER}
_NO_MARKERS = {1: 4, 2: 4, 3: 4}


@dataclass(frozen=True, slots=True)
class Lexed:
    """Texts in lexing order: `position` leads from the caller's order to it."""

    segments: pa.Array
    """All texts' segments; the odd ones of each text vary."""
    starts: Ints
    """Where each text's segments begin; one longer than the texts."""
    form: Ints
    """Each text's index in `skeletons`."""
    skeletons: list[str]
    position: Ints


def lex(texts: pa.Array) -> Lexed:
    """Cut distinct, non-null texts."""
    texts = texts.cast(pa.string())
    plain = _plain(texts)
    parts = [_scan(chunk) for chunk in _chunks(texts.filter(pa.array(plain)))]
    index = np.flatnonzero(plain)
    refused = np.concatenate([p.refused for p in parts]) if parts else np.zeros(0, dtype=bool)
    slow = np.concatenate([np.flatnonzero(~plain), index[refused]])
    order = np.concatenate([index[~refused], slow])
    parts.append(_split_all(texts.take(pa.array(slow))))
    position = np.empty(len(texts), dtype=np.int64)
    position[order] = np.arange(len(texts))
    coded = pa.concat_arrays([p.skeletons for p in parts]).dictionary_encode()
    counts = np.concatenate([p.counts for p in parts])
    return Lexed(
        segments=pa.concat_arrays([p.segments for p in parts]),
        starts=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]),
        form=coded.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        skeletons=coded.dictionary.to_pylist(),
        position=position,
    )


def split(text: str) -> tuple[list[str], str]:
    """One text's segments and skeleton, exactly."""
    segments: list[str] = []
    skeleton: list[str] = []
    at = 0
    while match := _PIECE.match(text, at):
        kind = match.lastgroup
        cut = match.start(kind) if kind else match.end()
        segments.append(text[at:cut])
        skeleton.append(text[at:cut].translate(_NO_MARKERS))
        if kind is None:
            break
        at = _end(text, match, kind)
        segments.append(text[cut:at])
        skeleton.append(_MARKER_OF.get(kind, COMMENT))
    return segments, "".join(skeleton)


def _end(text: str, match: re.Match[str], kind: str) -> int:
    """Where a literal ends; what needs counting or a back reference is beyond the pattern."""
    if kind == "dollar":
        end = text.find(match[kind], match.end())
        return len(text) if end < 0 else end + len(match[kind])
    if kind != "block":
        return match.end()
    depth = 0
    for edge in _EDGE.finditer(text, match.start(kind)):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)


@dataclass(frozen=True, slots=True)
class _Part:
    segments: pa.Array
    counts: Ints
    skeletons: pa.Array
    refused: Mask


def _split_all(texts: pa.Array) -> _Part:
    cut = [split(text) for text in texts.to_pylist()]
    return _Part(
        segments=pa.array([s for segments, _ in cut for s in segments], pa.string()),
        counts=np.array([len(segments) for segments, _ in cut], dtype=np.int64),
        skeletons=pa.array([skeleton for _, skeleton in cut], pa.string()),
        refused=np.zeros(len(cut), dtype=bool),
    )


def _plain(texts: pa.Array) -> Mask:
    """Which texts have their quotes in pairs: quoting is then a matter of parity."""
    odd = pc.bit_wise_and(pc.count_substring(texts, "'"), 1)
    return np.asarray(pc.equal(odd, 0).to_numpy(zero_copy_only=False), dtype=bool)


def _chunks(texts: pa.Array) -> list[pa.Array]:
    size = max(1, int(_CHUNK // max(1, texts.nbytes // max(1, len(texts)))))
    return [texts.slice(i, size) for i in range(0, len(texts), size)]


def _table(characters: bytes) -> bytes:
    """For bytes.translate, which is the fastest look-up of a whole buffer."""
    return bytes(c in characters for c in range(256))


def _mask(flags: bytes) -> Mask:
    return np.frombuffer(flags, dtype=bool)


_WORDS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_$." + bytes(
    range(128, 256)
)
_WORD = _table(_WORDS)
_BEFORE_QUOTE = _mask(_table(_WORDS + b"&"))
_DIGIT = _mask(_table(b"0123456789"))
_SIGN = _mask(_table(b"+-"))
_EXPONENT = _mask(_table(b"eE"))
# May begin what only the exact route reads; looked at closely where it stands outside quotes.
_SUSPECT = _table(b"-/$\x01\x02\x03")


def _scan(texts: pa.Array) -> _Part:
    """Cut a chunk of texts at once. Texts that only `split` can cut are refused."""
    b, bounds = _buffer(texts)
    whole = b.tobytes()
    refused = np.zeros(len(texts), dtype=bool)
    quotes = np.flatnonzero(b == 39)
    opening, closing = quotes[0::2], quotes[1::2]
    outside = ~_between(opening, closing, len(b))
    _refuse(refused, bounds, opening[_at(_BEFORE_QUOTE, b, opening - 1)])
    _leave_identifiers(b, bounds, outside, refused)
    suspects = np.flatnonzero(_mask(whole.translate(_SUSPECT)))
    _refuse(refused, bounds, suspects[_needs_split(b, suspects, outside)])
    first, last = _numbers(b, bounds, _mask(whole.translate(_WORD)) & outside, refused)
    # A doubled quote closes and opens again: only the outermost pair bounds the literal.
    begins = np.zeros(len(b) + 1, dtype=bool)
    begins[bounds] = True
    apart = (opening[1:] != closing[:-1] + 1) | begins[opening[1:]]
    edge = np.ones(min(1, len(opening)), dtype=bool)
    strings = opening[np.concatenate([edge, apart])]
    string_ends = closing[np.concatenate([apart, edge])] + 1
    starts = _merged(strings, first)
    marked = b.copy()
    marked[strings], marked[first] = 1, 2
    return _assemble(b, bounds, marked, starts, _merged(string_ends, last), refused)


def _merged(*sorted_parts: Ints) -> Ints:
    return np.sort(np.concatenate(sorted_parts), kind="stable")  # a merge of sorted runs


def _between(first: Ints, last: Ints, size: int) -> Mask:
    """Mask of what lies between pairs of positions, both included."""
    edges = np.zeros(2 * len(first) + 2, dtype=np.int64)
    edges[1:-1:2], edges[2:-1:2], edges[-1] = first, last + 1, size
    inside = np.zeros(2 * len(first) + 1, dtype=bool)
    inside[1::2] = True
    return np.repeat(inside, np.diff(edges))


def _buffer(texts: pa.Array) -> tuple[Bytes, Ints]:
    _, offsets, data = texts.buffers()
    at = np.frombuffer(offsets, dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    whole = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, np.uint8)
    return whole[at[0] : at[-1]], (at - at[0]).astype(np.int64)


def _at(table: Mask, b: Bytes, where: Ints) -> Mask:
    """Table look-ups at positions that may lie outside the buffer: nothing is there."""
    valid = (where >= 0) & (where < len(b))
    return valid & table[b[np.where(valid, where, 0)]] if len(b) else valid


def _refuse(refused: Mask, bounds: Ints, where: Ints) -> None:
    if len(where):
        refused[np.searchsorted(bounds, where, side="right") - 1] = True


def _leave_identifiers(b: Bytes, bounds: Ints, outside: Mask, refused: Mask) -> None:
    """Takes quoted names out of `outside`. Refuses texts whose two kinds of quotes interfere."""
    where = np.flatnonzero((b == 34) & outside)
    if not len(where):
        return
    text = np.searchsorted(bounds, where, side="right") - 1
    odd = np.bincount(text, minlength=len(refused)) % 2 == 1
    refused |= odd
    where = where[~odd[text]]
    inside = _between(where[0::2], where[1::2], len(b))
    _refuse(refused, bounds, np.flatnonzero(inside & (b == 39)))
    outside &= ~inside


def _needs_split(b: Bytes, where: Ints, outside: Mask) -> Mask:
    byte = b[where]
    after = np.zeros(len(where), dtype=np.uint8)
    within = where + 1 < len(b)
    after[within] = b[where[within] + 1]
    comment = ((byte == 45) & (after == 45)) | ((byte == 47) & (after == 42))
    dollar = (byte == 36) & ~_DIGIT[after]
    return np.asarray(((comment | dollar) & outside[where]) | (byte < 4))


def _numbers(b: Bytes, bounds: Ints, word: Mask, refused: Mask) -> tuple[Ints, Ints]:
    """First and past-the-last positions of numbers: runs of word bytes that begin as one."""
    change = np.empty(len(b) + 1, dtype=bool)
    np.not_equal(word[1:], word[:-1], out=change[1:-1])
    change[0], change[-1] = word[:1].any(), word[-1:].any()
    edges = np.flatnonzero(change)
    inner = bounds[1:][(np.diff(bounds) > 0) & (bounds[1:] < len(b))]
    crossed = inner[word[inner - 1] & word[inner]]
    if len(crossed):  # a run never goes on from one text into the next
        edges = _merged(edges, crossed, crossed)
    first, last = edges[0::2], edges[1::2]
    starter = b[first]
    number = _DIGIT[starter]
    dots = np.flatnonzero(starter == 46)
    number[dots] = (last[dots] - first[dots] > 1) & _at(_DIGIT, b, first[dots] + 1)
    first, last = first[number], last[number]
    _refuse(refused, bounds, first[_EXPONENT[b[last - 1]] & _at(_SIGN, b, last)])
    return first, last


def _assemble(
    b: Bytes, bounds: Ints, marked: Bytes, starts: Ints, ends: Ints, refused: Mask
) -> _Part:
    """Segments and skeletons of the texts that weren't refused."""
    before = np.searchsorted(starts, bounds)
    counts = 2 * np.diff(before) + 1
    cuts = _merged(bounds, starts, ends)
    kept = ~_between(starts + 1, ends - 1, len(b))  # of a literal only its marker stays
    gone = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(ends - starts - 1)])
    segments = _strings(b, cuts)
    skeletons = _strings(marked[kept], bounds - gone[before])
    if refused.any():
        segments = segments.filter(pa.array(np.repeat(~refused, counts)))
        skeletons = skeletons.filter(pa.array(~refused))
    return _Part(segments, counts[~refused], skeletons, refused)


def _strings(b: Bytes, offsets: Ints) -> pa.Array:
    buffers: list[Any] = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(b)]
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)


_WORDING = re.compile(r'("(?:[^"]|"")*"?)|([^"]+)')
_BLANKS = re.compile(r"[\s\x03]+")
# After an operator, a bracket, a comma or a keyword the minus belongs to the number.
_SIGNED = re.compile(r"([-+*/%<>=(,\[]\s*|\b(?:values|then|else|and|limit|offset)\s)-\s*\?")
_LIST = re.compile(r"\bin ?\( ?(?:\?|\$\d+)(?: ?, ?(?:\?|\$\d+))* ?\)")
_ROWS = re.compile(r"(\([^()]*+\))(?> ?, ?\1)++")


def normalise(skeleton: str) -> str:
    """A skeleton without case, spacing, comments, signs, list lengths and row counts."""
    text = skeleton.replace(STRING, "?").replace(NUMBER, "?")
    text = _WORDING.sub(lambda m: m[1] or _BLANKS.sub(" ", m[2]).lower(), text)
    text = _SIGNED.sub(r"\1?", text).strip(" ;")
    text = _LIST.sub("in (?)", text)
    return _ROWS.sub(r"\1", text)


def fingerprint(skeleton: str) -> str:
    """The same for all statements of one form, across batches and stores."""
    return hashlib.sha256(normalise(skeleton).encode("utf-8", "replace")).digest()[:16].hex()
