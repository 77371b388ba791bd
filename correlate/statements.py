"""What one form of statement touches, whatever its kind: queries, writes, COPY, DDL.

In: a skeleton of `templates`, the catalog, the identifier columns. Out: `Statement`. Whatever
can't be read raises `Unread`; nothing else is raised. Caches nothing, sees no values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scalple.correlate import sqltext
from scalple.correlate.catalog import Catalog
from scalple.correlate.functions import Functions
from scalple.correlate.predicates import Binding
from scalple.correlate.queries import QueryReader
from scalple.correlate.relations import Read, Ref, Relation, Scope, Slot, together
from scalple.correlate.rewriting import Unread
from scalple.correlate.sqltext import exp


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
    is_opaque: bool = False
    """CALL: what it touches isn't in its text, and any constant may be personal."""


def analyse(
    skeleton: str,
    catalog: Catalog,
    identifiers: Mapping[str, Sequence[str]],
    functions: Functions | None = None,
) -> Statement:
    """Read one form of statement; `identifiers`: column -> names of identifiers. Raises Unread."""
    if sqltext.is_harmless(skeleton):
        return Statement((), (), "parsed", "none", ())
    try:
        reader = _StatementReader(catalog, identifiers, functions or Functions())
        if call := sqltext.parse_call(skeleton):
            reader.query(call[0], Scope())
            return Statement((), (), "unknown", "none", tuple(reader.bindings), is_opaque=True)
        trees, is_export = sqltext.parse_skeleton(skeleton)
        reads = [reader.statement(tree) for tree in trees]
        shape = together([*reads, *reader.written]).shape
    except Unread:
        raise
    except Exception as error:  # noqa: BLE001 - sqlglot may raise anything, on any text
        raise Unread(type(error).__name__) from None
    return Statement(
        tuple(reader.tables),
        tuple(reader.columns),
        "unknown" if reader.unknown else "star-expanded" if reader.starred else "parsed",
        "export" if is_export else shape,
        tuple(reader.bindings),
        tuple(reader.carried),
        tuple(reader.defining) if len(trees) == 1 else (),
        tuple(one for tree in trees for one in sqltext.handed_over(tree).items()),
    )


Columns = tuple[str, ...]
"""The stored columns behind one name: of a view, its own and its tables'."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a statement writes to."""

    relation: Relation
    table: str

    def column(self, name: str) -> Columns:
        ref = self.relation.find(name)
        return ref.columns if ref and ref.columns else (f"{self.table}.{name}",)


