"""The names of the masking rules, and which of them can't be followed.

In: a rule as the configuration says it. Out: what is wrong with it. What the rules do is `masking`'s.
"""

from scalple.correlate import keeping

RULES = ("email", "keep-last-4", "hash", "redact", "date-year")

RULES_HINT = f"one of {', '.join(RULES)}, none, or {{ keep = 'PATTERN' }}"


def fault(rule: str) -> str | None:
    """What is wrong with a rule's name; None if there is such a rule."""
    if rule.startswith(keeping.PREFIX):
        return keeping.fault(rule.removeprefix(keeping.PREFIX))
    return None if rule in RULES else f"unknown masking rule {rule!r}"
