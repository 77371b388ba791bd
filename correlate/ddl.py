"""DDL text -> what it changes.

In: SQL text whose literals are blanked (`catalog.without_literals`): one statement, several, or a
whole dump. Out: per statement that changes relations its command tag, as pgAudit writes it, and
its `Change`s in order. Reads CREATE, ALTER and DROP of tables, views, unique indexes and schemas,
and SELECT INTO; anything else is skipped. Resolves no names and knows no catalog.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from scalple.correlate.catalog import plain
from scalple.correlate.change import Change, Key, Name, key_name

_TOKEN = re.compile(r"\"(?:[^\"]|\"\")+\"|[^\W\d][\w$]*|''|\S")
_IS_NAME = re.compile(r'"|[^\W\d]')
_CUT = re.compile(r'"(?:[^"]|"")*"|[();]')
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
_ALIASES = {
    "int": "integer",
    "int4": "integer",
    "serial": "integer",
    "serial4": "integer",
    "int8": "bigint",
    "bigserial": "bigint",
    "serial8": "bigint",
    "int2": "smallint",
    "smallserial": "smallint",
    "serial2": "smallint",
    "varchar": "character varying",
    "char varying": "character varying",
    "char": "character",
    "bpchar": "character",
    "bool": "boolean",
    "decimal": "numeric",
    "dec": "numeric",
    "float": "double precision",
    "float8": "double precision",
    "float4": "real",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "timetz": "time with time zone",
    "time": "time without time zone",
    "varbit": "bit varying",
}
_BRACKETS = re.compile(r"\s*\((?:[^()]|\([^()]*\))*\)")
_DIMENSIONS = re.compile(r"(?:\s*\[\s*\d*\s*\])+|\s+array(?:\s*\[\s*\d*\s*\])?$", re.IGNORECASE)
_QUALIFIER = re.compile(r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)\s*\.\s*(?=["\w])')


@dataclass(frozen=True, slots=True)
class Definition:
    """One statement."""

    tag: str
    changes: tuple[Change, ...]


def read(text: str) -> Iterator[Definition]:
    """The statements of a text that change relations, in order."""
    for statement in _statements(text):
        cursor = _Cursor(statement)
        try:
            found = _statement(cursor)
        except _Strange:
            continue
        yield from found


def canonical_type(text: str) -> str:
    """A type as format_type writes it, without modifiers and schema: `integer`, `text[]`."""
    bare = _BRACKETS.sub("", text)
    without = _DIMENSIONS.sub("", bare)
    is_array = without != bare
    name = " ".join(_QUALIFIER.sub("", without).split())
    name = plain(name) if name.startswith('"') else name.lower()
    if name.startswith("interval "):
        name = "interval"
    return _ALIASES.get(name, name) + ("[]" if is_array else "")


class _Strange(Exception):
    """The text isn't what it seemed to be."""


def _statements(text: str) -> list[str]:
    """Cut at semicolons outside brackets and quoted names."""
    parts, depth, begin = [], 0, 0
    for token in _CUT.finditer(text):
        if token[0] == ";" and depth <= 0:
            parts.append(text[begin : token.start()])
            begin, depth = token.end(), 0
        else:
            depth += {"(": 1, ")": -1}.get(token[0], 0)
    return [*parts, text[begin:]]


