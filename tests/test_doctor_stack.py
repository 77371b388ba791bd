"""`doctor` on servers as they come: its lines, put where it says, make `proven` possible, and it is."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.barestack import BareStack, apply
from tests.commandline import rows, scalple
from tests.sidecars import before_pooler
from tests.stack import Stack, StackOptions, password_of

pytestmark = pytest.mark.stack

_ERRORS_AND_WARNINGS = ("error", "warning")


def examined(stack: BareStack, *more: str | Path) -> tuple[int, dict[str, Any]]:
    """What it says of the stack's files."""
    where = ("--postgres-conf", stack.conf, "--pgbouncer-ini", stack.ini)
    said = scalple("doctor", *where, "--json", *more)
    assert said.err == ""
    return said.code, said.json()


def grades(report: dict[str, Any]) -> dict[str, str]:
    """Way -> grade."""
    return {one["way"]: one["grade"] for one in report["reach"]}


def test_a_role_that_may_see_little_is_told_so_and_overrides_are_found(stack: Stack) -> None:
    with psycopg.connect(stack.dsn_superuser(), autocommit=True) as connection:
        connection.execute("ALTER ROLE jmueller IN DATABASE app SET pgaudit.log = 'none'")
        try:
            where = ("--dsn", stack.dsn_direct(user="app_user"), "--no-pooler", "--json")
            report = scalple("doctor", *where).json()
            own = scalple("doctor", "--dsn", stack.dsn_direct(), *where[2:]).json()
        finally:
            connection.execute("ALTER ROLE jmueller IN DATABASE app RESET pgaudit.log")
    found = {one["code"]: one for one in report["findings"]}
    assert "settings-hidden" in found
    assert found["overridden"]["fix"]["sql"] == [
        'ALTER ROLE "jmueller" IN DATABASE "app" RESET pgaudit.log;'
    ]
    assert found["rows-blind-spot"]["where"] == (
        "pgaudit.log_rows, in a file that this role may not see"
    )
    assert report["possible"] == "proven"
    assert password_of("app_user") not in str(report)
    # What holds for this very role is no ground to say that nothing is audited.
    assert "overridden" in {one["code"] for one in own["findings"]}


def test_applying_its_lines_to_bare_servers_makes_statements_proven(tmp_path: Path) -> None:
    with BareStack(StackOptions(users=50, eu_users=20)) as stack:
        code, before = examined(stack)
        assert code == 9
        assert set(grades(before).values()) == {"nothing"}
        wrong = [one for one in before["findings"] if one["severity"] in _ERRORS_AND_WARNINGS]
        assert {"pgaudit-not-loaded", "pgaudit-classes", "no-collector", "no-add-host"} <= {
            one["code"] for one in wrong
        }
        for one in wrong:
            assert one["fix"]["lines"], one
            apply(one["fix"])
        stack.stop()
        stack.start_postgres()
        stack.start_pooler()
        said = [one for one in before["findings"] if one["code"] == "extension-unknown"]
        with psycopg.connect(stack.dsn_superuser(), autocommit=True) as connection:
            for text in said[0]["fix"]["sql"]:
                connection.execute(text)
        with before_pooler(stack, tmp_path) as sidecar:
            for person in ("employee_id_2291", "employee_id_1044"):
                dsn = sidecar.dsn(stack, person)
                with psycopg.connect(dsn, autocommit=True) as connection:
                    for number in range(5):
                        connection.execute(
                            f"SELECT email FROM users WHERE id = {number} -- {person}"
                        )
        code, after = examined(stack)
        live = scalple(
            "doctor", "--dsn", stack.dsn_superuser(), "--pgbouncer-ini", stack.ini, "--json"
        )
    assert [one for one in after["findings"] if one["severity"] in _ERRORS_AND_WARNINGS] == []
    assert code == 0
    assert after["possible"] == "proven"
    assert grades(after) == {
        "with_sidecar": "proven",
        "without_sidecar": "confirmed",
        "unpooled": "proven",
    }
    assert (live.code, grades(live.json())) == (0, grades(after)), live.out
    assert abs(live.json()["clock"]["ahead_s"]) < 0.5
    store = tmp_path / "store"
    logs = sorted((stack.data / "log").glob("*.csv"))
    sources: list[str | Path] = ["--postgres-log", *logs, "--pgbouncer-log", stack.pgbouncer_log]
    sources += ["--identity-events", sidecar.events]
    assert scalple("reprocess", "--store", store, *sources).code == 0
    found = rows(store, "SELECT query, session_user_id, attribution_grade FROM audit")
    ours = [row for row in found if " -- employee_id_" in row["query"]]
    assert len(ours) == 10
    for row in ours:
        assert row["attribution_grade"] == "proven", row
        assert row["session_user_id"] == row["query"].rpartition(" -- ")[2]
