"""The columns of every kind of row the store keeps (design: one row per pgAudit record).

`seq` is the row's position in its kind's sequence within one origin: dense, from 0. Text columns
may arrive dictionary-encoded; absent knowledge is NULL, never an empty string.
"""

import pyarrow as pa

from scalple.ingest.records import EVENT_SCHEMA, TEXT, TIME

TEXTS = pa.list_(pa.field("item", TEXT))

SUBJECT = pa.struct(
    [
        pa.field("token", pa.uint64()),
        pa.field("column", TEXT),
        pa.field("basis", TEXT),
        pa.field("sealed", pa.binary()),
    ]
)

ATTRIBUTION = [
    ("session_user_id", TEXT),
    ("session_email", TEXT),
    ("actor_kind", TEXT),
    ("on_behalf_of", TEXT),
    ("peer_addr", TEXT),
    ("peer_port", pa.int32()),
    ("session_authn", TEXT),
    ("attribution_grade", TEXT),
    ("attribution_method", TEXT),
    ("attribution_reason", TEXT),
    ("attribution_evidence", TEXTS),
    ("attribution_candidates", TEXTS),
]
"""Who it was, how sure that is, and why."""

AUDIT = pa.schema(
    [
        ("seq", pa.uint64()),
        ("origin", TEXT),
        ("log_time", TIME),
        ("database", TEXT),
        ("db_role", TEXT),
        ("session_id", TEXT),
        ("backend_pid", pa.int32()),
        ("session_line_num", pa.int64()),
        ("virtual_transaction_id", TEXT),
        ("client_addr", TEXT),
        ("client_port", pa.int32()),
        ("application_name", TEXT),
        ("audit_type", TEXT),
        ("statement_id", pa.int64()),
        ("substatement_id", pa.int64()),
        ("class", TEXT),
        ("command", TEXT),
        ("object_type", TEXT),
        ("object_name", TEXT),
        ("query", TEXT),
        ("parameters", TEXTS),
        ("query_fingerprint", TEXT),
        ("rows_returned", pa.int64()),
        ("success", pa.bool_()),
        ("sqlstate", TEXT),
        *ATTRIBUTION,
        ("affected_tables", TEXTS),
        ("columns_accessed", TEXTS),
        ("columns_basis", TEXT),
        ("access_shape", TEXT),
        ("masked_fields", TEXTS),
        ("subjects", pa.list_(pa.field("item", SUBJECT))),
        ("repeat_of", TEXT),
        ("findings", TEXTS),
        ("source_file", TEXT),
        ("source_offset", pa.uint64()),
    ]
)

# Identity events and pooler log events as they were read; intervals are derived from them.
EVIDENCE = pa.schema([pa.field("seq", pa.uint64()), pa.field("origin", TEXT), *EVENT_SCHEMA])

DENIED = pa.schema(
    [
        ("seq", pa.uint64()),
        ("origin", TEXT),
        ("log_time", TIME),
        ("database", TEXT),
        ("db_role", TEXT),
        ("session_id", TEXT),
        ("backend_pid", pa.int32()),
        ("session_line_num", pa.int64()),
        ("virtual_transaction_id", TEXT),
        ("client_addr", TEXT),
        ("client_port", pa.int32()),
        ("application_name", TEXT),
        ("sqlstate", TEXT),
        ("message", TEXT),
        ("query", TEXT),
        *ATTRIBUTION,
        ("findings", TEXTS),
        ("source_file", TEXT),
        ("source_offset", pa.uint64()),
    ]
)

GAPS = pa.schema(
    [
        ("seq", pa.uint64()),
        ("origin", TEXT),
        ("log_time", TIME),
        ("since", TIME),  # from when on something may be missing, up to log_time; NULL when unknown
        ("reason", TEXT),
        ("session_id", TEXT),
        ("missing", pa.int64()),  # how many records are known to be missing; NULL when unknown
        ("detail", TEXT),
        ("source_file", TEXT),
        ("source_offset", pa.uint64()),
    ]
)

UNPARSED = pa.schema(
    [
        ("seq", pa.uint64()),
        ("origin", TEXT),
        ("source_file", TEXT),
        ("source_offset", pa.uint64()),
        ("reason", TEXT),
        ("raw", pa.binary()),
    ]
)

REVISIONS = pa.schema(
    [
        ("seq", pa.uint64()),
        ("origin", TEXT),
        ("audit_seq", pa.uint64()),
        ("changes", TEXT),  # JSON object: column -> new value
        ("evidence", TEXTS),
        ("reason", TEXT),
        ("revised_at", TIME),
    ]
)

# A question asked of the store. Subjects stand in it as tokens, never as values.
ACCESS = pa.schema(
    [
        ("seq", pa.uint64()),
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
        ("rows", pa.int64()),  # how many rows the answer has
        ("software", TEXT),
    ]
)

KINDS: dict[str, pa.Schema] = {
    "audit": AUDIT,
    "evidence": EVIDENCE,
    "denied": DENIED,
    "gaps": GAPS,
    "unparsed": UNPARSED,
    "revisions": REVISIONS,
    "access": ACCESS,
}
