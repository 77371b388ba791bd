"""The schema in force, as objects that the store keeps with the rows it shaped.

Schemas enter, bytes leave, and back, so that `detect` and later runs need no file.
"""

from dataclasses import replace

from scalple.cli import schemafiles
from scalple.cli.declarations import newest
from scalple.cli.schemafiles import SchemaText
from scalple.correlate.rightschanges import RightsChanges
from scalple.correlate.rightstimeline import RightsTimeline
from scalple.store.reader import StoreReader

SCHEMA = "schema"
"""The text of the newest schema."""
SCHEMAS = "schemas"
"""All schemas, with the times from which they hold."""
SCHEMA_CHANGES = "schema-changes"
"""What the logs told of the schema, up to the rows of the commit."""
RIGHTS_CHANGES = "rights-changes"
"""When rights of roles can have changed, as the logs told up to the rows of the commit."""


def schema_objects(schemas: tuple[SchemaText, ...]) -> dict[str, bytes]:
    """What a commit records of the schema, oldest first; no value that stands in it."""
    if not schemas:
        return {}
    blank = tuple(replace(one, text=schemafiles.without_values(one.text)) for one in schemas)
    return {SCHEMA: blank[-1].text.encode(), SCHEMAS: schemafiles.to_bytes(blank)}


def schema_changes(told: bytes | None) -> dict[str, bytes]:
    """What a commit records of the changes that the log tells of, if it tells of any."""
    return {} if told is None else {SCHEMA_CHANGES: told}


def recorded_schema(reader: StoreReader, origin: str) -> str | None:
    """The newest schema of an origin."""
    found = newest(reader, origin, SCHEMA)
    return None if found is None else found.decode()


def recorded_schemas(reader: StoreReader, origin: str) -> tuple[SchemaText, ...]:
    """The schemas of an origin's newest rows, oldest first, with the times of their validity."""
    if (found := newest(reader, origin, SCHEMAS)) is not None:
        return schemafiles.from_bytes(found)
    text = recorded_schema(reader, origin)  # older stores have but one
    return () if text is None else (SchemaText(text),)


def recorded_schema_changes(reader: StoreReader, origin: str) -> bytes | None:
    """What an origin's logs have told of the schema (`correlate.schemastate`)."""
    return newest(reader, origin, SCHEMA_CHANGES)


def recorded_rights(reader: StoreReader, origin: str) -> RightsTimeline:
    """Who could do what when, as far as an origin's schemas and logs have told.

    Raises:
        VerificationError: an object holds no such thing.
    """
    changes = RightsChanges.from_bytes(recorded_rights_changes(reader, origin))
    return RightsTimeline(schemafiles.rights(recorded_schemas(reader, origin)), changes)


def recorded_rights_changes(reader: StoreReader, origin: str) -> bytes | None:
    """When rights can have changed (`correlate.rightschanges`)."""
    return newest(reader, origin, RIGHTS_CHANGES)
