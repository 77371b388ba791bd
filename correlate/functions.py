"""Whom the arguments of functions name: the declarations, and the names of arguments.

In: declarations (function -> by position, the identifier that an argument names) and the schema's
text, whose CREATE FUNCTION and CREATE PROCEDURE say what arguments are called. Out: of a call, the
arguments that name somebody, each with a column of its own: `public.get_order_by_id(1)`. All
functions of one name count as one. Without a CREATE, arguments given by name name nobody, but
are masked.
"""

import re
from collections.abc import Iterator, Mapping

from scalple.correlate import sqltext, templates
from scalple.correlate.catalog import relation_name
from scalple.correlate.sqltext import exp

_NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*+)'
_CREATE = re.compile(
    rf"\bCREATE\s++(?:OR\s++REPLACE\s++)?(FUNCTION|PROCEDURE)\s++((?:{_NAME}\s*+\.\s*+)?{_NAME})"
    r"\s*+\(((?>[^()]|\([^()]*\))*+)\)",
    re.IGNORECASE,
)
_ARGUMENT = re.compile(
    rf"\s*+(?:(?P<mode>INOUT|IN|OUT|VARIADIC)\s++)?(?P<name>{_NAME})\s++\S", re.IGNORECASE
)
_BETWEEN = re.compile(r",(?![^()]*\))")


class Functions:
    """The declared functions and procedures."""

    def __init__(
        self, declared: Mapping[str, tuple[str, ...]] | None = None, schema_sql: str | None = None
    ) -> None:
        self._declared = dict(declared or {})
        self._by_name: dict[str, list[str]] = {}
        for function in self._declared:
            self._by_name.setdefault(function.rpartition(".")[2], []).append(function)
        self._places = _places(schema_sql or "", self._declared) if self._declared else {}
        self.columns = {
            f"{function}({n})": identifier
            for function, named in self._declared.items()
            for n, identifier in enumerate(named, 1)
            if identifier
        }
        """Column of an argument -> identifier."""

    def named(self, call: exp.Expr) -> Iterator[tuple[exp.Expr, str, bool]]:
        """Arguments of a call that may name somebody: value, column, whether they do."""
        for function in self._called(call):
            for n, argument in enumerate(call.expressions, 1):
                if isinstance(argument, exp.Kwarg | exp.PropertyEQ):
                    place = self._places.get((function, sqltext.name_of(argument.this)))
                    value = argument.expression
                else:
                    place, value = n, argument
                column = f"{function}({place})"
                if column in self.columns:
                    yield value, column, True
                elif place is None:
                    near = [c for c in self.columns if c.startswith(f"{function}(")]
                    yield from ((value, column, False) for column in near[:1])

    def _called(self, call: exp.Expr) -> list[str]:
        """The declared function that a call may mean: `public`'s, where it says no schema."""
        if not isinstance(call, exp.Anonymous) or not self._declared:
            return []
        name = _word(call.this)
        known = self._by_name.get(name, [])
        schema = _schema(call)
        if schema is not None:
            return [f"{schema}.{name}"] if f"{schema}.{name}" in known else []
        return [f"public.{name}"] if f"public.{name}" in known else sorted(known)[:1]


def _word(name: object) -> str:
    """A name in a tree, as the server keeps it."""
    return sqltext.name_of(name) if isinstance(name, exp.Expr) else str(name).lower()


def _schema(call: exp.Expr) -> str | None:
    above = call.parent
    if isinstance(above, exp.Table):
        schema = above.args.get("db")
        return sqltext.name_of(schema) if schema else None
    if isinstance(above, exp.Dot) and call.arg_key == "expression":
        qualifier = above.this
        last = qualifier.expression if isinstance(qualifier, exp.Dot) else qualifier
        return sqltext.name_of(last)
    return None


def _places(schema_sql: str, declared: Mapping[str, object]) -> dict[tuple[str, str], int]:
    """(function, name of an argument) -> its position; not where two functions differ in it."""
    found: dict[tuple[str, str], set[int]] = {}
    _, skeleton = templates.split(schema_sql)
    for kind, name, arguments in _CREATE.findall(skeleton.replace(templates.COMMENT, " ")):
        function = relation_name(name)
        if function is None or function not in declared:
            continue
        n = 0
        for argument in _BETWEEN.split(arguments):
            match = _ARGUMENT.match(argument)
            is_out = bool(match and match["mode"] and match["mode"].upper() == "OUT")
            n += not (is_out and kind.upper() == "FUNCTION")  # CALL gives OUT arguments too
            if match:
                key = (function, (relation_name(match["name"]) or "").rpartition(".")[2])
                found.setdefault(key, set()).add(n)
    return {key: min(places) for key, places in found.items() if len(places) == 1}
