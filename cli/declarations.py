"""The declarations in force, as objects that the store keeps with the rows they shaped.

Configuration enters, bytes leave, and back, so that questions need the store and nothing else.
The schema is `schemarecord`'s. Every question loads this file: it imports no parser.
"""

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from scalple.correlate.policyrules import Person, Policy
from scalple.correlate.rules import Actors, Claims, Clocks, Pooler, Rules
from scalple.ingest.errors import VerificationError
from scalple.store.digestnames import CALLED
from scalple.store.reader import StoreReader

if TYPE_CHECKING:
    import pyarrow as pa

RULES = "rules"
POLICIES = "policies"
"""Policies and people; missing where there were none."""
ACCESS = "access"
"""`off` where questions asked of the store aren't logged."""
SIGHTINGS = "sightings"
"""Undeclared columns that seem to hold personal data, as one commit's rows show them."""


def to_objects(rules: Rules, access: str = "on") -> dict[str, bytes]:
    """What a commit records of the rules."""
    said = asdict(rules)
    of_policies = {name: said.pop(name) for name in ("policies", "people")}
    objects = {RULES: _json(said)}
    if any(of_policies.values()):
        objects[POLICIES] = _json(of_policies)
    if access == "off":
        objects[ACCESS] = access.encode()
    return objects


def row_names(called: "pa.ChunkedArray | None") -> dict[str, bytes]:
    """What a commit records of the names that its audit rows were written under."""
    if called is None or called.null_count == len(called):
        return {}
    from scalple.store import namesobject  # no question needs it

    return {CALLED: namesobject.to_bytes(called)}


def _json(said: dict[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True, ensure_ascii=False).encode()


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
            harmless=tuple(value.get("harmless", ())),
            functions=_functions(value),
            actors=Actors(**value["actors"]),
            pooler=Pooler(**value["pooler"]),
            claims=_claims(value),
            clocks=Clocks(**value.get("clocks", {})),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"the recorded rules can't be read: {error}") from error


def _functions(value: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Older objects lack them."""
    return {name: tuple(named) for name, named in value.get("functions", {}).items()}


def _claims(value: dict[str, Any]) -> Claims:
    """Older objects say which variables were read, or nothing."""
    said = value.get("claims", {"variables": value.get("variables", Claims().variables)})
    return Claims(**{name: tuple(many) for name, many in said.items()})


def recorded(reader: StoreReader, origin: str) -> Rules:
    """The newest rules of an origin."""
    found = reader.chain(origin).manifests.newest_object(RULES)
    return rules_from_bytes(reader.objects(found[1])) if found else Rules()


def records_questions(reader: StoreReader) -> bool:
    """Questions are logged unless the newest declarations of every origin say otherwise."""
    return not all(_is_unlogged(reader, origin) for origin in reader.origins)


def _is_unlogged(reader: StoreReader, origin: str) -> bool:
    manifests = reader.chain(origin).manifests
    rules = manifests.newest_object(RULES)
    told = manifests.named_by(rules[0], ACCESS) if rules else None
    return told is not None and reader.objects(told) == b"off"


def recorded_policies(reader: StoreReader, origin: str) -> Rules:
    """The newest rules of an origin, with the policies and people that were in force with them.

    Raises:
        VerificationError: an object holds no such thing.
    """
    rules = recorded(reader, origin)
    manifests = reader.chain(origin).manifests
    newest = manifests.newest_object(RULES)
    told = manifests.named_by(newest[0], POLICIES) if newest else None
    if told is None:
        return rules
    try:
        said = json.loads(reader.objects(told))
        return replace(
            rules,
            policies=tuple(Policy.from_plain(one) for one in said["policies"]),
            people=tuple(Person.from_plain(one) for one in said["people"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"the recorded policies can't be read: {error}") from error


def newest(reader: StoreReader, origin: str, name: str) -> bytes | None:
    """The newest object of that name of an origin."""
    found = reader.chain(origin).manifests.newest_object(name)
    return reader.objects(found[1]) if found else None
