"""What is installed is whole: the wheel, completion in a shell, and the containers' example.

A wheel is built and installed into a fresh environment with PACKAGED=1 (`make prove`), which takes a minute.
"""

import fnmatch
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from scalple.cli.config import load
from scalple.cli.main import VERBS, cli
from tests.commandline import SAMPLE, scalple

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "docs" / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
PACKAGED = os.environ.get("PACKAGED")
_GENERATED = ("__pycache__",)


def test_every_file_of_the_packages_is_in_the_wheel() -> None:
    folders = set(SETUPTOOLS["package-dir"].values())
    assert {f"scalple.{name}" for name in folders} == set(SETUPTOOLS["packages"])
    patterns = [*SETUPTOOLS["package-data"]["*"], "*.py"]
    for folder in folders:
        for path in (ROOT / folder).iterdir():
            if path.name not in _GENERATED:
                assert path.is_file(), f"{path}: packages are flat"
                assert any(fnmatch.fnmatch(path.name, one) for one in patterns), path


def test_every_file_that_the_demo_reads_is_in_the_wheel() -> None:
    (patterns,) = SETUPTOOLS["data-files"].values()
    there = {path.relative_to(ROOT).as_posix() for path in SAMPLE.iterdir() if path.is_file()}
    kept = {name for name in there if any(fnmatch.fnmatch(name, one) for one in patterns)}
    assert there - kept == {"sample_logs/record.py"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["scalple-ingest", "stat"], {"status"}),
        (["scalple-ingest", ""], set(VERBS)),
        (["scalple-ingest", "query", "--disclosure", ""], {"subject", "controller"}),
    ],
)
def test_bash_completes(words: list[str], expected: set[str]) -> None:
    script = scalple("completion", "bash").out
    quoted = " ".join(f"'{word}'" for word in words)
    program = Path(sys.executable).with_name("scalple-ingest")
    asked = (
        f"{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
        f"_scalple_ingest_completion {program}\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize(
    ("shell", "mark"), [("zsh", "#compdef scalple-ingest"), ("fish", "function")]
)
def test_other_shells_have_scripts(shell: str, mark: str) -> None:
    said = scalple("completion", shell)
    assert said.code == 0
    assert said.out.startswith(mark)
    assert "_SCALPLE_INGEST_COMPLETE" in said.out


def test_names_of_files_and_folders_are_completed_by_the_shell() -> None:
    for verb in VERBS:
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None
        for option in command.params:
            if option.metavar in ("FILE", "PATH", "PATH…", "DIR"):
                kinds = {
                    one.type for one in option.type.shell_complete(click.Context(cli), option, "x")
                }
                assert kinds <= {"file", "dir"}, (verb, option.name)
                assert kinds, (verb, option.name)


def services() -> dict[str, dict[str, Any]]:
    """Those of the compose example."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())[
        "services"
    ]
    return found


def test_the_images_copy_what_there_is() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = [
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert {*SETUPTOOLS["package-dir"].values(), "sample_logs", "pyproject.toml"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
    targets = {line.split()[3] for line in lines if line.startswith("FROM ")}
    for name, service in services().items():
        build = service["build"]
        assert build["target"] in targets, name
        assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_the_example_runs_commands_that_exist_over_files_that_exist() -> None:
    everything = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name, service in services().items():
        for volume in service["volumes"]:
            source, place, *_ = volume.split(":")
            if source.startswith("."):
                assert (DEPLOY / source).is_file(), name
            else:
                assert source in everything["volumes"], name
            assert place.startswith("/")
        commands = [service.get("command"), service.get("healthcheck", {}).get("test")]
        for words in commands:
            words = [one for one in words or [] if one not in ("CMD", "scalple-ingest")]
            if words and words[0] in VERBS:
                verb = cli.get_command(click.Context(cli), words[0])
                assert verb is not None
                verb.make_context(words[0], words[1:])  # refuses what isn't an option
    config = load(DEPLOY / "config.toml")
    assert config.daemon.status == services()["daemon"]["healthcheck"]["test"][4]


def test_the_doctor_has_nothing_to_say_of_the_example() -> None:
    said = scalple(
        *("doctor", "--json", "--config", DEPLOY / "config.toml"),
        *("--postgres-conf", DEPLOY / "postgresql.conf"),
        *("--pgbouncer-ini", DEPLOY / "pgbouncer.ini"),
        *("--postgres-log", SAMPLE / "postgresql.csv"),
        *("--pgbouncer-log", SAMPLE / "pgbouncer.log"),
    )
    report = said.json()
    assert [one for one in report["findings"] if one["severity"] != "note"] == []
    assert (said.code, report["possible"]) == (0, "proven")


@pytest.mark.skipif(not PACKAGED, reason="make prove installs into a fresh environment")
def test_a_fresh_environment_has_a_working_command(tmp_path: Path) -> None:
    home, work = tmp_path / "venv", tmp_path / "work"
    work.mkdir()
    venv.create(home, with_pip=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, check=False, cwd=work, env=clean
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    source = tmp_path / "source"  # building leaves files behind
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(
            ".git", ".venv", ".ns", "build", "*.egg-info", "tests", ".*_cache"
        ),
    )
    run(home / "bin" / "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", work, source)
    (wheel,) = work.glob("*.whl")
    run(home / "bin" / "pip", "install", "--quiet", wheel)
    program = home / "bin" / "scalple-ingest"
    assert run(program, "--version").endswith(f"version {PROJECT['project']['version']}\n")
    for verb in VERBS:
        assert "Example:" in run(program, verb, "--help")
    assert "intact: sample" in run(program, "demo")
    subject = ("query", "--store", "demo/store", "--subject", "customer_id=4711")
    assert "<html" in run(program, *subject, "--format", "html")
    assert "grade" in run(program, "coverage", "--store", "demo/store")
    assert "complete -o" in run(program, "completion", "bash")
