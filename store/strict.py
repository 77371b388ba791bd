"""Records that are kept as JSON: exactly their keys, exactly their types, and back.

Enters: the text of a JSON object and a frozen dataclass. Leaves: an instance of it, or ValueError with
the place of the fault. A question reads several such records before it does anything else, and can't
wait for pydantic to be loaded, which takes longer than reading them.

A field's type is str, int, bool, another such dataclass, or a list, tuple, dict or `| None` of these;
`Annotated` may add a check that says whether a value may be.
"""

import json
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Check = Callable[[Any], Any]
"""A value as JSON has it -> as the record holds it; raises ValueError."""


def from_json(kind: type[T], data: bytes | str) -> T:
    """The record that a text holds.

    Raises:
        ValueError: it is no JSON, or it isn't this record.
    """
    return from_plain(kind, parsed(data))


def parsed(data: bytes | str) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(data.decode() if isinstance(data, bytes) else data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def from_plain(kind: type[T], value: object) -> T:
    """The record that a value of JSON is; raises as `from_json`."""
    found: T = _record(kind)(value)  # type: ignore[arg-type]  # a class can be a key
    return found


def plain(record: Any) -> Any:
    """The inverse: what JSON can hold, keys in the order of the fields."""
    if is_dataclass(record):
        return {one.name: plain(getattr(record, one.name)) for one in fields(record)}
    if isinstance(record, list | tuple):
        return [plain(one) for one in record]
    if isinstance(record, dict):
        return {name: plain(one) for name, one in record.items()}
    return record


@cache
def _record(kind: type[Any]) -> Check:
    hints = get_type_hints(kind, include_extras=True)
    checks = {one.name: _of(hints[one.name]) for one in fields(kind)}

    def read(value: Any) -> Any:
        if type(value) is not dict or value.keys() != checks.keys():
            raise ValueError(f"{kind.__name__}: exactly {', '.join(checks)} are expected")
        found = {}
        for name, check in checks.items():
            try:
                found[name] = check(value[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return kind(**found)

    return read


def _of(hint: Any) -> Check:
    """What checks values of a type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _also(_of(arguments[0]), arguments[1:])
    if origin in (types.UnionType, Union):
        inner = _of(next(one for one in arguments if one is not types.NoneType))
        return lambda value: None if value is None else inner(value)
    if origin in (list, tuple):
        return _many(_of(arguments[0]), origin)
    if origin is dict:
        return _named(_of(arguments[1]))
    if is_dataclass(hint) and isinstance(hint, type):
        return _record(hint)
    return _text if hint is str else _exact(hint)


def _also(inner: Check, conditions: tuple[Callable[[Any], bool], ...]) -> Check:
    def check(value: Any) -> Any:
        found = inner(value)
        for condition in conditions:
            if not condition(found):
                raise ValueError(f"can't be {str(value)[:80]!r}")
        return found

    return check


def _many(inner: Check, kind: type[Any]) -> Check:
    def check(value: Any) -> Any:
        return kind(map(inner, _exact(list)(value)))

    return check


def _named(inner: Check) -> Check:
    def check(value: Any) -> Any:
        return {_text(name): inner(one) for name, one in _exact(dict)(value).items()}

    return check


def _exact(kind: type[Any]) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not kind:  # True isn't 1
            raise ValueError(f"{kind.__name__} is expected, not {type(value).__name__}")
        return value

    return check


def _text(value: Any) -> Any:
    _exact(str)(value)
    if not value.isascii():
        value.encode()  # half of a surrogate pair is no text
    return value
