"""What a form of statement touches: tables, columns, shape, and which literal belongs to what.

In: a skeleton of `templates` and the catalog. Out: `Statement`. The only module that knows
sqlglot: literals are parsed as sentinels that carry their slot (the number of the marker in the
skeleton), so that nodes of the tree lead back to the text. Doesn't see a single value, masks
nothing and caches nothing. Whatever can't be read raises `Unread`; nothing else is raised.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import sqlglot
from sqlglot import exp

from scalple.correlate import templates
from scalple.correlate.catalog import Catalog
from scalple.correlate.relations import Place, Ref, Relation, Scope, Slot, worst

# sqlglot tells every statement it can't parse to the log; here that is an answer, not news.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

LONGEST = 200_000
_DEEPEST = 60
# Number sentinels; in tens, because sqlglot subtracts 1 from array subscripts. Parameters are
# sentinels too: sqlglot takes `$1,lower($` for an opening dollar quote.
_BASE, _PARAMETERS = 10**15, 2 * 10**15
_SENTINEL = re.compile(r"lit~(\d+)\Z")

_EXPLAIN = re.compile(r"\s*EXPLAIN\b(?:\s*\([^()]*\)|(?:\s+(?:ANALYZE|VERBOSE)\b)*)", re.IGNORECASE)
_WORD = r'(?:"[^"]*"|[\w$]+)'
_PREPARE = re.compile(
    rf"\s*PREPARE\s+{_WORD}\s*(?:\((?:[^()]|\([^()]*\))*\))?\s*AS\b", re.IGNORECASE
)
_CURSOR = re.compile(
    rf"\s*DECLARE\s+{_WORD}\s+[\w\s]*?CURSOR\s+(?:WITH(?:OUT)?\s+HOLD\s+)?FOR\b", re.IGNORECASE
)
_DOLLAR = re.compile(r'("(?:[^"]|"")*"|[^\W\d][\w$]*)|\$(\d{1,6})\b')
_NESTING = re.compile(r"[(\[]|[)\]]|\bcase\b|\bend\b", re.IGNORECASE)
_PREFIXES = re.compile(rf"(?:\bnot\s+|[-+~!@]\s*){{{_DEEPEST}}}", re.IGNORECASE)
# These touch no row; sqlglot doesn't parse all of them.
_HARMLESS = re.compile(
    r"\s*(?:SET|RESET|SHOW|BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|DISCARD|LISTEN"
    r"|UNLISTEN|NOTIFY|CHECKPOINT|VACUUM|ANALYZE|REINDEX|CLUSTER|LOCK|FETCH|MOVE|CLOSE|DEALLOCATE"
    r"|LOAD|REFRESH|COMMENT|GRANT|REVOKE|REASSIGN|PREPARE\s+TRANSACTION)\b[^;]*;?\s*\Z",
    re.IGNORECASE,
)


class Unread(Exception):
    """The statement can't be analysed; the message says why."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A slot whose value belongs to a column."""

    slot: Slot
    column: str
    is_value: bool
    """It is the column's value (=, IN, VALUES, SET), rather than only compared with it."""


@dataclass(frozen=True, slots=True)
class Statement:
    tables: tuple[str, ...]
    columns: tuple[str, ...]
    basis: str
    shape: str
    bindings: tuple[Binding, ...]


def analyse(skeleton: str, catalog: Catalog, identifiers: frozenset[str]) -> Statement:
    """Read one form of statement. Raises Unread."""
    if _HARMLESS.match(skeleton):
        return Statement((), (), "parsed", "none", ())
    try:
        text, is_cursor = _unwrap(_sentinels(skeleton))
        reader = _Reader(catalog, identifiers)
        shape = worst(reader.statement(tree) for tree in _parse(text))
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
    )


def _sentinels(skeleton: str) -> str:
    if len(skeleton) > LONGEST:
        raise Unread("too long")
    slots = iter(range(len(skeleton)))

    def sentinel(match: re.Match[str]) -> str:
        slot = next(slots)
        if match[0] == templates.STRING:
            return f"'lit~{slot}'"
        return f"{_BASE + 10 * slot}" if match[0] == templates.NUMBER else " "

    text = templates.MARKERS.sub(sentinel, skeleton)
    return _DOLLAR.sub(lambda m: m[1] or f"{_PARAMETERS + 10 * int(m[2])}", text)


