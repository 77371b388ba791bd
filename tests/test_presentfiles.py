"""Files with names that no record can hold are told of, and followed by nobody."""

import os
from pathlib import Path

from scalple.cli.intakesection import IntakeSection
from scalple.cli.intaking import patterns
from scalple.ingest.present import present_files


def test_a_name_that_is_no_text_is_a_problem_of_that_file(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.jsonl"))
    odd.touch()
    (tmp_path / "a.jsonl").touch()
    problems: dict[Path, str] = {}
    found = present_files([odd, tmp_path / "a.jsonl"], problems)
    assert [one.paths for one in found.values()] == [[tmp_path / "a.jsonl"]]
    assert [str(one).isascii() for one in problems] == [True]


def test_a_directory_of_the_intake_may_have_any_name() -> None:
    (pattern,) = patterns(IntakeSection(listen="127.0.0.1:0", directory="/srv/w[1]/intake"))
    assert pattern == "/srv/w[[]1]/intake/*/*.jsonl*"
