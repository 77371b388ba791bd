"""Personal columns count as read by `*` only where no word of the text can have meant them."""

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import SAMPLE, reprocess_sample, rows, scalple

PERSONAL = {
    *("public.users.email", "public.users.iban", "public.users.name"),
    *("public.users.id", "public.orders.user_id"),
}


@pytest.fixture(scope="module")
def reads(sample_store: Path) -> list[dict[str, Any]]:
    """The sample's reads of personal columns, one row of each statement."""
    found = rows(
        sample_store,
        "SELECT * FROM audit WHERE class = 'READ' AND repeat_of IS NULL AND attribution_grade <> "
        "'pooler' AND success IS DISTINCT FROM false "
        "QUALIFY row_number() OVER (PARTITION BY session_id, statement_id, "
        "substatement_id ORDER BY seq) = 1",
    )
    return [one for one in found if PERSONAL & set(one["columns_accessed"] or ())]


def by_star(one: dict[str, Any], text: str) -> list[str]:
    """The columns of a read that its text doesn't name."""
    if one["columns_basis"] != "star-expanded":
        return []
    words = set(re.findall(r"[\w$]+", text.lower()))
    columns = PERSONAL & set(one["columns_accessed"])
    return sorted(column for column in columns if column.rpartition(".")[2] not in words)


def test_it_lists_the_templates_that_somebody_finds_who_reads_the_statements(
    sample_store: Path, reads: list[dict[str, Any]]
) -> None:
    texts: dict[str, str] = {}
    for one in reads:
        mark = one["query_fingerprint"]
        texts[mark] = min(texts.get(mark, one["query"]), one["query"])
    expected: Counter[tuple[Any, ...]] = Counter()
    returned: Counter[tuple[Any, ...]] = Counter()
    how: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for one in reads:
        mark, actor, role = (one[k] for k in ("query_fingerprint", "session_user_id", "db_role"))
        starred = by_star(one, texts[mark])
        if starred:
            expected[mark, actor, role, tuple(starred)] += 1
            returned[mark, actor, role, tuple(starred)] += one["rows_returned"] or 0
        for column in PERSONAL & set(one["columns_accessed"]):
            how[actor, role, column]["star" if column in starred else "name"] += 1
    said = scalple("minimisation", "--store", sample_store, "--format", "json")
    assert said.code == 0, said.err
    answer = said.json()

    def key(one: dict[str, Any]) -> tuple[Any, ...]:
        return (one["query_fingerprint"], one["actor"], one["db_role"], tuple(one["columns"]))

    assert {key(one): one["statements"] for one in answer["templates"]} == expected
    assert {key(one): one["rows_returned"] or 0 for one in answer["templates"]} == returned
    assert sum(expected.values()) > 20
    assert {
        (one["actor"], one["db_role"], one["column"]): (one["by_name"], one["by_star"])
        for one in answer["actors"]
    } == {which: (count["name"], count["star"]) for which, count in how.items()}
    table = scalple("minimisation", "--store", sample_store).out
    assert "could perhaps have been left out" in table
    told = f"Of {answer['unknown']} further reads it isn't known" in table
    assert told == (answer["unknown"] > 0)
    csv = scalple("minimisation", "--store", sample_store, "--format", "csv").out
    assert len(csv.splitlines()) >= len(answer["templates"]) + 1


def test_a_period_without_statements_has_nothing(sample_store: Path) -> None:
    said = scalple(
        "minimisation", "--store", sample_store, "--until", "2020-01-01", "--format", "json"
    )
    answer = said.json()
    assert (answer["templates"], answer["actors"], answer["unknown"]) == ([], [], 0)


def test_without_personal_columns_it_says_what_to_do(tmp_path: Path) -> None:
    events = SAMPLE / "identity.jsonl"
    store = tmp_path / "store"
    assert scalple("reprocess", "--store", store, "--identity-events", events).code == 0
    said = scalple("minimisation", "--store", store)
    assert said.code == 4
    assert "[personal_data]" in said.err


def test_a_column_that_the_text_names_beside_the_star_is_not_called_needless(
    tmp_path: Path,
) -> None:
    """A predicate or an order needs the column: nobody can say that it wasn't meant."""
    head = (SAMPLE / "postgresql.csv").read_text().splitlines()
    line = next(one for one in head if "READ,SELECT,TABLE,public.users" in one)
    texts = {
        "SELECT * FROM users": {"email", "iban", "name", "id"},
        "SELECT * FROM users WHERE email = $1": {"iban", "name", "id"},
        "SELECT * FROM users ORDER BY NAME": {"email", "iban", "id"},
        "SELECT count(*) FROM users": set(),
    }
    log = tmp_path / "postgresql.csv"
    pattern = re.compile(r'READ,SELECT,TABLE,public.users,"".*?""')
    number = re.compile(r"(?<=SESSION,)1")
    log.write_text(
        "".join(
            number.sub(str(n), pattern.sub(f"READ,SELECT,TABLE,public.users,{text}", line)) + "\n"
            for n, text in enumerate(texts, start=1)
        )
    )
    store = tmp_path / "store"
    sources = ("--postgres-log", log, "--schema", SAMPLE / "schema.sql")
    assert reprocess_sample(store, *sources).code == 0
    answer = scalple("minimisation", "--store", store, "--format", "json").json()
    found = {
        one["query"].split("*/")[0]: {name.rpartition(".")[2] for name in one["columns"]}
        for one in answer["templates"]
    }
    assert len(rows(store, "FROM audit")) == len(texts)
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, filter(None, texts.values())))
