"""Yes, no, unknown; and the patterns that rules name things by.

In: patterns, names, answers. Out: answers, as small integers of which the smaller one decides an AND
and the larger one an OR (Kleene). Knows nothing of statements.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

NO, UNKNOWN, YES = 0, 1, 2


def is_so(fact: bool) -> int:
    """A known answer."""
    return YES if fact else NO


def negated(answer: int) -> int:
    """NOT."""
    return YES - answer


def any_of(answers: Iterable[int]) -> int:
    """OR; of nothing it is NO."""
    return max(answers, default=NO)


def all_of(answers: Iterable[int]) -> int:
    """AND; of nothing it is YES."""
    return min(answers, default=YES)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def fits(pattern: str, name: str) -> bool:
    """Whether `pattern`, in which `*` is any text, is the whole name."""
    return _compiled(pattern).fullmatch(name) is not None


def fits_one(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the patterns is the whole name."""
    return any(fits(one, name) for one in patterns)


def fits_path(pattern: str, path: str) -> bool:
    """The same part by part (`schema.table`, `schema.table.column`): `*` stays within its part.

    A column's own name may hold dots; the names before it are taken not to.
    """
    parts = pattern.split(".")
    names = path.split(".", len(parts) - 1)
    return len(names) == len(parts) and all(map(fits, parts, names))


def may_hold(pattern: str, table: str) -> bool:
    """Whether a column of that table can be what the pattern names."""
    return fits_path(pattern.rpartition(".")[0], table)


def holds_all_of(pattern: str, table: str) -> bool:
    """Whether every column of that table is what the pattern names."""
    return pattern.endswith(".*") and may_hold(pattern, table)
