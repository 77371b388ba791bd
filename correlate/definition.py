"""One statement that changes relations: its command tag, as pgAudit writes it, and its changes."""

from dataclasses import dataclass

from scalple.correlate.change import Change


@dataclass(frozen=True, slots=True)
class Definition:
    """One statement."""

    tag: str
    changes: tuple[Change, ...]
