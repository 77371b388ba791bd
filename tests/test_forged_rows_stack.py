"""What a client makes up in the log spoils no sum and makes no question fail; on a real server.

Enters: nothing. Leaves: nothing. How such lines are told from pgAudit's own is in test_containers_stack.py.
"""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.commandline import rows, scalple
from tests.stack import Stack, StackOptions

pytestmark = pytest.mark.stack

READ = "SELECT name FROM public.users WHERE id = 7"
ALL = "SELECT name FROM public.users"
MOST = 2**63 - 1
TABLE = ("--table", "public.users")
ACTOR = ("--actor", "jm", "--disclosure", "controller")
RULES = """origin = "db1"
[sources]
timezone = "UTC"
[pooler]
kind = "none"
[actors.roles]
jmueller = "jm"
[identifiers]
person = ["public.users.id"]
[personal_data]
"public.users.name" = "redact"
"""


def forge(connection: psycopg.Connection[Any], number: int, read: str = READ) -> None:
    """A line that says: statement `number` of this session read as many rows as there can be."""
    text = f"AUDIT: SESSION,{number},1,READ,SELECT,TABLE,public.users,{read},<none>,{MOST}"
    connection.execute(f"DO $$ BEGIN RAISE LOG '{text}'; END $$".encode())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a session that read one row three times, and claims otherwise in lines of its own."""
    place = tmp_path_factory.mktemp("forged")
    with Stack(StackOptions(pooler=False, users=10, eu_users=2)) as stack:
        dsn = stack.dsn_direct(user="jmueller")
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as mallory:
            forge(mallory, 2)
            for _ in range(3):
                mallory.execute(READ.encode())
            for number in range(1, 6):
                forge(mallory, number)
            for number in range(1, 4):
                forge(mallory, number, ALL)
        logs = stack.csvlog_paths()
    (place / "rules.toml").write_text(RULES)
    given = [arg for path in logs for arg in ("--postgres-log", path)]
    said = scalple(
        "reprocess", "--config", place / "rules.toml", "--store", place / "store", *given
    )
    assert said.code == 0, said.err
    return place / "store"


def test_the_lines_are_there_as_they_were_written(store: Path) -> None:
    sql = (
        "SELECT rows_returned, findings, attribution_grade AS grade FROM audit WHERE class = 'READ'"
    )
    found = rows(store, sql)
    forged = [one for one in found if one["findings"]]
    assert [(one["rows_returned"], one["grade"]) for one in forged] == [(MOST, "unattributed")] * 9
    assert [one["rows_returned"] for one in found if not one["findings"]] == [1, 1, 1]


def test_what_somebody_did_is_counted_without_what_is_made_up(store: Path) -> None:
    said = scalple("query", "--store", store, *TABLE, "--format", "json")
    assert said.code == 0, said.err
    assert said.json()["activity"]["rows_returned"] == 3
    # A made-up line is a statement of nobody's, and takes no genuine one's place.
    assert said.json()["activity"]["statements"] == 12
    own = scalple("query", "--store", store, *TABLE, *ACTOR, "--format", "json")
    assert own.json()["activity"]["statements"] == own.json()["activity"]["rows_returned"] == 3


def test_the_reach_of_a_breach_is_counted_without_what_is_made_up(store: Path) -> None:
    for whose, reads in ((TABLE, 12), (TABLE + ACTOR, 3)):
        said = scalple("query", "--store", store, "--breach", *whose, "--format", "json")
        assert said.code == 0, said.err
        reach = said.json()["breach"]["certain"]
        assert (reach["statements"], reach["rows_returned"]) == (reads, 3)


def test_minimisation_is_counted_without_what_is_made_up(store: Path) -> None:
    said = scalple("minimisation", "--store", store, "--format", "json")
    assert said.code == 0, said.err
    named = [one for one in said.json()["actors"] if one["column"] == "public.users.name"]
    assert {one["actor"]: (one["by_name"], one["rows_returned"]) for one in named} == {
        "jm": (3, 3),
        None: (9, None),
    }


@pytest.mark.parametrize("form", ["table", "html", "csv", "json"])
@pytest.mark.parametrize("subject", ["person=7", "person=8"])
def test_whose_data_was_reached_is_answered_however_many_rows_are_claimed(
    store: Path, subject: str, form: str
) -> None:
    said = scalple("query", "--store", store, "--subject", subject, "--format", form)
    assert said.code == 0, said.err
    if form == "table":
        assert "could have shown this person's data (3)" in said.out
