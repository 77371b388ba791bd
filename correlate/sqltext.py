"""SQL text to trees, and questions to the nodes of a tree. The only module that knows sqlglot.

In: a skeleton of `templates`, in which literals are markers. Out: sqlglot's trees (its node
classes as `exp`) in which literals and parameters are sentinels that carry their number, so that
nodes lead back to the text. What sqlglot can't parse, or would take too long over, raises. Knows
nothing of tables, rules or values.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import sqlglot

from scalple.correlate import rewriting, serverfunctions, templates
from scalple.correlate.relations import Slot
from scalple.correlate.rewriting import Unread

exp = sqlglot.exp  # the classes by which other modules tell nodes apart

# sqlglot tells every statement it can't parse to the log; here that is an answer, not news.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

LONGEST = 200_000
_KEYWORDS = frozenset(
    part.lower()
    for keyword in sqlglot.Dialect.get_or_raise("postgres").tokenizer_class.KEYWORDS
    for part in keyword.split()
    if part.isalpha()
)
_DEEPEST = 60
_DEEPEST_TYPES = 6
_TYPE_WORDS = {
    word
    for word, token in sqlglot.Dialect.get_or_raise("postgres").tokenizer_class.KEYWORDS.items()
    if token in sqlglot.Parser.TYPE_TOKENS
}
# Number sentinels; in tens, because sqlglot subtracts 1 from array subscripts. Parameters are
# sentinels too: sqlglot takes `$1,lower($` for an opening dollar quote.
_BASE, _PARAMETERS = 10**15, 2 * 10**15
_SENTINEL = re.compile(r"lit~(\d+)\Z")

_DOLLAR = re.compile(r'("(?:[^"]|"")*"|[^\W\d][\w$]*)|\$(\d{1,6})\b')
_NESTING = re.compile(r"(?:([A-Za-z]\w{0,20}+)\s*+)?[(\[]|[)\]]|\bcase\b|\bend\b", re.IGNORECASE)
_SUBSCRIPTS = re.compile(r"(?:\[[^\[\]]*+\]\s*+){20}")
_PREFIXES = re.compile(rf"(?:\bnot\s+|[-+~!@]\s*){{{_DEEPEST}}}", re.IGNORECASE)
# These touch no row; sqlglot doesn't parse all of them.
_HARMLESS = re.compile(
    r"\s*(?:SET|RESET|SHOW|BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|DISCARD|LISTEN"
    r"|UNLISTEN|NOTIFY|CHECKPOINT|VACUUM|ANALYZE|REINDEX|CLUSTER|LOCK|FETCH|MOVE|CLOSE|DEALLOCATE"
    r"|LOAD|REFRESH|COMMENT|GRANT|REVOKE|REASSIGN|PREPARE\s+TRANSACTION)\b[^;]*+;?\s*+\Z",
    re.IGNORECASE,
)


def is_keyword(word: str) -> bool:
    """A word of SQL, in lower case."""
    return word in _KEYWORDS


def is_harmless(skeleton: str) -> bool:
    """The statement touches no row, whether it can be parsed or not."""
    return _HARMLESS.match(skeleton) is not None


def parameters(skeleton: str) -> list[int]:
    """Numbers of the bind parameters that a skeleton mentions."""
    return sorted({int(m[2]) for m in _DOLLAR.finditer(skeleton) if m[2]})


def parse_call(skeleton: str) -> list[exp.Expr]:
    """Trees of CALL, read as SELECT; none for another statement. Raises Unread."""
    if not rewriting.is_call(skeleton.replace(templates.COMMENT, " ")):
        return []
    text = _sentinels(skeleton)
    _refuse_nesting(text)
    return parse(rewriting.as_select(text))


def parse_skeleton(skeleton: str) -> tuple[list[exp.Expr], bool]:
    """Trees of the statements in a skeleton, and whether they hand their rows out wholesale.

    Raises Unread, and whatever sqlglot raises.
    """
    text = _sentinels(skeleton)
    _refuse_nesting(text)
    text, is_export = rewriting.unwrapped(text)
    try:
        trees = parse(text)
        if not any(isinstance(tree, exp.Command) for tree in trees):
            return trees, is_export
    except Exception:  # noqa: BLE001, S110 - sqlglot may raise anything, on any text
        pass
    return parse(rewriting.stranger(text)), is_export


def _sentinels(skeleton: str) -> str:
    if len(skeleton) > LONGEST:
        raise Unread("too long")
    slots = iter(range(len(skeleton)))

    def sentinel(match: re.Match[str]) -> str:
        slot = next(slots)
        if match[0] == templates.STRING:
            return f"'lit~{slot}'"
        return f"{_BASE + 10 * slot}" if match[0] == templates.NUMBER else " "

    text = rewriting.plainer(templates.MARKERS.sub(sentinel, skeleton))
    return _DOLLAR.sub(lambda m: m[1] or f"{_PARAMETERS + 10 * int(m[2])}", text)


def _refuse_nesting(text: str) -> None:
    """The compiled parser would exhaust the C stack; and it reads `date(date(…` in 2^n steps."""
    if _PREFIXES.search(text) or _SUBSCRIPTS.search(text):
        raise Unread("nested too deeply")
    open_brackets: list[bool] = []
    types = 0
    for token in _NESTING.finditer(text):
        if token[0][-1] in "([" or token[0].lower() == "case":
            is_type = bool(token[1]) and token[1].upper() in _TYPE_WORDS
            open_brackets.append(is_type)
            types += is_type
        elif open_brackets:
            types -= open_brackets.pop()
        if types > _DEEPEST_TYPES or len(open_brackets) > _DEEPEST:
            raise Unread("nested too deeply")


def parse(text: str) -> list[exp.Expr]:
    """Trees of PostgreSQL's SQL."""
    return [tree for tree in sqlglot.parse(text, read="postgres") if tree is not None]


