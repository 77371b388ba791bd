"""What is known of the database's tables: from the text of its schema and from the declarations.

In: DDL text such as `pg_dump --schema-only` writes, and declared columns. Out: columns and
unique keys of tables, and the queries of views (literals blanked). Only CREATE TABLE,
CREATE [MATERIALIZED] VIEW, ALTER TABLE … ADD … PRIMARY KEY/UNIQUE and CREATE UNIQUE INDEX are
read; anything else is skipped. Doesn't parse queries and knows no search_path: a bare name is in
the one schema that has it, else `public`, except pg_* (`pg_catalog`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from scalple.correlate import templates

_NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_QUALIFIED = rf"(?:{_NAME}\s*\.\s*)*{_NAME}"
_PART = re.compile(_NAME)
_CREATE_TABLE = re.compile(
    rf"CREATE\s+(?:(?:GLOBAL|LOCAL|TEMP|TEMPORARY|UNLOGGED|FOREIGN)\s+)*TABLE\s+"
    rf"(?:IF\s+NOT\s+EXISTS\s+)?(?:ONLY\s+)?({_QUALIFIED})\s*\(",
    re.IGNORECASE,
)
_PARTITION = re.compile(
    rf"CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?({_QUALIFIED})\s+PARTITION\s+OF\s+({_QUALIFIED})",
    re.IGNORECASE,
)
_ATTACH = re.compile(
    rf"ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?({_QUALIFIED})\s+ATTACH\s+PARTITION\s+"
    rf"({_QUALIFIED})",
    re.IGNORECASE,
)
_CREATE_VIEW = re.compile(
    rf"CREATE\s+(?:OR\s+REPLACE\s+)?(?:MATERIALIZED\s+|RECURSIVE\s+|TEMP(?:ORARY)?\s+)*VIEW\s+"
    rf"(?:IF\s+NOT\s+EXISTS\s+)?({_QUALIFIED})\s*(\([^()]*\))?\s*(?:WITH\s*\([^()]*\)\s*)?AS\s+",
    re.IGNORECASE,
)
_ADD_KEY = re.compile(
    rf"ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?({_QUALIFIED})\s+ADD\s+"
    rf"(?:CONSTRAINT\s+{_NAME}\s+)?(?:PRIMARY\s+KEY|UNIQUE)[^(]*(\([^()]*\))",
    re.IGNORECASE,
)
_UNIQUE_INDEX = re.compile(
    rf"CREATE\s+UNIQUE\s+INDEX\s[^(]*?\sON\s+(?:ONLY\s+)?({_QUALIFIED})[^(]*(\([^()]*\))\s*"
    r"(?:INCLUDE\s*\([^()]*\)\s*)?$",  # an index with a predicate pins nothing
    re.IGNORECASE,
)
_KEY_WITHIN = re.compile(
    rf"(?:CONSTRAINT\s+{_NAME}\s+)?(?:PRIMARY\s+KEY|UNIQUE)[^(]*(\([^()]*\))", re.IGNORECASE
)
_NO_COLUMN = re.compile(
    r"(?:CONSTRAINT|PRIMARY\s+KEY|UNIQUE|CHECK|EXCLUDE|FOREIGN\s+KEY|LIKE)\b(?!\s*,)", re.IGNORECASE
)
_COLUMN = re.compile(rf"({_NAME})\s+(.*)", re.DOTALL)
_OWN_KEY = re.compile(r"\b(?:PRIMARY\s+KEY|UNIQUE)\b", re.IGNORECASE)
_CLIENT_LINES = re.compile(r"^\\.*$", re.MULTILINE)
_NESTING = re.compile(r'"(?:[^"]|"")*"|[(),]')


@dataclass(slots=True)
class Table:
    """Columns in order; `complete` unless only declarations tell of them."""

    columns: dict[str, None] = field(default_factory=dict)
    keys: list[frozenset[str]] = field(default_factory=list)
    complete: bool = False


@dataclass(frozen=True, slots=True)
class View:
    query: str
    columns: tuple[str, ...]


@dataclass(slots=True)
class Catalog:
    tables: dict[str, Table] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    schemas: dict[str, set[str]] = field(default_factory=dict)
    """Bare name -> schemas that have a relation of that name."""
    parents: dict[str, str] = field(default_factory=dict)
    """Partition -> the partitioned table that it is part of."""

    def whole(self, table: str) -> str:
        """Of a partition, the topmost partitioned table; of any other table itself."""
        for _ in self.parents:
            table = self.parents.get(table, table)
        return table

    def qualify(self, name: str, schema: str | None = None) -> str:
        """`schema.name` of a relation."""
        if schema:
            return f"{schema}.{name}"
        known = self.schemas.get(name, set())
        if "public" in known or not known:
            is_system = name.startswith("pg_") and not known
            return f"{'pg_catalog' if is_system else 'public'}.{name}"
        return f"{min(known)}.{name}"

    def declare(self, columns: Iterable[str]) -> None:
        """Columns (`schema.table.column`) that exist according to the configuration."""
        for column in columns:
            relation, _, name = column.rpartition(".")
            self._table(relation).columns.setdefault(name)

    def _table(self, relation: str) -> Table:
        schema, _, name = relation.rpartition(".")
        self.schemas.setdefault(name, set()).add(schema or "public")
        return self.tables.setdefault(relation, Table())


def read_schema(text: str | None) -> Catalog:
    """The catalog that DDL text describes; empty without text."""
    catalog = Catalog()
    _, skeleton = templates.split(_CLIENT_LINES.sub("", text or ""))
    plain = skeleton.replace(templates.STRING, "''").replace(templates.NUMBER, "0")
    for statement in _cut(plain.replace(templates.COMMENT, " "), ";"):
        _read(catalog, statement.strip())
    return catalog


def _read(catalog: Catalog, statement: str) -> None:
    if match := _CREATE_TABLE.match(statement):
        table = catalog._table(_relation(match[1]))
        table.complete = True
        for item in _cut(_body(statement, match.end()), ","):
            _read_item(table, item.strip())
    elif match := _PARTITION.match(statement):
        parent = catalog.tables.get(_relation(match[2]))
        if parent is not None:
            catalog._table(_relation(match[1]))
            catalog.tables[_relation(match[1])] = parent
            catalog.parents[_relation(match[1])] = _relation(match[2])
    elif match := _ATTACH.match(statement):
        catalog.parents[_relation(match[2])] = _relation(match[1])
    elif match := _CREATE_VIEW.match(statement):
        relation = _relation(match[1])
        schema, _, name = relation.rpartition(".")
        catalog.schemas.setdefault(name, set()).add(schema)
        columns = tuple(_names(match[2] or ""))
        catalog.views[relation] = View(statement[match.end() :], columns)
    elif match := _ADD_KEY.match(statement) or _UNIQUE_INDEX.match(statement):
        catalog._table(_relation(match[1])).keys.append(frozenset(_names(match[2])))


def _read_item(table: Table, item: str) -> None:
    if match := _KEY_WITHIN.match(item):
        table.keys.append(frozenset(_names(match[1])))
    elif not _NO_COLUMN.match(item) and (match := _COLUMN.match(item)):
        name = _plain(match[1])
        table.columns.setdefault(name)
        if _OWN_KEY.search(match[2]):
            table.keys.append(frozenset([name]))


def _body(statement: str, start: int) -> str:
    depth = 1
    for token in _NESTING.finditer(statement, start):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth == 0:
            return statement[start : token.start()]
    return statement[start:]


_CUTS = {c: re.compile(rf'"(?:[^"]|"")*"|[()]|{c}') for c in ",;"}


def _cut(text: str, separator: str) -> list[str]:
    """Cut at separators outside brackets and quoted names."""
    parts, depth, begin = [], 0, 0
    for token in _CUTS[separator].finditer(text):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if token[0] == separator and depth <= 0:
            parts.append(text[begin : token.start()])
            begin, depth = token.end(), 0
    return [*parts, text[begin:]]


def _names(text: str) -> list[str]:
    return [_plain(part[0]) for item in _cut(text.strip("()"), ",") if (part := _PART.search(item))]


def _plain(name: str) -> str:
    """An identifier as the server keeps it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def _relation(name: str) -> str:
    return relation_name(name) or name


def relation_name(text: str | None) -> str | None:
    """`schema.table` of a quoted, perhaps qualified name such as pgAudit's object_name."""
    parts = [_plain(part) for part in _PART.findall(text or "")]
    if not parts:
        return None
    return ".".join(parts[-2:]) if len(parts) > 1 else f"public.{parts[0]}"
