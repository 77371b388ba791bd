"""What one form of statement touches, and what happens to each of its values.

In: nothing. Out: `Form`, as `forms` works it out and the enrichment applies it.
"""

from dataclasses import dataclass, field

from scalple.correlate.surroundings import Setting


@dataclass(frozen=True, slots=True)
class Target:
    """What happens to a value. Values with equal targets are treated alike."""

    rule: str | None
    """A rule of `masking`, `id`, or None: not masked."""
    name: str = ""
    """Identifier whose token `id` shows."""
    subjects: tuple[tuple[str, str], ...] = ()
    """(identifier, column) pairs that the value names."""
    is_array: bool = False
    is_negative: bool = False


REDACT = Target("redact")
STATEMENT = Target("statement")
"""Given to a function that runs it: its literals are hidden."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form of statement under the rules in force."""

    fingerprint: str
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    basis: str = "unknown"
    shape: str | None = None
    masked_fields: tuple[str, ...] | None = None
    literals: dict[Target, list[int]] = field(default_factory=dict)
    parameters: dict[Target, list[int]] = field(default_factory=dict)
    redacts_parameters: bool = False
    """The statement couldn't be read: any parameter may be personal."""
    comments: tuple[int, ...] = ()
    mentioned: frozenset[int] = frozenset()
    """Numbers of the parameters that the text mentions; in a function's body others go by name."""
    settings: tuple[Setting, ...] = ()
    """Calls of set_config."""
    suspected: tuple[str, ...] = ()
    """Undeclared columns whose names say that they are personal."""
    watched_literals: dict[int, str] = field(default_factory=dict)
    """Undeclared columns by their literals: what these hold may give them away."""
    watched_parameters: dict[int, str] = field(default_factory=dict)
