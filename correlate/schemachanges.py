"""Changes of the schema, applied to a catalog.

In: a catalog that may be changed, and a `Change` (as `resolving` gives it). Out: the catalog after it. A change of which it
isn't known whether it lasted is applied on the safe side: what it brings is added, and what it
takes away stays (keys excepted: these only narrow what a statement may have read).
"""

from collections.abc import Iterable
from dataclasses import replace

from scalple.correlate import derived
from scalple.correlate.catalog import TEMPORARY, Catalog, Table, View, bare, parted
from scalple.correlate.change import Change


def apply(catalog: Catalog, change: Change, stamp: int, *, is_certain: bool = True) -> None:
    """Change the catalog.

    Args:
        catalog: which may be changed.
        change: as `resolving.resolved` gives it.
        stamp: what marks the names that it touches.
        is_certain: it is known to last.
    """
    _Applied(catalog, stamp, is_certain).change(change)


class _Applied:
    """One change."""

    def __init__(self, catalog: Catalog, stamp: int, is_certain: bool) -> None:
        self._catalog = catalog
        self._stamp = stamp
        self._is_certain = is_certain

    def change(self, change: Change) -> None:
        getattr(self, "_" + change.kind.replace("-", "_"))(change)

    # Relations

    def _create(self, change: Change) -> None:
        relation = self._new(change)
        known = self._catalog.tables.get(relation)
        if change.is_optional and self._catalog.knows(relation) and relation not in self._declared:
            return
        if self._is_certain or not self._catalog.knows(relation):
            self._made(relation, change.models)
        if change.parent is not None:
            parent = self._catalog.stored(change.parent[1], change.parent[0])
            self._attach_to(relation, parent)
            self._touch(relation)
            source = self._catalog.tables.get(parent, Table())
            self._put(relation, replace(source.copy(), keys=[], key_names=[]))
            return
        table = Table(
            dict.fromkeys(change.names),
            [frozenset(key.columns) for key in change.keys],
            not change.is_partial,
            {n: t for n, t in zip(change.names, change.types, strict=False) if t},
            [key.name for key in change.keys],
            exact=True,
        )
        if not self._is_certain and known is not None:
            table.columns |= known.columns
            table.complete &= known.complete
            table.keys, table.key_names = [], []
        if self._is_certain:
            self._catalog.forget(relation)
        self._put(relation, table)

    def _derive(self, change: Change) -> None:
        relation = self._new(change)
        if change.is_optional and relation in self._catalog.views:
            return
        self._catalog.tables.pop(relation, None)
        found = derived.columns_of(change.query, self._catalog)
        is_same = found.sourced == change.sourced and not change.is_partial
        query = change.query if is_same else derived.UNREADABLE
        view = derived.fixed(View(query, change.names), self._catalog)
        self._stamp = hash((self._stamp, view))  # what it is depends on other relations too
        self._put_view(relation, view)

    def _view(self, change: Change) -> None:
        relation = self._new(change)
        if not self._catalog.knows(relation):
            self._made(relation)
        view = View(change.query, change.names)
        if not self._is_certain and self._catalog.views.get(relation, view) != view:
            view = View(derived.UNREADABLE, ())
        self._put_view(relation, view)

    def _drop(self, change: Change) -> None:
        relation = self._relation(change)
        if self._is_certain:
            self._touch(relation)
            if relation in self._catalog.views:
                self._lose_views_over(relation)
            for child in [c for c, parent in self._catalog.parents.items() if parent == relation]:
                self._touch(child)
                self._lost(child)
                self._catalog.forget(child)
            self._lost(relation)
            self._catalog.forget(relation)
        elif parted(relation)[0] != TEMPORARY:
            self._catalog.lineages.relations.perhaps_dropped(relation)

    def _obscure(self, change: Change) -> None:
        relation = self._relation(change)
        if relation in self._catalog.views:
            self._put_view(relation, View(derived.UNREADABLE, ()))
        else:
            table = self._own(relation)
            table.complete = False
            table.keys, table.key_names = [], []

    def _rename(self, change: Change) -> None:
        relation = self._relation(change)
        self._move_to(relation, f"{parted(relation)[0]}.{change.to}")

    def _move(self, change: Change) -> None:
        relation = self._relation(change)
        self._move_to(relation, f"{change.to}.{bare(relation)}")

    def _move_to(self, old: str, new: str) -> None:
        catalog = self._catalog
        if old == new:
            return
        self._called(old, new)
        if not catalog.knows(old):
            return
        table, view = catalog.tables.get(old), catalog.views.get(old)
        self._touch(old)
        self._touch(new)
        parent = catalog.parents.get(old)
        for name, one in list(catalog.views.items()):
            changed = derived.with_table(one, catalog, old, new) if self._is_certain else one
            if changed is not one:
                self._put_view(name, changed)
        for child in [c for c, above in catalog.parents.items() if above == old]:
            catalog.parents[child] = new
            self._touch(child)
        if self._is_certain:
            catalog.forget(old)
        catalog.note(new)
        if table is not None:
            catalog.tables[new] = table
        if view is not None:
            catalog.views[new] = view
        if parent is not None:
            catalog.parents[new] = parent

    def _attach(self, change: Change) -> None:
        assert change.parent is not None
        relation = self._relation(change)
        self._touch(relation)
        self._attach_to(relation, self._catalog.stored(change.parent[1], change.parent[0]))

    def _attach_to(self, child: str, parent: str) -> None:
        self._catalog.note(child)
        if child != parent:
            self._catalog.parents[child] = parent

    def _detach(self, change: Change) -> None:
        relation = self._relation(change)
        self._touch(relation)
        parent = self._catalog.parents.get(relation)
        if parent is not None and parted(relation)[0] != TEMPORARY:
            self._catalog.lineages.inherits(relation, parent)
        if self._is_certain:
            self._catalog.parents.pop(relation, None)

    def _drop_schema(self, change: Change) -> None:
        for relation in self._in_schema(change.name):
            self._drop(Change("drop", *parted(relation)))

    def _rename_schema(self, change: Change) -> None:
        for relation in self._in_schema(change.name):
            self._move_to(relation, f"{change.to}.{bare(relation)}")

    def _in_schema(self, schema: str) -> list[str]:
        lineages = self._catalog.lineages.relations.of
        every = dict.fromkeys((*self._catalog.tables, *self._catalog.views, *lineages))
        return [relation for relation in every if parted(relation)[0] == schema]

    # Columns

    def _add_column(self, change: Change) -> None:
        self._change_view(change, added=change.column)
        for relation, table in self._family(change):
            if change.column not in table.columns:
                self._catalog.lineages.columns_of(relation).made(change.column)
                table.columns[change.column] = None
                table.types |= {change.column: change.types[0]} if change.types[0] else {}
            table.gone -= {change.column}

    def _type(self, change: Change) -> None:
        for _, table in self._family(change):
            if change.column in table.columns and self._is_certain:
                table.types[change.column] = change.types[0]
            else:
                table.types.pop(change.column, None)

    def _drop_column(self, change: Change) -> None:
        self._change_view(change, dropped=change.column)
        for relation, table in self._family(change):
            _drop_keys(table, lambda key: change.column in key)
            if self._is_certain:
                self._catalog.lineages.columns_of(relation).dropped(change.column)
                table.columns.pop(change.column, None)
                table.types.pop(change.column, None)
                table.gone |= {change.column}

    def _rename_column(self, change: Change) -> None:
        relation, old, new = self._relation(change), change.column, change.to
        known = self._catalog.tables.get(relation)
        if old == new:
            return
        if relation in self._catalog.views:
            self._column_called(relation, old, new, self._catalog.views[relation].columns)
            self._rename_view_column(relation, old, new)
            return
        if self._is_certain and known is not None and old in known.columns:
            for name, view in list(self._catalog.views.items()):
                changed = derived.with_column(view, self._catalog, relation, old, new)
                if changed is not view:
                    self._put_view(name, changed)
        for one, table in self._family(change):
            self._column_called(one, old, new, table.columns)
            if old not in table.columns:
                if not table.exact:
                    table.columns.setdefault(new)
                continue
            if self._is_certain:
                table.columns = {
                    new if name == old else name: None for name in table.columns if name != new
                }
                table.keys = [key - {old} | {new} if old in key else key for key in table.keys]
                table.gone = table.gone - {new} | {old}
            else:
                table.columns.setdefault(new)
                _drop_keys(table, lambda key: old in key)
            if kind := table.types.get(old):
                table.types[new] = kind
            if self._is_certain:
                table.types.pop(old, None)

    def _change_view(self, change: Change, added: str = "", dropped: str = "") -> None:
        """A temporary table that is known as a view."""
        relation = self._relation(change)
        view = self._catalog.views.get(relation)
        if view is not None and (added or self._is_certain):
            changed = derived.with_columns(view, self._catalog, added, dropped)
            self._lose_views_over(relation)
            self._put_view(relation, changed)

    def _lose_views_over(self, relation: str) -> None:
        """What is made of a relation that is no more, or another one now, can't be followed."""
        for name, view in list(self._catalog.views.items()):
            if name != relation and derived.mentions(view, bare(relation)):
                self._put_view(name, View(derived.UNREADABLE, ()))

    def _rename_view_column(self, relation: str, old: str, new: str) -> None:
        view = self._catalog.views[relation]
        names = view.columns or derived.columns_of(view.query, self._catalog).names
        if old not in names or not self._is_certain:
            self._put_view(relation, View(derived.UNREADABLE, ()))
        else:
            renamed = tuple(new if name == old else name for name in names)
            self._put_view(relation, View(view.query, renamed))

    # Keys

    def _add_key(self, change: Change) -> None:
        relation = self._relation(change)
        if not self._is_certain or relation in self._catalog.parents:
            return  # what is unique in a partition isn't so in the whole
        table = self._own(relation)
        for key in change.keys:
            if frozenset(key.columns) not in table.keys:
                table.keys.append(frozenset(key.columns))
                table.key_names.append(key.name)

    def _drop_key(self, change: Change) -> None:
        for _, table in self._family(change):
            is_known = change.to in table.key_names
            names = [change.to] if is_known else [""]
            kept = [
                (key, name)
                for key, name in zip(table.keys, table.key_names, strict=True)
                if name not in names
            ]
            table.keys, table.key_names = [k for k, _ in kept], [n for _, n in kept]

    def _drop_index(self, change: Change) -> None:
        for relation, table in list(self._catalog.tables.items()):
            if change.name in table.key_names:
                self._drop_key(Change("drop-key", *parted(relation), to=change.name))

    def _rename_index(self, change: Change) -> None:
        for relation, table in list(self._catalog.tables.items()):
            if change.name in table.key_names:
                own = self._own(relation)
                new = change.to if self._is_certain else ""
                own.key_names = [new if n == change.name else n for n in own.key_names]

    # What they were called before

    def _made(self, relation: str, models: Iterable[str] = ()) -> None:
        if parted(relation)[0] != TEMPORARY:
            self._catalog.lineages.made(relation, models)

    def _lost(self, relation: str) -> None:
        if parted(relation)[0] != TEMPORARY:
            self._catalog.lineages.dropped(relation)

    def _called(self, old: str, new: str) -> None:
        if parted(old)[0] == TEMPORARY:
            return
        touched = self._catalog.lineages.renamed(
            old,
            new,
            lambda other: self._resembles(old, other),
            is_certain=self._is_certain,
            is_taken=self._catalog.knows(new),
        )
        for one in sorted(touched):
            self._touch(one)

    def _resembles(self, one: str, other: str) -> bool:
        """It has all columns of the other one, as far as these are known."""
        mine, models = (self._catalog.tables.get(name) for name in (one, other))
        return models is None or (mine is not None and models.columns.keys() <= mine.columns.keys())

    def _column_called(self, relation: str, old: str, new: str, known: Iterable[str]) -> None:
        if parted(relation)[0] != TEMPORARY:
            names = self._catalog.lineages.columns_of(relation)
            names.renamed(old, new, is_certain=self._is_certain, is_taken=new in known)

    # Names

    @property
    def _declared(self) -> frozenset[str]:
        return self._catalog.declared

    def _new(self, change: Change) -> str:
        """The whole name of a relation that is made."""
        if change.is_temporary:
            return f"{TEMPORARY}.{change.name}"
        if change.schema or change.is_optional:
            return self._catalog.stored(change.name, change.schema)
        return f"public.{change.name}"

    def _relation(self, change: Change) -> str:
        return self._catalog.stored(change.name, change.schema)

    def _family(self, change: Change) -> list[tuple[str, Table]]:
        """A table and its partitions, to be changed; nothing for a view."""
        relation = self._relation(change)
        if relation in self._catalog.views:
            return []
        found = [relation]
        for one in found:  # grows while it is walked
            found += [c for c, p in self._catalog.parents.items() if p == one and c not in found]
        return [(one, self._own(one)) for one in found]

    def _own(self, relation: str) -> Table:
        self._touch(relation)
        return self._catalog.own(relation)

    def _put(self, relation: str, table: Table) -> None:
        self._touch(relation)
        self._catalog.note(relation)
        self._catalog.tables[relation] = table

    def _put_view(self, relation: str, view: View) -> None:
        self._touch(relation)
        self._catalog.note(relation)
        self._catalog.tables.pop(relation, None)
        self._catalog.views[relation] = view

    def _touch(self, relation: str) -> None:
        # Of all changes in their order: the last one alone doesn't tell what was before it.
        stamps, name = self._catalog.stamps, bare(relation)
        stamps[name] = hash((stamps.get(name, 0), self._stamp))


def _drop_keys(table: Table, is_gone: object) -> None:
    assert callable(is_gone)
    kept = [
        (key, name)
        for key, name in zip(table.keys, table.key_names, strict=True)
        if not is_gone(key)
    ]
    table.keys, table.key_names = [k for k, _ in kept], [n for _, n in kept]
