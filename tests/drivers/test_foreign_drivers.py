"""node-postgres and JDBC through sidecar, PgBouncer and PostgreSQL: they work, and they are named.

Enters: real servers, a real sidecar, a program for each driver, and the recipes of docs/TAGGERS.md;
the packages that install.sh fetches. Leaves: what the programs read, and their attributed logs.
Skipped, driver by driver, where a package isn't there. Does not: fetch anything.

A program's statements carry its people's names in the mark that only tests read.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scalple.correlate.rules import Rules
from tests.attribute_logs import Attributed, attribute_files
from tests.recipes import recipes
from tests.sidecars import SidecarProcess, before_pooler
from tests.stack import HOST, SHARED_ROLE, Stack, StackOptions, password_of

HERE = Path(__file__).parent
PACKAGES = HERE / ".packages"
NODE_MODULES = PACKAGES / "node_modules"
JARS = PACKAGES / "debian" / "usr" / "share" / "java"
BACKENDS = 3

HAS_NODE = bool(shutil.which("node")) and (NODE_MODULES / "pg").exists()
HAS_JAVA = bool(shutil.which("javac")) and (JARS / "postgresql.jar").exists()

pytestmark = [pytest.mark.stack, pytest.mark.drivers]
needs_node = pytest.mark.skipif(not HAS_NODE, reason="node or node-postgres isn't installed")
needs_java = pytest.mark.skipif(not HAS_JAVA, reason="a JDK or the JDBC driver isn't installed")


@dataclass
class Run:
    """What came out."""

    done: Attributed
    node: dict[str, Any]
    java: dict[str, list[str]]

    def assert_named(self, expected: dict[str, int]) -> None:
        """Each person has so many marked rows, and each of them is proven to be that person's."""
        found = dict.fromkeys(expected, 0)
        for row in self.done.dicts():
            who = row["truth"]
            if isinstance(who, str) and who in expected:
                found[who] += 1
                assert (row["session_user_id"], row["attribution_grade"]) == (who, "proven"), row
        assert found == expected


def email_of(customer: int) -> str:
    """What company.sql gave that customer."""
    return f"customer{customer}@example.{('com', 'net', 'org')[customer % 3]}"


