"""Makes a store with the installed version, to be kept: `python tests/compat/record.py NAME`.

Later versions must verify and answer it for ever (tests/test_compat.py). It has two commits of
different rules, a revision, questions in `_access`, and the answers as they were given then.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parents[1] / "sample_logs"
PROGRAM = str(Path(sys.executable).with_name("scalple-ingest"))
QUESTIONS = {
    "subject": ["--subject", "customer_id=4711", "--disclosure", "controller"],
    "actor": ["--actor", "employee_id_2291", "--disclosure", "controller"],
    "table": ["--table", "public.orders"],
}
RECORDS = 260
"""Of the sample's log: enough for every kind of segment."""


def main(name: str) -> None:
    """Records the store and what it answers."""
    goal = HERE / name
    if goal.exists():
        sys.exit(f"{goal} is there: a store that is kept is never made again")
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "store"
        make(store)
        answers = {asked: answer(store, *options) for asked, options in QUESTIONS.items()}
        goal.mkdir()
        (goal / "answers.json").write_text(json.dumps(answers, indent=1, sort_keys=True) + "\n")
        shutil.copytree(store, goal / "store")
        shutil.copytree(store.with_name("store.keys"), goal / "store.keys")


def make(store: Path) -> None:
    """First without the events, so that their coming revises what was said."""
    whole = (SAMPLE / "postgresql.csv").read_bytes()
    begins = [
        found.start() for found in re.finditer(rb"^20\d\d-\d\d-\d\d \d\d:", whole, re.MULTILINE)
    ]
    log_file, events = store.with_name("postgresql.csv"), SAMPLE / "identity.jsonl"
    config = store.with_name("config.toml")
    text = (SAMPLE / "config.toml").read_text("utf-8")
    config.write_text(text[: text.index("[sources]")] + text[text.index("[pooler]") :], "utf-8")
    log_file.write_bytes(whole[: begins[RECORDS]])
    run("reprocess", *given(store, config, log_file))
    log_file.write_bytes(whole[: begins[2 * RECORDS]])
    run("reprocess", *given(store, config, log_file), "--identity-events", events)


def given(store: Path, config: Path, log_file: Path) -> list[str | Path]:
    """What both runs are told."""
    told: list[str | Path] = ["--store", store, "--config", config]
    told += ["--schema", SAMPLE / "schema.sql", "--timezone", "UTC"]
    return [*told, "--postgres-log", log_file, "--pgbouncer-log", SAMPLE / "pgbouncer.log"]


def answer(store: Path, *options: str) -> dict[str, object]:
    """What the installed version says."""
    return essence(json.loads(run("query", "--store", store, *options, "--format", "json")))


def essence(found: dict[str, Any]) -> dict[str, object]:
    """What later versions must say as well: which rows, and of whom."""
    return {
        "direct": [[row["log_id"], row["session_user_id"]] for row in found["direct"]],
        "possible": sorted(row["log_id"] for row in found["possible"]),
        "statements": found["coverage"]["statements"],
        "by_grade": found["coverage"]["by_grade"],
    }


def run(*arguments: str | Path) -> str:
    """What the program prints."""
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1])
