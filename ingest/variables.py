"""What a statement does to the variables by which an application says who its user is.

Enters: one message's SQL text, and the variables' names. Leaves: the settings that it makes, in
order; whether other statements stand in the same text; whether its effect can't be told. `SET`,
`SET LOCAL`, `RESET`, `DISCARD ALL` and calls of `set_config` are read, the latter also with bind
parameters; what a function, a `DO` block or a prepared `EXECUTE` does inside is not.

Never guesses: text that may set a variable in a way that isn't understood is `unclear`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from scalple.ingest.sqltokens import Token, read_tokens

READ_BYTES_MAX = 1 << 16
"""Longer texts are only searched for words."""
_CALLS_MAX = 32
_PARAMETER_MAX = len("$65535")
_NUMBER_MAX = 18
"""More digits PostgreSQL may write in another way."""
_ENDINGS = ("commit", "rollback", "end", "abort", "prepare")
_STARTS = (
    *(b"set", b"reset", b"discard", b"do", b"explain", b"execute", b"/*", b"--"),
    *(word.encode() for word in _ENDINGS),
)
_WITHOUT = b" \t\r\n\f\v;"
_TEXT_TYPES = frozenset({"text", "varchar"})
_TRUE, _FALSE = (
    frozenset({"true", "t", "yes", "on", "1"}),
    frozenset({"false", "f", "no", "off", "0"}),
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A bind parameter, counted from 0."""

    index: int


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of an identity variable."""

    value: str | Parameter | None
    """Who; None where the variable is reset."""
    local: bool | Parameter = False
    """For the transaction only."""
    name: Parameter | None = None
    """The variable's name, where a bind parameter says it."""
    variable: str | None = None
    """Which variable, in lower case; None for all of them, or where a parameter says it."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What one message's text does."""

    settings: tuple[Setting, ...] = ()
    alone: bool = True
    """Nothing else is done by that text."""
    unclear: bool = False
    """It may set a variable in a way that can't be read."""
    ends: bool = False
    """It may end a transaction, or take part of one back."""


NOTHING = Effect()
_UNCLEAR = Effect(alone=False, unclear=True, ends=True)


