"""The ids by which rows are known outside: `origin#seq`, and `origin/kind#seq` of the other kinds.

Text enters, parts leave, and back. Says nothing about whether there is such a row.
"""

import re
from dataclasses import dataclass
from typing import Self

from scalple.correlate.recordcolumns import KINDS

_ID = re.compile(r"([a-z0-9_][a-z0-9._-]{0,62})(?:/([a-z]+))?#(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class RowId:
    """One row of one kind of one origin."""

    origin: str
    kind: str
    seq: int

    def __str__(self) -> str:
        middle = "" if self.kind == "audit" else f"/{self.kind}"
        return f"{self.origin}{middle}#{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None if the text is no id."""
        found = _ID.fullmatch(text)
        if found is None or (found[2] or "audit") not in KINDS or found[2] == "audit":
            return None
        return cls(found[1], found[2] or "audit", int(found[3]))
