"""The declarations in force, as objects that the store keeps with the rows they shaped.

Configuration enters, bytes leave, and back, so that questions need the store and nothing else.
"""

import json
from dataclasses import asdict
from typing import Any

from scalple.correlate.rules import Actors, Claims, Clocks, Pooler, Rules
from scalple.ingest.errors import ConfigError, VerificationError
from scalple.store.keys import subject_key_id
from scalple.store.reader import StoreReader

RULES = "rules"
SCHEMA = "schema"
SUBJECT_KEY = "subject-key"
"""The id of the subject key that the tokens were made with."""
ACCESS = "access"
"""`off` where questions asked of the store aren't logged."""


def to_objects(rules: Rules, schema_sql: str | None, access: str = "on") -> dict[str, bytes]:
    """What a commit records."""
    objects = {RULES: json.dumps(asdict(rules), sort_keys=True, ensure_ascii=False).encode()}
    if schema_sql is not None:
        objects[SCHEMA] = schema_sql.encode()
    if access == "off":
        objects[ACCESS] = access.encode()
    return objects


def rules_from_bytes(data: bytes) -> Rules:
    """The inverse for the rules.

    Raises:
        VerificationError: the object holds no rules.
    """
    try:
        value: dict[str, Any] = json.loads(data)
        return Rules(
            identifiers={name: tuple(columns) for name, columns in value["identifiers"].items()},
            personal_data=dict(value["personal_data"]),
            actors=Actors(**value["actors"]),
            pooler=Pooler(**value["pooler"]),
            claims=_claims(value),
            clocks=Clocks(**value.get("clocks", {})),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"the recorded rules can't be read: {error}") from error


def _claims(value: dict[str, Any]) -> Claims:
    """Older objects say which variables were read, or nothing."""
    said = value.get("claims", {"variables": value.get("variables", Claims().variables)})
    return Claims(**{name: tuple(many) for name, many in said.items()})


def recorded(reader: StoreReader, origin: str) -> Rules:
    """The newest rules of an origin."""
    for manifest in reversed(reader.chain(origin).manifests):
        if RULES in manifest.objects:
            return rules_from_bytes(reader.objects(manifest.objects[RULES]))
    return Rules()


def records_questions(reader: StoreReader) -> bool:
    """Questions are logged unless the newest declarations of every origin say otherwise."""
    return not all(_is_unlogged(reader, origin) for origin in reader.origins)


def _is_unlogged(reader: StoreReader, origin: str) -> bool:
    for manifest in reversed(reader.chain(origin).manifests):
        if RULES in manifest.objects:
            told = manifest.objects.get(ACCESS)
            return told is not None and reader.objects(told) == b"off"
    return False


def check_subject_key(reader: StoreReader, secret: bytes) -> None:
    """Raises ConfigError if the store's tokens were made with another key."""
    ours = subject_key_id(secret)
    for origin in reader.origins:
        manifests = reader.chain(origin).manifests
        for told in {manifest.objects.get(SUBJECT_KEY) for manifest in manifests}:
            if told is not None and reader.objects(told).decode() != ours:
                raise ConfigError(
                    f"the subject key isn't the one that {origin} was made with: nobody would be "
                    "found",
                    hint="put the right key back, or name it in [keys] subject_key_file",
                )


def recorded_schema(reader: StoreReader, origin: str) -> str | None:
    """The newest schema of an origin."""
    for manifest in reversed(reader.chain(origin).manifests):
        if SCHEMA in manifest.objects:
            return reader.objects(manifest.objects[SCHEMA]).decode()
    return None
