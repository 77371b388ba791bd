"""One pgAudit record of a DDL statement -> the changes that it reports.

In: command, object and text as logged. Out: `Change`s, with the object's schema where the text
doesn't name one. pgAudit writes a line for each object that a statement made, altered or dropped,
with the same text: each line tells of its own object only, so that nothing is told twice.
"""

import functools
from dataclasses import replace

from scalple.correlate import ddl
from scalple.correlate.catalog import TEMPORARY, parted, relation_name, without_literals
from scalple.correlate.change import Change
from scalple.correlate.definition import Definition

_RELATIONS = frozenset({"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"})
_LONGEST = 1_000_000
_KINDS = ("CREATE ", "ALTER ", "DROP ")
_OF_RELATIONS = ("TABLE", "VIEW", "SCHEMA", "INDEX", "SEQUENCE")


def tells(command: str | None) -> bool:
    """Whether records of a command can change what is known of relations."""
    if command is None:
        return False
    is_other = not command.startswith(_KINDS) or not any(one in command for one in _OF_RELATIONS)
    return command == "SELECT INTO" or command in _DROPPING or not is_other


_DROPPING = frozenset({"DROP OWNED", "DROP EXTENSION", "DROP TYPE", "DROP FUNCTION", "DROP SERVER"})
"""What may drop relations along with other things."""


def changes_of(
    command: str, object_type: str | None, object_name: str | None, text: str | None
) -> tuple[Change, ...]:
    """What one record reports; empty if another record of the statement does."""
    relation = relation_name(object_name) if object_type in _RELATIONS else None
    if command.startswith("DROP") and command != "DROP INDEX" and object_type:
        # The server names each relation that is gone, also those that went along.
        return (_change("drop", relation),) if relation else ()
    found = _read(text) if text is not None and len(text) <= _LONGEST else None
    if found is None:
        return (_change("obscure", relation),) if relation else ()
    mine = [one.changes for one in found if one.tag == command]
    if not object_type:
        return tuple(_unnamed(change) for changes in mine for change in changes)
    if object_type in ("INDEX", "SCHEMA"):
        kinds = {"INDEX": ("add-key", "drop-index", "rename-index"), "SCHEMA": ("rename-schema",)}
        is_own = {"CREATE INDEX", "DROP INDEX", "ALTER INDEX", "ALTER SCHEMA"}
        if command not in is_own:
            return ()
        every = [change for changes in mine for change in changes]
        return tuple(_in_schema_of(c, object_name) for c in every if c.kind in kinds[object_type])
    if relation is None and object_type.endswith(" COLUMN") and command.startswith("ALTER"):
        # A renamed column has no line but this one, `schema.table.column`.
        relation = relation_name(object_name, last=1)
        renaming = [tuple(c for c in changes if c.kind == "rename-column") for changes in mine]
        mine = [changes for changes in renaming if changes]
        if not mine:
            return ()
    if relation is None:
        return ()
    fitting = [one for changes in mine if (one := _fitted(changes, relation))]
    if not mine and command.startswith("ALTER"):
        return ()  # nothing that touches columns, keys or names
    if not fitting and (not mine or command.startswith("CREATE")):
        return (_change("obscure", relation),)
    return tuple(change for changes in fitting for change in changes)


@functools.lru_cache(maxsize=1024)
def _read(text: str) -> tuple[Definition, ...]:
    return tuple(ddl.read(without_literals(text)))


def _change(kind: str, relation: str) -> Change:
    schema, name = parted(relation)
    return Change(kind, schema, name, is_temporary=schema == TEMPORARY)


def _unnamed(change: Change) -> Change:
    """IF NOT EXISTS may have found another table than the text describes."""
    is_doubtful = change.kind in ("create", "derive") and change.is_optional
    return replace(change, is_partial=True) if is_doubtful else change


def _in_schema_of(change: Change, index: str | None) -> Change:
    """An index is in its table's schema."""
    if change.kind != "add-key" or change.schema is not None or not index:
        return change
    schema, _ = parted(relation_name(index) or "")
    return replace(change, schema=schema, is_temporary=schema == TEMPORARY)


def _fitted(changes: tuple[Change, ...], relation: str) -> tuple[Change, ...]:
    """The changes of one statement, if it is the object's, with the object's schema.

    A record names its object as it is afterwards: by its new name, in its new schema.
    """
    schema, name = parted(relation)
    if not changes:
        return ()
    first = changes[0]
    target = first.parent if first.kind in ("attach", "detach") and first.parent else None
    target = target or (first.schema, first.name)
    renamed = next((c.to for c in changes if c.kind == "rename"), target[1])
    moved = next((c.to for c in changes if c.kind == "move"), None)
    if name not in (target[1], renamed) or (moved is not None and moved != schema):
        return ()
    if moved is None and target[0] not in (None, schema) and schema != TEMPORARY:
        return ()
    is_temporary = schema == TEMPORARY
    known = None if moved is not None else schema
    found = []
    for one in changes:
        if one.kind in ("attach", "detach") and one.parent is not None:
            parent = (one.parent[0] or known, one.parent[1])
            found.append(replace(one, parent=parent, is_temporary=is_temporary))
        elif one.kind == "rename-index":
            found.append(one)
        else:
            found.append(replace(one, schema=one.schema or known, is_temporary=is_temporary))
    return tuple(found)


def is_temporary(change: Change) -> bool:
    """Whether it concerns the session's own relations only."""
    return change.is_temporary or change.schema == TEMPORARY
