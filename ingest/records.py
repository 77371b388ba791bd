"""The columns that every container of server log records is turned into.

One row per log record, in file order. Fields that a container lacks are NULL. Text columns may
be dictionary-encoded. Names are those of PostgreSQL's csvlog (src/backend/utils/error/csvlog.c).
"""

import pyarrow as pa

TEXT = pa.string()
TIME = pa.timestamp("us", tz="UTC")

LOG_SCHEMA = pa.schema(
    [
        ("log_time", TIME),
        ("user_name", TEXT),
        ("database_name", TEXT),
        ("process_id", pa.int32()),
        ("connection_from", TEXT),
        ("session_id", TEXT),
        ("session_line_num", pa.int64()),
        ("virtual_transaction_id", TEXT),
        ("error_severity", TEXT),
        ("sql_state_code", TEXT),
        ("message", TEXT),
        ("detail", TEXT),
        ("context", TEXT),
        ("query", TEXT),
        ("application_name", TEXT),
        ("backend_type", TEXT),
        ("leader_pid", pa.int32()),
        ("source_offset", pa.uint64()),
    ]
)

UNPARSED_SCHEMA = pa.schema(
    [
        ("source_file", TEXT),
        ("source_offset", pa.uint64()),
        ("reason", TEXT),
        ("raw", pa.binary()),
    ]
)

# What one identity event or one pooler log line says about a connection, as it was read.
EVENT_SCHEMA = pa.schema(
    [
        ("source", TEXT),  # identity | pgbouncer
        ("event", TEXT),  # open close identify drift start stop heartbeat | client-login
        #                   client-close server-connect server-close process-up too-long-value
        ("ts", TIME),
        ("sidecar", TEXT),  # identity: the emitter; pooler: its process id
        ("sidecar_seq", pa.int64()),
        ("connection", TEXT),  # identity: its id; pooler: the socket's pointer
        ("client_addr", TEXT),
        ("client_port", pa.int32()),
        ("peer_addr", TEXT),
        ("peer_port", pa.int32()),
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
        ("source_offset", pa.uint64()),
    ]
)
