"""What a manifest calls the objects that are the digest of its audit rows, and what they tell of (see
`digest`). For questions, which make no digest and needn't load what does."""

SUBJECTS, ROWS, FACTS = "audit-subjects", "audit-rows", "audit-facts"
NAMES = (SUBJECTS, ROWS, FACTS)

CALLED = "audit-names"
"""Under which names the rows were written (see `rownames`); no part of the digest."""

STATEMENT = (
    "query_fingerprint",
    "class",
    "command",
    "affected_tables",
    "columns_accessed",
    "columns_basis",
    "access_shape",
)
PERSON = (
    "session_user_id",
    "session_email",
    "on_behalf_of",
    "attribution_candidates",
    "attribution_grade",
    "attribution_method",
    "attribution_reason",
    "findings",
    "database",
)
MEASURES = ("log_time", "rows_returned")
NEEDED = tuple(dict.fromkeys((*STATEMENT, *PERSON, "query", "subjects")))
"""The columns of `audit` that facts are made of."""
SINCE = b"scalple.since"
"""The key of a Parquet file's metadata that says since which manifest facts are numbered."""


def token_half(token: int) -> int:
    """By which part of it a token is looked up."""
    return token >> 32
