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
