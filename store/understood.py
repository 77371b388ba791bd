"""Bytes that somebody signed, but that no writer of ours makes: a fault like any other."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from scalple.ingest.errors import VerificationError


@contextmanager
def understood() -> Iterator[None]:
    """Who holds the signing key may write any bytes; what can't be read, or makes no sense, is refused.

    Raises:
        VerificationError: what a reader of ours stumbled over.
    """
    try:
        yield
    except (pa.ArrowException, ValueError, KeyError, TypeError, IndexError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise VerificationError(f"can't be understood: {what}") from error