EMAILS = [email_of(i) for i in range(1, 25)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Both programs at once, and what their logs say."""
    directory = tmp_path_factory.mktemp("drivers")
    options = StackOptions(application_name_add_host=False, pool_size=BACKENDS, users=300)
    with (
        Stack(options) as stack,
        before_pooler(stack, directory) as sidecar,
        ThreadPoolExecutor(2) as pool,
    ):
        node = pool.submit(run_node, stack, sidecar, directory) if HAS_NODE else None
        java = pool.submit(run_java, stack, sidecar, directory) if HAS_JAVA else None
        said = node.result() if node else {}, java.result() if java else {}
    done = attribute_files(stack.csvlog_paths(), [stack.pgbouncer_log], [sidecar.events], Rules())
    return Run(done, *said)


def output_of(command: Sequence[str], **environment: str) -> str:
    """What a program prints; it has to end well."""
    done = subprocess.run(
        command,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout


def run_node(stack: Stack, sidecar: SidecarProcess, directory: Path) -> dict[str, Any]:
    """What driver.js says."""
    for name, text in recipes("javascript").items():
        (directory / f"{name}.js").write_text(text)
    config = {
        "host": HOST,
        "port": sidecar.port,
        "user": SHARED_ROLE,
        "password": password_of(SHARED_ROLE),
        "database": stack.options.database,
    }
    command = ["node", str(HERE / "driver.js"), json.dumps(config), str(directory)]
    said: dict[str, Any] = json.loads(output_of(command, NODE_PATH=str(NODE_MODULES)))
    return said


def run_java(stack: Stack, sidecar: SidecarProcess, directory: Path) -> dict[str, list[str]]:
    """What Driver.java says."""
    text = with_recipes((HERE / "Driver.java").read_text(), recipes("java"))
    program = directory / "Driver.java"
    program.write_text(text)
    url = f"jdbc:postgresql://{HOST}:{sidecar.port}/{stack.options.database}"
    login = [url, SHARED_ROLE, password_of(SHARED_ROLE)]
    said = output_of(["java", "-cp", f"{JARS}/*", str(program), *login])
    lines = [line.partition(": ") for line in said.splitlines()]
    return {part: values.split() for part, _, values in lines}


def with_recipes(program: str, texts: dict[str, str]) -> str:
    """The program with each recipe in its place, and none left over."""
    for name, text in texts.items():
        place = f"// recipe: {name}\n"
        assert program.count(place) == 1, name
        program = program.replace(place, text)
    return program


# -- node-postgres ------------------------------------------------------------------------------


@needs_node
def test_node_on_a_connection_of_one_person(run: Run) -> None:
    assert run.node["connection"] == {"found": EMAILS[:16], "code": "22012", "several": [1, 2]}
    assert run.node["url"] == EMAILS[0]
    # pgAudit 1.7 logs a message of two statements with each of them.
    run.assert_named({"node_person": 18, "node_url": 1})


@needs_node
@pytest.mark.parametrize(
    ("part", "prefix"), [("transactions", "node_local"), ("checkouts", "node_taken")]
)
def test_node_pool_that_serves_several_people(run: Run, part: str, prefix: str) -> None:
    expected = [one if (i + 1) % 6 else "on purpose" for i, one in enumerate(EMAILS)]
    assert run.node[part] == expected
    run.assert_named({f"{prefix}_{i}": 12 for i in range(4)} | {f"{prefix}_service": 1})


# -- JDBC ---------------------------------------------------------------------------------------


@needs_java
def test_jdbc_on_a_connection_of_one_person(run: Run) -> None:
    assert run.java["connection"] == EMAILS[:16]
    assert run.java["error"] == ["22012"]
    assert run.java["named"] == EMAILS[:6]
    assert run.java["url"] == EMAILS[:3]
    run.assert_named({"jdbc_person": 16, "jdbc_named": 6, "jdbc_url": 3})


@needs_java
def test_jdbc_batches_and_cursors(run: Run) -> None:
    assert run.java["batch"] == ["1"] * 5
    assert run.java["cursor"] == [str(i) for i in range(1, 36)]
    run.assert_named({"jdbc_batch": 6})


@needs_java
def test_jdbc_copy_in_and_out(run: Run) -> None:
    assert run.java["copy"] == ["500"] * 3
    rows = [row for row in run.done.dicts() if row["truth"] == "jdbc_copy"]
    assert len(rows) >= 2
    assert {row["session_user_id"] for row in rows} == {"jdbc_copy"}
    assert {row["attribution_grade"] for row in rows} == {"proven"}


@needs_java
def test_jdbc_cancels_and_goes_on(run: Run) -> None:
    assert run.java["cancel"] == ["57014", EMAILS[0]]
    run.assert_named({"jdbc_cancel": 1})


@needs_java
@pytest.mark.parametrize(
    ("part", "prefix", "rows", "service"),
    [
        ("transactions", "jdbc_local", 12, "jdbc_service"),
        ("checkouts", "jdbc_taken", 6, "jdbc_home"),
    ],
)
def test_jdbc_connection_that_serves_several_people(
    run: Run, part: str, prefix: str, rows: int, service: str
) -> None:
    assert run.java[part] == EMAILS
    run.assert_named({f"{prefix}_{i}": rows for i in range(4)} | {service: 24})


# -- both ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not (HAS_NODE or HAS_JAVA), reason="neither driver is installed")
def test_nobody_is_named_wrongly(run: Run) -> None:
    assert run.done.wrong() == []
    assert run.done.rejects == []


def test_every_foreign_recipe_is_in_a_program() -> None:
    assert set(recipes("java")) == set(
        re.findall(r"// recipe: (\S+)", (HERE / "Driver.java").read_text())
    )
    used = re.findall(r'recipe\("(\S+)"\)', (HERE / "driver.js").read_text())
    assert set(recipes("javascript")) == set(used)
