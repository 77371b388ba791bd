"""What an answer can't hold any more, in words. Enters: `expired` of a coverage. Leaves: lines."""

from typing import Any

from scalple.store.layout import ACCESS_ORIGIN


def expired_lines(expired: list[dict[str, Any]]) -> list[str]:
    """One for each log and reason. Refusals and gaps may go before the statements that they stood
    beside: then it must not seem that there were none."""
    return list(map(_line, expired))


def _line(one: dict[str, Any]) -> str:
    statements, others = one["statements"], one["rows"] - one["statements"]
    is_access = one["origin"] == ACCESS_ORIGIN
    beside = f"{others:,} rows of refusals, gaps or evidence"
    first = f"{statements:,} statements" if statements else beside
    more = f", with {beside}" if statements and others else ""
    return (
        f"expired, not in this answer: {f'{others:,} questions' if is_access else first} of "
        f"{one['origin']} from {one['oldest'][:10]} to {one['newest'][:10]} ({one['reason']}){more}"
    )
