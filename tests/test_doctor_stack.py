"""`doctor` on servers as they come: its lines, put where it says, make `proven` possible, and it is."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scalple.correlate.reachable import ORDER
from tests.barestack import BareStack, apply
from tests.commandline import rows, scalple
from tests.sidecars import before_pooler
from tests.stack import HOST, Stack, StackOptions, password_of

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


_STDERR = "%m [%p] "
SETTINGS = {
    "all": StackOptions(),
    "no SET": StackOptions(pgaudit={"log": "read, write"}),
    "no add_host": StackOptions(application_name_add_host=False),
    "no add_host, no SET": StackOptions(
        application_name_add_host=False, pgaudit={"log": "read, write"}
    ),
    "stderr": StackOptions(
        log_destination="stderr", postgres_conf=(f"log_line_prefix = '{_STDERR}'",)
    ),
    "stderr, no connections": StackOptions(
        log_destination="stderr",
        postgres_conf=(f"log_line_prefix = '{_STDERR}'", "log_connections = off"),
    ),
    "terse": StackOptions(
        log_destination="stderr",
        postgres_conf=(
            "log_line_prefix = '%m [%p] %l %c %v %e %P %q%u@%d %r %a '",
            "log_error_verbosity = terse",
        ),
    ),
    "no connections": StackOptions(postgres_conf=("log_connections = off",)),
    "pooler says nothing": StackOptions(pgbouncer_conf=("log_connections = 0",)),
    "links": StackOptions(
        application_name_add_host=False, pgbouncer_conf=("verbose = 2",), auth="trust"
    ),
    "session": StackOptions(pool_mode="session"),
    "unix socket": StackOptions(),
}
GRADES = os.environ.get("DOCTOR_GRADES")


@pytest.mark.skipif(not GRADES, reason="make prove starts twelve pairs of servers")
@pytest.mark.parametrize("name", SETTINGS)
def test_the_grade_that_it_names_is_the_best_that_statements_get(tmp_path: Path, name: str) -> None:
    options = replace(SETTINGS[name], users=50, eu_users=20)
    config = tmp_path / "config.toml"
    mode = options.pool_mode
    config.write_text(
        f'[sources]\n[pooler]\nmode = "{mode}"\n[actors]\nroles = {{ jmueller = "jmueller", awagner = "awagner" }}\n'
    )
    with Stack(options) as stack:
        if name == "unix socket":
            stack.stop_pooler()
            written = stack._pgbouncer_ini().replace(
                f"host={HOST}", f"host={stack.socket_directory}"
            )
            stack._pgbouncer_ini = lambda: written  # type: ignore[method-assign]
            stack.start_pooler()
        with before_pooler(stack, tmp_path) as sidecar:
            for turn in range(3):
                ask(sidecar.dsn(stack, "anna"), "with_sidecar", turn)
                ask(
                    stack.dsn_pooler(user="jmueller", application_name="x"), "without_sidecar", turn
                )
                ask(stack.dsn_pooler(user="awagner", application_name="y"), "without_sidecar", turn)
                ask(stack.dsn_direct(user="kweber"), "nobody", turn)
                ask(stack.dsn_direct(user="jmueller", application_name="z"), "unpooled", turn)
        said = scalple(
            *("doctor", "--json", "--config", config),
            *("--postgres-conf", stack.data / "postgresql.conf"),
            *("--pgbouncer-ini", stack.root / "pgbouncer.ini"),
        )
    for one in said.json()["findings"]:
        if one["code"] == "prefix-unstated":
            apply(one["fix"])
    logs = stack.csvlog_paths() or stack.stderr_paths()
    sources: list[str | Path] = ["--postgres-log", *logs, "--pgbouncer-log", stack.pgbouncer_log]
    sources += ["--identity-events", sidecar.events, "--config", config]
    store = tmp_path / "store"
    assert scalple("reprocess", "--store", store, *sources).code == 0
    found = rows(store, "SELECT query, attribution_grade, attribution_reason FROM audit")
    best: dict[str, str] = {}
    for row in found:
        _, _, way = (row["query"] or "").partition(" -- way ")
        grade = row["attribution_grade"]
        if way in ("with_sidecar", "without_sidecar", "unpooled"):
            best[way] = max(best.get(way, "nothing"), grade, key=ORDER.index)
    print(f"\n{name}: {best}", file=sys.__stdout__)
    assert best == grades(said.json())


def ask(dsn: str, way: str, turn: int) -> None:
    """One client's statement, which says how it came."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"SELECT email FROM users WHERE id = {turn} -- way {way}")


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
    assert live.err == ""
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
