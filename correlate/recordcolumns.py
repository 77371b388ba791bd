"""The columns of every kind of row the store keeps (design: one row per pgAudit record).

`seq` is the row's position in its kind's sequence within one origin: dense, from 0. Text columns
may arrive dictionary-encoded; absent knowledge is NULL, never an empty string. Types are SQL's: Arrow's
schemas are made of them by `record`, which questions needn't load.
"""

from scalple.ingest.columntypes import (
    BIGINT,
    BOOLEAN,
    BYTES,
    EVENT,
    INTEGER,
    TEXT,
    TEXTS,
    TIME,
    UBIGINT,
    Columns,
)

SUBJECT: Columns = (
    ("token", UBIGINT),
    ("column", TEXT),
    ("basis", TEXT),
    ("sealed", BYTES),
)
_MEMBERS = [f'"{name}" {kind}' for name, kind in SUBJECT]
SUBJECTS = f"STRUCT({', '.join(_MEMBERS)})[]"

SESSION: Columns = (
    ("log_time", TIME),
    ("database", TEXT),
    ("db_role", TEXT),
    ("session_id", TEXT),
    ("backend_pid", INTEGER),
    ("session_line_num", BIGINT),
    ("virtual_transaction_id", TEXT),
    ("client_addr", TEXT),
    ("client_port", INTEGER),
    ("application_name", TEXT),
)
"""When it was logged, and in which session."""

ATTRIBUTION: Columns = (
    ("session_user_id", TEXT),
    ("session_email", TEXT),
    ("actor_kind", TEXT),
    ("on_behalf_of", TEXT),
    ("peer_addr", TEXT),
    ("peer_port", INTEGER),
    ("session_authn", TEXT),
    ("attribution_grade", TEXT),
    ("attribution_method", TEXT),
    ("attribution_reason", TEXT),
    ("attribution_evidence", TEXTS),
    ("attribution_candidates", TEXTS),
)
"""Who it was, how sure that is, and why."""

AUDIT: Columns = (
    ("seq", UBIGINT),
    ("origin", TEXT),
    *SESSION,
    ("audit_type", TEXT),
    ("statement_id", BIGINT),
    ("substatement_id", BIGINT),
    ("class", TEXT),
    ("command", TEXT),
    ("object_type", TEXT),
    ("object_name", TEXT),
    ("query", TEXT),
    ("parameters", TEXTS),
    ("query_fingerprint", TEXT),
    ("rows_returned", BIGINT),
    ("success", BOOLEAN),
    ("sqlstate", TEXT),
    *ATTRIBUTION,
    ("affected_tables", TEXTS),
    ("columns_accessed", TEXTS),
    ("columns_basis", TEXT),
    ("access_shape", TEXT),
    ("masked_fields", TEXTS),
    ("subjects", SUBJECTS),
    ("repeat_of", TEXT),
    ("findings", TEXTS),
    ("source_file", TEXT),
    ("source_offset", UBIGINT),
)

# Identity events and pooler log events as they were read; intervals are derived from them.
EVIDENCE: Columns = (("seq", UBIGINT), ("origin", TEXT), *EVENT)

DENIED: Columns = (
    ("seq", UBIGINT),
    ("origin", TEXT),
    *SESSION,
    ("sqlstate", TEXT),
    ("message", TEXT),
    ("query", TEXT),
    *ATTRIBUTION,
    ("findings", TEXTS),
    ("source_file", TEXT),
    ("source_offset", UBIGINT),
)

GAPS: Columns = (
    ("seq", UBIGINT),
    ("origin", TEXT),
    ("log_time", TIME),
    ("since", TIME),  # from when on something may be missing, up to log_time; NULL when unknown
    ("reason", TEXT),
    ("session_id", TEXT),
    ("missing", BIGINT),  # how many records are known to be missing; NULL when unknown
    ("detail", TEXT),
    ("source_file", TEXT),
    ("source_offset", UBIGINT),
)

UNPARSED: Columns = (
    ("seq", UBIGINT),
    ("origin", TEXT),
    ("source_file", TEXT),
    ("source_offset", UBIGINT),
    ("reason", TEXT),
    ("raw", BYTES),
)

REVISIONS: Columns = (
    ("seq", UBIGINT),
    ("origin", TEXT),
    ("audit_seq", UBIGINT),
    ("changes", TEXT),  # JSON object: column -> new value
    ("evidence", TEXTS),
    ("reason", TEXT),
    ("revised_at", TIME),
)

# A question asked of the store. Subjects stand in it as tokens, never as values.
ACCESS: Columns = (
    ("seq", UBIGINT),
    ("origin", TEXT),
    ("asked_at", TIME),
    ("asked_by", TEXT),  # the operating system's user, `name (uid)`
    ("host", TEXT),
    ("purpose", TEXT),  # as whoever asked gave it
    ("verb", TEXT),
    ("question", TEXT),  # JSON object: the options, and the text of `sql` without literals
    ("subjects", TEXTS),  # `identifier token`, the token in 16 hexadecimal digits
    ("heads", TEXTS),  # what was asked: `origin size root` of each signed head
    ("outcome", TEXT),  # `answered` or `failed`
    ("rows", BIGINT),  # how many rows the answer has
    ("software", TEXT),
)

KINDS: dict[str, Columns] = {
    "audit": AUDIT,
    "evidence": EVIDENCE,
    "denied": DENIED,
    "gaps": GAPS,
    "unparsed": UNPARSED,
    "revisions": REVISIONS,
    "access": ACCESS,
}
