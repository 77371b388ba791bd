"""What is known of the database's relations at one time: columns, keys, types, queries of views.

In: changes (`schemachanges`) and declared columns. Out: names resolved as PostgreSQL would, as far
as that is known. Reads no DDL and no queries, and knows no search_path: a bare name is the
session's temporary table, else in the one schema that has it, else in `public`, except pg_*
(`pg_catalog`). A partition goes by its parent's name: what is read of it is the parent's data.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from scalple.correlate import templates
from scalple.correlate.lineage import Lineages

_NAME = re.compile(r'"(?:[^"]|"")+"|[^\W\d][\w$]*')
_TEMPORARY = re.compile(r"pg_temp(?:_\d+)?")
_CLIENT_LINES = re.compile(r"^\\.*$", re.MULTILINE)
TEMPORARY = "pg_temp"
_serials = itertools.count(1)


@dataclass(slots=True)
class Table:
    """Columns in order; `complete` unless only declarations or single changes tell of them."""

    columns: dict[str, None] = field(default_factory=dict)
    keys: list[frozenset[str]] = field(default_factory=list)
    complete: bool = False
    types: dict[str, str] = field(default_factory=dict)
    """Column -> type without its modifiers (`integer`, `text`, `uuid`, `character varying`, …)."""
    key_names: list[str] = field(default_factory=list)
    """Of `keys`, one by one; empty where the name isn't known."""
    exact: bool = False
    """As the server had it at that time: what is declared beyond that wasn't there."""
    gone: frozenset[str] = frozenset()
    """Columns that were taken away."""

    def copy(self) -> "Table":
        """One that can be changed without changing this one."""
        return replace(
            self,
            columns=dict(self.columns),
            keys=list(self.keys),
            types=dict(self.types),
            key_names=list(self.key_names),
        )


@dataclass(frozen=True, slots=True)
class View:
    """A query, and the names of its columns, where they aren't the query's own."""

    query: str
    columns: tuple[str, ...]


@dataclass(slots=True)
class Catalog:
    """The relations of one time. Tables are shared between catalogs: take `own` to change one."""

    tables: dict[str, Table] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    schemas: dict[str, frozenset[str]] = field(default_factory=dict)
    """Bare name -> schemas that have a relation of that name."""
    parents: dict[str, str] = field(default_factory=dict)
    """Partition -> the table that it is a part of."""
    lineages: Lineages = field(default_factory=Lineages)
    """What relations and columns were called before."""
    stamps: dict[str, int] = field(default_factory=dict)
    """Bare name -> a number for the changes that relations of that name saw."""
    epoch: int = 0
    """The serial of the schema that it began with."""
    declared: frozenset[str] = frozenset()
    """Relations that declarations name: such a partition goes by its own name."""
    asked: set[str] | None = None
    """Gathers the bare names that are asked for, while somebody wants to know."""
    serial: int = field(default_factory=lambda: next(_serials))
    """No other catalog has it."""

    def copy(self) -> "Catalog":
        """One that can be changed without changing this one."""
        return replace(
            self,
            tables=dict(self.tables),
            views=dict(self.views),
            schemas=dict(self.schemas),
            parents=dict(self.parents),
            lineages=self.lineages.copy(),
            stamps=dict(self.stamps),
            asked=None,
            serial=next(_serials),
        )

    def qualify(self, name: str, schema: str | None = None) -> str:
        """`schema.name` of a relation; of a partition, its parent's."""
        return self.whole(self.stored(name, schema))

    def stored(self, name: str, schema: str | None = None) -> str:
        """`schema.name` of a relation, a partition's own."""
        if self.asked is not None:
            self.asked.add(name)
        if schema:
            return f"{TEMPORARY if _TEMPORARY.fullmatch(schema) else schema}.{name}"
        known = self.schemas.get(name, frozenset())
        if TEMPORARY in known:
            return f"{TEMPORARY}.{name}"
        if "public" in known or not known:
            is_system = name.startswith("pg_") and not known
            return f"{'pg_catalog' if is_system else 'public'}.{name}"
        return f"{min(known)}.{name}"

    def whole(self, relation: str) -> str:
        """Of a partition, the table that it is a part of in the end; of any other, itself."""
        for _ in range(len(self.parents)):
            if relation in self.declared or relation not in self.parents:
                break
            relation = self.parents[relation]
            if self.asked is not None:
                self.asked.add(bare(relation))
        return relation

    def declare(self, columns: Iterable[str]) -> None:
        """Columns (`schema.table.column`) that exist according to the configuration."""
        for column in columns:
            relation, _, name = column.rpartition(".")
            self.declared |= {relation}
            table = self.own(relation)
            if not (table.exact and table.complete) and name not in table.gone:
                table.columns.setdefault(name)

    def own(self, relation: str) -> Table:
        """A table of this catalog alone; made if there is none."""
        self.note(relation)
        self.tables[relation] = table = self.tables.get(relation, Table()).copy()
        return table

    def note(self, relation: str) -> None:
        """That there is a relation of that name."""
        schema, name = parted(relation)
        self.schemas[name] = self.schemas.get(name, frozenset()) | {schema}

    def forget(self, relation: str) -> None:
        """That there is none any more."""
        self.tables.pop(relation, None)
        self.views.pop(relation, None)
        self.parents.pop(relation, None)
        schema, name = parted(relation)
        if left := self.schemas.get(name, frozenset()) - {schema}:
            self.schemas[name] = left
        else:
            self.schemas.pop(name, None)

    def knows(self, relation: str) -> bool:
        """Whether a table or view of that name is known."""
        return relation in self.tables or relation in self.views


def parted(relation: str) -> tuple[str, str]:
    """(schema, name) of a whole name."""
    schema, dot, name = relation.partition(".")
    return (schema, name) if dot else ("public", schema)


def bare(relation: str) -> str:
    """The name without its schema."""
    return parted(relation)[1]


def plain(name: str) -> str:
    """An identifier as the server keeps it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def relation_name(text: str | None, *, last: int = 0) -> str | None:
    """`schema.table` of a quoted, perhaps qualified name such as pgAudit's object_name.

    `last` parts of the name are something else: a column.
    """
    parts = [plain(part) for part in _NAME.findall(text or "")]
    parts = parts[: len(parts) - last]
    if not parts:
        return None
    if len(parts) > 1 and _TEMPORARY.fullmatch(parts[-2]):
        parts[-2] = TEMPORARY
    return ".".join(parts[-2:]) if len(parts) > 1 else f"public.{parts[0]}"


def without_literals(text: str) -> str:
    """SQL text with its strings and numbers blanked, its comments and psql's own lines gone."""
    _, skeleton = templates.split(_CLIENT_LINES.sub("", text))
    blanked = skeleton.replace(templates.STRING, "''").replace(templates.NUMBER, "0")
    return blanked.replace(templates.COMMENT, " ")


def read_schema(text: str | None) -> Catalog:
    """The catalog that DDL text, or a snapshot, describes; empty without text.

    Raises:
        InputError: a snapshot that can't be read.
    """
    from scalple.correlate.schematext import catalog_of  # it builds on this module

    return catalog_of(text)