def _unwrap(text: str) -> tuple[str, bool]:
    """Without EXPLAIN, PREPARE … AS and DECLARE … CURSOR FOR, which sqlglot doesn't parse."""
    depth = 0
    for token in _NESTING.finditer(text):
        depth += 1 if token[0].lower() in ("(", "[", "case") else -1
        if depth > _DEEPEST:
            raise Unread("nested too deeply")  # the compiled parser would exhaust the C stack
    if _PREFIXES.search(text):
        raise Unread("nested too deeply")
    for pattern in (_EXPLAIN, _PREPARE):
        if match := pattern.match(text):
            text = text[match.end() :]
    match = _CURSOR.match(text)
    return (text[match.end() :], True) if match else (text, False)


def _parse(text: str) -> list[exp.Expr]:
    return [tree for tree in sqlglot.parse(text, read="postgres") if tree is not None]


# Around a column or constant, these leave it the same value as far as naming a subject goes.
_WRAPPERS = (exp.Paren, exp.Cast, exp.Lower, exp.Upper, exp.Trim, exp.Collate)
_TRANSPARENT = (*_WRAPPERS, exp.Array, exp.Any, exp.Connector)
_JSON = (exp.JSONExtract, exp.JSONExtractScalar, exp.JSONBExtract, exp.JSONBExtractScalar)
_COMPARISONS = (exp.Predicate, exp.RegexpLike, exp.RegexpILike, exp.Case)
_NO_COLUMNS = {"default", "current_user", "session_user", "user", "current_role"}