@dataclass(slots=True)
class Variables:
    """Reads texts for the variables of that name."""

    names: Sequence[str]
    _known: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self._known = frozenset(name.lower() for name in self.names)

    def may_matter(self, text: bytes) -> bool:
        """Whether `read` is worth asking: cheap, and true for all that can matter."""
        if not self._known:
            return False
        lower = text.lower()
        return (
            b"set_config" in lower
            or b'u&"' in lower
            or lower.lstrip(_WITHOUT).startswith(_STARTS)
            or b";" in lower.strip(_WITHOUT)
        )

    def knows(self, name: str) -> bool:
        """Whether that is one of them; PostgreSQL compares names without case."""
        return name.lower() in self._known

    def read(self, text: bytes) -> Effect:
        """What the text does to the variables."""
        if len(text) > READ_BYTES_MAX or text.lower().count(b"set_config") > _CALLS_MAX:
            return self._skimmed(text.lower())
        tokens = read_tokens(text.decode("utf-8", "replace"))
        if tokens is None:
            return _UNCLEAR
        effect = self._effect(tokens)
        said = (one.value for one in effect.settings)
        # Bytes that are no UTF-8 may be anybody's name.
        lossy = any(isinstance(one, str) and "\ufffd" in one for one in said)
        return _UNCLEAR if lossy else effect

    def _effect(self, tokens: list[Token]) -> Effect:
        statements = _statements(tokens)
        ends = any(one[0].is_word(*_ENDINGS) for one in statements)
        effects = [self._statement(one) for one in statements]
        acting = [one for one in effects if one is not NOTHING]
        if not acting:
            return Effect(alone=len(statements) == 1, ends=True) if ends else NOTHING
        if any(one.unclear for one in acting):
            return _UNCLEAR
        settings = tuple(setting for one in acting for setting in one.settings)
        if len(statements) > 1 and any(_controls(one) for one in statements):
            # Which of them a ROLLBACK in between takes back can't be told.
            lasting = any(one.local is not True for one in settings)
            return Effect(settings, alone=False, unclear=lasting, ends=ends)
        return Effect(settings, alone=len(statements) == 1 and acting[0].alone)

    def _skimmed(self, lower: bytes) -> Effect:
        """A text that would take too long to read: what can't be ruled out is unclear."""
        words = (b"set_config", b"reset", b"discard", b'u&"')
        named = any(name.rpartition(".")[2].encode() in lower for name in self._known)
        if any(word in lower for word in words) or (named and b"set" in lower):
            return _UNCLEAR
        return Effect(alone=False, ends=True)

    def _statement(self, tokens: list[Token]) -> Effect:
        first = tokens[0]
        if first.is_word("set"):
            return self._set(tokens)
        if first.is_word("reset"):
            return self._reset(tokens)
        if first.is_word("discard"):
            return Effect((Setting(None),)) if tokens[1:2] == [Token("word", "all")] else NOTHING
        if first.is_word("do"):
            inside = "".join(one.text for one in tokens if one.kind in ("dollar", "string")).lower()
            named = any(name in inside for name in self._known)
            return _UNCLEAR if named or "set_config" in inside else NOTHING
        if any(one.kind in ("word", "quoted") and one.text == "set_config" for one in tokens):
            return NOTHING if self._sets_another_by_name(tokens) else self._calls(tokens)
        return NOTHING

    def _set(self, tokens: list[Token]) -> Effect:
        rest = tokens[1:]
        local = bool(rest) and rest[0].is_word("local")
        if rest and rest[0].is_word("local", "session"):
            rest = rest[1:]
        name, rest = _name(rest)
        if name not in self._known:
            return NOTHING
        if not rest or not (rest[0].is_word("to") or rest[0].text == "="):
            return _UNCLEAR
        value = rest[1:]
        if len(value) == 1 and value[0].is_word("default"):
            return Effect((Setting(None, local, variable=name),))
        said = _value(value[0]) if len(value) == 1 else None
        return _UNCLEAR if said is None else Effect((Setting(said or None, local, variable=name),))

    def _reset(self, tokens: list[Token]) -> Effect:
        name, rest = _name(tokens[1:])
        if rest or name is None:
            return NOTHING
        if name == "all":
            return Effect((Setting(None),))
        return Effect((Setting(None, variable=name),)) if name in self._known else NOTHING

    def _sets_another_by_name(self, tokens: list[Token]) -> bool:
        """`SELECT set_config(name, …) FROM pg_settings WHERE name = '…'`, as pg_dump writes it."""
        words = [one.text for one in tokens if one.text not in ("pg_catalog", ".")]
        where = words[-6:-1] == ["from", "pg_settings", "where", "name", "="]
        if not where or words[:4] != ["select", "set_config", "(", "name"]:
            return False
        arguments = _arguments(tokens[[one.text for one in tokens].index("set_config") + 1 :])
        literal = tokens[-1].kind == "string" and not self.knows(tokens[-1].text)
        plain = arguments is not None and all(len(one) == 1 for one in arguments)
        # Nothing but the call stands before FROM.
        return literal and plain and words.count("set_config") == 1 and len(words) == 15

    def _calls(self, tokens: list[Token]) -> Effect:
        """Calls of set_config. Only a plain list of them is understood."""
        calls: list[Setting] = []
        ours = unknown = 0
        for at, token in enumerate(tokens):
            if not (token.kind in ("word", "quoted") and token.text == "set_config"):
                continue
            arguments = _arguments(tokens[at + 1 :])
            name = _argument(arguments[0]) if arguments and len(arguments) == 3 else None
            if arguments is None or name is None:
                unknown += 1
            elif isinstance(name, Parameter) or name.lower() in self._known:
                ours += 1
                call = _call(arguments, name)
                if call is not None:
                    calls.append(call)
        if not ours and not unknown:
            return NOTHING
        if unknown or len(calls) != ours or not tokens[0].is_word("select"):
            return _UNCLEAR
        return Effect(tuple(calls)) if _only_calls(tokens) else _UNCLEAR


