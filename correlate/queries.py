"""What a query touches: tables, columns, shape, and which literal belongs to which column.

In: trees of `sqltext` and the catalog. Out: tables, columns and bindings gathered in a
`QueryReader`, and per query a `Relation`. Resolves names as PostgreSQL does: aliases, CTEs,
views, subqueries, correlation, `*`. Sees no values; doesn't read INSERT and the like.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from scalple.correlate import sqltext
from scalple.correlate.catalog import Catalog
from scalple.correlate.relations import Place, Ref, Relation, Scope, Slot, shared_links, worst
from scalple.correlate.sqltext import exp

_NO_COLUMNS = {"default", "current_user", "session_user", "user", "current_role"}


@dataclass(frozen=True, slots=True)
class Binding:
    """A slot whose value belongs to a column."""

    slot: Slot
    column: str
    is_value: bool
    """It is the column's value (=, IN, VALUES, SET), rather than only compared with it."""


class QueryReader:
    """Walks the statements of one text and gathers what they touch."""

    def __init__(self, catalog: Catalog, identifiers: frozenset[str]) -> None:
        self.tables: dict[str, None] = {}
        self.columns: dict[str, None] = {}
        self.bindings: dict[Binding, None] = {}
        self.carried: dict[str, None] = {}
        """Columns that meet, or are given, what may be a constant from elsewhere."""
        self.unknown = False
        self.starred = False
        self.catalog = catalog
        self._identifiers = identifiers
        self.valued: set[tuple[int, bool]] = set()
        self._views = 0

    def write(self, node: exp.Expr, outer: Scope) -> Relation:
        """INSERT and the like within WITH: for who reads whole statements."""
        raise sqltext.Unread("writes")

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
            inner.ctes[name] = read(cte.this, inner).renamed(names)
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
            return Relation(columns, left.rest + right.rest, worst([left.shape, right.shape]))
        if isinstance(node, exp.Select):
            return self._select(node, outer, is_test)
        if isinstance(node, exp.Subquery) and not isinstance(node.this, exp.Table):
            return self.query(node.this, outer)
        scope = Scope(outer=outer, ctes=outer.ctes)
        if isinstance(node, exp.Subquery | exp.Table):
            self.add(scope, node)
        else:
            self.expression(node, scope)
        return Relation(shape=worst(r.shape for r in scope.relations.values()))

    def add(self, scope: Scope, node: exp.Expr) -> list[Relation]:
        """Bring a FROM item into sight; returns the relations it brought."""
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
            added = self.add(scope, node.this)
        else:
            alias, names = sqltext.alias_of(node)
            relation = self._from_item(scope, node)
            relation = Relation(relation.columns, relation.rest, relation.shape).renamed(names)
            scope.relations[alias or f"?{len(scope.relations)}"] = relation
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
        table = self.catalog.qualify(
            sqltext.name_of(node.this), sqltext.name_of(schema) if schema else None
        )
        self.tables.setdefault(table)
        if table in self.catalog.views and self._views < 5:
            return self._view(table)
        known = self.catalog.tables.get(table)
        columns = {n: Ref((f"{table}.{n}",), True) for n in (known.columns if known else ())}
        return Relation(columns, () if known and known.complete else (table,), "full")

    def _view(self, table: str) -> Relation:
        view = self.catalog.views[table]
        before = dict(self.columns)
        self._views += 1
        try:
            relation = self.query(sqltext.parse(view.query)[0], Scope()).renamed(view.columns)
        except Exception:  # noqa: BLE001 - a view that can't be read is a table
            relation = Relation({}, (table,), "full")
        self._views -= 1
        self.columns = before  # the view's other columns aren't read by who asks for one
        named = {
            name: Ref((*ref.columns, f"{table}.{name}"), ref.is_direct)
            for name, ref in relation.columns.items()
        }
        return Relation(named, relation.rest, relation.shape)

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
            inner.links += shared_links(using, list(scope.relations.values()), added)
            self._carry_shared(using, list(scope.relations.values()))
        # An outer join narrows only the side whose rows may be missing.
        narrowed = {"LEFT": new, "RIGHT": earlier, "FULL": set()}.get(side, earlier | new)
        scope.links += [(a, b) for a, b in inner.links if b in narrowed]
        scope.same |= {} if side else inner.same
        scope.values += inner.values
        scope.ranged |= inner.ranged & narrowed
        for home in inner.pinned.keys() & narrowed:
            scope.pinned.setdefault(home, set()).update(inner.pinned[home])
        return added

    def _carry_shared(self, using: list[str], relations: list[Relation]) -> None:
        for name in using or {name for relation in relations for name in relation.columns}:
            refs = [relation.columns.get(name) for relation in relations]
            without = any(not r.columns and not r.rest for r in relations)
            columns = tuple(c for ref in refs if ref for c in ref.columns)
            self.carry(columns, without or any(ref.carries for ref in refs if ref))

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
        result.shape = scope.shape(self._pinned(scope))
        if result.shape in ("full", "range") and sqltext.only_aggregates(node.expressions):
            result.shape = "aggregate"
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
            found = self._direct(inner, scope)
            columns = found[1] if found else self._columns_in(inner, scope)
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
        self._resolve_all(root, scope)
        self._compare_all(root, scope)

    def _resolve_all(self, root: exp.Expr, scope: Scope) -> None:
        """Resolve the columns below a node and read its subqueries."""
        for node in sqltext.own(root):
            if isinstance(node, exp.Column):
                self._resolve(node, scope)
            elif isinstance(node, exp.Query):
                is_test = isinstance(node.parent, exp.Exists)
                relation = self.query(node, scope, is_test=is_test)
                scope.nested.append(relation.shape)
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
            ref = relation.find(sqltext.name_of(node.this))
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
            if len(open_ended) == 1 and name not in _NO_COLUMNS:
                ref = open_ended[0].find(name)
                self.unknown |= ref is None
                if ref and any(not r.columns and not r.rest for r in level.relations.values()):
                    ref = replace(ref, is_made=True)  # or it is the function's
                return (open_ended[0], ref) if ref else None
            if open_ended and name not in _NO_COLUMNS:
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

    def _columns_in(self, root: exp.Expr, scope: Scope) -> tuple[str, ...]:
        refs = [scope.refs[id(n)][1] for n in sqltext.own(root) if id(n) in scope.refs]
        return tuple(dict.fromkeys(c for ref in refs for c in ref.columns))

    def is_made(self, root: exp.Expr, scope: Scope) -> bool:
        """A constant stands below a node, or may come through a name or subquery below it."""
        return bool(sqltext.slots_in(root)) or self.has_carrier(sqltext.own(root), scope)

    def has_carrier(self, nodes: Iterable[exp.Expr], scope: Scope) -> bool:
        for node in nodes:
            if id(node) in scope.carriers:
                return True
            if isinstance(node, exp.Column):
                found = scope.refs.get(id(node))
                if found[1].carries if found else node.name.lower() not in _NO_COLUMNS:
                    return True
        return False

    def carry(self, columns: Iterable[str], is_carried: bool) -> None:
        if is_carried:
            self.carried.update(dict.fromkeys(columns))

    # Predicates

    def condition(self, root: exp.Expr, scope: Scope, into: Scope) -> None:
        """Read a predicate that every row must meet: what it pins, links, mentions, compares."""
        self._resolve_all(root, scope)
        into.pin(self._pins(root, scope, into))
        for leaf in sqltext.leaves(root):
            homes = {scope.refs[id(n)][0] for n in sqltext.own(leaf) if id(n) in scope.refs}
            if any(isinstance(n, exp.Query) for n in sqltext.own(leaf)):
                into.ranged |= {id(r) for r in scope.relations.values()}
            elif not (isinstance(leaf, exp.EQ) and len(homes) > 1):
                into.ranged |= homes
        self._compare_all(root, scope)

    def _pins(self, node: exp.Expr, scope: Scope, into: Scope) -> list[Place]:
        """Columns that a predicate makes equal to constants."""
        node = node.unnest()
        if isinstance(node, exp.And):
            return [p for part in node.flatten() for p in self._pins(part, scope, into)]
        if isinstance(node, exp.Or):
            return self._pins_either(list(node.flatten()), scope, into)
        if isinstance(node, exp.EQ | exp.NullSafeEQ):
            return self._pins_equal(node.this, node.expression, scope, into)
        if isinstance(node, exp.In) and not node.args.get("query"):
            return [
                place
                for option in node.expressions
                for place in self._pins_equal(node.this, option, scope, into)
            ]
        return []

    def _pins_either(self, parts: list[exp.Expr], scope: Scope, into: Scope) -> list[Place]:
        """Of alternatives: the relations that each of them pins, by whichever key."""
        homes: set[int] | None = None
        for part in parts:
            alone = Scope(relations=scope.relations)
            alone.pin(self._pins(part, scope, alone))
            into.values += alone.values
            pinned = self._pinned(alone)
            homes = pinned if homes is None else homes & pinned
        return [(home, ("*",)) for home in homes or ()]

    def _pins_equal(
        self, left: exp.Expr, right: exp.Expr, scope: Scope, into: Scope
    ) -> list[Place]:
        row, other = sqltext.row_of(left), sqltext.row_of(right)
        if row and other:
            pairs = zip(row, other, strict=False)
            return [p for a, b in pairs for p in self._pins_equal(a, b, scope, into)]
        place, opposite = self._direct(left, scope), self._direct(right, scope)
        if place and opposite:
            into.same.setdefault((place, opposite))
            into.links += [(place[0], opposite[0]), (opposite[0], place[0])]
            return []
        value = right if place else left
        place = place or opposite
        slots = sqltext.constants(value)
        if place is None or slots is None:
            return []
        into.values += [(place, slot) for slot in slots]
        self.valued.update((slot.number, slot.is_parameter) for slot in slots)
        return [place]

    def _direct(self, node: exp.Expr, scope: Scope) -> Place | None:
        while isinstance(node, sqltext.WRAPPERS):
            node = node.this
        home, ref = scope.refs.get(id(node), (0, None))
        return (home, ref.columns) if ref and ref.is_direct else None

    def _pinned(self, scope: Scope) -> set[int]:
        """Relations of which the pinned columns leave one row, or one person's."""
        return {home for home, columns in scope.pinned.items() if self._is_key(columns)}

    def _is_key(self, columns: set[str]) -> bool:
        if "*" in columns or not self._identifiers.isdisjoint(columns):
            return True
        tables = {c.rpartition(".")[0] for c in columns}
        return any(
            key and {f"{table}.{name}" for name in key} <= columns
            for table in tables & self.catalog.tables.keys()
            for key in self.catalog.tables[table].keys
        )

    def bind_values(self, scope: Scope) -> None:
        """Columns that equal one another have one value."""
        places: dict[Place, list[Place]] = {}
        for place, slot in scope.values:
            if place not in places:
                places[place] = scope.equal_places(place)
            for _, columns in places[place]:
                for column in columns:
                    self.bindings.setdefault(Binding(slot, column, True))

    def _compare_all(self, root: exp.Expr, scope: Scope) -> None:
        """Literals near a column in a comparison or an operation may tell its value."""
        done: set[int] = set()
        for node in sqltext.own(root):
            if isinstance(node, exp.Case) and node.this is not None:
                columns = self._columns_in(node.this, scope)
                for branch in node.args["ifs"] if columns else ():
                    self.bind_compared(branch.this, columns)
                    self.carry(columns, self.has_carrier(sqltext.own(branch.this), scope))
            if id(node) in done:
                continue
            if isinstance(node, sqltext.COMPARISONS):
                nodes = list(sqltext.own(node))
            elif sqltext.is_operation(node):
                nodes = sqltext.operands(node)
            else:
                continue
            done.update(map(id, nodes))
            refs = [scope.refs[id(n)][1] for n in nodes if id(n) in scope.refs]
            given = [c for n in nodes for c in scope.answers.get(id(n), ())]
            if columns := tuple(dict.fromkeys([*(c for r in refs for c in r.columns), *given])):
                self._bind(sqltext.slots_among(nodes, node), columns)
                self.carry(columns, self.has_carrier(nodes, scope))

    def bind_compared(self, root: exp.Expr, columns: Iterable[str]) -> None:
        self._bind(sqltext.slots_in(root), columns)

    def _bind(self, slots: Iterable[Slot], columns: Iterable[str]) -> None:
        for slot in slots:
            if (slot.number, slot.is_parameter) not in self.valued:
                for column in columns:
                    self.bindings.setdefault(Binding(slot, column, False))
