r"""Masks of the operator's own: what a regular expression matches stays, the rest is hidden.

In: a pattern and values. Out: `+49***` for `^\+\d{2}` and `+49 170 1234567`. The patterns are RE2's,
which takes time in proportion to the value whatever the pattern. Where the pattern doesn't match, or
would hide fewer than four characters, or the value is very long, all of it is hidden.
"""

from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

PREFIX = "keep:"
"""A rule's name is this and the pattern."""
HIDDEN = "***"
_HIDDEN_MIN = 4
_LONGEST = 4096

# What declared columns hold; a pattern that hides nothing of any of these hides nothing.
_SAMPLES = (
    *("j.muller@company.com", "DE02120300000000202051", "4111 1111 1111 1111", "+49 170 1234567"),
    *("0170/1234567", "Johanna Meyer-Schmidt", "1984-05-01", "Hauptstraße 12, 10115 Berlin"),
    *("12345678901", "C01X00T47", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"),
)


def fault(pattern: str) -> str | None:
    """What is wrong with a pattern; None if it can be used."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)  # alone: brackets have to pair within it
        kept = keep(pattern, list(_SAMPLES), hidden_min=0)
    except pa.ArrowInvalid as error:
        what = str(error).removeprefix("Invalid regular expression: ").rstrip(".")
        if "unnamed groups" in what:
            return "has a group without use: write (?:…) instead of (…)"
        if "perl operator" in what:
            return f"is none that RE2 knows, which has no look-around: {what}"
        return f"is no regular expression: {what}"
    if "(?P<" in pattern:
        return "has a named group: write (?:…) instead"
    if kept == list(_SAMPLES):
        return "keeps the whole value, so that nothing would be masked"
    return None


def keep(pattern: str, values: list[str], hidden_min: int = _HIDDEN_MIN) -> list[str]:
    """Each value's mask."""
    short = [value if len(value) <= _LONGEST else "" for value in values]
    found = pc.extract_regex(pa.array(short, pa.string()), _whole(pattern))
    masks = []
    for value, parts in zip(values, found.to_pylist(), strict=True):
        if not parts or not parts["kept"]:
            masks.append(HIDDEN)
            continue
        before, after = parts["before"], parts["after"]
        if len(value) - len(parts["kept"]) < hidden_min:
            masks.append(HIDDEN)
        else:
            masks.append((HIDDEN if before else "") + parts["kept"] + (HIDDEN if after else ""))
    return masks


@lru_cache(maxsize=256)
def _whole(pattern: str) -> str:
    return rf"(?s)\A(?P<before>.*?)(?P<kept>{pattern})(?P<after>.*)\z"
