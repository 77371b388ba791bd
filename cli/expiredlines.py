"""What an answer can't hold any more, in words. Enters: `expired` of a coverage. Leaves: lines."""

from typing import Any


def expired_lines(expired: list[dict[str, Any]]) -> list[str]:
    """One for each log and reason."""
    return [
        f"expired, not in this answer: {one['statements']:,} statements of {one['origin']} from "
        f"{one['oldest'][:10]} to {one['newest'][:10]} ({one['reason']})"
        for one in expired
    ]
