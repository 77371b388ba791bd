"""What one form of statement touches, whatever its kind: queries, writes, COPY, DDL.

In: a skeleton of `templates`, the catalog, the identifier columns. Out: `Statement`. Whatever
can't be read raises `Unread`; nothing else is raised. Caches nothing, sees no values.
"""

from dataclasses import dataclass

from scalple.correlate import sqltext
from scalple.correlate.catalog import Catalog
from scalple.correlate.queries import Binding, QueryReader
from scalple.correlate.relations import Ref, Relation, Scope, Slot, worst
from scalple.correlate.sqltext import Unread, exp


@dataclass(frozen=True, slots=True)
class Statement:
    tables: tuple[str, ...]
    columns: tuple[str, ...]
    basis: str
    shape: str
    bindings: tuple[Binding, ...]
    carried: tuple[str, ...] = ()
    """Columns that meet, or are given, what may be a constant from anywhere in the statement."""
    defining: tuple[Slot, ...] = ()
    """Of a definition, the constants that may belong to the columns carried."""
    handed: tuple[tuple[Slot, bool], ...] = ()
    """Given to functions of which nothing is known; whether it may be a statement itself."""


def analyse(skeleton: str, catalog: Catalog, identifiers: frozenset[str]) -> Statement:
    """Read one form of statement. Raises Unread."""
    if sqltext.is_harmless(skeleton):
        return Statement((), (), "parsed", "none", ())
    try:
        trees, is_cursor = sqltext.parse_skeleton(skeleton)
        reader = _StatementReader(catalog, identifiers)
        shape = worst(reader.statement(tree) for tree in trees)
    except Unread:
        raise
    except Exception as error:  # noqa: BLE001 - sqlglot may raise anything, on any text
        raise Unread(type(error).__name__) from None
    return Statement(
        tuple(reader.tables),
        tuple(reader.columns),
        "unknown" if reader.unknown else "star-expanded" if reader.starred else "parsed",
        "export" if is_cursor else shape,
        tuple(reader.bindings),
        tuple(reader.carried),
        tuple(reader.defining) if len(trees) == 1 else (),
        tuple(one for tree in trees for one in sqltext.handed_over(tree).items()),
    )


