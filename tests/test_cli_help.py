"""What a newcomer meets first: help with an example for every verb, and the demo."""

import re
import shlex
import shutil
from pathlib import Path

import click
import pytest

from scalple.cli import demo
from scalple.cli.main import VERBS, cli
from tests.commandline import SAMPLE, Said, manifests, scalple


def test_without_arguments_it_helps() -> None:
    said = scalple()
    assert said.code == 0
    assert said.err == ""
    assert said.out == scalple("--help").out
    for verb in VERBS:
        assert f"\n  {verb} " in said.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    said = scalple(verb, "--help")
    assert said.code == 0
    assert said.err == ""
    _, _, example = said.out.partition("  Example:\n")
    assert example.startswith(f"    scalple-ingest {verb}"), said.out
    assert max(map(len, said.out.splitlines())) <= 100


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_names_options_that_exist(verb: str) -> None:
    _, _, text = scalple(verb, "--help").out.partition("  Example:\n")
    example = text.partition("\n\n")[0].replace("\\\n", " ")
    words = shlex.split(example)
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    known = {name for parameter in command.params for name in parameter.opts}
    used = {word for word in words if word.startswith("--")}
    assert used <= known


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_says_what_it_is(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{verb} {parameter.opts}"


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Said, Path]:
    """What the demo says, and the store that it made."""
    directory = tmp_path_factory.mktemp("demo")
    shutil.copytree(SAMPLE, directory / "sample_logs")
    said = scalple("demo", "--samples", directory / "sample_logs")
    return said, directory / "demo" / "store"


def test_the_demo_compares_what_is_known(demonstrated: tuple[Said, Path]) -> None:
    said, _ = demonstrated
    assert said.code == 0, said.err
    table = {
        cells[0].strip(): (cells[1].strip(), cells[2].strip())
        for line in said.out.splitlines()
        if (cells := line.strip("│ ").split("│")) and len(cells) == 3
    }
    assert table["person"] == ("?", "employee_id_2291")
    assert table["e-mail"] == ("?", "j.muller@company.com")
    assert table["role"] == ("app_user", "app_user")
    assert table["rows"] == ("47291", "47291")
    assert re.fullmatch(r"sample#\d+", table["log id"][1])
    assert table["table"][1] == "public.users"
    assert table["how sure"][1].startswith(("confirmed (", "proven ("))
    assert "subscription_tier" in table["query"][0]
    assert "masked fields" in table
    assert "public.users.email" in said.out


def test_the_demo_answers_and_verifies(demonstrated: tuple[Said, Path]) -> None:
    said, _ = demonstrated
    assert re.search(r"Direct \(\d+\)", said.out)
    assert "Possible: could have shown this person's data" in said.out
    assert re.search(r"Coverage: [\d,]+ statements from", said.out)
    assert "\nintact: sample: " in said.out
    for verb in ("query", "sql", "coverage", "reprocess"):
        assert f"\n  scalple-ingest {verb} " in said.out


def test_the_demo_can_be_seen_again(demonstrated: tuple[Said, Path]) -> None:
    first, store = demonstrated
    before = manifests(store)
    again = scalple("demo", "--samples", store.parent.parent / "sample_logs")
    assert again.code == 0
    assert manifests(store) == before
    assert again.out == first.out


def test_the_demo_outside_a_checkout_shows_the_sample_that_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "share" / "sample_logs"
    shutil.copytree(SAMPLE, installed)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(demo, "_samples", lambda: installed)
    said = scalple("demo")
    assert (said.code, "intact: sample" in said.out) == (0, True)
    assert [path.name for path in here.iterdir()] == ["demo"]
    assert [path.name for path in installed.parent.iterdir()] == ["sample_logs"]


def test_the_demo_without_a_sample_says_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "_samples", lambda: demo.HERE)
    said = scalple("demo")
    assert (said.code, said.out) == (3, "")
    assert "--samples" in said.err
