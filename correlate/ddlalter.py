"""ALTER and DROP of relations -> what they change.

In: a cursor behind the first word. Out: definitions as `ddl` gives them.
"""

from scalple.correlate.change import Change
from scalple.correlate.ddlcolumns import column as read_column
from scalple.correlate.ddlcolumns import table_key
from scalple.correlate.ddlcursor import Cursor, split
from scalple.correlate.definition import Definition
from scalple.correlate.sqltypes import canonical_type

_ALTERED = {
    ("TABLE",): "ALTER TABLE",
    ("FOREIGN", "TABLE"): "ALTER FOREIGN TABLE",
    ("VIEW",): "ALTER VIEW",
    ("MATERIALIZED", "VIEW"): "ALTER MATERIALIZED VIEW",
}


# The server drops first, then alters, then adds, in whatever order it is told.
_PASSES = {"type": 1, "add-column": 2, "add-key": 3}


def alter(c: Cursor) -> list[Definition]:
    for words, tag in _ALTERED.items():
        if c.accept(*words):
            c.accept("IF", "EXISTS")
            schema, name = c.name()
            changes = []
            for action in split(c.rest()):
                changes += _action(Cursor(action), schema, name)
            changes.sort(key=lambda one: _PASSES.get(one.kind, 0))
            return [Definition(tag, tuple(changes))] if changes else []
    if c.accept("INDEX"):
        c.accept("IF", "EXISTS")
        schema, name = c.name()
        if c.accept("RENAME", "TO"):
            change = Change("rename-index", schema, name, to=c.identifier())
            return [Definition("ALTER INDEX", (change,))]
    if c.accept("SCHEMA"):
        name = c.identifier()
        if c.accept("RENAME", "TO"):
            change = Change("rename-schema", None, name, to=c.identifier())
            return [Definition("ALTER SCHEMA", (change,))]
    return []


def _action(c: Cursor, schema: str | None, name: str) -> list[Change]:
    """What one action of an ALTER TABLE does to columns, keys and names."""
    if c.accept("ADD"):
        return _add(c, schema, name)
    if c.accept("DROP"):
        if c.accept("CONSTRAINT"):
            c.accept("IF", "EXISTS")
            return [Change("drop-key", schema, name, to=c.identifier())]
        c.accept("COLUMN")
        c.accept("IF", "EXISTS")
        return [Change("drop-column", schema, name, column=c.identifier())]
    if c.accept("ALTER"):
        c.accept("COLUMN")
        column = c.identifier()
        if c.accept("TYPE") or c.accept("SET", "DATA", "TYPE"):
            begin = c.offset()
            c.until("COLLATE", "USING")
            kind = canonical_type(c.text[begin : c.offset()])
            return [Change("type", schema, name, column=column, types=(kind,))]
        return []
    if c.accept("RENAME"):
        return _rename(c, schema, name)
    if c.accept("SET", "SCHEMA"):
        return [Change("move", schema, name, to=c.identifier())]
    if c.accept("ATTACH", "PARTITION"):
        child = c.name()
        return [Change("attach", *child, parent=(schema, name))]
    if c.accept("DETACH", "PARTITION"):
        child = c.name()
        return [Change("detach", *child, parent=(schema, name))]
    if c.peek() == "OF" or (c.peek() == "INHERIT"):
        return [Change("obscure", schema, name)]
    return []


def _add(c: Cursor, schema: str | None, name: str) -> list[Change]:
    if key := table_key(c, name):
        return [Change("add-key", schema, name, keys=(key,))] if key.columns else []
    c.accept("COLUMN")
    c.accept("IF", "NOT", "EXISTS")
    column = read_column(c, name)
    if column is None:
        return []
    label, kind, keys = column
    added = Change("add-column", schema, name, column=label, types=(kind,))
    return [added, *(Change("add-key", schema, name, keys=(key,)) for key in keys)]


def _rename(c: Cursor, schema: str | None, name: str) -> list[Change]:
    if c.accept("TO"):
        return [Change("rename", schema, name, to=c.identifier())]
    if c.accept("CONSTRAINT"):
        old = c.identifier()
        c.accept("TO")
        return [Change("rename-index", schema, old, to=c.identifier())]
    c.accept("COLUMN")
    column = c.identifier()
    if not c.accept("TO"):
        return []
    return [Change("rename-column", schema, name, column=column, to=c.identifier())]


# DROP


def drop(c: Cursor) -> list[Definition]:
    for words, kind in (
        (("TABLE",), "drop"),
        (("FOREIGN", "TABLE"), "drop"),
        (("VIEW",), "drop"),
        (("MATERIALIZED", "VIEW"), "drop"),
        (("INDEX",), "drop-index"),
        (("SCHEMA",), "drop-schema"),
    ):
        if c.accept(*words):
            c.accept("CONCURRENTLY")
            c.accept("IF", "EXISTS")
            changes = tuple(Change(kind, schema, name) for schema, name in c.names())
            return [Definition(" ".join(("DROP", *words)), changes)]
    return []
