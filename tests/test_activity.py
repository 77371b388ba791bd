"""What an actor did at a glance, and how far a breach reaches, against what the clients really sent.

Enters: a recording of real servers with its truth, in a store. Leaves: nothing. Does not: check who is
named (that is test_query_truth's), only what is added up and listed.
"""

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.commandline import rows, scalple
from tests.conftest import Recorded

MULLER = "employee_id_2291"
MULLER_EMAIL = "j.muller@company.com"
CONTROLLER = ("--disclosure", "controller")


def asked(store: Path, *options: str | Path) -> Any:
    said = scalple("query", "--store", store, "--format", "json", *options)
    assert said.code == 0, said.err
    return said.json()


def named_by(recorded: Recorded, actor: str) -> set[tuple[str, str]]:
    """(identifier, value) of everybody whom the actor's statements named, as the clients sent them."""
    return {
        (one["identifier"], one["value"])
        for entry in recorded.truth
        if entry.author == actor and entry.outcome == "ok"
        for one in entry.subjects
    }


def people(part: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["identifier"], one["value"]) for one in part["subjects"]}


def statements_of(found: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows of each statement: pgAudit numbers statements in their sessions."""
    keyed: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in found:
        key = (row["session_id"], row["statement_id"], row["substatement_id"])
        keyed.setdefault(key, []).append(row)
    return list(keyed.values())


def returned(found: list[list[dict[str, Any]]]) -> int:
    """Rows that statements returned; each of a statement's rows says all of them."""
    return sum(max(row["rows_returned"] or 0 for row in one) for one in found)


@pytest.mark.parametrize("actor", [MULLER, MULLER_EMAIL])
def test_the_list_to_notify_is_of_those_whose_data_was_reached(
    actor: str, recorded: Recorded, recorded_store: Path
) -> None:
    found = asked(recorded_store, "--breach", "--actor", actor, *CONTROLLER)["breach"]
    truth = named_by(recorded, MULLER)
    certain, uncertain = people(found["certain"]), people(found["uncertain"])
    assert len(certain) > 20
    assert certain <= truth
    # Whoever is missing was named only by statements without a name of their own.
    elsewhere = {
        row["token"]
        for row in rows(
            recorded_store,
            "SELECT s.token FROM (SELECT unnest(subjects) AS s, session_user_id AS who FROM audit) "
            "WHERE who IS NULL",
        )
    }
    missing = truth - certain - uncertain
    assert len(missing) <= len(elsewhere)
    assert len(missing) < 0.1 * len(truth)


def test_a_breach_counts_each_statement_once(recorded_store: Path) -> None:
    certain = asked(recorded_store, "--breach", "--actor", MULLER, *CONTROLLER)["breach"]["certain"]
    told = rows(
        recorded_store,
        f"SELECT * FROM audit WHERE session_user_id = '{MULLER}' AND repeat_of IS NULL "
        "AND success IS DISTINCT FROM false",
    )
    statements = statements_of(told)
    assert certain["statements"] == len(statements) < len(told)
    assert certain["rows_returned"] == returned(statements)
    assert certain["columns"] == sorted({c for row in told for c in row["columns_accessed"] or ()})
    per_token = Counter(
        token
        for one in statements
        for token in {s["token"] for row in one for s in row["subjects"] or ()}
    )
    assert {one["token"]: one["statements"] for one in certain["subjects"]} == per_token


def test_a_breach_through_a_role_or_an_address_reaches_everybody(recorded_store: Path) -> None:
    everything = rows(recorded_store, "SELECT DISTINCT db_role, client_addr FROM audit")
    role = max({row["db_role"] for row in everything if row["db_role"]})
    by_role = asked(recorded_store, "--breach", "--role", role, *CONTROLLER)["breach"]
    assert by_role["uncertain"] is None
    told = rows(
        recorded_store,
        f"SELECT * FROM audit WHERE db_role = '{role}' AND repeat_of IS NULL "
        "AND success IS DISTINCT FROM false",
    )
    assert by_role["certain"]["statements"] == len(statements_of(told)) > 0
    nobody = asked(recorded_store, "--breach", "--address", "192.0.2.1", *CONTROLLER)["breach"]
    assert (nobody["certain"]["statements"], nobody["certain"]["subjects"]) == (0, [])


def test_without_the_controller_or_the_key_people_are_counted_not_named(
    recorded_store: Path,
) -> None:
    named = asked(recorded_store, "--breach", "--actor", MULLER, *CONTROLLER)["breach"]
    counted = asked(recorded_store, "--breach", "--actor", MULLER)["breach"]
    assert {one["value"] for one in counted["certain"]["subjects"]} == {None}
    assert [one["token"] for one in counted["certain"]["subjects"]] == [
        one["token"] for one in named["certain"]["subjects"]
    ]
    said = scalple("query", "--store", recorded_store, "--breach", "--actor", MULLER)
    assert "counted, not named" in said.err
    emails = [one["value"] for one in named["certain"]["subjects"] if "@" in one["value"]]
    assert emails and not any(one in said.out for one in emails)


def test_the_list_to_notify_in_csv_and_parquet(recorded_store: Path, tmp_path: Path) -> None:
    question = ("query", "--store", recorded_store, "--breach", "--actor", MULLER, *CONTROLLER)
    expected = people(asked(*question[2:3], *question[3:])["breach"]["certain"])
    said = scalple(*question, "--format", "csv")
    listed = list(csv.DictReader(io.StringIO(said.out)))
    assert {(r["identifier"], r["value"]) for r in listed if r["part"] == "certain"} == expected
    path = tmp_path / "notify.parquet"
    assert scalple(*question, "--format", "parquet", "--output", path).code == 0
    table = pq.read_table(path)
    assert table["value"].to_pylist() == [row["value"] for row in listed]
    assert path.stat().st_mode & 0o077 == 0


def test_what_an_actor_did_at_a_glance(recorded_store: Path) -> None:
    answer = asked(recorded_store, "--actor", MULLER, *CONTROLLER)
    done = answer["activity"]
    direct = [row for row in answer["direct"] if row["repeat_of"] is None]
    statements = statements_of(direct)
    assert done["statements"] == len(statements) < len(direct)
    assert done["statements"] == sum(day["statements"] for day in done["days"])
    assert done["rows_returned"] == returned(statements)
    assert done["rows_returned"] == sum(day["rows_returned"] or 0 for day in done["days"])
    tokens = {s["token"] for row in direct for s in row["subjects"] or ()}
    assert done["subjects"] == len(tokens)
    touched = Counter(
        table
        for one in statements
        for table in {t for row in one for t in row["affected_tables"] or ()}
    )
    assert {one["table"]: one["statements"] for one in done["tables"]} == dict(
        touched.most_common(20)
    )
    assert done["commands"] == Counter(
        command for one in statements for command in {row["command"] for row in one}
    )
    assert (done["first"], done["last"]) == (direct[0]["log_time"], direct[-1]["log_time"])


def test_a_statement_with_a_row_per_relation_is_counted_once(tmp_path: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "postgresql.log"
    both = "SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 7"
    records = [
        (1, "READ,SELECT,TABLE,public.users,SELECT * FROM users WHERE id = 7,<none>,1"),
        (2, f"READ,SELECT,TABLE,public.users,{both},<none>,3"),
        (2, f"READ,SELECT,TABLE,public.orders,{both},<none>,3"),
        (3, "READ,SELECT,TABLE,public.orders,SELECT id FROM orders LIMIT 2,<none>,2"),
        (4, f"READ,SELECT,TABLE,public.users,{both},<none>,1"),
        (4, f"READ,SELECT,TABLE,public.orders,{both},<none>,1"),
    ]
    head = (
        "2026-03-14 23:59:59.{:03} UTC [77] app@shop 65f2e0a0.4d {} LOG:  AUDIT: SESSION,{},1,{}\n"
    )
    log.write_text(
        "".join(
            head.format(n, n, statement, said) for n, (statement, said) in enumerate(records, 1)
        )
    )
    config = tmp_path / "config.toml"
    config.write_text('[identifiers]\nuser = ["public.users.id"]\n')
    prefix = ("--log-line-prefix", "%m [%p] %u@%d %c %l ")
    read = ("reprocess", "--store", store, "--config", config, "--postgres-log", log, *prefix)
    assert scalple(*read).code == 0
    answer = asked(store, "--role", "app")
    assert len(answer["direct"]) == 6
    done = answer["activity"]
    assert (done["statements"], done["rows_returned"]) == (4, 7)
    assert (done["hours"], done["commands"]) == ({"23": 4}, {"SELECT": 4})
    assert [(day["statements"], day["rows_returned"]) for day in done["days"]] == [(4, 7)]
    assert {one["table"]: (one["statements"], one["rows_returned"]) for one in done["tables"]} == {
        "public.users": (3, 5),
        "public.orders": (3, 6),
    }
    assert [one["statements"] for one in done["most_subjects"]] == [3]
    reach = asked(store, "--role", "app", "--breach")["breach"]["certain"]
    assert (reach["statements"], reach["failed"], reach["rows_returned"]) == (4, 0, 7)
    assert [one["statements"] for one in reach["subjects"]] == [3]
    said = scalple("query", "--store", store, "--role", "app").out
    assert "4 statements (6 records)" in said
    assert "7 rows returned" in said
    page = scalple("query", "--store", store, "--role", "app", "--format", "html").out
    assert "<b>4</b> statements<" in page


def test_parquet_holds_the_rows_that_json_holds(recorded_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "answer.parquet"
    question = ("--subject", "customer_id=4711")
    said = scalple(
        "query", "--store", recorded_store, *question, "--format", "parquet", "--output", path
    )
    assert said.code == 0, said.err
    told = asked(recorded_store, *question)
    table = pq.read_table(path)
    assert table["log_id"].to_pylist() == [
        row["log_id"] for part in ("direct", "possible") for row in told[part]
    ]
    assert set(table["session_email"].to_pylist()) == {None}


def test_groups_of_possible_accesses_add_up(recorded_store: Path) -> None:
    question = ("query", "--store", recorded_store, "--subject", "customer_id=4711")
    count = len(asked(recorded_store, "--subject", "customer_id=4711")["possible"])
    said = scalple(*question)
    assert f"could have shown this person's data ({count})" in said.out


def test_a_breach_is_of_no_subject(recorded_store: Path) -> None:
    said = scalple("query", "--store", recorded_store, "--breach", "--subject", "customer_id=4711")
    assert said.code == 3
    assert "hint: leave one of them out" in said.err


def test_the_page_of_a_breach_lists_whom_to_notify(recorded_store: Path) -> None:
    question = ("query", "--store", recorded_store, "--breach", "--actor", MULLER, *CONTROLLER)
    page = scalple(*question, "--format", "html").out
    found = asked(recorded_store, "--breach", "--actor", MULLER, *CONTROLLER)["breach"]["certain"]
    assert found["subjects"]
    assert all(f">{one['value']}</td>" in page for one in found["subjects"])
    assert "Reach of a breach: statements of employee_id_2291" in page


def test_every_possible_access_says_why(recorded_store: Path) -> None:
    possible = asked(recorded_store, "--subject", "customer_id=4711")["possible"]
    shapes = {"range": "range", "full": "all-rows", "export": "export", "point": "by-another-key"}
    seen = {row["access_shape"]: row["reason"] for row in possible}
    assert {shape: seen[shape] for shape in shapes} == shapes
    assert None not in seen.values()
