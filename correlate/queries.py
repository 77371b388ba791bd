"""What a query touches: tables, columns, shape, and which literal belongs to which column.

In: trees of `sqltext` and the catalog. Out: tables, columns and bindings gathered in a
`QueryReader`, and per query a `Relation`. Resolves names as PostgreSQL does: aliases, CTEs,
views, subqueries, correlation, `*`. Sees no values; doesn't read INSERT and the like.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

from scalple.correlate import sqltext
from scalple.correlate.catalog import Catalog
from scalple.correlate.functions import Functions
from scalple.correlate.predicates import MOST, NO_COLUMNS, PredicateReader
from scalple.correlate.relations import Place, Read, Ref, Relation, Scope, together
from scalple.correlate.rewriting import Unread
from scalple.correlate.sqltext import exp

_OF_EVERY_TABLE = {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"}


class QueryReader(PredicateReader):
    """Walks the statements of one text and gathers what they touch."""

    def __init__(
        self, catalog: Catalog, identifiers: Mapping[str, Sequence[str]], functions: Functions
    ) -> None:
        super().__init__(catalog, identifiers, functions)
        self.tables: dict[str, None] = {}
        self.columns: dict[str, None] = {}
        self.unknown = False
        self.starred = False
        self.written: list[Read] = []
        """Of INSERT and the like within WITH, which run whether anybody reads them or not."""
        self._views = 0
        self._known_views: dict[str, Relation] = {}

    def write(self, node: exp.Expr, outer: Scope) -> Relation:
        """INSERT and the like within WITH: for who reads whole statements."""
        raise Unread("writes")

    # Relations

    def with_ctes(self, node: exp.Expr, scope: Scope) -> Scope:
        clause = node.args.get("with_")
        if clause is None:
            return scope
        inner = Scope(outer=scope, ctes=dict(scope.ctes))
        for cte in clause.expressions:
            name, names = sqltext.alias_of(cte)
            inner.ctes[name] = Relation({n: Ref(()) for n in names})  # for its own recursion
            is_query = isinstance(cte.this, exp.Query | exp.Values)
            read = self.query if is_query else self.write
            relation = read(cte.this, inner)
            self.written += [] if is_query else [relation.read]
            inner.ctes[name] = relation.renamed(names)
        return inner

    def query(self, node: exp.Expr, outer: Scope, *, is_test: bool = False) -> Relation:
        outer = self.with_ctes(node, outer)
        if isinstance(node, exp.SetOperation):
            left, right = self.query(node.this, outer), self.query(node.expression, outer)
            pairs = zip(left.columns.items(), right.columns.values(), strict=False)
            columns = {
                name: Ref(
                    tuple({**dict.fromkeys(a.columns), **dict.fromkeys(b.columns)}),
                    a.is_direct and b.is_direct,
                    a.carries or b.carries,
                )
                for (name, a), b in pairs
            }
            for ref in columns.values():
                self.carry(ref.columns, ref.carries)
            return Relation(columns, left.rest + right.rest, together([left.read, right.read]))
        if isinstance(node, exp.Select):
            return self._select(node, outer, is_test)
        if isinstance(node, exp.Subquery) and not isinstance(node.this, exp.Table):
            return self.query(node.this, outer)
        scope = Scope(outer=outer, ctes=outer.ctes)
        if isinstance(node, exp.Subquery | exp.Table):
            self.add(scope, node)
        else:
            self.expression(node, scope)
        return Relation(read=together([*scope.nested, *(r.read for r in scope.relations.values())]))

    def add(self, scope: Scope, node: exp.Expr) -> list[Relation]:
        """Bring a FROM item into sight; returns the relations it brought."""
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
            added = self.add(scope, node.this)
        else:
            alias, names = sqltext.alias_of(node)
            relation = self._from_item(scope, node)
            relation = Relation(relation.columns, relation.rest, relation.read).renamed(names)
            scope.relations[alias or f"?{len(scope.relations)}"] = relation
            if len(scope.relations) > MOST:
                raise Unread("too many relations")
            added = [relation]
        for join in node.args.get("joins") or []:
            added += self._join(scope, join)
        return added

    def _from_item(self, scope: Scope, node: exp.Expr) -> Relation:
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            name = sqltext.name_of(node.this)
            if not node.args.get("db") and name in scope.ctes:
                return scope.ctes[name]
            return self.stored(node)
        if isinstance(node, exp.Lateral):
            node = node.this
        if isinstance(node, exp.Query):
            return self.query(node, scope)
        self.expression(node, scope)  # a function or VALUES
        return Relation()

    def stored(self, node: exp.Table) -> Relation:
        schema = node.args.get("db")
        table = self.catalog.stored(
            sqltext.name_of(node.this), sqltext.name_of(schema) if schema else None
        )
        self.tables.setdefault(table)
        if table in self.catalog.views and self._views < 5:
            return self._view(table)
        table = self.catalog.whole(table)  # of a partition, the declared columns are its parent's
        self.tables.setdefault(table)
        known = self.catalog.tables.get(table)
        columns = {n: Ref((f"{table}.{n}",), True) for n in (known.columns if known else ())}
        return Relation(columns, () if known and known.complete else (table,), Read("full"))

    def _view(self, table: str) -> Relation:
        known = self._known_views.get(table)
        if known is not None:  # read once, however many other views are made of it
            return replace(known)
        view = self.catalog.views[table]
        before = dict(self.columns)
        self._views += 1
        try:
            relation = self.query(sqltext.parse(view.query)[0], Scope()).renamed(view.columns)
        except Exception:  # noqa: BLE001 - a view that can't be read is a table
            relation = Relation({}, (table,), Read("full"))
        self._views -= 1
        self.columns = before  # the view's other columns aren't read by who asks for one
        named = {
            name: Ref((*ref.columns, f"{table}.{name}"), ref.is_direct)
            for name, ref in relation.columns.items()
        }
        found = Relation(named, relation.rest, relation.read)
        self._known_views[table] = found
        return replace(found)

    def _join(self, scope: Scope, join: exp.Join) -> list[Relation]:
        earlier = {id(r) for r in scope.relations.values()}
        added = self.add(scope, join.this)
        new = {id(r) for r in added}
        condition, side = join.args.get("on"), join.side
        inner = Scope(outer=scope, ctes=scope.ctes, refs=scope.refs)
        if condition is not None:
            self.condition(condition, scope, inner)
        if join.args.get("using") or join.method == "NATURAL":
            using = [sqltext.name_of(name) for name in sqltext.listed(join.args.get("using"))]
            self._share(using, scope, added, inner)
        # An outer join narrows only the side whose rows may be missing.
        narrowed = {"LEFT": new, "RIGHT": earlier, "FULL": set()}.get(side, earlier | new)
        scope.links += [link for link in inner.links if link.target in narrowed]
        scope.same |= {} if side else inner.same
        scope.values += inner.values
        scope.loosen(inner.loose)
        scope.ranged |= inner.ranged & narrowed
        for home in inner.pinned.keys() & narrowed:
            scope.pinned.setdefault(home, set()).update(inner.pinned[home])
        return added

    def _share(self, using: list[str], scope: Scope, added: list[Relation], into: Scope) -> None:
        """USING, or NATURAL without names: the columns of one name are equal."""
        relations = list(scope.relations.values())
        earlier = relations[: -len(added)]
        common = using or [n for new in added for n in new.columns if self._has(earlier, n)]
        for name in common:
            here, there = self._places(added, name), self._places(earlier, name)
            for one, other in product(here[:1], there):
                self.link(one, other, scope, into)
        for name in using or {name for relation in relations for name in relation.columns}:
            refs = [relation.columns.get(name) for relation in relations]
            without = any(not r.columns and not r.rest for r in relations)
            columns = tuple(c for ref in refs if ref for c in ref.columns)
            self.carry(columns, without or any(ref.carries for ref in refs if ref))

    @staticmethod
    def _has(relations: list[Relation], name: str) -> bool:
        return any(name in relation.columns for relation in relations)

    def _places(self, relations: list[Relation], name: str) -> list[Place]:
        found = [(relation, ref) for relation in relations if (ref := relation.find(name))]
        for _, ref in found:
            self.touch_columns(ref)
        return [(id(relation), ref.columns) for relation, ref in found if ref.is_direct]

    # SELECT

    def _select(self, node: exp.Select, outer: Scope, is_test: bool) -> Relation:
        scope = Scope(outer=outer, ctes=outer.ctes)
        if source := node.args.get("from_"):
            self.add(scope, source.this)
        for join in node.args.get("joins") or []:
            self._join(scope, join)
        for lateral in node.args.get("laterals") or []:
            self.add(scope, lateral)
        if into := node.args.get("into"):
            self.stored(into.this)
        scope.aliases = {
            sqltext.name_of(e.args["alias"]) for e in node.expressions if e.args.get("alias")
        }
        result = self.projections(node.expressions, scope, is_test)
        for key in ("where", "having", "group", "order", "distinct", "windows", "limit"):
            for part in sqltext.listed(node.args.get(key)):
                if key in ("where", "having"):
                    self.condition(part.this, scope, scope)
                else:
                    self.expression(part, scope)
        self.bind_values(scope)
        result.read = scope.read(self.pinned_in(scope), self.held)
        is_wide = result.read.shape in ("full", "range")
        if is_wide and sqltext.only_aggregates(node.expressions):
            result.read = Read("aggregate")
        return result

    def projections(self, nodes: list[exp.Expr], scope: Scope, is_test: bool) -> Relation:
        result = Relation()
        for i, node in enumerate(nodes):
            if sqltext.is_star(node):
                if not is_test:
                    self.star(node, scope, result)
                continue
            self.expression(node, scope)
            inner = node.this if isinstance(node, exp.Alias) else node
            found = self.direct(inner, scope)
            columns = found[1] if found else self.columns_in(inner, scope)
            name = sqltext.name_of(node.args["alias"]) if node.args.get("alias") else ""
            if not name and isinstance(inner, exp.Column):
                name = sqltext.name_of(inner.this)
            is_made = self.is_made(inner, scope)
            result.columns[name or f"?{i}"] = Ref(columns, found is not None, is_made)
        return result

    def star(self, node: exp.Expr, scope: Scope, result: Relation) -> None:
        self.starred = True
        if isinstance(node, exp.Column):
            relation = self._by_alias(node, scope)
            relations = [relation] if relation else []
        else:
            relations = list(scope.relations.values())
        for relation in relations:
            result.columns |= relation.columns
            result.rest += relation.rest
            self.touch_columns(relation.everything())
            self.unknown |= bool(relation.rest)

    # Expressions

    def expression(self, root: exp.Expr, scope: Scope) -> None:
        self.resolve_all(root, scope)
        self.compare_all(root, scope)

    def resolve_all(self, root: exp.Expr, scope: Scope) -> None:
        """Resolve the columns below a node and read its subqueries."""
        for node in sqltext.own(root):
            if isinstance(node, exp.Column):
                self._resolve(node, scope)
            elif isinstance(node, exp.Query):
                is_test = isinstance(node.parent, exp.Exists)
                relation = self.query(node, scope, is_test=is_test)
                scope.nested.append(relation.read)
                scope.answers[id(node)] = () if is_test else relation.everything().columns
                if relation.carries and not is_test:
                    scope.carriers.add(id(node))

    def _resolve(self, node: exp.Column, scope: Scope) -> None:
        found = self._lookup(node, scope)
        if found:
            relation, ref = found
            scope.refs[id(node)] = (id(relation), ref)
            self.touch_columns(ref)

    def touch_columns(self, ref: Ref) -> None:
        self.columns.update(dict.fromkeys(ref.columns))

    def _lookup(self, node: exp.Column, scope: Scope) -> tuple[Relation, Ref] | None:
        if node.args.get("table"):
            relation = self._by_alias(node, scope)
            if relation is None:
                return None
            if isinstance(node.this, exp.Star):
                return relation, relation.everything()
            name = sqltext.name_of(node.this)
            ref = relation.find(name)
            if ref is None and name not in _OF_EVERY_TABLE and (relation.columns or relation.rest):
                self.unknown = True  # the schema is older than the statement
            return (relation, ref) if ref else None
        name = sqltext.name_of(node.this)
        if name in scope.aliases and sqltext.is_in_order(node):
            return None
        for level in scope.chain():
            for relation in level.relations.values():
                if name in relation.columns:
                    return relation, relation.columns[name]
            if name in level.relations:  # the whole row
                self.starred |= bool(level.relations[name].columns)
                self.unknown |= bool(level.relations[name].rest)
                return level.relations[name], level.relations[name].everything()
            open_ended = [r for r in level.relations.values() if r.rest]
            if len(open_ended) == 1 and name not in NO_COLUMNS:
                ref = open_ended[0].find(name)
                self.unknown |= ref is None
                if ref and any(not r.columns and not r.rest for r in level.relations.values()):
                    ref = replace(ref, is_made=True)  # or it is the function's
                return (open_ended[0], ref) if ref else None
            if open_ended and name not in NO_COLUMNS:
                self.unknown = True
                return None
        return None

    def _by_alias(self, node: exp.Column, scope: Scope) -> Relation | None:
        name = sqltext.name_of(node.args["table"])
        for level in scope.chain():
            found = level.relations.get(name) or level.hidden.get(name)
            if found:
                return found
        return None
