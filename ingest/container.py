"""The contract of a container: the form in which PostgreSQL wrote its log records.

Bytes enter, blocks of LOG_SCHEMA leave, whatever the form was. A container is one file that offers
a `Container`, and one line in `containers`; docs/SOURCES.md lists what each of them lacks. Doesn't
open files or join records with anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from scalple.ingest.records import LOG_SCHEMA
from scalple.ingest.rejects import Block

RECORD_BYTES_MAX = 256 << 20
"""A record longer than this is given up as unparsed, so that memory stays bounded."""

DICTIONARY = pa.dictionary(pa.int32(), pa.string())
REPEATED = frozenset(
    {
        "user_name",
        "database_name",
        "connection_from",
        "session_id",
        "error_severity",
        "sql_state_code",
        "application_name",
        "backend_type",
        "remark",
    }
)
"""Columns in which few texts stand in many rows."""

TABLE_SCHEMA = pa.schema(
    [(field.name, DICTIONARY if field.name in REPEATED else field.type) for field in LOG_SCHEMA]
)
"""LOG_SCHEMA as containers give it."""

EMPTY = TABLE_SCHEMA.empty_table()


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the operator states about the server's log."""

    timezone: str | None = None
    """log_timezone; see `logtime`."""
    log_line_prefixes: tuple[str, ...] = ()
    """As in postgresql.conf, several if it was changed; recognised where none is stated."""


class LogReader(Protocol):
    """Reads one file, block by block, in order."""

    def parse(self, data: bytes, offset: int, *, final: bool) -> Block:
        """The records of a block that starts at a record boundary.

        Args:
            data: the bytes; may end anywhere.
            offset: where they stand in the file, in bytes.
            final: no more bytes will follow.
        """

    def next_start(self, data: bytes) -> int | None:
        """Where the first record begins in bytes that may start in the middle of one."""

    def record_end(self, data: bytes, place: int) -> int:
        """Where the record ends that reaches over `place`; `place` if none can be seen to."""


@dataclass(frozen=True, slots=True)
class Container:
    """One form of log."""

    name: str
    """With its article, for messages: `a csvlog`."""
    recognise: Callable[[bytes, ReadOptions], bool]
    """Whether a file's first bytes (up to 1 MiB) are of this form."""
    open: Callable[[bytes, str, ReadOptions], LogReader]
    """(first bytes, place for messages, options) -> its reader."""


def complete(columns: dict[str, pa.Array | pa.ChunkedArray], rows: int) -> pa.Table:
    """A table of TABLE_SCHEMA; what isn't given is NULL."""
    arrays = []
    for field in TABLE_SCHEMA:
        column = columns.get(field.name)
        if column is None:
            arrays.append(pa.nulls(rows, field.type))
        elif column.type != field.type and pa.types.is_dictionary(field.type):
            arrays.append(column.cast(pa.string()).dictionary_encode())
        else:
            arrays.append(column.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=TABLE_SCHEMA).unify_dictionaries()
