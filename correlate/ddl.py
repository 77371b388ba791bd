"""DDL text -> what it changes.

In: SQL text whose literals are blanked (`catalog.without_literals`): one statement, several, or a
whole dump. Out: per statement that changes relations its command tag, as pgAudit writes it, and
its `Change`s in order. Reads CREATE, ALTER and DROP of tables, views, unique indexes and schemas,
and SELECT INTO; anything else is skipped. Resolves no names and knows no catalog.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace

from scalple.correlate import ddlalter
from scalple.correlate.change import Change, Key, key_name
from scalple.correlate.ddlcolumns import column as read_column
from scalple.correlate.ddlcolumns import table_key
from scalple.correlate.ddlcursor import Cursor, Strange, statements
from scalple.correlate.definition import Definition


def read(text: str) -> Iterator[Definition]:
    """The statements of a text that change relations, in order."""
    for statement in statements(text):
        cursor = Cursor(statement)
        try:
            found = _statement(cursor)
        except Strange:
            continue
        yield from found


def _statement(c: Cursor) -> list[Definition]:
    if c.accept("CREATE"):
        return _create(c)
    if c.accept("ALTER"):
        return ddlalter.alter(c)
    if c.accept("DROP"):
        return ddlalter.drop(c)
    return _select_into(c) if c.peek() in ("SELECT", "WITH") else []


# CREATE


def _create(c: Cursor) -> list[Definition]:
    is_replacing = c.accept("OR", "REPLACE")
    flags = c.any_of(
        *[
            "GLOBAL",
            "LOCAL",
            "TEMP",
            "TEMPORARY",
            "UNLOGGED",
            "FOREIGN",
            "MATERIALIZED",
            "RECURSIVE",
        ]
    )
    is_temporary = "TEMP" in flags
    if c.accept("TABLE"):
        return [_create_table(c, is_temporary, "FOREIGN" in flags)]
    if c.accept("VIEW"):
        return [_create_view(c, is_temporary, is_replacing, "MATERIALIZED" in flags)]
    if c.accept("UNIQUE", "INDEX"):
        return _create_index(c)
    return _create_schema(c) if c.accept("SCHEMA") else []


def _create_table(c: Cursor, is_temporary: bool, is_foreign: bool) -> Definition:
    is_optional = c.accept("IF", "NOT", "EXISTS")
    schema, name = c.name()
    tag = "CREATE FOREIGN TABLE" if is_foreign else "CREATE TABLE"
    made = Change("create", schema, name, is_optional=is_optional, is_temporary=is_temporary)
    if c.accept("PARTITION", "OF"):
        made = replace(made, parent=c.name())
    elif c.accept("OF"):
        return Definition(tag, (replace(made, kind="obscure"),))
    begin = c.at
    items = c.items()
    if c.accept("INHERITS"):
        made = replace(made, inherits=tuple(item.name() for item in c.items()))
    ends = _ends_with_transaction(c)
    if c.until("AS") and c.accept("AS"):
        c2 = c.rest()
        c.at = begin
        names = c.columns() if items else ()
        return Definition(
            "CREATE TABLE AS",
            (
                replace(
                    made,
                    kind="derive",
                    query=_without_data(c2),
                    names=names,
                    ends_with_transaction=ends,
                ),
            ),
        )
    made = _with_items(made, items)
    return Definition(tag, (replace(made, ends_with_transaction=ends),))


def _ends_with_transaction(c: Cursor) -> bool:
    at = c.at
    ends = False
    while c.until("ON", "AS") and c.peek() == "ON":
        if c.accept("ON", "COMMIT", "DROP"):
            ends = True
            break
        c.at += 1
    c.at = at
    return ends


_DATA = re.compile(r"\bWITH\s+(?:NO\s+)?DATA\s*\Z", re.IGNORECASE)
_TABLE_QUERY = re.compile(r"\(?\s*TABLE\s+(.*)\Z", re.IGNORECASE | re.DOTALL)


def _without_data(query: str) -> str:
    text = _DATA.sub("", query.strip())
    if match := _TABLE_QUERY.match(text):
        return f"SELECT * FROM {match[1].rstrip(') ')}"
    return text


def _with_items(made: Change, items: list[Cursor]) -> Change:
    names: list[str] = []
    types: list[str] = []
    keys: list[Key] = []
    like: list[tuple[str | None, str, bool]] = []
    for item in items:
        if item.peek() == "LIKE":
            item.at += 1
            schema, name = item.name()
            rest = item.rest().upper()
            like.append((schema, name, "INCLUDING ALL" in rest or "INCLUDING INDEXES" in rest))
        elif key := table_key(item, made.name):
            keys.append(key)
        elif column := read_column(item, made.name):
            name, kind, own = column
            if name not in names:
                names.append(name)
                types.append(kind)
            keys += own
    return replace(made, names=tuple(names), types=tuple(types), keys=tuple(keys), like=tuple(like))


def _create_view(c: Cursor, is_temporary: bool, is_replacing: bool, is_stored: bool) -> Definition:
    is_optional = c.accept("IF", "NOT", "EXISTS")
    schema, name = c.name()
    names = c.columns() if c.peek() == "(" else ()
    if not c.until("AS"):
        raise Strange
    c.accept("AS")
    tag = "CREATE MATERIALIZED VIEW" if is_stored else "CREATE VIEW"
    query = _CHECK.sub("", _without_data(c.rest()))
    made = Change(
        "view",
        schema,
        name,
        query=query,
        names=names,
        is_optional=is_optional,
        is_temporary=is_temporary,
    )
    return Definition(tag, (made,))


_CHECK = re.compile(r"\bWITH\s+(?:(?:CASCADED|LOCAL)\s+)?CHECK\s+OPTION\s*\Z", re.IGNORECASE)


def _create_index(c: Cursor) -> list[Definition]:
    c.accept("CONCURRENTLY")
    c.accept("IF", "NOT", "EXISTS")
    index = "" if c.peek() == "ON" else c.identifier()
    if not c.accept("ON"):
        raise Strange
    schema, name = c.name()
    if c.accept("USING"):
        c.identifier()
    columns = c.columns()
    if c.accept("INCLUDE"):
        c.skip_brackets()
    if not columns or (c.until("WHERE") and c.peek() == "WHERE"):
        return []  # an index with a predicate, or over expressions, pins nothing
    key = Key(index or key_name(name, columns, "idx"), columns)
    return [Definition("CREATE INDEX", (Change("add-key", schema, name, keys=(key,)),))]


def _create_schema(c: Cursor) -> list[Definition]:
    """The relations that CREATE SCHEMA makes along with it."""
    c.accept("IF", "NOT", "EXISTS")
    schema = "" if c.peek() == "AUTHORIZATION" else c.identifier()
    if c.accept("AUTHORIZATION"):
        schema = schema or c.identifier()
    found: list[Definition] = []
    starts = []
    while c.until("CREATE"):
        starts.append(c.offset())
        c.at += 1
    for begin, end in itertools.pairwise([*starts, len(c.text)]):
        inner = Cursor(c.text[begin:end])
        inner.accept("CREATE")
        for one in _create(inner):
            changes = tuple(replace(x, schema=x.schema or schema) for x in one.changes)
            found.append(Definition(one.tag, changes))
    return found


def _select_into(c: Cursor) -> list[Definition]:
    if not (c.until("SELECT") and c.accept("SELECT") and c.until("INTO", "FROM")):
        return []
    begin = c.offset()
    if not c.accept("INTO"):
        return []
    is_temporary = "TEMP" in c.any_of("TEMP", "TEMPORARY", "UNLOGGED", "LOCAL", "GLOBAL")
    c.accept("TABLE")
    schema, name = c.name()
    query = f"{c.text[:begin]} {c.rest()}"
    made = Change("derive", schema, name, query=query, is_temporary=is_temporary)
    return [Definition("SELECT INTO", (made,))]
