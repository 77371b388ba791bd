"""Where a store and its keys are, as far as questions need it.

Enters: a configuration file, or none. Leaves: `Places`. Without a file nothing is loaded that could
read one: a question would wait for it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scalple.cli.config import Config


@dataclass(frozen=True, slots=True)
class Places:
    """What a configuration names; None where it doesn't."""

    store: str | None = None
    subject_key_file: str | None = None
    access_key_file: str | None = None
    signing_key_file: str | None = None


def places(path: Path | None) -> Places:
    """What the file names; without one, nothing.

    Raises:
        ConfigError: it can't be read, or has a fault.
    """
    if path is None:
        return Places()
    from scalple.cli.config import load

    return places_of(load(path))


def places_of(config: "Config") -> Places:
    """What a configuration that is loaded names."""
    of = config.keys
    return Places(config.store, of.subject_key_file, of.access_key_file, of.signing_key_file)
