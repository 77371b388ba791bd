"""The definition of a column or key, as CREATE TABLE and ALTER TABLE … ADD have it.

In: a cursor before it. Out: names, types, keys.
"""

from scalple.correlate.change import Key, key_name
from scalple.correlate.ddlcursor import IS_NAME, Cursor
from scalple.correlate.sqltypes import canonical_type

# What ends a column's type.
_TYPE_ENDS = frozenset(
    [
        "COLLATE",
        "NOT",
        "NULL",
        "DEFAULT",
        "PRIMARY",
        "UNIQUE",
        "CHECK",
        "REFERENCES",
        "CONSTRAINT",
        "GENERATED",
        "STORAGE",
        "COMPRESSION",
        "OPTIONS",
        "DEFERRABLE",
        "INITIALLY",
        "USING",
        ",",
        "AS",
    ]
)


def table_key(item: Cursor, table: str) -> Key | None:
    """PRIMARY KEY or UNIQUE over listed columns."""
    begin = item.at
    name = ""
    if item.accept("CONSTRAINT"):
        name = item.identifier()
    for words, kind in ((("PRIMARY", "KEY"), "pkey"), (("UNIQUE",), "key")):
        if item.accept(*words):
            if item.until("("):
                columns = item.columns()
                return Key(name or key_name(table, columns, kind), columns)
            break
    item.at = begin
    return None


_NO_COLUMN = frozenset(["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "LIKE"])


def column(item: Cursor, table: str) -> tuple[str, str, list[Key]] | None:
    """(name, type, its own keys) of a column's definition."""
    if item.peek() in _NO_COLUMN or (item.peek() == "EXCLUDE" and item.peek(1) in ("USING", "(")):
        return None
    if not IS_NAME.match(item.peek() or " "):
        return None
    name = item.identifier()
    item.accept("WITH", "OPTIONS")  # of a partition's column
    begin = item.offset()
    has_more = item.until(*_TYPE_ENDS)
    kind = canonical_type(item.text[begin : item.offset()])
    keys = []
    while has_more:
        constraint = ""
        if item.accept("CONSTRAINT"):
            constraint = item.identifier()
        if item.accept("PRIMARY", "KEY"):
            keys.append(Key(constraint or key_name(table, (name,), "pkey"), (name,)))
        elif item.accept("UNIQUE"):
            keys.append(Key(constraint or key_name(table, (name,), "key"), (name,)))
        elif not constraint:
            item.at += 1
        has_more = item.until("CONSTRAINT", "PRIMARY", "UNIQUE")
    return name, kind, keys