class _Cursor:
    """Goes over the tokens of one statement."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = list(_TOKEN.finditer(text))
        self._words = [t[0].upper() if t[0][0] != '"' else t[0] for t in self._tokens]
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self._words[at] if at < len(self._words) else ""

    def accept(self, *words: str) -> bool:
        """Goes on if these words come next."""
        if tuple(self._words[self.at : self.at + len(words)]) != words:
            return False
        self.at += len(words)
        return True

    def any_of(self, *words: str) -> str:
        """Goes over words as long as they are of these; returns them."""
        found = []
        while self.peek() in words:
            found.append(self.peek())
            self.at += 1
        return " ".join(found)

    def identifier(self) -> str:
        if self.at >= len(self._tokens) or not _IS_NAME.match(self._tokens[self.at][0]):
            raise _Strange
        self.at += 1
        return plain(self._tokens[self.at - 1][0])

    def name(self) -> Name:
        """A perhaps qualified name; ONLY and `*` say nothing here."""
        if self.peek() == "ONLY" and self.peek(1) != ".":
            self.at += 1
        parts = [self.identifier()]
        while self.accept("."):
            parts.append(self.identifier())
        self.accept("*")
        return (parts[-2] if len(parts) > 1 else None, parts[-1])

    def names(self) -> list[Name]:
        found = [self.name()]
        while self.accept(","):
            found.append(self.name())
        return found

    def skip_brackets(self) -> None:
        """Over a bracket and all in it."""
        depth = 0
        while self.at < len(self._words):
            depth += {"(": 1, ")": -1}.get(self.peek(), 0)
            self.at += 1
            if depth <= 0:
                return
        raise _Strange

    def items(self) -> list["_Cursor"]:
        """What a bracket lists."""
        if self.peek() != "(":
            return []
        begin = self._tokens[self.at].end()
        self.skip_brackets()
        inner = self.text[begin : self._tokens[self.at - 1].start()]
        return [_Cursor(part) for part in split(inner)]

    def columns(self) -> tuple[str, ...]:
        """The names in a bracket; empty if something else than names stands there."""
        found = []
        for item in self.items():
            found.append(item.identifier() if item.peek() not in ("(", "") else "")
            if item.peek() == "(":
                found.append("")
        return tuple(found) if all(found) else ()

    def until(self, *words: str) -> bool:
        """Goes to the first of these words outside brackets."""
        while self.at < len(self._words):
            if self.peek() in words:
                return True
            if self.peek() == "(":
                self.skip_brackets()
            else:
                self.at += 1
        return False

    def rest(self) -> str:
        return self.text[self.offset() :]

    def offset(self) -> int:
        """Where the next token stands."""
        return self._tokens[self.at].start() if self.at < len(self._tokens) else len(self.text)


def split(text: str) -> list[str]:
    """Cut at commas outside brackets and quoted names."""
    parts, depth, begin = [], 0, 0
    for token in re.finditer(r'"(?:[^"]|"")*"|[(),]', text):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if token[0] == "," and depth <= 0:
            parts.append(text[begin : token.start()])
            begin = token.end()
    return [*parts, text[begin:]] if text.strip() else []


def _statement(c: _Cursor) -> list[Definition]:
    if c.accept("CREATE"):
        return _create(c)
    if c.accept("ALTER"):
        return _alter(c)
    if c.accept("DROP"):
        return _drop(c)
    return _select_into(c) if c.peek() in ("SELECT", "WITH") else []


# CREATE


def _create(c: _Cursor) -> list[Definition]:
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


def _create_table(c: _Cursor, is_temporary: bool, is_foreign: bool) -> Definition:
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


def _ends_with_transaction(c: _Cursor) -> bool:
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


def _with_items(made: Change, items: list[_Cursor]) -> Change:
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
        elif key := _table_key(item, made.name):
            keys.append(key)
        elif column := _column(item, made.name):
            name, kind, own = column
            if name not in names:
                names.append(name)
                types.append(kind)
            keys += own
    return replace(made, names=tuple(names), types=tuple(types), keys=tuple(keys), like=tuple(like))


def _table_key(item: _Cursor, table: str) -> Key | None:
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


def _column(item: _Cursor, table: str) -> tuple[str, str, list[Key]] | None:
    """(name, type, its own keys) of a column's definition."""
    if item.peek() in _NO_COLUMN or (item.peek() == "EXCLUDE" and item.peek(1) in ("USING", "(")):
        return None
    if not _IS_NAME.match(item.peek() or " "):
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


def _create_view(c: _Cursor, is_temporary: bool, is_replacing: bool, is_stored: bool) -> Definition:
    is_optional = c.accept("IF", "NOT", "EXISTS")
    schema, name = c.name()
    names = c.columns() if c.peek() == "(" else ()
    if not c.until("AS"):
        raise _Strange
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


def _create_index(c: _Cursor) -> list[Definition]:
    c.accept("CONCURRENTLY")
    c.accept("IF", "NOT", "EXISTS")
    index = "" if c.peek() == "ON" else c.identifier()
    if not c.accept("ON"):
        raise _Strange
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


def _create_schema(c: _Cursor) -> list[Definition]:
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
        inner = _Cursor(c.text[begin:end])
        inner.accept("CREATE")
        for one in _create(inner):
            changes = tuple(replace(x, schema=x.schema or schema) for x in one.changes)
            found.append(Definition(one.tag, changes))
    return found


def _select_into(c: _Cursor) -> list[Definition]:
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


# ALTER

_ALTERED = {
    ("TABLE",): "ALTER TABLE",
    ("FOREIGN", "TABLE"): "ALTER FOREIGN TABLE",
    ("VIEW",): "ALTER VIEW",
    ("MATERIALIZED", "VIEW"): "ALTER MATERIALIZED VIEW",
}


# The server drops first, then alters, then adds, in whatever order it is told.
_PASSES = {"type": 1, "add-column": 2, "add-key": 3}


def _alter(c: _Cursor) -> list[Definition]:
    for words, tag in _ALTERED.items():
        if c.accept(*words):
            c.accept("IF", "EXISTS")
            schema, name = c.name()
            changes = []
            for action in split(c.rest()):
                changes += _action(_Cursor(action), schema, name)
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


def _action(c: _Cursor, schema: str | None, name: str) -> list[Change]:
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


def _add(c: _Cursor, schema: str | None, name: str) -> list[Change]:
    if key := _table_key(c, name):
        return [Change("add-key", schema, name, keys=(key,))] if key.columns else []
    c.accept("COLUMN")
    c.accept("IF", "NOT", "EXISTS")
    column = _column(c, name)
    if column is None:
        return []
    label, kind, keys = column
    added = Change("add-column", schema, name, column=label, types=(kind,))
    return [added, *(Change("add-key", schema, name, keys=(key,)) for key in keys)]


def _rename(c: _Cursor, schema: str | None, name: str) -> list[Change]:
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


def _drop(c: _Cursor) -> list[Definition]:
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
