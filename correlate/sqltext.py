"""What a form of statement touches: tables, columns, shape, and which literal belongs to what.

In: a skeleton of `templates` and the catalog. Out: `Statement`. The only module that knows
sqlglot: literals are parsed as sentinels that carry their slot (the number of the marker in the
skeleton), so that nodes of the tree lead back to the text. Doesn't see a single value, masks
nothing and caches nothing. Whatever can't be read raises `Unread`; nothing else is raised.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from scalple.correlate import templates
from scalple.correlate.catalog import Catalog
from scalple.correlate.relations import Place, Ref, Relation, Scope, worst

# sqlglot tells every statement it can't parse to the log; here that is an answer, not news.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

LONGEST = 200_000
_DEEPEST = 60
_BASE = 10**15  # number sentinels; in tens, because sqlglot subtracts 1 from array subscripts
_SENTINEL = re.compile(r"lit~(\d+)\Z")

_EXPLAIN = re.compile(r"\s*EXPLAIN\b(?:\s*\([^()]*\)|(?:\s+(?:ANALYZE|VERBOSE)\b)*)", re.I)
_WORD = r'(?:"[^"]*"|[\w$]+)'
_PREPARE = re.compile(rf"\s*PREPARE\s+{_WORD}\s*(?:\((?:[^()]|\([^()]*\))*\))?\s*AS\b", re.I)
_CURSOR = re.compile(rf"\s*DECLARE\s+{_WORD}\s+[\w\s]*?CURSOR\s+(?:WITH(?:OUT)?\s+HOLD\s+)?FOR\b", re.I)
_NESTING = re.compile(r"[(\[]|[)\]]|\bcase\b|\bend\b", re.I)
_PREFIXES = re.compile(rf"(?:\bnot\s+|[-+~!@]\s*){{{_DEEPEST}}}", re.I)
# These touch no row; sqlglot doesn't parse all of them.
_HARMLESS = re.compile(
    r"\s*(?:SET|RESET|SHOW|BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|DISCARD|LISTEN"
    r"|UNLISTEN|NOTIFY|CHECKPOINT|VACUUM|ANALYZE|REINDEX|CLUSTER|LOCK|FETCH|MOVE|CLOSE|DEALLOCATE"
    r"|LOAD|REFRESH|COMMENT|GRANT|REVOKE|REASSIGN|PREPARE\s+TRANSACTION)\b[^;]*;?\s*\Z",
    re.I,
)


class Unread(Exception):
    """The statement can't be analysed; the message says why."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A literal or bind parameter that stands for a value of a column."""

    slot: int
    """Marker in the skeleton, or n of `$n`."""
    is_parameter: bool
    column: str
    is_value: bool
    """The slot is the column's value (=, IN, VALUES, SET), rather than only compared with it."""
    is_array: bool = False
    is_negative: bool = False


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
    except Exception as error:  # RecursionError and whatever sqlglot raises, on any text
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

    return templates.MARKERS.sub(sentinel, skeleton)


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
_OPERANDS = (*_WRAPPERS, exp.Array, exp.Any)
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
                name: Ref(tuple({**dict.fromkeys(a.columns), **dict.fromkeys(b.columns)}),
                          a.is_direct and b.is_direct)
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
        """Resolve the columns below a node and read its subqueries."""
        for node in _own(root):
            if isinstance(node, exp.Column):
                self._resolve(node, scope)
            elif isinstance(node, exp.Query):
                is_test = isinstance(node.parent, exp.Exists)
                relation = self._query(node, scope, is_test=is_test)
                scope.nested.append(relation.shape)
        for node in _own(root):
            if isinstance(node, _COMPARISONS) and not isinstance(node, exp.Exists):
                self._compared(node, scope)

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
        self._expression_first(root, scope)
        into.pin(self._pins(root, scope, into))
        for leaf in _leaves(root):
            homes = {scope.refs[id(n)][0] for n in _own(leaf) if id(n) in scope.refs}
            if any(isinstance(n, exp.Query) for n in _own(leaf)):
                into.ranged |= {id(r) for r in scope.relations.values()}
            elif not (isinstance(leaf, exp.EQ) and len(homes) > 1):
                into.ranged |= homes
        self._bind_equals(into)
