"""Which savepoint a statement sets, releases or goes back to.

In: the text of a record whose command says which of these it does. Out: the savepoint's name, or None
where it can't be told: pgAudit logs the whole text of a message with each of its statements.
"""

import functools
import re

from scalple.correlate.catalog import plain, without_literals
from scalple.correlate.ddlcursor import statements

_WORDS = re.compile(
    r"""\s*(?:(?P<back>ROLLBACK|ABORT)(?:\s+(?:WORK|TRANSACTION))?(?P<to>\s+TO(?:\s+SAVEPOINT)?)?
    |(?P<release>RELEASE)(?:\s+SAVEPOINT)?|(?P<set>SAVEPOINT))
    \s*(?P<name>"(?:[^"]|"")+"|[\w$]+)?""",
    re.IGNORECASE | re.VERBOSE,
)
SETS, RELEASES, GOES_BACK = "set", "release", "to"


@functools.lru_cache(maxsize=1024)
def _read(text: str) -> tuple[re.Match[str], ...]:
    found = (_WORDS.match(one) for one in statements(without_literals(text)))
    return tuple(one for one in found if one)


def is_partial(text: str) -> bool:
    """Whether a text with a ROLLBACK has one that goes back to a savepoint."""
    return any(one["to"] for one in _read(text))


def name(text: str | None, what: str) -> str | None:
    """The name in the text's only statement that does that; None if it can't be told."""
    found = _read(text or "")
    if what == GOES_BACK and any(one["back"] and not one["to"] for one in found):
        return None  # it may be the other one
    names = {plain(one["name"]) if one["name"] else None for one in found if one[what]}
    return names.pop() if len(names) == 1 else None
