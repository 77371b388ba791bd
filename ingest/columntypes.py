"""Types of columns, by the names that SQL has for them: known before Arrow is loaded.

Nothing enters. Leaves: names of types, and the columns of an event. Whoever asks a question of a store
needs no more of the columns than this; `records` makes Arrow's schemas of it.
"""

from collections.abc import Sequence

TEXT = "VARCHAR"
TEXTS = "VARCHAR[]"
TIME = "TIMESTAMP WITH TIME ZONE"
INTEGER = "INTEGER"
BIGINT = "BIGINT"
UBIGINT = "UBIGINT"
BOOLEAN = "BOOLEAN"
BYTES = "BLOB"

Columns = Sequence[tuple[str, str]]
"""Name and type of each."""

# What one identity event or one pooler log line says about a connection, as it was read.
EVENT: Columns = (
    ("source", TEXT),  # identity | pgbouncer
    ("event", TEXT),  # open close identify drift start stop heartbeat | client-login
    #                   client-close server-connect server-close process-up too-long-value
    #                   link served replay pooler-query unpaired (verbose=2)
    ("ts", TIME),
    ("sidecar", TEXT),  # identity: the emitter; pooler: its process id
    ("sidecar_seq", BIGINT),
    ("connection", TEXT),  # identity: its id; pooler: the socket's pointer
    ("client_addr", TEXT),
    ("client_port", INTEGER),
    ("peer_addr", TEXT),
    ("peer_port", INTEGER),
    ("tag", TEXT),
    ("database", TEXT),
    ("db_role", TEXT),
    ("application_name", TEXT),
    ("actor", TEXT),
    ("email", TEXT),
    ("actor_kind", TEXT),
    ("on_behalf_of", TEXT),
    ("authn", TEXT),
    ("detail", TEXT),  # the rest, as JSON
    ("source_file", TEXT),
    ("source_offset", UBIGINT),
)