class _Reader:
    """Walks the statements of one text and gathers what they touch."""

    def __init__(self, catalog: Catalog, identifiers: frozenset[str]) -> None:
        self.tables: dict[str, None] = {}
        self.columns: dict[str, None] = {}
        self.bindings: dict[Binding, None] = {}
        self.unknown = False
        self.starred = False
        self._catalog = catalog
        self._identifiers = identifiers
        self._valued: set[tuple[int, bool]] = set()
        self._views = 0

    def statement(self, node: exp.Expr) -> str:
        """Read one statement; returns its shape."""
        scope = self._with(node, Scope())
        if isinstance(node, exp.Query | exp.Values):
            return self._query(node, scope).shape
        if isinstance(node, exp.Insert | exp.Update | exp.Delete | exp.Merge):
            return self._write(node, scope).shape
        if isinstance(node, exp.Copy):
            return self._copy(node, scope)
        if isinstance(node, exp.Command):
            raise Unread("not parsed")
        tables = [node.this] if isinstance(node, exp.Create) else node.find_all(exp.Table)
        for table in tables:
            if found := table.find(exp.Table):
                self._stored(found)
        if isinstance(node, exp.Create) and isinstance(node.expression, exp.Query):
            return self._query(node.expression, scope).shape
        return "write" if isinstance(node, exp.TruncateTable) else "none"

    # Relations

    def _with(self, node: exp.Expr, scope: Scope) -> Scope:
        clause = node.args.get("with_")
        if clause is None:
            return scope
        inner = Scope(outer=scope, ctes=dict(scope.ctes))
        for cte in clause.expressions:
            name, names = _alias(cte)
            inner.ctes[name] = Relation({n: Ref(()) for n in names})  # for its own recursion
            is_query = isinstance(cte.this, exp.Query | exp.Values)
            read = self._query if is_query else self._write
            inner.ctes[name] = read(cte.this, inner).renamed(names)
        return inner

    def _query(self, node: exp.Expr, outer: Scope, *, is_test: bool = False) -> Relation:
        outer = self._with(node, outer)
        if isinstance(node, exp.SetOperation):
            left, right = self._query(node.this, outer), self._query(node.expression, outer)
            pairs = zip(left.columns.items(), right.columns.values(), strict=False)
            columns = {
                name: Ref(
                    tuple({**dict.fromkeys(a.columns), **dict.fromkeys(b.columns)}),
                    a.is_direct and b.is_direct,
                )
                for (name, a), b in pairs
            }
            return Relation(columns, left.rest + right.rest, worst([left.shape, right.shape]))
        if isinstance(node, exp.Select):
            return self._select(node, outer, is_test)
        if isinstance(node, exp.Subquery) and not isinstance(node.this, exp.Table):
            return self._query(node.this, outer)
        scope = Scope(outer=outer, ctes=outer.ctes)
        if isinstance(node, exp.Subquery | exp.Table):
            self._add(scope, node)
        else:
            self._expression(node, scope)
        return Relation(shape=worst(r.shape for r in scope.relations.values()))

    def _add(self, scope: Scope, node: exp.Expr) -> list[Relation]:
        """Bring a FROM item into sight; returns the relations it brought."""
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
            added = self._add(scope, node.this)
        else:
            alias, names = _alias(node)
            relation = self._from_item(scope, node)
            relation = Relation(relation.columns, relation.rest, relation.shape).renamed(names)
            scope.relations[alias or f"?{len(scope.relations)}"] = relation
            added = [relation]
        for join in node.args.get("joins") or []:
            added += self._join(scope, join)
        return added

    def _from_item(self, scope: Scope, node: exp.Expr) -> Relation:
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            name = _name(node.this)
            if not node.args.get("db") and name in scope.ctes:
                return scope.ctes[name]
            return self._stored(node)
        if isinstance(node, exp.Lateral):
            node = node.this
        if isinstance(node, exp.Query):
            return self._query(node, scope)
        self._expression(node, scope)  # a function or VALUES
        return Relation()

    def _stored(self, node: exp.Table) -> Relation:
        schema = node.args.get("db")
        table = self._catalog.qualify(_name(node.this), _name(schema) if schema else None)
        self.tables.setdefault(table)
        if table in self._catalog.views and self._views < 5:
            return self._view(table)
        known = self._catalog.tables.get(table)
        columns = {n: Ref((f"{table}.{n}",), True) for n in (known.columns if known else ())}
        return Relation(columns, () if known and known.complete else (table,), "full")

    def _view(self, table: str) -> Relation:
        view = self._catalog.views[table]
        before = dict(self.columns)
        self._views += 1
        relation = self._query(_parse(view.query)[0], Scope()).renamed(view.columns)
        self._views -= 1
        self.columns = before  # the view's other columns aren't read by who asks for one
        named = {
            name: Ref((*ref.columns, f"{table}.{name}"), ref.is_direct)
            for name, ref in relation.columns.items()
        }
        return Relation(named, relation.rest, relation.shape)

    def _join(self, scope: Scope, join: exp.Join) -> list[Relation]:
        earlier = {id(r) for r in scope.relations.values()}
        added = self._add(scope, join.this)
        new = {id(r) for r in added}
        condition, side = join.args.get("on"), join.side
        inner = Scope(outer=scope, ctes=scope.ctes, refs=scope.refs)
        if condition is not None:
            self._condition(condition, scope, inner)
        if join.args.get("using") or join.method == "NATURAL":
            inner.links += [(a, b) for e in earlier for n in new for a, b in ((e, n), (n, e))]
        # An outer join narrows only the side whose rows may be missing.
        narrowed = {"LEFT": new, "RIGHT": earlier, "FULL": set()}.get(side, earlier | new)
        scope.links += [(a, b) for a, b in inner.links if b in narrowed]
        scope.same += [] if side else inner.same
        scope.values += inner.values
        scope.ranged |= inner.ranged & narrowed
        for home in inner.pinned.keys() & narrowed:
            scope.pinned.setdefault(home, set()).update(inner.pinned[home])
        return added

    # SELECT

    def _select(self, node: exp.Select, outer: Scope, is_test: bool) -> Relation:
        scope = Scope(outer=outer, ctes=outer.ctes)
        if source := node.args.get("from_"):
            self._add(scope, source.this)
        for join in node.args.get("joins") or []:
            self._join(scope, join)
        for lateral in node.args.get("laterals") or []:
            self._add(scope, lateral)
        if into := node.args.get("into"):
            self._stored(into.this)
        scope.aliases = {_name(e.args["alias"]) for e in node.expressions if e.args.get("alias")}
        result = self._projections(node.expressions, scope, is_test)
        for key in ("where", "having", "group", "order", "distinct", "windows", "limit"):
            for part in _listed(node.args.get(key)):
                if key in ("where", "having"):
                    self._condition(part.this, scope, scope)
                else:
                    self._expression(part, scope)
        self._bind_values(scope)
        result.shape = scope.shape(self._pinned(scope))
        if result.shape in ("full", "range") and _only_aggregates(node.expressions):
            result.shape = "aggregate"
        return result

    def _projections(self, nodes: list[exp.Expr], scope: Scope, is_test: bool) -> Relation:
        result = Relation()
        for i, node in enumerate(nodes):
            if _is_star(node):
                if not is_test:
                    self._star(node, scope, result)
                continue
            self._expression(node, scope)
            inner = node.this if isinstance(node, exp.Alias) else node
            found = self._direct(inner, scope)
            columns = found[1] if found else self._columns_in(inner, scope)
            name = _name(node.args["alias"]) if node.args.get("alias") else ""
            if not name and isinstance(inner, exp.Column):
                name = _name(inner.this)
            result.columns[name or f"?{i}"] = Ref(columns, found is not None)
        return result

    def _star(self, node: exp.Expr, scope: Scope, result: Relation) -> None:
        self.starred = True
        if isinstance(node, exp.Column):
            relation = self._by_alias(node, scope)
            relations = [relation] if relation else []
        else:
            relations = list(scope.relations.values())
        for relation in relations:
            result.columns |= relation.columns
            result.rest += relation.rest
            self._touch_columns(relation.everything())
            self.unknown |= bool(relation.rest)

    # Expressions

    def _expression(self, root: exp.Expr, scope: Scope) -> None:
        self._resolve_all(root, scope)
        self._compare_all(root, scope)

    def _resolve_all(self, root: exp.Expr, scope: Scope) -> None:
        """Resolve the columns below a node and read its subqueries."""
        for node in _own(root):
            if isinstance(node, exp.Column):
                self._resolve(node, scope)
            elif isinstance(node, exp.Query):
                is_test = isinstance(node.parent, exp.Exists)
                relation = self._query(node, scope, is_test=is_test)
                scope.nested.append(relation.shape)

    def _resolve(self, node: exp.Column, scope: Scope) -> None:
        found = self._lookup(node, scope)
        if found:
            relation, ref = found
            scope.refs[id(node)] = (id(relation), ref)
            self._touch_columns(ref)

    def _touch_columns(self, ref: Ref) -> None:
        self.columns.update(dict.fromkeys(ref.columns))

    def _lookup(self, node: exp.Column, scope: Scope) -> tuple[Relation, Ref] | None:
        if node.args.get("table"):
            relation = self._by_alias(node, scope)
            if relation is None:
                return None
            if isinstance(node.this, exp.Star):
                return relation, relation.everything()
            ref = relation.find(_name(node.this))
            return (relation, ref) if ref else None
        name = _name(node.this)
        ordering = node.find_ancestor(exp.Order, exp.Select)
        if name in scope.aliases and isinstance(ordering, exp.Order):
            return None
        for level in scope.chain():
            for relation in level.relations.values():
                if name in relation.columns:
                    return relation, relation.columns[name]
            if name in level.relations:  # the whole row
                self._star_of(level.relations[name])
                return level.relations[name], level.relations[name].everything()
            open_ended = [r for r in level.relations.values() if r.rest]
            if len(open_ended) == 1 and name not in _NO_COLUMNS:
                ref = open_ended[0].find(name)
                self.unknown |= ref is None
                return (open_ended[0], ref) if ref else None
            if open_ended and name not in _NO_COLUMNS:
                self.unknown = True
                return None
        return None

    def _star_of(self, relation: Relation) -> None:
        self.starred = True
        self.unknown |= bool(relation.rest)

    def _by_alias(self, node: exp.Column, scope: Scope) -> Relation | None:
        name = _name(node.args["table"])
        for level in scope.chain():
            found = level.relations.get(name) or level.hidden.get(name)
            if found:
                return found
        return None

    def _columns_in(self, root: exp.Expr, scope: Scope) -> tuple[str, ...]:
        refs = [scope.refs[id(n)][1] for n in _own(root) if id(n) in scope.refs]
        return tuple(dict.fromkeys(c for ref in refs for c in ref.columns))

    # Predicates

    def _condition(self, root: exp.Expr, scope: Scope, into: Scope) -> None:
        """Read a predicate that every row must meet: what it pins, links, mentions, compares."""
        self._resolve_all(root, scope)
        into.pin(self._pins(root, scope, into))
        for leaf in _leaves(root):
            homes = {scope.refs[id(n)][0] for n in _own(leaf) if id(n) in scope.refs}
            if any(isinstance(n, exp.Query) for n in _own(leaf)):
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
        row, other = _row(left), _row(right)
        if row and other:
            pairs = zip(row, other, strict=False)
            return [p for a, b in pairs for p in self._pins_equal(a, b, scope, into)]
        place, opposite = self._direct(left, scope), self._direct(right, scope)
        if place and opposite:
            into.same.append((place, opposite))
            into.links += [(place[0], opposite[0]), (opposite[0], place[0])]
            return []
        value = right if place else left
        place = place or opposite
        slots = _constants(value)
        if place is None or slots is None:
            return []
        into.values += [(place, slot) for slot in slots]
        self._valued.update((slot.number, slot.is_parameter) for slot in slots)
        return [place]

    def _direct(self, node: exp.Expr, scope: Scope) -> Place | None:
        while isinstance(node, _WRAPPERS):
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
            for table in tables & self._catalog.tables.keys()
            for key in self._catalog.tables[table].keys
        )

    def _bind_values(self, scope: Scope) -> None:
        """Columns that equal one another have one value."""
        for place, slot in scope.values:
            for _, columns in scope.equal_places(place):
                for column in columns:
                    self.bindings.setdefault(Binding(slot, column, True))

    def _compare_all(self, root: exp.Expr, scope: Scope) -> None:
        """Literals near a column in a comparison may tell its value."""
        done: set[int] = set()
        for node in _own(root):
            if isinstance(node, _COMPARISONS) and id(node) not in done:
                done.update(id(n) for n in _own(node))
                columns = self._columns_in(node, scope)
                if columns:
                    self._bind_compared(node, columns)

    def _bind_compared(self, root: exp.Expr, columns: Iterable[str]) -> None:
        for slot in _slots(root):
            if (slot.number, slot.is_parameter) not in self._valued:
                for column in columns:
                    self.bindings.setdefault(Binding(slot, column, False))

    # Writes

    def _write(self, node: exp.Expr, outer: Scope) -> Relation:
        """INSERT, UPDATE, DELETE or MERGE; returns what RETURNING gives."""
        outer = self._with(node, outer)
        scope = Scope(outer=outer, ctes=outer.ctes)
        target = node.this.this if isinstance(node.this, exp.Schema) else node.this
        added = self._add(scope, target)
        table = self._target(target)
        if isinstance(node, exp.Insert):
            self._insert(node, scope, table, added[0])
        for source in [*_listed(node.args.get("from_")), *_listed(node.args.get("using"))]:
            self._add(scope, source.this if isinstance(source, exp.From) else source)
        if isinstance(node, exp.Update):
            self._assignments(node.expressions, scope, table)
        if isinstance(node, exp.Merge):
            self._condition(node.args["on"], scope, scope)
            for when in node.args["whens"].expressions:
                self._merge_action(when, scope, table)
        if where := node.args.get("where"):
            self._condition(where.this, scope, scope)
        self._bind_values(scope)
        returning = node.args.get("returning")
        result = self._projections(returning.expressions if returning else [], scope, False)
        result.shape = "write"
        return result

    def _target(self, node: exp.Expr) -> str:
        table = node if isinstance(node, exp.Table) else node.find(exp.Table)
        if table is None:
            raise Unread("no target")
        schema = table.args.get("db")
        return self._catalog.qualify(_name(table.this), _name(schema) if schema else None)

    def _insert(self, node: exp.Insert, scope: Scope, table: str, relation: Relation) -> None:
        listed = node.this.expressions if isinstance(node.this, exp.Schema) else None
        names = [_name(n) for n in listed] if listed else list(relation.columns)
        columns = [f"{table}.{name}" for name in names]
        source = node.expression
        if listed is None and not node.args.get("default"):
            self.starred, self.unknown = True, self.unknown or bool(relation.rest)
        self._touch_columns(Ref(tuple(columns)))
        if isinstance(source, exp.Values):
            for row in source.expressions:
                self._values(columns, row.expressions, scope)
        elif source is not None:
            self._query(source, scope.outer or scope)
            if isinstance(source, exp.Select):
                for column, value in zip(columns, source.expressions, strict=False):
                    self._bind_written(column, value.unalias())
        if conflict := node.args.get("conflict"):
            scope.hidden["excluded"] = relation
            self._assignments(conflict.expressions, scope, table)
            if where := conflict.args.get("where"):
                self._condition(where.this, scope, scope)

    def _merge_action(self, when: exp.Expr, scope: Scope, table: str) -> None:
        if condition := when.args.get("condition"):
            self._condition(condition, scope, Scope(relations=scope.relations))
        action = when.args.get("then")
        if isinstance(action, exp.Update):
            self._assignments(action.expressions, scope, table)
        elif isinstance(action, exp.Insert) and isinstance(action.expression, exp.Tuple):
            names = [_name(n.this) for n in (action.this.expressions if action.this else [])]
            columns = [f"{table}.{name}" for name in names]
            self._touch_columns(Ref(tuple(columns)))
            self._values(columns, action.expression.expressions, scope)

    def _assignments(self, nodes: list[exp.Expr], scope: Scope, table: str) -> None:
        for node in nodes:
            if isinstance(node, exp.EQ):
                targets = _row(node.this) or [node.this]
                columns = [f"{table}.{_name(t.this)}" for t in targets]
                self._touch_columns(Ref(tuple(columns)))
                self._values(columns, _row(node.expression) or [node.expression], scope)

    def _values(self, columns: list[str], values: list[exp.Expr], scope: Scope) -> None:
        for column, value in zip(columns, values, strict=False):
            self._expression(value, scope)
            self._bind_written(column, value)
        for value in values[len(columns) :]:
            self._expression(value, scope)

    def _bind_written(self, column: str, value: exp.Expr) -> None:
        slots = _constants(value)
        if slots is None:
            self._bind_compared(value, [column])
            return
        for slot in slots:
            self._valued.add((slot.number, slot.is_parameter))
            self.bindings.setdefault(Binding(slot, column, True))

    def _copy(self, node: exp.Copy, scope: Scope) -> str:
        """COPY; `kind` is true of COPY … FROM."""
        if isinstance(node.this, exp.Query):
            self._query(node.this, scope)
            return "export"
        listed = node.this.expressions if isinstance(node.this, exp.Schema) else None
        table = node.this.this if isinstance(node.this, exp.Schema) else node.this
        inner = Scope()
        self._add(inner, table)
        if listed:
            target = self._target(table)
            self._touch_columns(Ref(tuple(f"{target}.{_name(n)}" for n in listed)))
        else:
            self._star(exp.Star(), inner, Relation())
        return "write" if node.args.get("kind") else "export"


