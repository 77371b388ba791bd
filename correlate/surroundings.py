"""Literals that the words around them give away, in statements that no parser ties to a column.

In: a skeleton of `templates`. Out: numbers of literals: what NOTIFY hands to others, the bounds of
partitions, values of settings with the settings' names. Decides nothing about what is personal.
"""

import re
from dataclasses import dataclass

from scalple.correlate import templates
from scalple.correlate.relations import Slot

_PAYLOAD = re.compile(r"\s*+notify\s++[^,;]++,[^;]*", re.IGNORECASE)
_BOUNDS = re.compile(r"\bfor\s++values\s++(?:in|from)\b", re.IGNORECASE)
_PARTITION_OF = re.compile(
    r"""\bpartition\s++of\s++((?>(?:"[^"]*+"|[\w$]++)\s*+\.\s*+)?+(?:"[^"]*+"|[\w$]++))""",
    re.IGNORECASE,
)
_SET = re.compile(
    r"""\bset\s++(?>(?:session|local)\s++)?+"?((?:[^\W\d][\w$]*+\s*+\.\s*+)+[^\W\d][\w$]*+)
        "?\s*+(?:=|\bto\b)\s*+([\x01\x02](?>\s*+,\s*+[\x01\x02])*+)""",
    re.IGNORECASE | re.VERBOSE,
)
_SET_CONFIG = re.compile(r"\bset_config\s*+\(\s*+(\x01)\s*+,", re.IGNORECASE)
_EDGE = re.compile(r"[(),]")
_PARAMETER = re.compile(r"\$(\d{1,6})\b")


@dataclass(frozen=True, slots=True)
class Setting:
    """A call of set_config: its name is a literal, which a skeleton doesn't show."""

    name: int
    """The literal that holds the setting's name."""
    values: tuple[Slot, ...]


class _Numbers:
    """The literals' numbers by their places in the skeleton."""

    def __init__(self, skeleton: str) -> None:
        marks = templates.MARKERS.finditer(skeleton)
        self._all = [(m.start(), i) for i, m in enumerate(marks) if m[0] != templates.COMMENT]

    def within(self, begin: int, end: int) -> list[int]:
        return [i for at, i in self._all if begin <= at < end]


def payloads(skeleton: str) -> list[int]:
    """What NOTIFY hands to whoever listens."""
    match = _PAYLOAD.match(skeleton)
    return _Numbers(skeleton).within(*match.span()) if match else []


def partitioned(skeleton: str) -> str | None:
    """The table of which a partition is made, as written."""
    match = _PARTITION_OF.search(skeleton)
    return match[1] if match else None


def bounds(skeleton: str) -> list[int]:
    """Values and limits of partitions."""
    match = _BOUNDS.search(skeleton)
    return _Numbers(skeleton).within(match.end(), len(skeleton)) if match else []


def settings(skeleton: str) -> list[tuple[str, list[int]]]:
    """Settings with a dot in their names that SET gives values: (name, literals)."""
    found = [(re.sub(r"\s", "", m[1]).lower(), m.span(2)) for m in _SET.finditer(skeleton)]
    numbers = _Numbers(skeleton) if found else None
    return [(name, numbers.within(*span)) for name, span in found] if numbers else []


def set_configs(skeleton: str) -> list[Setting]:
    """Calls of set_config whose name stands there."""
    found = []
    calls = list(_SET_CONFIG.finditer(skeleton))
    numbers = _Numbers(skeleton if calls else "")
    for match in calls:
        (name,) = numbers.within(*match.span(1))
        begin, end = match.end(), _end_of_argument(skeleton, match.end())
        slots = [Slot(i, False) for i in numbers.within(begin, end)]
        slots += [Slot(int(n), True) for n in _PARAMETER.findall(skeleton, begin, end)]
        if slots:
            found.append(Setting(name, tuple(slots)))
    return found


def _end_of_argument(skeleton: str, begin: int) -> int:
    depth = 0
    for edge in _EDGE.finditer(skeleton, begin):
        if edge[0] == "(":
            depth += 1
        elif depth == 0:
            return edge.start()
        elif edge[0] == ")":
            depth -= 1
    return len(skeleton)
