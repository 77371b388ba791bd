"""What wrote a record: this program and its version. Looked up once; that takes 10 ms."""

from functools import cache
from importlib.metadata import version


@cache
def software() -> str:
    """As manifests say it."""
    return f"scalple-ingest {version('scalple-ingest')}"