class _StatementReader(QueryReader):
    """Reads whole statements."""

    def __init__(
        self, catalog: Catalog, identifiers: Mapping[str, Sequence[str]], functions: Functions
    ) -> None:
        super().__init__(catalog, identifiers, functions)
        self.defining: dict[Slot, None] = {}

    def statement(self, node: exp.Expr) -> Read:
        """Read one statement."""
        scope = self.with_ctes(node, Scope())
        if isinstance(node, exp.Query | exp.Values):
            return self.query(node, scope).read
        if isinstance(node, exp.Insert | exp.Update | exp.Delete | exp.Merge):
            return self.write(node, scope).read
        if isinstance(node, exp.Copy):
            return self._copy(node)
        is_routine = node.args.get("kind") in ("FUNCTION", "PROCEDURE", "TRIGGER")
        if isinstance(node, exp.Command) or (isinstance(node, exp.Create) and is_routine):
            raise Unread("not parsed")
        if node.find(exp.ExecuteAsProperty):
            raise Unread("the statement stands elsewhere")
        tables = [node.this] if isinstance(node, exp.Create) else node.find_all(exp.Table)
        for table in tables:
            if found := table.find(exp.Table):
                if node.find(exp.TemporaryProperty) and not found.args.get("db"):
                    found.set("db", exp.to_identifier("pg_temp"))
                if isinstance(node, exp.Drop):
                    self.tables.setdefault(self._target(found))
                else:
                    self._define(node, self.stored(found))
        if isinstance(node, exp.Create) and isinstance(node.expression, exp.Query):
            read = self.query(node.expression, scope).read
            is_view = node.args.get("kind") == "VIEW" and not node.find(exp.MaterializedProperty)
            return Read() if is_view else read  # a view reads when it is read
        is_loss = isinstance(node, exp.Drop) and node.args.get("kind") == "TABLE"
        return Read("write" if is_loss or isinstance(node, exp.TruncateTable) else "none")

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
        written = Written(added[0], self._target(target))
        if isinstance(node, exp.Insert):
            self._insert(node, scope, written)
        for source in [
            *sqltext.listed(node.args.get("from_")),
            *sqltext.listed(node.args.get("using")),
        ]:
            self.add(scope, source.this if isinstance(source, exp.From) else source)
        if isinstance(node, exp.Update):
            self._assignments(node.expressions, scope, written)
        if isinstance(node, exp.Merge):
            self.condition(node.args["on"], scope, scope)
            for when in node.args["whens"].expressions:
                self._merge_action(when, scope, written)
        if where := node.args.get("where"):
            self.condition(where.this, scope, scope)
        self.bind_values(scope)
        returning = node.args.get("returning")
        result = self.projections(returning.expressions if returning else [], scope, False)
        result.read = Read("write")
        return result

    def _target(self, node: exp.Expr) -> str:
        table = node if isinstance(node, exp.Table) else node.find(exp.Table)
        if table is None:
            raise Unread("no target")
        schema = table.args.get("db")
        return self.catalog.qualify(
            sqltext.name_of(table.this), sqltext.name_of(schema) if schema else None
        )

    def _insert(self, node: exp.Insert, scope: Scope, written: Written) -> None:
        listed = node.this.expressions if isinstance(node.this, exp.Schema) else None
        relation = written.relation
        names = [sqltext.name_of(n) for n in listed] if listed else list(relation.columns)
        if node.args.get("default"):
            names = []
        columns = [written.column(name) for name in names]
        source = node.expression
        if listed is None and not node.args.get("default"):
            self.starred, self.unknown = True, self.unknown or bool(relation.rest)
        self._touch(columns)
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
                    self.carry(column, ref.carries and not is_bound)
            else:
                self.carry([c for column in columns for c in column], True)
        if conflict := node.args.get("conflict"):
            scope.hidden["excluded"] = relation
            self._assignments(conflict.expressions, scope, written)
            if where := conflict.args.get("where"):
                self.condition(where.this, scope, scope)

    def _touch(self, columns: list[Columns]) -> None:
        self.touch_columns(Ref(tuple(c for column in columns for c in column)))

    def _merge_action(self, when: exp.Expr, scope: Scope, written: Written) -> None:
        if condition := when.args.get("condition"):
            self.condition(condition, scope, Scope(relations=scope.relations))
        action = when.args.get("then")
        if isinstance(action, exp.Update):
            self._assignments(action.expressions, scope, written)
        elif isinstance(action, exp.Insert) and isinstance(action.expression, exp.Tuple):
            listed = action.this.expressions if action.this else None
            known = list(written.relation.columns)
            names = known if listed is None else [sqltext.name_of(n.this) for n in listed]
            columns = [written.column(name) for name in names]
            self.starred |= listed is None
            self.unknown |= listed is None and bool(written.relation.rest)
            self._touch(columns)
            self._values(columns, action.expression.expressions, scope)

    def _assignments(self, nodes: list[exp.Expr], scope: Scope, written: Written) -> None:
        for node in nodes:
            if isinstance(node, exp.EQ):
                targets = sqltext.row_of(node.this) or [node.this]
                columns = [written.column(sqltext.name_of(t.this)) for t in targets]
                self._touch(columns)
                values = sqltext.row_of(node.expression) or [node.expression]
                self._values(columns, values, scope)
                if len(values) < len(columns):
                    every = [c for column in columns for c in column]
                    self.carry(every, self.has_carrier(sqltext.own(node.expression), scope))

    def _values(self, columns: list[Columns], values: list[exp.Expr], scope: Scope) -> None:
        for column, value in zip(columns, values, strict=False):
            self.expression(value, scope)
            self._bind_written(column, value)
            self.carry(column, self.has_carrier(sqltext.own(value), scope))
        for value in values[len(columns) :]:
            self.expression(value, scope)

    def _bind_written(self, column: Columns, value: exp.Expr) -> None:
        slots = sqltext.constants(value)
        if slots is None:
            self.bind_compared(value, column)
            return
        for slot in slots:
            self.valued.add((slot.number, slot.is_parameter))
            for name in column:
                self.bindings.setdefault(Binding(slot, name, True))

    def _copy(self, node: exp.Copy) -> Read:
        """COPY of a table; `kind` is true of COPY … FROM."""
        listed = node.this.expressions if isinstance(node.this, exp.Schema) else None
        table = node.this.this if isinstance(node.this, exp.Schema) else node.this
        inner = Scope()
        added = self.add(inner, table)
        if listed:
            written = Written(added[0], self._target(table))
            self._touch([written.column(sqltext.name_of(name)) for name in listed])
        else:
            self.star(exp.Star(), inner, Relation())
        return Read("write" if node.args.get("kind") else "export")
