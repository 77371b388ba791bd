"""Which container a file is of: recognised by its first bytes.

Enters: a file's first bytes. Leaves: the container, or None. A new one is a line here.
"""

from scalple.ingest import csvlog, jsonlog, stderrlog
from scalple.ingest.container import Container, ReadOptions

CONTAINERS: tuple[Container, ...] = (csvlog.CONTAINER, jsonlog.CONTAINER, stderrlog.CONTAINER)


def recognised(head: bytes, options: ReadOptions) -> Container | None:
    """The container of a file that begins like this (up to 1 MiB); None if it is none of ours."""
    return next((one for one in CONTAINERS if one.recognise(head, options)), None)
