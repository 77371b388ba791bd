"""What a question loads is what it waits for."""

import subprocess
import sys
from pathlib import Path

SLOW = (
    "pydantic",
    "rich",
    "jinja2",
    "sqlglot",
    "boto3",
    "asyncio",
    "pandas",
    "http",
    "urllib.request",
)
LATER = (
    "numpy",
    "pyarrow",
    "scalple.store.writer",
    "scalple.store.digest",
    "scalple.store.namesobject",
)
"""What only writing needs, or a store whose tables were renamed, or whose commits have no digest."""


def test_a_question_does_not_load_what_it_can_do_without() -> None:
    code = "import sys, scalple.cli.query; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "duckdb" in loaded
    assert not loaded & {*SLOW, *LATER}


def test_nor_does_its_answer(sample_store: Path) -> None:
    question = ["query", "--store", str(sample_store), "--subject", "customer_id=4711"]
    code = (
        f"import sys; sys.argv[1:] = {question!r}\n"
        "from scalple.cli import main\n"
        "main._leave = lambda: print(*sys.modules, file=sys.stderr)\n"
        "main.run()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Direct (")
    loaded = set(done.stderr.split())
    assert "duckdb" in loaded
    assert not loaded & {*SLOW, *LATER}
