"""The origins of a store, its log of questions included, and the key that each goes on with."""

from pathlib import Path

from scalple.cli.places import Places
from scalple.ingest.errors import ConfigError
from scalple.store import keys
from scalple.store.layout import ACCESS_ORIGIN, existing_origins


def origins(directory: Path) -> list[str]:
    """All of them, the log of questions last.

    Raises:
        ConfigError: there is no store.
    """
    names = existing_origins(directory)
    if (directory / ACCESS_ORIGIN).is_dir():
        names.append(ACCESS_ORIGIN)
    if not names:
        raise ConfigError("no store here", place=str(directory), hint="check --store")
    return names


def origin_key(directory: Path, origin: str, where: Places) -> keys.SigningKey:
    """The key that the origin's head is signed with; never a new one, which would fit nothing."""
    is_access = origin == ACCESS_ORIGIN
    named = where.access_key_file if is_access else where.signing_key_file
    name = "access" if is_access else "signing"
    return keys.signing_key(directory, Path(named) if named else None, name=name, may_create=False)
