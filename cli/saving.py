"""A file of an answer or a proof: the whole of it or an error, and nobody else's to read."""

import os
from pathlib import Path

from scalple.ingest.errors import ConfigError


def save(data: bytes, path: Path) -> None:
    """Write a file that only its owner may read.

    Raises:
        ConfigError: it can't be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
    except OSError as error:
        raise ConfigError(
            f"can't write the answer: {error.strerror}", place=str(path), hint="check --output"
        ) from error