def _call(arguments: list[list[Token]], said: str | Parameter) -> Setting | None:
    name = said if isinstance(said, Parameter) else None
    variable = None if isinstance(said, Parameter) else said.lower()
    value, local = _argument(arguments[1]), _argument(arguments[2])
    if value is None or local is None:
        return None
    if isinstance(local, Parameter):
        return Setting(value or None, local, name, variable)
    truth = True if local.lower() in _TRUE else False if local.lower() in _FALSE else None
    return None if truth is None else Setting(value or None, truth, name, variable)


def read_truth(value: bytes | None, binary: bool) -> bool | None:
    """A boolean bind value; None if it is none."""
    if value is None:
        return None
    if binary:
        return value != b"\0" if len(value) == 1 else None
    text = value.decode("utf-8", "replace").lower()
    return True if text in _TRUE else False if text in _FALSE else None


def _statements(tokens: list[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind == "mark" and token.text == ";":
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def _controls(tokens: list[Token]) -> bool:
    return tokens[0].is_word(*_ENDINGS, "savepoint", "release")


def _name(tokens: list[Token]) -> tuple[str | None, list[Token]]:
    """A variable's name, lower-cased, and what follows it."""
    parts: list[str] = []
    at = 0
    while at < len(tokens) and tokens[at].kind in ("word", "quoted"):
        parts.append(tokens[at].text.lower())
        at += 1
        if at < len(tokens) and tokens[at].text == "." and tokens[at].kind == "mark":
            at += 1
        else:
            break
    return (".".join(parts) if parts else None), tokens[at:]


def _literal(token: Token) -> str | None:
    return token.text if token.kind in ("string", "number", "word", "quoted", "dollar") else None


def _value(token: Token) -> str | None:
    """What SET makes of a value; None where PostgreSQL would write it in another way."""
    if token.kind == "word" and not (token.text.isascii() and len(token.text) < 64):
        return None
    if token.kind == "number" and len(token.text) > _NUMBER_MAX:
        return None
    if (
        token.kind == "number"
        and str(int(token.text) if token.text.isdigit() else "") != token.text
    ):
        return None
    return _literal(token)


def _arguments(tokens: list[Token]) -> list[list[Token]] | None:
    """The arguments in the parentheses that open here; None if there are none."""
    if not tokens or tokens[0].text != "(" or tokens[0].kind != "mark":
        return None
    arguments: list[list[Token]] = [[]]
    depth = 1
    for token in tokens[1:]:
        if token.kind == "mark" and token.text in "([":
            depth += 1
        elif token.kind == "mark" and token.text in ")]":
            depth -= 1
            if not depth:
                return arguments if all(arguments) else None
        elif token.kind == "mark" and token.text == "," and depth == 1:
            arguments.append([])
            continue
        arguments[-1].append(token)
    return None


def _argument(tokens: list[Token]) -> str | Parameter | None:
    """A literal or a parameter, with a cast to text or boolean at most."""
    value, rest = tokens[0], tokens[1:]
    if rest and not (
        len(rest) == 2
        and rest[0].kind == "cast"
        and rest[1].is_word(*_TEXT_TYPES, "boolean", "bool")
    ):
        return None
    if value.kind == "parameter":
        return Parameter(int(value.text[1:]) - 1) if len(value.text) <= _PARAMETER_MAX else None
    if value.kind == "word" and value.text not in (*_TRUE, *_FALSE):
        return None  # a column, or null
    return _literal(value)


def _only_calls(tokens: list[Token]) -> bool:
    """Whether it is `SELECT set_config(…) [AS name] [, …]` and nothing else."""
    at = 1
    while True:
        if tokens[at : at + 2] == [Token("word", "pg_catalog"), Token("mark", ".")]:
            at += 2
        if at >= len(tokens) or tokens[at].text != "set_config":
            return False
        depth = 0
        for at in range(at + 1, len(tokens)):  # noqa: B020
            if tokens[at].kind == "mark":
                depth += {"(": 1, ")": -1}.get(tokens[at].text, 0)
            if not depth:
                break
        at += 1
        if at < len(tokens) and tokens[at].is_word("as"):
            at += 2
        if at >= len(tokens):
            return True
        if tokens[at].text != ",":
            return False
        at += 1
