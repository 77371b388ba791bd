"""What one run of `reprocess` did, counted as it goes, for whoever started it."""

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from scalple.correlate.proposals import Proposal
from scalple.correlate.undeclared import Sightings


@dataclass(slots=True)
class Outcome:
    """What one run did."""

    rows: dict[str, int] = field(default_factory=dict)
    commits: int = 0
    files_read: int = 0
    files_known: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    logs_revised: int = 0
    late_events: int = 0
    """New events older than the newest statement that was in the store before."""
    warnings: list[str] = field(default_factory=list)
    unparsed: Counter[str] = field(default_factory=Counter)
    """By reason."""
    sightings: Sightings = field(default_factory=Sightings)
    """Undeclared columns that seem to hold personal data."""
    proposals: list[Proposal] = field(default_factory=list)
    """What to declare of these."""

    def add(self, tables: dict[str, pa.Table]) -> None:
        """Count a commit, and its rows by kind."""
        self.commits += 1
        for kind, table in tables.items():
            self.rows[kind] = self.rows.get(kind, 0) + table.num_rows
        if "unparsed" in tables:
            self.unparsed.update(tables["unparsed"].column("reason").to_pylist())