# Around a column or constant, these leave it the same value as far as naming a subject goes.
WRAPPERS = (exp.Paren, exp.Cast, exp.Lower, exp.Upper, exp.Trim, exp.Collate)
COMPARISONS = (exp.Predicate, exp.RegexpLike, exp.RegexpILike)
_OPERATIONS = (exp.Func, exp.Binary)
_SEPARATE = (*COMPARISONS, exp.Connector, exp.Not, exp.Count)  # not the value of an operand
_KEYED = {"json_build_object", "jsonb_build_object"}
_CHOICES = (exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Greatest, exp.Least)
_TRANSPARENT = (*WRAPPERS, exp.Array, exp.Any, exp.Connector, exp.Binary, *_CHOICES)
_ARRAYS = (exp.Any, exp.All, exp.ArrayContainsAll, exp.ArrayContainedBy, exp.ArrayOverlaps)
_JSON = (exp.JSONExtract, exp.JSONExtractScalar, exp.JSONBExtract, exp.JSONBExtractScalar)


def name_of(node: exp.Expr) -> str:
    """An identifier as the server keeps it."""
    return node.name if node.args.get("quoted") else node.name.lower()


def alias_of(node: exp.Expr) -> tuple[str, list[str]]:
    alias = node.args.get("alias")
    if isinstance(alias, exp.TableAlias):
        this = alias.args.get("this")
        names = [name_of(n.this if isinstance(n, exp.ColumnDef) else n) for n in alias.columns]
        return (name_of(this) if this else ""), names
    if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
        return name_of(node.this), []
    return "", []


def listed(value: object) -> list[exp.Expr]:
    found = value if isinstance(value, list) else [value]
    return [node for node in found if isinstance(node, exp.Expr)]


def own(root: exp.Expr) -> Iterator[exp.Expr]:
    """The nodes below, subqueries but not what is in them."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, exp.Query):
            stack.extend(reversed(list(node.iter_expressions())))


def is_operation(node: exp.Expr) -> bool:
    """A function, operator or CASE that makes a value of its operands."""
    return isinstance(node, _OPERATIONS) and not isinstance(node, _SEPARATE)


def operands(root: exp.Expr) -> list[exp.Expr]:
    """The nodes of an operation, but not of the conditions and counts in it."""
    found, stack = [], [root]
    while stack:
        node = stack.pop()
        found.append(node)
        if not isinstance(node, exp.Query):
            stack.extend(n for n in node.iter_expressions() if not isinstance(n, _SEPARATE))
    return found


def leaves(root: exp.Expr) -> Iterator[exp.Expr]:
    stack = [root]
    while stack:
        node = stack.pop().unnest()
        if isinstance(node, exp.And | exp.Or | exp.Not):
            stack.extend(node.iter_expressions())
        else:
            yield node


def is_star(node: exp.Expr) -> bool:
    return isinstance(node, exp.Star) or (
        isinstance(node, exp.Column) and isinstance(node.this, exp.Star)
    )


def row_of(node: exp.Expr) -> list[exp.Expr] | None:
    node = node.unnest()
    is_row = isinstance(node, exp.Anonymous) and node.name.lower() == "row"
    return node.expressions if is_row or isinstance(node, exp.Tuple) else None


_AGGREGATES = (exp.AggFunc, exp.Filter, exp.WithinGroup)


def only_aggregates(nodes: list[exp.Expr]) -> bool:
    """Every projection is computed from many rows, and doesn't list their values."""
    listing = (exp.ArrayAgg, exp.GroupConcat, exp.JSONArrayAgg, exp.JSONObjectAgg, exp.Window)
    seen = False
    for node in nodes:
        if is_star(node) or node.find(*listing):
            return False
        seen |= node.find(exp.AggFunc) is not None
        if not all(_is_within(c, _AGGREGATES) for c in node.find_all(exp.Column)):
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


