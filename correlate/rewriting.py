"""PostgreSQL's SQL put into words that the parser knows, and nothing else about it changed.

In: text in which literals are sentinels (`'lit~3'` for strings), without comments. Out: text that
touches the same tables and columns and compares the same values. `plainer` and `unwrapped` are for
every text; `stranger` is for what the parser has refused. What is written here is parsed and thrown
away: the record keeps the statement as it was logged.
"""

import re

WORD = r'(?:"[^"]*"|[\w$]+)'
_STRING = r"'[^']*'"  # a sentinel, which has no quotes within


class Unread(Exception):
    """The statement can't be analysed; the message says why."""


# Quoted names stay, whatever they hold.
_ASIDE = re.compile(
    rf"""\bU&(?P<coded>"(?>[^"]|"")*+") | (?P<quoted>"[^"]*")
      | \bOPERATOR\s*+\(\s*+(?:{WORD}\s*+\.\s*+)?(?P<operator>[-+*/<>=~!@#%^&|`?]++)\s*+\)
      | (?P<some>\bSOME)(?=\s*\()
      | \bOVERRIDING\s++(?:SYSTEM|USER)\s++VALUE\b
      | \bON\s++COMMIT\s++(?:DROP|(?:DELETE|PRESERVE)\s++ROWS)\b
      | \bWHERE\s++CURRENT\s++OF\s++{WORD}""",
    re.IGNORECASE | re.VERBOSE,
)
_UNICODE = re.compile(r"\\(?:([0-9A-Fa-f]{4})|\+(0[0-9A-Fa-f]{5}))")

_EXPLAIN = re.compile(r"\s*EXPLAIN\b(?:\s*\([^()]*\)|(?:\s+(?:ANALYZE|VERBOSE)\b)*)", re.IGNORECASE)
_PREPARE = re.compile(
    rf"\s*+PREPARE\s++{WORD}\s*+(?:\((?>[^()]|\([^()]*\))*+\))?\s*+AS\b", re.IGNORECASE
)
_CURSOR = re.compile(
    rf"\s*+DECLARE\s++{WORD}\s++(?>(?!CURSOR\b)\w++\s++)*+CURSOR\s++(?:WITH(?:OUT)?\s++HOLD\s++)?FOR\b",
    re.IGNORECASE,
)
_COPY_QUERY = re.compile(r"\s*+COPY\s*+\(", re.IGNORECASE)
_COPY_TABLE = re.compile(
    rf"(\s*+COPY\s++)(?:BINARY\s++)?((?:{WORD}\s*+\.\s*+)*{WORD}\s*+(?:\([^()]*\)\s*+)?)"
    r"\b(FROM|TO)\b(?>(?!\bWHERE\b)[^;])*+(WHERE\b[^;]*+)?(;.*)?",
    re.IGNORECASE | re.DOTALL,
)
_CALL = re.compile(r"\s*+CALL\b", re.IGNORECASE)
_BRACKETS = re.compile(r'"[^"]*"|[()]')


def plainer(text: str) -> str:
    """`OPERATOR(pg_catalog.=)`, as foreign key checks write it, is `=`; SOME is ANY; what doesn't
    matter here goes."""
    return _ASIDE.sub(_plain, text)


def _plain(match: re.Match[str]) -> str:
    if match["coded"]:
        return _UNICODE.sub(lambda m: chr(int(m[1] or m[2], 16)), match["coded"])
    if match["operator"]:
        return f" {match['operator']} "
    return match["quoted"] or (" ANY" if match["some"] else " ")


def unwrapped(text: str) -> tuple[str, bool]:
    """Without EXPLAIN, PREPARE … AS, DECLARE … CURSOR FOR, and COPY round a query; and whether the
    statement hands its rows out wholesale. Raises Unread."""
    for pattern in (_EXPLAIN, _PREPARE):
        if match := pattern.match(text):
            text = text[match.end() :]
    if match := _CURSOR.match(text):
        return text[match.end() :], True
    if match := _COPY_QUERY.match(text):
        end = _closing(text, match.end())
        _, more, rest = text[end:].partition(";")
        return text[match.end() : end] + more + rest, True
    if match := _COPY_TABLE.fullmatch(text):
        copy, table, way, condition, rest = match.groups(default="")
        name = table.partition("(")[0]
        test = f"; SELECT 1 FROM {name} {condition}" if condition else ""
        return f"{copy}{table} {way} STDIN{test}{rest}", False
    return text, False


def is_call(text: str) -> bool:
    return _CALL.match(text) is not None


def as_select(text: str) -> str:
    """CALL as a SELECT of the procedure."""
    return _CALL.sub("SELECT ", text, count=1)


def _closing(text: str, start: int) -> int:
    """Where the bracket that is open closes. Raises Unread."""
    depth = 1
    for token in _BRACKETS.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth == 0:
            return token.start()
    raise Unread("a bracket is open")


