"""What a manifest calls the objects that are the digest of its audit rows (see `digest`)."""

SUBJECTS, FACTS = "audit-subjects", "audit-facts"
NAMES = (SUBJECTS, FACTS)
