"""What temporary copies hold, after the tables that they were made of were renamed or dropped.

In: the change that made a temporary table by a query, and the catalog of that time, or of a later one.
Out: the copied tables as they were, under names of their own, so that the copy goes on being read as a
view of these; where that can't be, its columns are perhaps each of theirs.
"""

from dataclasses import replace

from scalple.correlate import derived, sqltext
from scalple.correlate.catalog import TEMPORARY, Catalog, Table, bare, parted
from scalple.correlate.change import Change
from scalple.correlate.lineage import Lineage, Names
from scalple.correlate.sqltext import exp


def is_copy(change: Change) -> bool:
    """Whether it makes a temporary table by a query."""
    return change.kind == "derive" and change.is_temporary


def _then(change: Change, relation: str) -> str:
    return f"{TEMPORARY}.{change.name} of {relation}"


def sources(change: Change, catalog: Catalog, found: Catalog) -> None:
    """Adds to `found` the tables that a copy is made of, as they are now."""
    for relation in change.models:
        if parted(relation)[0] == TEMPORARY:
            continue
        then = _then(change, relation)
        found.note(then)
        found.tables[then] = catalog.tables.get(relation, Table()).copy()
        found.lineages.relations.of[then] = catalog.lineages.relations.get(relation)
        if (columns := catalog.lineages.columns.get(relation)) is not None:
            found.lineages.columns[then] = columns.copy()


def read_from(change: Change, catalog: Catalog, known: Catalog) -> Change:
    """The change as it is to be read under a later catalog, which gets what was copied."""
    names = {r: _then(change, r) for r in change.models if _then(change, r) in known.tables}
    moved = {
        relation: then
        for relation, then in names.items()
        if _differs(relation, then, catalog, known)
    }
    if not moved:
        return change
    for then in moved.values():
        catalog.note(then)
        catalog.tables[then] = known.tables[then]
        catalog.lineages.relations.of[then] = known.lineages.relations.of[then]
        if (columns := known.lineages.columns.get(then)) is not None:
            catalog.lineages.columns[then] = columns.copy()
        _stamp(then, catalog)
    return replace(change, query=_rewritten(change.query, moved))


def _differs(relation: str, then: str, catalog: Catalog, known: Catalog) -> bool:
    now = catalog.lineages.relations
    is_left = relation in now.gone or bool(now.owners(relation))
    return is_left or now.get(relation) != known.lineages.relations.of[then]


def _rewritten(query: str, moved: dict[str, str]) -> str:
    """The query of the tables as they were; unreadable if it reads one through something else."""
    try:
        tree = sqltext.parse(query)[0]
        left = set(moved)
        for node in list(tree.find_all(exp.Table)):
            db = node.args.get("db")
            relation = f"{db.name}.{node.name}" if db is not None else ""
            if relation not in moved:
                continue
            left.discard(relation)
            if not node.alias:
                node.set("alias", exp.TableAlias(this=exp.to_identifier(node.name, quoted=True)))
            schema, name = parted(moved[relation])
            node.set("db", exp.to_identifier(schema, quoted=True))
            node.set("this", exp.to_identifier(name, quoted=True))
        return derived.UNREADABLE if left else tree.sql(dialect="postgres")
    except Exception:  # noqa: BLE001 - sqlglot may raise anything; then it can't be followed
        return derived.UNREADABLE


def doubt(change: Change, catalog: Catalog, known: Catalog) -> None:
    """A copy that can't be followed: each column is perhaps any of those that it was made of."""
    copy = f"{TEMPORARY}.{change.name}"
    view = catalog.views.get(copy)
    mine = [one for one in (_then(change, r) for r in change.models) if one in known.tables]
    if view is None or view.query != derived.UNREADABLE or not mine:
        return
    del catalog.views[copy]
    catalog.tables[copy] = Table(dict.fromkeys(change.names))
    of = known.lineages
    owned = (
        n for one in mine for n in (*of.relations.get(one).owned, *of.relations.get(one).perhaps)
    )
    catalog.lineages.relations.of[copy] = Lineage((copy,), perhaps=tuple(dict.fromkeys(owned)))
    every: dict[str, None] = {}
    for one in mine:
        every |= known.tables[one].columns
        for lineage in of.columns.get(one, Names()).of.values():
            every |= dict.fromkeys((*lineage.owned, *lineage.perhaps))
    columns = {name: Lineage((name,), perhaps=tuple(every)) for name in change.names}
    catalog.lineages.columns[copy] = Names(columns)
    _stamp(copy, catalog)


def _stamp(relation: str, catalog: Catalog) -> None:
    """Whoever has read something of that name before has to know what it is now."""
    table = catalog.tables[relation]
    columns = catalog.lineages.columns.get(relation, Names()).of
    told = (*table.columns, *table.types.items(), *table.keys, table.complete, *columns.items())
    stamps, name = catalog.stamps, bare(relation)
    lineage = catalog.lineages.relations.get(relation)
    stamps[name] = hash((stamps.get(name, 0), told, lineage))
