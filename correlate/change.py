"""One change of the schema, as DDL says it: names and types, no values.

`Change` is what `ddl` reads, `schemachanges` applies to a catalog, and the store keeps. Which
fields a kind has:

    create          columns, keys, like, inherits, models, parent; `is_optional` (IF NOT EXISTS)
    derive          query, names: CREATE TABLE AS, SELECT INTO; `is_optional`
    view            query, names; `is_optional` (OR REPLACE)
    drop, obscure   nothing more (obscure: something changed that couldn't be read)
    rename, move    to: the new name, the new schema
    attach, detach  parent: the partitioned table
    add-column, type              column, types
    drop-column                   column
    rename-column                 column, to
    add-key         keys
    drop-key        to: the constraint's name
    drop-index, rename-index      name: the index's; to
    drop-schema, rename-schema    name: the schema's; to
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

Name = tuple[str | None, str]
"""(schema, name) as the server keeps them; None where the text doesn't say."""


@dataclass(frozen=True, slots=True)
class Key:
    """A primary key, unique constraint or unique index."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One change to one relation."""

    kind: str
    schema: str | None
    name: str
    to: str = ""
    column: str = ""
    names: tuple[str, ...] = ()
    """Columns, in order."""
    types: tuple[str, ...] = ()
    """Of `names`, or of `column`."""
    keys: tuple[Key, ...] = ()
    parent: Name | None = None
    like: tuple[tuple[str | None, str, bool], ...] = ()
    """LIKE: (schema, name, with its keys)."""
    inherits: tuple[Name, ...] = ()
    models: tuple[str, ...] = ()
    """Relations that it was made of or like, once that is settled (`resolving.resolved`)."""
    query: str = ""
    is_partial: bool = False
    """There are more columns than `names`, or others."""
    sourced: tuple[bool, ...] = ()
    """Of a query's columns: which come from stored ones."""
    is_optional: bool = False
    is_temporary: bool = False
    ends_with_transaction: bool = False
    """ON COMMIT DROP."""


_DEFAULTS = {one.name: one.default for one in fields(Change)}


def to_json(change: Change) -> dict[str, Any]:
    """Only what says something."""
    return {name: value for name, value in asdict(change).items() if value != _DEFAULTS[name]}


def from_json(value: dict[str, Any]) -> Change:
    """The inverse. Raises KeyError, TypeError or ValueError for anything else."""
    found = dict(value)
    found["schema"] = found.get("schema")
    for name in ("names", "types", "models"):
        found[name] = tuple(map(str, found.get(name, ())))
    found["sourced"] = tuple(map(bool, found.get("sourced", ())))
    found["keys"] = tuple(Key(k["name"], tuple(k["columns"])) for k in found.get("keys", ()))
    found["like"] = tuple((s, n, bool(k)) for s, n, k in found.get("like", ()))
    found["inherits"] = tuple((s, n) for s, n in found.get("inherits", ()))
    if found.get("parent"):
        schema, name = found["parent"]
        found["parent"] = (schema, name)
    return Change(**found)


def key_name(table: str, columns: tuple[str, ...], kind: str) -> str:
    """What PostgreSQL calls a key that nobody named (ChooseIndexName); kind: pkey, key, idx."""
    parts = [table] if kind == "pkey" else [table, *columns]
    return "_".join([*parts, kind]) if len("_".join([*parts, kind])) <= 63 else ""


def canonical(changes: list[Change]) -> str:
    """Text that is the same for the same changes."""
    return json.dumps([to_json(one) for one in changes], sort_keys=True)
