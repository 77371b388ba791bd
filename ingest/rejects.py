"""What a parser returns for a block of bytes: columns, rejects, and how far it came."""

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Reject:
    """Bytes that are no record; they become a row of `unparsed`, never a log message alone."""

    offset: int
    """Where they stand in the file, in bytes."""
    raw: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Block:
    """What one block of bytes held."""

    table: pa.Table
    rejects: list[Reject]
    consumed: int
    """Bytes up to the end of the last complete record; the rest belongs to the next block."""