def _name(node: exp.Expr) -> str:
    """An identifier as the server keeps it."""
    return node.name if node.args.get("quoted") else node.name.lower()


def _alias(node: exp.Expr) -> tuple[str, list[str]]:
    alias = node.args.get("alias")
    if isinstance(alias, exp.TableAlias):
        this = alias.args.get("this")
        names = [_name(n.this if isinstance(n, exp.ColumnDef) else n) for n in alias.columns]
        return (_name(this) if this else ""), names
    if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
        return _name(node.this), []
    return "", []


def _listed(value: object) -> list[exp.Expr]:
    found = value if isinstance(value, list) else [value]
    return [node for node in found if isinstance(node, exp.Expr)]


def _own(root: exp.Expr) -> Iterator[exp.Expr]:
    """The nodes below, subqueries but not what is in them."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, exp.Query):
            stack.extend(reversed(list(node.iter_expressions())))


def _leaves(root: exp.Expr) -> Iterator[exp.Expr]:
    stack = [root]
    while stack:
        node = stack.pop().unnest()
        if isinstance(node, exp.And | exp.Or | exp.Not):
            stack.extend(node.iter_expressions())
        else:
            yield node


def _is_star(node: exp.Expr) -> bool:
    return isinstance(node, exp.Star) or (
        isinstance(node, exp.Column) and isinstance(node.this, exp.Star)
    )


def _row(node: exp.Expr) -> list[exp.Expr] | None:
    node = node.unnest()
    is_row = isinstance(node, exp.Anonymous) and node.name.lower() == "row"
    return node.expressions if is_row or isinstance(node, exp.Tuple) else None


def _only_aggregates(nodes: list[exp.Expr]) -> bool:
    """Every projection is computed from many rows, and doesn't list their values."""
    listing = (exp.ArrayAgg, exp.GroupConcat, exp.JSONArrayAgg, exp.JSONObjectAgg, exp.Window)
    seen = False
    for node in nodes:
        if _is_star(node) or node.find(*listing):
            return False
        seen |= node.find(exp.AggFunc) is not None
        if any(c.find_ancestor(exp.AggFunc) is None for c in node.find_all(exp.Column)):
            return False
    return seen