def constants(node: exp.Expr) -> list[Slot] | None:
    """Slots of a constant that is a column's value as it stands; None if it isn't one."""
    if slot := _slot(node):
        return [slot]
    if isinstance(node, exp.Neg):
        below = constants(node.this)
        return below and [replace(slot, is_negative=not slot.is_negative) for slot in below]
    if isinstance(node, exp.Any):
        inner = node.this.unnest()
        slots = constants(inner)
        has_items = inner.find(exp.Array) is not None
        return slots and [replace(slot, is_array=not has_items) for slot in slots]
    if isinstance(node, exp.Array):
        items = [constants(item) for item in node.expressions]
        return None if None in items else [slot for item in items for slot in item or ()]
    if isinstance(node, exp.Cast) and any(
        isinstance(n, exp.DataTypeParam) for n in node.to.expressions
    ):
        return None  # varchar(1) cuts the value
    if isinstance(node, WRAPPERS):
        return constants(node.this)
    is_constant = not any(isinstance(n, exp.Column | exp.Query) for n in own(node))
    return [] if is_constant and not slots_in(node) else None


def _takes_array(node: exp.Expr) -> bool:
    is_all = isinstance(node, exp.Anonymous) and node.name.upper() == "ALL"
    return is_all or isinstance(node, _ARRAYS)


def every_slot(root: exp.Expr) -> list[Slot]:
    """All slots below a node, but not those of subqueries."""
    return [slot for node in own(root) if (slot := _slot(node))]


def slots_in(root: exp.Expr) -> list[Slot]:
    """Slots below a node that may tell a value: not numbers that only steer a function."""
    return slots_among(own(root), root)


def slots_among(nodes: Iterable[exp.Expr], root: exp.Expr) -> list[Slot]:
    found = []
    for node in nodes:
        slot = _slot(node)
        if slot and _tells(node, root):
            is_array = any(_takes_array(above) for above in _above(node, root))
            found.append(replace(slot, is_array=is_array))
    return found


def _above(node: exp.Expr, root: exp.Expr) -> Iterator[exp.Expr]:
    """The nodes above one, up to the nearest comparison or the root."""
    for _ in range(_DEEPEST):  # operators in a row can make long ladders
        if node is root or node.parent is None:
            return
        node = node.parent
        yield node
        if isinstance(node, COMPARISONS):
            return


def handed_over(tree: exp.Expr) -> dict[Slot, bool]:
    """Slots given to functions that aren't the server's own, hand on, or encrypt: whose value it is,
    nothing says. True where the value, as it stands, is a text that may be run as SQL."""
    found: dict[Slot, bool] = {}
    for node in tree.walk():
        name = _called(node)
        if name is None or serverfunctions.is_own(name):
            continue
        arguments = [*node.iter_expressions()][1:] if name == "pg_notify" else [node]
        for below in (n for root in arguments for n in root.walk(prune=_ends_arguments)):
            if slot := _slot(below):
                runs = below.parent is node and name in serverfunctions.RUN_SQL
                found[slot] = runs and found.get(slot, True)
    return found


def _ends_arguments(node: exp.Expr) -> bool:
    return isinstance(node, exp.Query | exp.DataType)


def _called(node: exp.Expr) -> str | None:
    """The function that a node calls, if sqlglot knows no such function, or it encrypts."""
    if isinstance(node, exp.Encrypt | exp.Decrypt):
        return "encrypt"
    return node.name.lower() if isinstance(node, exp.Anonymous) else None


def is_counted(node: exp.Expr, root: exp.Expr) -> bool:
    """Only counted below the root: the count isn't the value."""
    return isinstance(node, exp.Column) and any(
        isinstance(n, exp.Count) for n in _above(node, root)
    )


def is_in_order(node: exp.Expr) -> bool:
    return _is_within(node, (exp.Order,))


def _is_within(node: exp.Expr, kinds: tuple[type[exp.Expr], ...]) -> bool:
    """One of the kinds stands above a node in its SELECT, and not very far above."""
    above = node.parent
    for _ in range(_DEEPEST):
        if above is None or isinstance(above, exp.Select):
            return False
        if isinstance(above, kinds):
            return True
        above = above.parent
    return False


def _tells(node: exp.Expr, root: exp.Expr) -> bool:
    slot = _slot(node)
    is_number = slot is not None and not slot.is_parameter and not node.args.get("is_string")
    child = node
    for parent in _above(node, root):
        if isinstance(parent, exp.Interval | exp.DataType):
            return False
        if isinstance(parent, exp.Bracket) and child.arg_key == "expressions":
            return False
        if isinstance(parent, _JSON) and child.arg_key == "expression":
            return False
        if isinstance(parent, exp.Binary | exp.Case | exp.Coalesce):
            is_number = False  # from here on it is part of a value
        if is_number and isinstance(parent, exp.Func) and not isinstance(parent, _TRANSPARENT):
            return parent.find(exp.Column) is None  # else it steers the function
        is_keyed = isinstance(parent, exp.Anonymous) and parent.name.lower() in _KEYED
        if is_keyed and child is node and (child.index or 0) % 2 == 0:
            return False  # a key
        child = parent
    return True
