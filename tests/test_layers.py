"""Imports point one way, and each concern stays behind its fence. Reads source, runs nothing."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("ingest", "correlate", "store", "cli")
SOURCES = [path for layer in LAYERS for path in sorted((ROOT / layer).glob("*.py"))]

# What touches a file, a socket, the clock or the environment. importlib.resources stays allowed:
# it reads the .sql files that are part of the code.
OUTSIDE_WORLD = {
    "asyncio fcntl glob http io multiprocessing os pathlib platform select selectors shutil",
    "signal socket socketserver ssl subprocess sys tempfile threading time urllib",
    "boto3 botocore click requests watchdog",
}
FORBIDDEN_IN_CORRELATE = {name for line in OUTSIDE_WORLD for name in line.split()}
PURE = {"urllib.parse.unquote"}
FORBIDDEN_CALLS = {"open", "input", "print", "__import__", "eval", "exec"}
FORBIDDEN_METHODS = {"now", "utcnow", "today", "read_parquet", "read_csv", "read_text", "getenv"}
OWNERS = {
    "click": "cli",
    "rich": "cli",
    "tomllib": "cli/config.py",
    "boto3": "store/bucket.py",
    "botocore": "store/bucket.py",
    "watchdog": "ingest/wakeup.py",
    "jwt": "ingest/bearer.py",
    "prometheus_client": "ingest/statuspage.py",
    "uvloop": "ingest/sidecar.py",
    "psycopg": "ingest/liveconnection.py",
}


@functools.cache
def imported(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, wherever in it, with the names taken from packages."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named(path: Path) -> str:
    """The file as messages show it."""
    return str(path.relative_to(ROOT))


def test_there_is_something_to_check() -> None:
    assert {path.parent.name for path in SOURCES} == set(LAYERS)
    assert len(SOURCES) > 40


@pytest.mark.parametrize("layer", LAYERS)
def test_no_layer_imports_one_above_it(layer: str) -> None:
    above = {f"scalple.{name}" for name in LAYERS[LAYERS.index(layer) + 1 :]}
    wrong = [
        f"{named(path)} imports {name}"
        for path in SOURCES
        if path.parent.name == layer
        for name in imported(path)
        if ".".join(name.split(".")[:2]) in above
    ]
    assert not wrong


def test_no_layer_is_imported_by_a_bare_name() -> None:
    wrong = [
        f"{named(path)} imports {name}"
        for path in SOURCES
        for name in imported(path)
        if name.split(".", 1)[0] in {*LAYERS, "tests"}
    ]
    assert not wrong


def test_no_layer_imports_in_words_that_this_test_cannot_see() -> None:
    # The command loads its verbs by name; nothing else may.
    wrong = [
        named(path)
        for path in SOURCES
        if path != ROOT / "cli" / "main.py" and "import_module" in path.read_text("utf-8")
    ]
    assert not wrong


def test_correlate_imports_nothing_that_touches_the_outside_world() -> None:
    wrong = [
        f"{named(path)} imports {name}"
        for path in SOURCES
        if path.parent.name == "correlate"
        for name in imported(path)
        if name.split(".", 1)[0] in FORBIDDEN_IN_CORRELATE and name not in PURE
    ]
    assert not wrong


def test_correlate_calls_nothing_that_touches_the_outside_world() -> None:
    wrong = []
    for path in (path for path in SOURCES if path.parent.name == "correlate"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Name) and called.id in FORBIDDEN_CALLS:
                wrong.append(f"{named(path)}:{node.lineno} calls {called.id}")
            if isinstance(called, ast.Attribute) and called.attr in FORBIDDEN_METHODS:
                owner = ast.unparse(called.value)
                if not owner.startswith("resources.files("):
                    wrong.append(f"{named(path)}:{node.lineno} calls {owner}.{called.attr}")
    assert not wrong


def test_its_sql_reads_no_file_and_no_clock() -> None:
    for path in sorted((ROOT / "correlate").glob("*.sql")):
        code = "\n".join(line.partition("--")[0] for line in path.read_text().lower().splitlines())
        for word in ("read_", "copy ", "attach", "now()", "current_", "getenv", "install", "load "):
            assert word not in code, f"{named(path)} holds {word!r}"


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_a_library_stays_with_its_owner(library: str) -> None:
    users = {
        named(path)
        for path in SOURCES
        for name in imported(path)
        if name.split(".", 1)[0] == library
    }
    assert all(
        user == OWNERS[library] or Path(user).parent.name == OWNERS[library] for user in users
    )


def test_sqlglot_has_one_owner() -> None:
    users = {
        named(path)
        for path in SOURCES
        for name in imported(path)
        if name.split(".", 1)[0] == "sqlglot"
    }
    assert users == {"correlate/sqltext.py"}
