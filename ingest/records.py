"""The columns that every container of server log records is turned into.

One row per log record, in file order. Fields that a container lacks are NULL, and `lacks` says
which those are: a NULL that the container would have filled says that there is none. Text columns
may be dictionary-encoded. Names are those of PostgreSQL's csvlog
(src/backend/utils/error/csvlog.c).
"""

from enum import IntFlag

import pyarrow as pa

from scalple.ingest import columntypes

TEXT = pa.string()
TIME = pa.timestamp("us", tz="UTC")


class Lacks(IntFlag):
    """What a container doesn't say of a record, as bits of the column `lacks`."""

    USER = 1
    DATABASE = 2
    ENDPOINT = 4
    PORT = 8
    """It gives the client's address without its port."""
    NAME = 16
    TRANSACTION = 32
    LINE = 64
    SESSION = 128
    STATE = 256
    FRACTION = 512
    """Its times are whole seconds."""
    MARKS = 1024
    """It may not show which messages a client raised (a terse log leaves CONTEXT out)."""


NONSTANDARD = "nonstandard-line"
"""Read leniently: no line that PostgreSQL itself writes looks like this."""
AMBIGUOUS = "ambiguous-line"
"""Can be read in more than one way: a client chose a name that looks like the rest of a line."""
UNPROVEN = "origin-unproven"
"""A client may have raised it, and the container wouldn't show that."""
FORGED = "forged-line"
"""The container itself says that something else than pgAudit wrote it."""

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
        ("remark", TEXT),  # NULL, or one of the words above
        ("lacks", pa.uint16()),  # Lacks
        ("lines", pa.int32()),  # of session_line_num's numbers, how many the record takes
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

ARROW = {
    columntypes.TEXT: TEXT,
    columntypes.TEXTS: pa.list_(pa.field("item", TEXT)),
    columntypes.TIME: TIME,
    columntypes.INTEGER: pa.int32(),
    columntypes.BIGINT: pa.int64(),
    columntypes.UBIGINT: pa.uint64(),
    columntypes.BOOLEAN: pa.bool_(),
    columntypes.BYTES: pa.binary(),
}
"""What Arrow has for the types of `columntypes`."""

EVENT_SCHEMA = pa.schema([(name, ARROW[kind]) for name, kind in columntypes.EVENT])