class _StatementReader(QueryReader):
    """Reads whole statements."""

    def __init__(self, catalog: Catalog, identifiers: frozenset[str]) -> None:
        super().__init__(catalog, identifiers)
        self.defining: dict[Slot, None] = {}

    def statement(self, node: exp.Expr) -> str:
        """Read one statement; returns its shape."""
        scope = self.with_ctes(node, Scope())
        if isinstance(node, exp.Query | exp.Values):
            return self.query(node, scope).shape
        if isinstance(node, exp.Insert | exp.Update | exp.Delete | exp.Merge):
            return self.write(node, scope).shape
        if isinstance(node, exp.Copy):
            return self._copy(node, scope)
        is_routine = node.args.get("kind") in ("FUNCTION", "PROCEDURE", "TRIGGER")
        if isinstance(node, exp.Command) or (isinstance(node, exp.Create) and is_routine):
            raise Unread("not parsed")
        tables = [node.this] if isinstance(node, exp.Create) else node.find_all(exp.Table)
        for table in tables:
            if found := table.find(exp.Table):
                self._define(node, self.stored(found))
        if isinstance(node, exp.Create) and isinstance(node.expression, exp.Query):
            shape = self.query(node.expression, scope).shape
            is_view = node.args.get("kind") == "VIEW" and not node.find(exp.MaterializedProperty)
            return "none" if is_view else shape  # a view reads when it is read
        is_loss = isinstance(node, exp.Drop) and node.args.get("kind") == "TABLE"
        return "write" if is_loss or isinstance(node, exp.TruncateTable) else "none"

    def _define(self, node: exp.Expr, relation: Relation) -> None:
        """Defaults and conditions of definitions hold constants of the columns they name."""
        if slots := sqltext.slots_in(node):
            named = {sqltext.name_of(n) for n in node.find_all(exp.Identifier)}
            columns = [c for n, ref in relation.columns.items() if n in named for c in ref.columns]
            self.carry(columns, True)
            self.defining.update(dict.fromkeys(slots))

    def write(self, node: exp.Expr, outer: Scope) -> Relation:
        """INSERT, UPDATE, DELETE or MERGE; returns what RETURNING gives."""
        outer = self.with_ctes(node, outer)
        scope = Scope(outer=outer, ctes=outer.ctes)
        target = node.this.this if isinstance(node.this, exp.Schema) else node.this
        added = self.add(scope, target)
        table = self._target(target)
        if isinstance(node, exp.Insert):
            self._insert(node, scope, table, added[0])
        for source in [
            *sqltext.listed(node.args.get("from_")),
            *sqltext.listed(node.args.get("using")),
        ]:
            self.add(scope, source.this if isinstance(source, exp.From) else source)
        if isinstance(node, exp.Update):
            self._assignments(node.expressions, scope, table)
        if isinstance(node, exp.Merge):
            self.condition(node.args["on"], scope, scope)
            for when in node.args["whens"].expressions:
                self._merge_action(when, scope, table)
        if where := node.args.get("where"):
            self.condition(where.this, scope, scope)
        self.bind_values(scope)
        returning = node.args.get("returning")
        result = self.projections(returning.expressions if returning else [], scope, False)
        result.shape = "write"
        return result

    def _target(self, node: exp.Expr) -> str:
        table = node if isinstance(node, exp.Table) else node.find(exp.Table)
        if table is None:
            raise Unread("no target")
        schema = table.args.get("db")
        return self.catalog.qualify(
            sqltext.name_of(table.this), sqltext.name_of(schema) if schema else None
        )

    def _insert(self, node: exp.Insert, scope: Scope, table: str, relation: Relation) -> None:
        listed = node.this.expressions if isinstance(node.this, exp.Schema) else None
        names = [sqltext.name_of(n) for n in listed] if listed else list(relation.columns)
        columns = [f"{table}.{name}" for name in names]
        source = node.expression
        if listed is None and not node.args.get("default"):
            self.starred, self.unknown = True, self.unknown or bool(relation.rest)
        self.touch_columns(Ref(tuple(columns)))
        if isinstance(source, exp.Values):
            for row in source.expressions:
                self._values(columns, row.expressions, scope)
        elif source is not None:
            given = list(self.query(source, scope.outer or scope).columns.values())
            values = source.expressions if isinstance(source, exp.Select) else []
            for column, value in zip(columns, values, strict=False):
                self._bind_written(column, value.unalias())
            if len(given) == len(columns):
                for i, (column, ref) in enumerate(zip(columns, given, strict=True)):
                    is_bound = len(values) == len(given) and sqltext.constants(values[i].unalias())
                    self.carry([column], ref.carries and not is_bound)
            else:
                self.carry(columns, True)
        if conflict := node.args.get("conflict"):
            scope.hidden["excluded"] = relation
            self._assignments(conflict.expressions, scope, table)
            if where := conflict.args.get("where"):
                self.condition(where.this, scope, scope)

    def _merge_action(self, when: exp.Expr, scope: Scope, table: str) -> None:
        if condition := when.args.get("condition"):
            self.condition(condition, scope, Scope(relations=scope.relations))
        action = when.args.get("then")
        if isinstance(action, exp.Update):
            self._assignments(action.expressions, scope, table)
        elif isinstance(action, exp.Insert) and isinstance(action.expression, exp.Tuple):
            names = [
                sqltext.name_of(n.this) for n in (action.this.expressions if action.this else [])
            ]
            columns = [f"{table}.{name}" for name in names]
            self.touch_columns(Ref(tuple(columns)))
            self._values(columns, action.expression.expressions, scope)

    def _assignments(self, nodes: list[exp.Expr], scope: Scope, table: str) -> None:
        for node in nodes:
            if isinstance(node, exp.EQ):
                targets = sqltext.row_of(node.this) or [node.this]
                columns = [f"{table}.{sqltext.name_of(t.this)}" for t in targets]
                self.touch_columns(Ref(tuple(columns)))
                values = sqltext.row_of(node.expression) or [node.expression]
                self._values(columns, values, scope)
                if len(values) < len(columns):
                    self.carry(columns, self.has_carrier(sqltext.own(node.expression), scope))

    def _values(self, columns: list[str], values: list[exp.Expr], scope: Scope) -> None:
        for column, value in zip(columns, values, strict=False):
            self.expression(value, scope)
            self._bind_written(column, value)
            self.carry([column], self.has_carrier(sqltext.own(value), scope))
        for value in values[len(columns) :]:
            self.expression(value, scope)

    def _bind_written(self, column: str, value: exp.Expr) -> None:
        slots = sqltext.constants(value)
        if slots is None:
            self.bind_compared(value, [column])
            return
        for slot in slots:
            self.valued.add((slot.number, slot.is_parameter))
            self.bindings.setdefault(Binding(slot, column, True))

    def _copy(self, node: exp.Copy, scope: Scope) -> str:
        """COPY; `kind` is true of COPY … FROM."""
        if isinstance(node.this, exp.Query):
            self.query(node.this, scope)
            return "export"
        listed = node.this.expressions if isinstance(node.this, exp.Schema) else None
        table = node.this.this if isinstance(node.this, exp.Schema) else node.this
        inner = Scope()
        self.add(inner, table)
        if listed:
            target = self._target(table)
            self.touch_columns(Ref(tuple(f"{target}.{sqltext.name_of(n)}" for n in listed)))
        else:
            self.star(exp.Star(), inner, Relation())
        return "write" if node.args.get("kind") else "export"