# Operators that the parser knows, between operands and before one.
_KNOWN = frozenset(
    [
        "=",
        "<>",
        "!=",
        "<",
        ">",
        "<=",
        ">=",
        "=>",
        "+",
        "-",
        "*",
        "/",
        "%",
        "^",
        "||",
        "~",
        "!~",
        "~*",
        "!~*",
        "~~",
        "~~*",
        "->",
        "->>",
        "#>",
        "#>>",
        "@>",
        "<@",
        "?",
        "?|",
        "?&",
        "&&",
        "@?",
        "@@",
        "<<",
        ">>",
        "&",
        "|",
        "#",
        "#-",
    ]
)
_KNOWN_BEFORE = frozenset(["+", "-", "~", "*"])
_OPERATOR = re.compile(rf"""({_STRING}|"[^"]*")|([-+*/<>=~!@#%^&|`?]++)""")
_OPERAND_ENDS = re.compile(r"""[\w"')\]$]\s*+\Z""")
_NO_OPERAND = re.compile(
    r"\b(?:SELECT|DISTINCT|ALL|WHERE|AND|OR|NOT|ON|WHEN|THEN|ELSE|CASE|BY|HAVING|RETURNING|IN|LIKE"
    r"|ILIKE|BETWEEN|SYMMETRIC|VALUES|SET|LIMIT|OFFSET|FROM|USING|TO|FOR)\s*+\Z",
    re.IGNORECASE,
)
# A type before a literal, of those that the parser doesn't know there.
_TYPED = re.compile(
    r"""(?<![\w$.])(?:pg_catalog\s*+\.\s*+)?(?:"char"|bpchar|name|box|circle|lseg|line|polygon|point
        |inet|cidr|macaddr8?|tsvector|tsquery|money|oid|xid8?|bytea|pg_lsn|xml|jsonpath|citext
        |reg[a-z]{4,12}|(?:int4|int8|num|ts|tstz|date)(?:multi)?range|varbit)\s++(?=')""",
    re.IGNORECASE | re.VERBOSE,
)
_READABLE = re.compile(
    r"[\s(]*+(?:SELECT|WITH|INSERT|UPDATE|DELETE|MERGE|VALUES|TABLE"
    r"|CREATE\s(?>\s*+(?:TEMP(?:ORARY)?|UNLOGGED|MATERIALIZED|OR\s++REPLACE)\b)*+\s*+(?:TABLE|VIEW))\b",
    re.IGNORECASE,
)
_SUBSCRIPT = re.compile(r"\[[^\[\]]*+\]|\.\s*+" + WORD)
_INSERTED = re.compile(
    rf"(\bINSERT\s++INTO\s++(?:{WORD}\s*+\.\s*+)*{WORD}\s*+(?:AS\s++{WORD}\s*+)?\()([^()]*+)(?=\))",
    re.IGNORECASE,
)
_COLUMNS = r"""[\w$", ]{1,300}?"""
_MARKED = r"(?:\s++TO\s++\S{1,60}\s++DEFAULT\s++\S{1,60})?"
_STRANGE = [
    (re.compile(pattern, re.IGNORECASE), new)
    for pattern, new in (
        # Of recursion, what only orders or marks the rows.
        (rf"\bSEARCH\s++(?:DEPTH|BREADTH)\s++FIRST\s++BY\s++{_COLUMNS}\bSET\s++{WORD}", " "),
        (rf"\bCYCLE\s++{_COLUMNS}\bSET\s++{WORD}{_MARKED}\s++USING\s++{WORD}", " "),
        (rf"(\bUSING\s*+\([^()]*+\))\s*+AS\s++{WORD}", r"\1"),
        (rf"\bONLY\s*+\(\s*+((?:{WORD}\s*+\.\s*+)*{WORD})\s*+\)", r" \1"),
        (rf"(\bFROM\s++(?:{WORD}\s*+\.\s*+)*{WORD})\s*+\*(?=\s*+(?:,|;|\Z|WHERE\b))", r"\1"),
        (r"\bUSING\s*+[-+*/<>=~!@#%^&|`?]++(?=\s*+(?:,|\)|;|\Z|[A-Z]))", " "),
        (r"\bFOR\s++READ\s++ONLY\b", " "),
        (r"\bWITH\s++(?:NO\s++)?DATA\b", " "),
        (rf"\bSIMILAR\s++(?!TO\b)({_STRING})\s++ESCAPE\b", r", \1 ,"),
        (rf"\bESCAPE\s++(?:{_STRING}|\d++)", " "),
        # Functions that the parser takes for its own, and those whose names are words of SQL.
        (r"\b(generate_series|json_object)(?=\s*+\()", r"\1_"),
        (r"\.\s*+(rows|values|set|all|any|end|left|right)(?=\s*+\()", r'."\1"'),
        (r"((?:\w|\))\s++)ARRAY(?:\s*+\[\d*+\])?(?=\s*+(?:,|\)|;|\Z))", r"\1[]"),
    )
]


def stranger(text: str) -> str:
    """Without strange operators, types and clauses. Raises Unread for what is no query or write."""
    if not _READABLE.match(text):
        raise Unread("not parsed")
    text = _INSERTED.sub(lambda m: m[1] + _SUBSCRIPT.sub("", m[2]), text)
    for pattern, new in _STRANGE:
        text = pattern.sub(new, text)
    return _TYPED.sub(" ", _OPERATOR.sub(_known, text))


def _known(match: re.Match[str]) -> str:
    """A run of operator characters, cut as PostgreSQL cuts it; an operator that the parser doesn't
    know is another one, which compares or computes no less than it."""
    if match[1]:
        return match[1]
    before = match.string[max(0, match.start() - 80) : match.start()]
    is_between = bool(_OPERAND_ENDS.search(before)) and not _NO_OPERAND.search(before)
    parts = []
    for operator in _cut(match[2]):
        known = _KNOWN if is_between else _KNOWN_BEFORE
        parts.append(operator if operator in known else "||" if is_between else "~")
        is_between = False
    return f" {' '.join(parts)} "


def _cut(run: str) -> list[str]:
    """An operator ends in + or - only if it has a character beyond those of plain arithmetic."""
    if run in _KNOWN or not re.fullmatch(r"[-+*/<>=]+", run):
        return [run]
    head = run.rstrip("+-") or run[0]
    return [head, *run[len(head) :]]