def _slot(node: exp.Expr) -> Slot | None:
    """The slot behind a node, if it is a sentinel or a parameter."""
    if not isinstance(node, exp.Literal):
        return None
    if node.is_string:
        match = _SENTINEL.match(node.name)
        return Slot(int(match[1]), False) if match else None
    number = int(node.name) + 5 if node.name.isdigit() and len(node.name) < 20 else 0
    if number < _BASE:
        return None
    is_parameter = number >= _PARAMETERS
    return Slot((number - (_PARAMETERS if is_parameter else _BASE)) // 10, is_parameter)


def _constants(node: exp.Expr) -> list[Slot] | None:
    """Slots of a constant that is a column's value as it stands; None if it isn't one."""
    if slot := _slot(node):
        return [slot]
    if isinstance(node, exp.Neg):
        return [replace(slot, is_negative=True) for slot in _constants(node.this) or ()]
    if isinstance(node, exp.Any):
        inner = node.this.unnest()
        slots = _constants(inner)
        has_items = inner.find(exp.Array) is not None
        return slots and [replace(slot, is_array=not has_items) for slot in slots]
    if isinstance(node, exp.Array):
        items = [_constants(item) for item in node.expressions]
        return None if None in items else [slot for item in items for slot in item or ()]
    if isinstance(node, _WRAPPERS):
        return _constants(node.this)
    is_constant = not any(isinstance(n, exp.Column | exp.Query) for n in _own(node))
    return [] if is_constant and not _slots(node) else None


def _slots(root: exp.Expr) -> list[Slot]:
    """Slots below a node that may tell a value: not numbers that only steer a function."""
    found = []
    for node in _own(root):
        slot = _slot(node)
        if slot and _tells(node, root):
            is_array = node.find_ancestor(exp.Any, exp.ArrayContainsAll, exp.ArrayOverlaps)
            found.append(replace(slot, is_array=is_array is not None))
    return found


def _tells(node: exp.Expr, root: exp.Expr) -> bool:
    slot = _slot(node)
    number = slot is not None and not slot.is_parameter and not node.args.get("is_string")
    child, parent = node, node.parent
    while parent is not None and child is not root:
        if isinstance(parent, exp.Interval | exp.DataType | exp.Bracket):
            return False
        if isinstance(parent, _JSON) and child.arg_key == "expression":
            return False
        if number and isinstance(parent, exp.Func) and not isinstance(parent, _TRANSPARENT):
            return False
        child, parent = parent, parent.parent
    return True
