"""Reads a log piece by piece, as SourceFile does, with reads of any length.

Enters: bytes and a parser of blocks. Leaves: all records, all rejects, and how far the parser came.
Does not: open files.
"""

from collections.abc import Callable

import pyarrow as pa

from scalple.ingest.rejects import Block, Reject

Parse = Callable[[bytes, int, bool], Block]
"""(bytes, offset, whether the file ends there) -> what they hold."""


def parse_in_reads(data: bytes, length: int, parse: Parse) -> tuple[pa.Table, list[Reject], int]:
    """Reads of `length` bytes, doubled while no record fits."""
    tables: list[pa.Table] = []
    rejects: list[Reject] = []
    at, size = 0, length
    empty = parse(b"", 0, True).table
    while at < len(data):
        piece = data[at : at + size]
        final = at + len(piece) >= len(data)
        block = parse(piece, at, final)
        if block.consumed:
            tables.append(block.table)
            rejects += block.rejects
            at, size = at + block.consumed, length
        elif final:
            break
        else:
            size *= 2
    return pa.concat_tables([empty, *tables], promote_options="permissive"), rejects, at
