"""Bytes -> complete lines with their offsets, for sources of one record a line.

Only the line feed ends a line: a carriage return or U+2028 inside a line is text that a client
chose, and splitting there would let it forge a line.
"""

from collections.abc import Iterator
from typing import Any


def complete_lines(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """(offset in the file, line without its line feed) of each line that is complete.

    Args:
        data: bytes that begin at a line's start.
        offset: where they stand in the file, in bytes.
    """
    begin = 0
    while (end := data.find(b"\n", begin)) >= 0:
        yield offset + begin, data[begin:end]
        begin = end + 1


def distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads: an object in which a key stands twice says two things.

    Raises:
        ValueError: one does.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def consumed_bytes(data: bytes) -> int:
    """How many bytes belong to complete lines."""
    return data.rfind(b"\n") + 1
