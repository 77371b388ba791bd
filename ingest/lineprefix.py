"""log_line_prefix -> a pattern that reads it back.

Enters: the setting as it stands in postgresql.conf. Leaves: `LinePrefix`: a pattern (the syntax that
RE2 and Python share) with a group per escape, and what a line with that prefix doesn't say. Source:
src/backend/utils/error/elog.c, log_status_format(), PostgreSQL 9.5 to 18. Reads no line itself.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from scalple.ingest.fields import PORT, SESSION_ID
from scalple.ingest.logtime import ZONE
from scalple.ingest.records import Lacks

_SECONDS = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d (?:{ZONE})"
_MILLISECONDS = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} (?:{ZONE})"
_LINE = r"[^\n]*?"
_NAME = r"(?s:.*?)"
"""User and database names are printed as they are, line breaks included."""

_BACKENDS = (
    "client backend|parallel worker|not initialized|dead-end client backend|standalone backend"
    "|autovacuum (?:launcher|worker)|background (?:writer|worker)|io worker|slotsync worker"
    "|logical replication (?:apply worker|tablesync worker|parallel worker|launcher|worker)"
)
"""Backend types of several words: what stands behind a blank may be a name."""
_TAGS = r"idle in transaction(?: \(aborted\))?|[A-Z?]+(?: [A-Z]+)*(?: waiting)?"
_VALUES = {
    "a": _LINE,
    "u": _NAME,
    "d": _NAME,
    "r": rf"(?:\[local\]|[^\s()]+\({PORT}\)|)",
    "h": r"(?:\[local\]|[0-9A-Za-z_.:%-]*)",
    "L": r"(?:\[local\]|\[none\]|[0-9A-Za-z_.:%-]*)",
    "b": rf"(?:{_BACKENDS}|{_LINE})",
    "p": r"\d{1,9}",
    "P": r"\d{0,9}",
    "t": _SECONDS,
    "m": _MILLISECONDS,
    "n": r"\d{1,11}\.\d{3}",
    "i": rf"(?:{_TAGS}|{_LINE})",
    "e": r"[0-9A-Z]{5}",
    "c": SESSION_ID,
    "l": r"\d{1,15}",
    "s": _SECONDS,
    "v": r"(?:-?\d{1,10}/\d{1,10}|)",
    "x": r"\d{1,20}",
    "Q": r"-?\d{1,20}",
}
_STRICT = {
    "a": r"[^\n=]{0,64}?",
    "u": r"(?:\[[^\[\]\n]*\]|[^\s@,;:|=/\[\]]{0,63})",
    "d": r"(?:\[[^\[\]\n]*\]|[^\s@,;:|=/\[\]]{0,63})",
    "b": r"[a-z][a-z ]{0,40}",
    "h": r"(?:\[local\]|\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+(?:%\w+)?|)",
}
"""Usual values only: for prefixes that nobody stated, where a name could swallow what is none."""
ESCAPES = tuple(_VALUES)
"""All that print a value."""
_ESCAPE = re.compile(r"%(?P<width>-?\d*)(?P<kind>.)?", re.DOTALL)
_WIDTH_MAX = 999
_TIMES = frozenset("tmn")
_NAMES = frozenset("audbi")


@dataclass(frozen=True, slots=True)
class LinePrefix:
    """One log_line_prefix."""

    text: str
    """As in postgresql.conf."""
    pattern: str
    """Matches the whole prefix; a group `f_X` for each escape %X that it has."""
    escapes: tuple[str, ...]
    lacks: Lacks
    """What its lines don't say."""
    is_open: bool
    """Names that clients choose stand in it."""
    lead: re.Pattern[bytes] | None
    """What stands before the first such name, if that holds the time."""

    @property
    def has_time(self) -> bool:
        """Without a time a line is no record of ours."""
        return bool(_TIMES & set(self.escapes))


@lru_cache(maxsize=256)
def read_prefix(text: str, *, strict: bool = False) -> LinePrefix:
    """The pattern of a setting; unknown escapes print nothing, as in the server.

    Args:
        text: the setting.
        strict: match usual names and addresses only.
    """
    values = _VALUES | _STRICT if strict else _VALUES
    parts: list[str] = []
    escapes: list[str] = []
    stops = 0
    at = 0
    for found in _ESCAPE.finditer(text):
        parts.append(re.escape(text[at : found.start()]))
        at = found.end()
        kind = found["kind"]
        if kind == "%" and not found["width"]:
            parts.append("%")
        elif kind == "q":
            # Everything behind it is left out where no client is: preferred, so that no text of a
            # message is taken for the rest of a prefix.
            parts.append("(?:")
            stops += 1
        elif kind in values:
            value = values[kind] if kind in escapes else f"(?P<f_{kind}>{values[kind]})"
            parts.append(_padded(value, found["width"]))
            escapes.append(kind)
    parts.append(re.escape(text[at:]))
    parts.append(")??" * stops)
    found_escapes = tuple(dict.fromkeys(escapes))
    return LinePrefix(
        text,
        "".join(parts),
        found_escapes,
        _lacks(set(found_escapes)),
        bool(_NAMES & set(found_escapes)),
        None if strict else _lead(text, found_escapes),
    )


def _lead(text: str, escapes: tuple[str, ...]) -> re.Pattern[bytes] | None:
    ends = [
        found.start()
        for found in _ESCAPE.finditer(text)
        if found["kind"] in _NAMES | {"q", "r", "h"}
    ]
    before = text[: min(ends)] if ends else text.rstrip()
    if before == text or not _TIMES & {found["kind"] for found in _ESCAPE.finditer(before)}:
        return None
    return re.compile(read_prefix(before, strict=True).pattern.encode())


def _padded(value: str, width: str) -> str:
    digits = width.lstrip("-")
    size = min(int(digits), _WIDTH_MAX) if digits else 0
    if not size:
        return value
    pad = f" {{0,{size}}}"
    return value + pad if width.startswith("-") else pad + value


def _lacks(escapes: set[str]) -> Lacks:
    lacks = Lacks(0)
    for without, bit in (
        ("u", Lacks.USER),
        ("d", Lacks.DATABASE),
        ("a", Lacks.NAME),
        ("v", Lacks.TRANSACTION),
        ("l", Lacks.LINE),
        ("e", Lacks.STATE),
    ):
        if without not in escapes:
            lacks |= bit
    if "c" not in escapes and not {"s", "p"} <= escapes:
        lacks |= Lacks.SESSION
    if "r" not in escapes:
        lacks |= Lacks.PORT if "h" in escapes else Lacks.ENDPOINT
    if not {"m", "n"} & escapes:
        lacks |= Lacks.FRACTION
    return lacks


def problem(text: str) -> str | None:
    """Why a setting can't be read back; None if it can."""
    prefix = read_prefix(text)
    return None if prefix.has_time else "it has no time (%m, %t or %n)"
