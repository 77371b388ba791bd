"""A snapshot of a live database's schema, as JSON (docs/SCHEMA.md).

In: the text. Out: `Snapshot`, and the catalog that it describes. Who may do what, `grants` works
out of it. Takes no snapshots (`ingest.livecatalog` does).
"""

import json
import re
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from scalple.correlate.catalog import Catalog, Table, View, without_literals
from scalple.correlate.sqltypes import canonical_type
from scalple.ingest.errors import InputError

_BEGINS = re.compile(r'\ufeff?\s*\{\s*"')


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Column(_Part):
    """Of a relation."""

    name: str
    type: str


class SnapshotRelation(_Part):
    """A table or view."""

    name: str
    kind: Literal["table", "partitioned", "partition", "view", "matview", "foreign"]
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, ...], ...] = ()
    key_names: tuple[str, ...] = ()
    """Of `keys`, one by one."""
    parent: str | None = None
    query: str | None = None


class Function(_Part):
    """With the names of its arguments."""

    name: str
    arguments: tuple[str, ...] = ()


class Grant(_Part):
    """A privilege on a relation, or on one of its columns; of everybody if the role is `public`."""

    role: str
    relation: str
    column: str | None = None
    privilege: str


class Revoked(_Part):
    """A privilege that an owner has taken from himself."""

    relation: str
    privilege: str


class Membership(_Part):
    """`member` is in `role`, and has its privileges if he inherits them."""

    role: str
    member: str
    inherits: bool


class Role(_Part):
    """A role of the cluster."""

    name: str
    superuser: bool = False
    login: bool = False


class Snapshot(_Part):
    """A database's schema and privileges at one time."""

    v: Literal[1]
    taken_at: AwareDatetime
    database: str
    server_version: int
    search_path: tuple[str, ...] = ()
    relations: tuple[SnapshotRelation, ...]
    functions: tuple[Function, ...] = ()
    owners: dict[str, str] = {}
    owners_without: tuple[Revoked, ...] = ()
    grants: tuple[Grant, ...] = ()
    memberships: tuple[Membership, ...] = ()
    roles: tuple[Role, ...] = ()
    audited: tuple[str, ...] = ()
    """Every value of `pgaudit.log` that was in force for some role or database; empty if unknown."""

    def catalog(self) -> Catalog:
        """What it says of the relations."""
        catalog = Catalog()
        for relation in self.relations:
            catalog.note(relation.name)
            if relation.query is not None:
                names = tuple(column.name for column in relation.columns)
                query = without_literals(relation.query).strip().rstrip(";")
                catalog.views[relation.name] = View(query, names)
                continue
            if relation.kind == "partition" and relation.parent:
                catalog.parents[relation.name] = relation.parent
            catalog.tables[relation.name] = _table(relation)
        return catalog


def _table(relation: SnapshotRelation) -> Table:
    # What is unique in a partition isn't so in the whole.
    keys = relation.keys if relation.kind != "partition" else ()
    names = relation.key_names if len(relation.key_names) == len(keys) else ("",) * len(keys)
    return Table(
        columns=dict.fromkeys(column.name for column in relation.columns),
        keys=[frozenset(key) for key in keys],
        complete=True,
        types={column.name: canonical_type(column.type) for column in relation.columns},
        key_names=list(names),
        exact=True,
    )


def is_snapshot(text: str) -> bool:
    """Whether a text is meant to be one; whether it can be read is another question."""
    if not _BEGINS.match(text):
        return False
    try:
        found = json.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        return True  # `read` says what is wrong with it
    except ValueError:
        return False
    return isinstance(found, dict) and "relations" in found and "taken_at" in found


def read(text: str) -> Snapshot:
    """The snapshot that a text holds.

    Raises:
        InputError: it holds none.
    """
    try:
        value: Any = json.loads(text.removeprefix("\ufeff"))
        return Snapshot.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"no snapshot of a schema: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"no snapshot of a schema: {error}") from error
