"""A change of the schema with what follows from the schema of its time.

In: a `Change` as DDL says it, and the catalog before it. Out: one that means the same under any later
catalog: with the columns that its query gives, and those that LIKE and INHERITS bring.
"""

from dataclasses import replace

from scalple.correlate import derived
from scalple.correlate.catalog import Catalog, Table, View
from scalple.correlate.change import Change, Key


def resolved(change: Change, catalog: Catalog) -> Change:
    """The change with what follows from the schema of its time, so that it can be applied to later
    ones: the columns that a query gives."""
    if change.query:
        change = replace(change, query=derived.qualified(change.query, catalog))
    if change.kind == "derive":
        found = derived.columns_of(change.query, catalog)
        names = (*change.names, *found.names[len(change.names) :])
        is_named = not any(name.startswith("?") for name in names)
        change = replace(
            change,
            names=tuple(name for name in names if not name.startswith("?")),
            sourced=found.sourced,
            is_partial=change.is_partial or not (found.is_closed and is_named),
            models=found.tables,
        )
        # A session's own copy shows what it was made of; any other is a table of its own.
        return change if change.is_temporary else replace(change, kind="create", query="")
    if change.kind == "view":
        view = derived.fixed(View(change.query, change.names), catalog)
        return replace(change, query=view.query)
    if change.kind == "create" and (change.like or change.inherits):
        return _with_borrowed(change, catalog)
    return change


def _with_borrowed(change: Change, catalog: Catalog) -> Change:
    """A table with the columns of those that it was made like, or inherits from."""
    columns: dict[str, str] = {}
    keys = list(change.keys)
    is_partial = change.is_partial
    models = []
    sources = [(*parent, False) for parent in change.inherits] + list(change.like)
    for schema, name, with_keys in sources:
        relation = catalog.stored(name, schema)
        models.append(relation)
        table = catalog.tables.get(relation)
        if relation in catalog.views:
            found = derived.columns_of(f"SELECT * FROM {derived.written(relation)}", catalog)
            table = Table(dict.fromkeys(found.names), complete=found.is_whole)
        is_partial |= table is None or not table.complete
        if table is not None:
            columns |= {one: table.types.get(one, "") for one in table.columns}
            keys += [Key("", tuple(sorted(key))) for key in table.keys if with_keys]
    columns |= dict(zip(change.names, change.types, strict=True))
    return replace(
        change,
        names=tuple(columns),
        types=tuple(columns.values()),
        keys=tuple(keys),
        like=(),
        inherits=(),
        models=tuple(models),
        is_partial=is_partial,
    )
