"""No regular expression repeats a group possessively: CPython before 3.11.5 matches too much of it.

What may be repeated so is one character, a class or an atomic group (docs/adr/0022). What is read are parse
trees, so that the test finds it on any Python: of all that importing the packages compiles, and of every text
in their sources, and the tests', that may be a pattern.
"""

import ast
import importlib
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    p for f in ("ingest", "correlate", "store", "cli") for p in sorted((ROOT / f).glob("*.py"))
]
SCRIPTS = [
    path
    for folder in ("tests", "sample_logs")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__)
]
_parser: Any = importlib.import_module("re._parser")
_RIGHT = {"LITERAL", "NOT_LITERAL", "IN", "ANY", "ATOMIC_GROUP"}
_POSSESSIVE = re.compile(r"[*+?}]\+")


def repeats_a_group(tree: Any) -> bool:
    """Whether this part of a parse tree holds what is looked for."""
    if isinstance(tree, tuple) and len(tree) == 2 and str(tree[0]) == "POSSESSIVE_REPEAT":
        body = tree[1][2]
        if len(body) != 1 or str(body[0][0]) not in _RIGHT:
            return True
    return isinstance(tree, tuple | list | _parser.SubPattern) and any(map(repeats_a_group, tree))


def is_at_fault(text: str | bytes, flags: int = 0) -> bool:
    """Whether this pattern repeats a group possessively; not if it is no pattern."""
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the text may be something else
        try:
            return repeats_a_group(_parser.parse(text, flags))
        except (re.error, OverflowError):
            return False


def compiled(value: Any, depth: int = 5) -> Iterator[re.Pattern[Any]]:
    """Patterns in a value: itself, or in what it holds."""
    kind = type(value)  # not `isinstance`: some objects don't want to be asked
    if kind is re.Pattern:
        yield value
    elif depth and issubclass(kind, Mapping):
        yield from compiled([*value, *value.values()], depth - 1)
    elif depth and kind is type:
        yield from compiled([*vars(value).values()], depth - 1)
    elif depth and issubclass(kind, list | tuple | set | frozenset):
        for one in value:
            yield from compiled(one, depth - 1)


def written(source: str, names: Mapping[str, Any]) -> Iterator[str | bytes]:
    """The texts in a source; an f-string with the module's own texts in it, and `x` for the rest."""
    tree = ast.parse(source)
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(_part(part, names) for part in node.values)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str | bytes)
            and id(node) not in said  # docstrings are prose
        ):
            yield node.value


def _part(part: ast.expr, names: Mapping[str, Any]) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    value = names.get(part.value.id) if isinstance(part.value, ast.Name) else None
    return value if isinstance(value, str) else "(?:x)"


def faults_written(source: str, names: Mapping[str, Any]) -> list[str | bytes]:
    """The texts in a source that are at fault, read as patterns with and without blanks."""
    return [
        text
        for text in written(source, names)
        if _POSSESSIVE.search(text if isinstance(text, str) else text.decode("latin-1"))
        and (is_at_fault(text) or is_at_fault(text, re.VERBOSE))
    ]


def module_of(path: Path) -> ModuleType:
    return importlib.import_module(f"scalple.{path.parent.name}.{path.stem}")


def test_no_module_repeats_a_group_possessively() -> None:
    found, seen = [], 0
    for path in SOURCES:
        names = vars(module_of(path))
        place = str(path.relative_to(ROOT))
        for name, value in names.items():
            for pattern in compiled(value):
                seen += 1
                if is_at_fault(pattern.pattern, pattern.flags & ~re.DEBUG):
                    found.append((place, name))
        found += [(place, str(text)) for text in faults_written(path.read_text("utf-8"), names)]
    assert not found, "write (?>…)*+ for (?:…)*+: docs/adr/0022"
    assert seen > 100


def test_no_script_and_no_test_repeats_a_group_possessively() -> None:
    found = [
        (str(path.relative_to(ROOT)), text)
        for path in SCRIPTS
        for text in faults_written(path.read_text("utf-8"), {})
    ]
    assert not found, "write (?>…)*+ for (?:…)*+: docs/adr/0022"


@pytest.mark.parametrize(
    "text",
    [
        "(?:ab?c)?+",
        "(?:ab?c)*+",
        "(?:ab?c)++",
        "(?:ab?c){2,5}+",
        "(?:a|bc)*+",
        "(?P<name>a)*+",
        "((?>ab?c))*+",
        "x(?=y(?:z|(?:ab?c)?+))",
        "(?>(?>(?:ab)*+))*+",
        "(a)?(?(1)(?:bc)*+|d)",
        "(?i:(?:ab?c)*+)",
    ],
)
def test_a_group_repeated_possessively_is_found(text: str) -> None:
    assert is_at_fault(text)
    assert is_at_fault(text.encode())
    assert [*compiled({"one": [(re.compile(text), "x")]})]
    assert faults_written(f"def f():\n    return re.compile({text!r})", {})
    assert faults_written(
        f"_A = rf'^{text.replace('{', '{{').replace('}', '}}')}{{B}}$'", {"B": "b"}
    )


def test_a_group_repeated_possessively_is_found_in_pieces() -> None:
    assert faults_written("re.search(f'{A}*+', text)", {"A": "(?:ab?c)"})
    assert faults_written('''re.compile(r"""(?: a b? c ) *+ # why''' + '\n""", re.VERBOSE)', {})
    assert not faults_written('def f():\n    """Not `(?:ab?c)*+`."""', {})


@pytest.mark.parametrize(
    "text", ["[^']*+'", r"\s++", ".*+", "(?:a)*+", "(?>ab?c)*+", "(?>(?:ab?c)*)", "(?:ab?c)*"]
)
def test_what_any_python_reads_right_is_left_alone(text: str) -> None:
    assert not is_at_fault(text)


def _rows(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    part = st.tuples(inner, st.sampled_from(["", "?", "*", "+", "*?"])).map("(?:%s)%s".__mod__)
    row = st.lists(part, min_size=1, max_size=3).map("".join)
    return row | st.tuples(row, row).map("|".join)


_LETTERS = st.sampled_from(["a", "b", "[ab]", "[^a]", "c", "(?!b)", "(?=a)"])


# The first draw looks through every module that has been imported.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    group=_rows(_LETTERS | _rows(_LETTERS)),
    many=st.sampled_from("?*+"),
    text=st.text("abcd", max_size=8),
)
@example(group="ab?c", many="?", text="abd")
def test_an_atomic_group_is_repeated_as_one_within_which_is_repeated(
    group: str, many: str, text: str
) -> None:
    """The two ways to write it say the same; on Python 3.11.2 `(?:…)?+` doesn't."""
    over, within = f"(?>{group}){many}+", f"(?>(?:{group}){many})"
    for after in ("", "b?", "[abcd]"):
        assert [m.span() for m in re.finditer(over + after, text)] == [
            m.span() for m in re.finditer(within + after, text)
        ]
