"""Which columns a query gives, and the text of views whose tables were renamed.

In: a query whose literals are blanked, the catalog of that time. Out: its columns' names, as far as
they are known. A view keeps what it was made of: `*` is what it was then, and a renamed column
stays the view's under its old name.
"""

import re
from dataclasses import dataclass

from scalple.correlate import sqltext
from scalple.correlate.catalog import Catalog, View, bare, parted, plain
from scalple.correlate.dependent import Dependent
from scalple.correlate.functions import Functions
from scalple.correlate.queries import QueryReader
from scalple.correlate.relations import Scope
from scalple.correlate.sqltext import exp

_WORD = re.compile(r'"(?:[^"]|"")+"|[^\W\d][\w$]*|\'[^\']*\'')
_STAR = re.compile(r"\*\s*(?:,|\bFROM\b)", re.IGNORECASE)
_FIXED = ') AS "?"'
UNREADABLE = ""
"""Query of a view that can't be followed: its columns count as unknown."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Of a query."""

    names: tuple[str, ...] = ()
    sourced: tuple[bool, ...] = ()
    """Which of them come from stored columns."""
    is_closed: bool = False
    """There are no others."""
    tables: tuple[str, ...] = ()
    """Those that it reads."""

    @property
    def is_whole(self) -> bool:
        """There are no others, and each has a name."""
        return self.is_closed and not any(name.startswith("?") for name in self.names)


def columns_of(query: str, catalog: Catalog) -> Columns:
    """The columns that a query gives under a catalog."""
    return _columns.get(query, catalog, _read)


_columns: Dependent[Columns] = Dependent(1024)
_qualified: Dependent[str] = Dependent(1024)


def _read(query: str, catalog: Catalog) -> Columns:
    reader = QueryReader(catalog, {}, Functions())
    try:
        relation = reader.query(sqltext.parse(query)[0], Scope())
    except Exception:  # noqa: BLE001 - sqlglot may raise anything; then nothing is known
        return Columns()
    names = tuple(relation.columns)
    sourced = tuple(bool(ref.columns) for ref in relation.columns.values())
    is_closed = bool(names) and not relation.rest
    return Columns(names, sourced, is_closed, tuple(reader.tables))


def qualified(query: str, catalog: Catalog) -> str:
    """The query with its relations' schemas, as they are found now: later, a bare name may be
    another's."""
    return _qualified.get(query, catalog, _with_schemas)


def _with_schemas(query: str, catalog: Catalog) -> str:
    try:
        trees = sqltext.parse(query)
        ctes = {sqltext.alias_of(cte)[0] for tree in trees for cte in tree.find_all(exp.CTE)}
        bare_tables = [
            node
            for tree in trees
            for node in tree.find_all(exp.Table)
            if isinstance(node.this, exp.Identifier)
            and not node.args.get("db")
            and sqltext.name_of(node.this) not in ctes
        ]
        if not bare_tables:
            return query
        for node in bare_tables:
            name = sqltext.name_of(node.this)
            schema, _ = parted(catalog.stored(name))
            node.set("db", exp.to_identifier(schema, quoted=True))
        return trees[0].sql(dialect="postgres")
    except Exception:  # noqa: BLE001 - sqlglot may raise anything; then the names stay as they are
        return query


def has_star(query: str) -> bool:
    """Whether a query's columns depend on its tables'."""
    return _STAR.search(query) is not None


def fixed(view: View, catalog: Catalog) -> View:
    """The view as the server stores it: with the columns that its query gives now."""
    if not has_star(view.query) or view.query.endswith(_FIXED):
        return view
    found = columns_of(view.query, catalog)
    if not found.is_whole:
        return view
    listed = ", ".join(map(quoted, found.names))
    return View(f"SELECT {listed} FROM ({view.query}{_FIXED}", view.columns)


def written(relation: str) -> str:
    """A whole name as SQL."""
    return ".".join(map(quoted, parted(relation)))


def quoted(name: str) -> str:
    """A name that is read as it stands."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def mentions(view: View, name: str) -> bool:
    """Whether the query has that word."""
    return any(plain(word[0]) == name for word in _WORD.finditer(view.query))


def with_column(view: View, catalog: Catalog, table: str, old: str, new: str) -> View:
    """A view after a column of a table was renamed; `catalog` is the one before."""
    if not (mentions(view, old) and mentions(view, bare(table))):
        return view
    names = view.columns or columns_of(view.query, catalog).names
    others = (
        relation
        for relation, one in catalog.tables.items()
        if relation != table and old in one.columns and mentions(view, bare(relation))
    )
    is_clear = names and not any(n.startswith("?") for n in names) and not mentions(view, new)
    if not is_clear or any(others) or any(mentions(view, bare(v)) for v in catalog.views):
        return View(UNREADABLE, names)
    return View(_replaced(view.query, old, new), names)


def with_columns(view: View, catalog: Catalog, added: str = "", dropped: str = "") -> View:
    """What stands for a temporary table, after a column of it was added or dropped."""
    found = columns_of(view.query, catalog)
    names = (*view.columns, *found.names[len(view.columns) :])
    if not found.is_whole:
        return View(UNREADABLE, ())
    given = ", ".join(map(quoted, names))
    kept = tuple(name for name in names if name not in (added, dropped))
    listed = [quoted(name) for name in kept] + [f"NULL AS {quoted(added)}"] * bool(added)
    return View(f'SELECT {", ".join(listed)} FROM ({view.query}) AS "?" ({given})', ())


def with_table(view: View, catalog: Catalog, old: str, new: str) -> View:
    """A view after a table was renamed or moved."""
    if not mentions(view, bare(old)):
        return view
    is_clear = len(catalog.schemas.get(bare(old), ())) <= 1 and not (
        bare(old) != bare(new) and (mentions(view, bare(new)) or bare(new) in catalog.schemas)
    )
    columns = {name for table in catalog.tables.values() for name in table.columns}
    if not is_clear or bare(old) in columns:
        return View(UNREADABLE, view.columns)
    text = view.query
    if bare(old) == bare(new):
        before, after = (relation.partition(".")[0] for relation in (old, new))
        pattern = rf'(?:"{re.escape(before)}"|\b{re.escape(before)})\s*\.\s*(?="?{re.escape(bare(old))}\b)'
        return View(re.sub(pattern, f"{quoted(after)}.", text), view.columns)
    return View(_replaced(text, bare(old), bare(new)), view.columns)


def _replaced(query: str, old: str, new: str) -> str:
    return _WORD.sub(lambda m: quoted(new) if plain(m[0]) == old else m[0], query)
