"""What a manifest calls the objects that are the digest of its audit rows (see `digest`)."""

SUBJECTS, ROWS, FACTS = "audit-subjects", "audit-rows", "audit-facts"
NAMES = (SUBJECTS, ROWS, FACTS)

CALLED = "audit-names"
"""Under which names the rows were written (see `rownames`); no part of the digest."""
