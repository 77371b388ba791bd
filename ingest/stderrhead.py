"""The beginnings of stderr lines: which prefix, which severity or label, where the text begins.

Enters: lines, and the prefixes they may have. Leaves: a table with a row per line that begins like
one of PostgreSQL's, and for single lines whether they can be read in a second way. Knows nothing of
what belongs together.
"""

import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.ingest.lineprefix import ESCAPES, LinePrefix
from scalple.ingest.localised import ENGLISH, LABEL_OF
from scalple.ingest.prefixguess import SEVERITY

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HEAD_BYTES = 512
"""More than a prefix takes; a line whose prefix is longer is looked at alone."""
_STATE = r"(?:[0-5][0-9A-Z]{4}|(?:F0|HV|P0|XX)[0-9A-Z]{3})"
_BARE = "AUDIT: (?:SESSION|OBJECT),"

FIELDS = tuple(f"f_{escape}" for escape in ESCAPES)
HEADS = pa.schema(
    [
        ("line", pa.int64()),
        ("begin", pa.int64()),  # length of the head within its line, in bytes
        ("word", pa.binary()),  # severity or label as written; NULL where none stands
        ("state", pa.binary()),  # sqlstate of verbose lines
        ("lacks", pa.uint16()),
        ("prefix", pa.string()),
        *((name, pa.binary()) for name in FIELDS),
    ]
)


@lru_cache(maxsize=512)
def _pattern(prefix: LinePrefix, words: str) -> str:
    word = rf"(?P<word>{words})\s?: {{1,2}}(?:(?P<state>{_STATE}): )?"
    return rf"^(?P<head>{prefix.pattern}(?:{word}|(?P<bare>{_BARE})))"


ENGLISH_WORDS = "(?:" + "|".join(ENGLISH) + ")"
"""Enough for most files, and much quicker than the words of all languages."""


_TOLD_UNLESS_TERSE = frozenset({"detail", "hint", "internal_query", "context", "location"})


def shows_marks(heads: pa.Table) -> bool:
    """Whether a log isn't terse: then whatever a client raises has its CONTEXT."""
    words = heads.column("word").unique().to_pylist()
    return any(LABEL_OF.get(word.decode()) in _TOLD_UNLESS_TERSE for word in words if word)


def match_heads(lines: pa.Array, at: Ints, prefix: LinePrefix, words: str) -> tuple[pa.Table, Ints]:
    """(HEADS of the lines that begin so, positions in `at` of the others).

    Args:
        lines: binary, every line of the block.
        at: which of them to look at, ascending.
        prefix: the prefix to try.
        words: severities and labels, as a pattern.
    """
    chosen = lines if len(at) == len(lines) else lines.take(pa.array(at))
    texts = pc.binary_slice(chosen, 0, HEAD_BYTES)
    parts = pc.extract_regex(texts, pattern=_pattern(prefix, words))
    if parts.null_count:
        missed = np.flatnonzero(np.asarray(pc.is_null(parts)))
        parts = parts.filter(pc.is_valid(parts))
        found = np.delete(at, missed)
    else:
        missed, found = np.empty(0, np.int64), at
    return _heads(parts, found, prefix), missed


def match_one(line: int, text: bytes, prefix: LinePrefix) -> pa.Table | None:
    """HEADS of one line, however long its prefix, with one row; None if it begins otherwise."""
    parts = pc.extract_regex(pa.array([text], pa.binary()), pattern=_pattern(prefix, SEVERITY))
    if parts.null_count:
        return None
    return _heads(parts, np.array([line], np.int64), prefix)


def _heads(parts: pa.StructArray, at: Ints, prefix: LinePrefix) -> pa.Table:
    present = {parts.type.field(i).name for i in range(parts.type.num_fields)}

    def column(name: str) -> pa.Array:
        if name not in present:
            return pa.nulls(len(at), pa.binary())
        values = pc.struct_field(parts, name)
        # RE2 gives an empty text for a group that took no part.
        return pc.if_else(pc.equal(values, b""), pa.scalar(None, pa.binary()), values)

    bare = np.asarray(pc.binary_length(pc.struct_field(parts, "bare")).to_numpy(), np.int64)
    begin = np.asarray(pc.binary_length(pc.struct_field(parts, "head")).to_numpy(), np.int64)
    return pa.table(
        [
            pa.array(at),
            pa.array(begin - bare),
            column("word"),
            column("state"),
            pa.array(np.full(len(at), int(prefix.lacks), np.uint16)),
            pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(len(at), np.int32)), pa.array([prefix.text], pa.string())
            ).cast(pa.string()),
            *(column(name) for name in FIELDS),
        ],
        schema=HEADS,
    )


_NAME_BYTES = 63
_ESCAPED_NAME_BYTES = 4 * _NAME_BYTES
"""From PostgreSQL 16 on a byte of an application_name may be printed as four."""
_WORD = re.compile(rf"{SEVERITY}\s?:  ".encode())


def suspects(texts: pa.Array) -> Ints:
    """Which messages hold something like the end of another prefix near their beginning."""
    near = pc.binary_slice(texts, 0, 3 * _ESCAPED_NAME_BYTES)
    marked = pc.match_substring_regex(near, rf"(?:{ENGLISH_WORDS}|[^\x00-\x7f]): ")
    return np.flatnonzero(np.asarray(marked))


def second_reading(line: bytes, begin: int, prefix: LinePrefix) -> bool:
    """Whether the prefix may end later than at `begin`, with names no longer than names can be.

    A client chooses its application_name, and whoever connects the names of user and database:
    they may look like the rest of a line. Where both readings are possible neither is sure.
    """
    whole = _whole_prefix(prefix)
    for found in _WORD.finditer(line, begin, begin + 3 * _ESCAPED_NAME_BYTES):
        names = whole.fullmatch(line, 0, found.start())
        if names is None or not _short_enough(names):
            continue
        return True
    return False


@lru_cache(maxsize=256)
def _whole_prefix(prefix: LinePrefix) -> re.Pattern[bytes]:
    return re.compile(prefix.pattern.encode())


def _short_enough(names: re.Match[bytes]) -> bool:
    return all(
        len(value) - 3 * value.count(b"\\x") <= _NAME_BYTES
        for name, value in names.groupdict().items()
        if value is not None and name in ("f_u", "f_d", "f_a")
    )
