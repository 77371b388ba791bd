"""What predicates say: which columns equal which values, and what stands beside a column.

In: trees of `sqltext` whose columns a reader has resolved in a `Scope`. Out: bindings of slots to
columns, and in the scope what its predicates pin, link and mention. Resolves no names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scalple.correlate import sqltext
from scalple.correlate.catalog import Catalog
from scalple.correlate.functions import Functions
from scalple.correlate.relations import Link, Place, Scope, Slot
from scalple.correlate.rewriting import Unread
from scalple.correlate.sqltext import exp

MOST = 200  # relations of one SELECT, and columns of one value: where work grows with the square
NO_COLUMNS = {"default", "current_user", "session_user", "user", "current_role"}


@dataclass(frozen=True, slots=True)
class Binding:
    """A slot whose value belongs to a column."""

    slot: Slot
    column: str
    is_value: bool
    """It is the column's value (=, IN, VALUES, SET), rather than only compared with it."""


class PredicateReader:
    """Reads predicates and expressions, and gathers what they bind."""

    def __init__(
        self, catalog: Catalog, identifiers: Mapping[str, Sequence[str]], functions: Functions
    ) -> None:
        """`identifiers`: column -> names of the identifiers that it holds."""
        self.catalog = catalog
        self.bindings: dict[Binding, None] = {}
        self.carried: dict[str, None] = {}
        """Columns that meet, or are given, what may be a constant from elsewhere."""
        self.valued: set[tuple[int, bool]] = set()
        self._identifiers = identifiers
        self.held: dict[str, frozenset[str]] = {}
        """Table -> the identifiers that its rows hold."""
        for column, names in identifiers.items():
            table = column.rpartition(".")[0]
            self.held[table] = self.held.get(table, frozenset()).union(names)
        self._functions = functions

    def resolve_all(self, root: exp.Expr, scope: Scope) -> None:
        """Resolve the columns below a node: for who knows the relations."""
        raise NotImplementedError

    def columns_in(self, root: exp.Expr, scope: Scope) -> tuple[str, ...]:
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
                if found[1].carries if found else node.name.lower() not in NO_COLUMNS:
                    return True
        return False

    def carry(self, columns: Iterable[str], is_carried: bool) -> None:
        if is_carried:
            self.carried.update(dict.fromkeys(columns))

    def condition(self, root: exp.Expr, scope: Scope, into: Scope) -> None:
        """Read a predicate that every row must meet: what it pins, links, mentions, compares."""
        self.resolve_all(root, scope)
        into.pin(self._pins(root, scope, into))
        for leaf in sqltext.leaves(root):
            homes = {scope.refs[id(n)][0] for n in sqltext.own(leaf) if id(n) in scope.refs}
            if any(isinstance(n, exp.Query) for n in sqltext.own(leaf)):
                into.ranged |= {id(r) for r in scope.relations.values()}
            elif not (isinstance(leaf, exp.EQ) and len(homes) > 1):
                into.ranged |= homes
        self.compare_all(root, scope)

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
            found = [
                self._pins_equal(node.this, option, scope, into) for option in node.expressions
            ]
            return [place for places in found for place in places] if all(found) else []
        return []

    def _pins_either(self, parts: list[exp.Expr], scope: Scope, into: Scope) -> list[Place]:
        """Of alternatives: the columns that each of them pins."""
        every: list[dict[int, set[str]]] = []
        for part in parts:
            alone = Scope(relations=scope.relations)
            alone.pin(self._pins(part, scope, alone))
            into.values += alone.values
            into.loosen(alone.loose)
            for (home, columns), _ in alone.values:
                into.loosen({home: self._named_by(columns)})
            every.append(alone.pinned)
        common = {home: set.intersection(*(p.get(home, set()) for p in every)) for home in every[0]}
        return [(home, tuple(sorted(columns))) for home, columns in common.items() if columns]

    def _pins_equal(
        self, left: exp.Expr, right: exp.Expr, scope: Scope, into: Scope
    ) -> list[Place]:
        row, other = sqltext.row_of(left), sqltext.row_of(right)
        if row and other:
            pairs = zip(row, other, strict=False)
            return [p for a, b in pairs for p in self._pins_equal(a, b, scope, into)]
        place, opposite = self.direct(left, scope), self.direct(right, scope)
        if place and opposite:
            self.link(place, opposite, scope, into)
            return []
        value = right if place else left
        place = place or opposite
        slots = sqltext.constants(value)
        if place is None or slots is None:
            return []
        into.values += [(place, slot) for slot in slots]
        self.valued.update((slot.number, slot.is_parameter) for slot in slots)
        return [place]

    def direct(self, node: exp.Expr, scope: Scope) -> Place | None:
        while isinstance(node, sqltext.WRAPPERS):
            node = node.this
        home, ref = scope.refs.get(id(node), (0, None))
        return (home, ref.columns) if ref and ref.is_direct else None

    def link(self, one: Place, other: Place, scope: Scope, into: Scope) -> None:
        """Two columns are equal in every row."""
        into.same.setdefault((one, other))
        named = (self._named_by(one[1]), self._named_by(other[1]))
        is_same = not named[0].isdisjoint(named[1])  # a key alone may lead to somebody else's row
        for (source, _), (target, _) in ((one, other), (other, one)):
            into.links.append(Link(source, target, is_same or self._is_of_nobody(target, scope)))

    def _named_by(self, columns: Iterable[str]) -> frozenset[str]:
        """The identifiers that columns hold."""
        return frozenset(name for c in columns for name in self._identifiers.get(c, ()))

    def _is_of_nobody(self, home: int, scope: Scope) -> bool:
        inside = [r for level in scope.chain() for r in level.relations.values() if id(r) == home]
        return all(self.held.keys().isdisjoint(relation.tables) for relation in inside)

    def pinned_in(self, scope: Scope) -> dict[int, frozenset[str]]:
        """Relations of which the pinned columns leave one row, or one person's, and by which
        identifiers."""
        named = {home: self._named_by(columns) for home, columns in scope.pinned.items()}
        return {
            home: named[home]
            for home, columns in scope.pinned.items()
            if self._is_key(columns) and scope.loose.get(home, frozenset()) <= named[home]
        }

    def _is_key(self, columns: set[str]) -> bool:
        if not self._identifiers.keys().isdisjoint(columns):
            return True
        tables = {c.rpartition(".")[0] for c in columns}
        return any(
            key and {f"{table}.{name}" for name in key} <= columns
            for table in tables & self.catalog.tables.keys()
            for key in self.catalog.tables[table].keys
        )

    def bind_values(self, scope: Scope) -> None:
        """Columns that equal one another have one value."""
        equal = scope.equal_columns() if scope.values else {}
        for place, slot in scope.values:
            columns = equal.get(place, place[1])
            if len(columns) > MOST:
                raise Unread("too many columns are equal")
            for column in columns:
                self.bindings.setdefault(Binding(slot, column, True))

    def compare_all(self, root: exp.Expr, scope: Scope) -> None:
        """Literals near a column in a comparison or an operation may tell its value."""
        done: set[int] = set()
        for node in sqltext.own(root):
            if isinstance(node, exp.Case) and node.this is not None:
                columns = self.columns_in(node.this, scope)
                for branch in node.args["ifs"] if columns else ():
                    self.bind_compared(branch.this, columns)
                    self.carry(columns, self.has_carrier(sqltext.own(branch.this), scope))
            if isinstance(node, exp.Anonymous):
                self._arguments(node, scope)
            if id(node) in done:
                continue
            if isinstance(node, sqltext.COMPARISONS):
                nodes = [n for n in sqltext.own(node) if not sqltext.is_counted(n, node)]
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

    def _arguments(self, call: exp.Expr, scope: Scope) -> None:
        """Arguments of declared functions that name somebody."""
        for value, column, is_named in self._functions.named(call):
            slots = sqltext.constants(value) if is_named else None
            if slots is None:
                self._bind(sqltext.every_slot(value), [column])
                self.carry([column], self.has_carrier(sqltext.own(value), scope))
            for slot in slots or ():
                # A value in braces may be an array; a UUID in braces is the same without them.
                is_whole = value.find(exp.Array) is None and not slot.is_negative
                self.valued.add((slot.number, slot.is_parameter))
                binding = Binding(replace(slot, is_array=is_whole), column, True)
                self.bindings.setdefault(binding)
