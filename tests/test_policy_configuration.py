"""A rule or a list of people that can't be followed is an error that names its line."""

from pathlib import Path

import pytest

from scalple.cli.config import load
from scalple.ingest.errors import ConfigError
from tests.commandline import SAMPLE, scalple


@pytest.mark.parametrize(
    ("rule", "line", "what"),
    [
        ('name = "a"\ncolums = ["public.users.iban"]', 3, "unknown key 'policy.0.colums'"),
        ('name = "a"\nactors = ["groups:billing"]', 3, "is none of actor:NAME, group:NAME"),
        ('name = "a"\nactors = ["unlisted"]', 3, "needs a list of people"),
        ('name = "a"\ntables = ["users"]', 3, "is not schema.table"),
        ('name = "a"\ncolumns = ["users.iban"]', 3, "is not schema.table.column"),
        ('name = "a"\nrows_over = "many"', 3, "valid integer"),
        ('name = "a"\nclasses = ["SELECT"]', 3, "Input should be 'READ'"),
        ('name = "a"\nunless_ticket = []', 1, "unless_ticket is empty"),
        ('name = "a"', 1, "says nothing"),
        ('name = "A b"\nshapes = ["full"]', 2, "match pattern"),
        ('name = "a"\ntables = ["a.b"]\ncolumns = ["a.b.c"]', 1, "give tables or columns"),
        ('name = "a"\nwhen = { from = "8" }', 3, "is no time such as 08:00"),
        (
            'name = "a"\n[policy.when]\ndays = ["mon"]\ntimezone = "Europe/Berlim"',
            5,
            "no time zone",
        ),
        ('name = "a"\nwhen = { from = "08:00", until = "08:00" }', 3, "is no time at all"),
        ('name = "a"\nwhen = { days = ["mo-fri"] }', 3, "is no day such as mon"),
        (
            "\n[[policy]]\n".join(f'name = "{name}"\nshapes = ["full"]' for name in "aba"),
            8,
            "another policy of the name 'a'",
        ),
    ],
)
def test_a_rule_that_cannot_be_followed_is_an_error_that_names_its_line(
    tmp_path: Path, rule: str, line: int, what: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[[policy]]\n{rule}\n")
    with pytest.raises(ConfigError, match=what.replace("(", r"\(")) as caught:
        load(path)
    assert caught.value.place == f"{path}:{line}"


def test_the_rule_book_of_the_document_loads(tmp_path: Path) -> None:
    text = (SAMPLE.parent / "docs" / "POLICIES.md").read_text()
    path = tmp_path / "config.toml"
    for example in text.split("```toml\n")[1:]:
        path.write_text(example.partition("```")[0])
        assert load(path).policy
    _, _, csv = text.partition("```\nactor,")
    (tmp_path / "people.csv").write_text("actor," + csv.partition("```")[0])
    assert len(load(path).rules().people) == 3


@pytest.mark.parametrize(
    ("key", "value", "is_known"),
    [
        ("columns", "public.users.iban", True),
        ("columns", "public.users.ibann", False),
        ("columns", "public.users.ib*", True),
        ("unless_tables", "public.user", False),
        ("tables", "pg_catalog.pg_authid", True),
    ],
)
def test_a_rule_for_what_the_schema_does_not_have_is_an_error(
    tmp_path: Path, key: str, value: str, is_known: bool
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'\n[[policy]]\nname = "a"\n{key} = ["{value}"]\n')
    arguments = ("--config", path, "--schema", SAMPLE / "schema.sql")
    done = scalple(
        "reprocess",
        "--store",
        tmp_path / "store",
        *arguments,
        "--identity-events",
        SAMPLE / "identity.jsonl",
    )
    assert done.code == (0 if is_known else 4), done.err
    assert is_known or f"config.toml:4: policy a: the schema has no {value}" in done.err
    assert is_known == (tmp_path / "store").exists()


@pytest.mark.parametrize("line", ["anna,,2026-13-01", "anna,billing", ",billing,2026-01-01"])
def test_a_list_of_people_that_cannot_be_read_names_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "people.csv").write_text(f"actor,groups,valid_until\n{line}\n")
    path = tmp_path / "config.toml"
    path.write_text('[actors]\nfile = "people.csv"\n')
    with pytest.raises(ConfigError) as caught:
        load(path).rules()
    assert caught.value.place == f"{tmp_path}/people.csv:2"
