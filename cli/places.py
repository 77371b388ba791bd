"""Where a store and its keys are, as far as questions need it.

Enters: a configuration file, or none. Leaves: `Places`. Without a file nothing is loaded that could
read one: a question would wait for it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scalple.store.bucketsettings import BucketSettings

if TYPE_CHECKING:
    from scalple.cli.config import Config

CACHE_MB = 20_000
"""So much of a store in a bucket is kept here unless [s3] says otherwise."""

_AWS = BucketSettings()


@dataclass(frozen=True, slots=True)
class Places:
    """What a configuration names; None where it doesn't."""

    store: str | None = None
    subject_key_file: str | None = None
    subject_key_period: str | None = None
    subject_key_directory: str | None = None
    former_subject_key_files: tuple[str, ...] = ()
    access_key_file: str | None = None
    signing_key_file: str | None = None
    s3: BucketSettings = _AWS
    cache_dir: str | None = None
    cache_mb: int = CACHE_MB
    only_host: bool = False


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
    keys, s3 = config.keys, config.s3
    return Places(
        store=config.store,
        subject_key_file=keys.subject_key_file,
        subject_key_period=keys.subject_key_period,
        subject_key_directory=keys.subject_key_directory,
        former_subject_key_files=keys.former_subject_key_files,
        access_key_file=keys.access_key_file,
        signing_key_file=keys.signing_key_file,
        s3=s3.settings(),
        cache_dir=s3.cache_dir,
        cache_mb=s3.cache_mb,
        only_host=config.only_host,
    )
