"""What a question loads is what it waits for."""

import subprocess
import sys

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
LATER = ("pyarrow.compute", "pyarrow.parquet", "scalple.store.writer", "scalple.store.digest")
"""Loaded while DuckDB looks for the answer."""


def test_a_question_does_not_load_what_it_can_do_without() -> None:
    code = "import sys, scalple.cli.query; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "duckdb" in loaded
    assert not loaded & {*SLOW, *LATER}
