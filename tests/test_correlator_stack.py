"""Everything at once on real servers: all kinds of clients, all kinds of statements, and disturbance.

Enters: a PostgreSQL and a PgBouncer that logs at `verbose=2`, a sidecar, a relay that announces without
tags, clients that nobody announces. Leaves: nothing. Honest clients: no wrong name at any grade that
names one; hostile clients: none at `proven`, and every forged line marked. `make prove` runs 200,000
statements of each.
"""

import os
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest

from scalple.correlate.rules import Pooler, Rules
from tests.attribute_logs import Attributed, attribute_files
from tests.crowd import Crowd
from tests.errands import honest, hostile, signing
from tests.relay import Actor, Relay
from tests.sidecars import SidecarProcess, before_pooler
from tests.stack import Stack, StackOptions

pytestmark = pytest.mark.stack

STATEMENTS = int(os.environ.get("STACK_STATEMENTS", "4000"))
"""Of each kind of clients, over all modes."""
Mode = Literal["transaction", "session", "statement"]
SHARE: dict[Mode, float] = {"transaction": 0.6, "session": 0.2, "statement": 0.2}
PER_KIND = 6


def everybody(stack: Stack, sidecar: SidecarProcess, relay: Relay) -> dict[str, str]:
    """Connection strings, by who is behind them."""
    people = {}
    for n in range(PER_KIND):
        people[f"tagged_{n}"] = sidecar.dsn(stack, f"tagged_{n}")
        port = relay.listen(Actor(f"relayed_{n}"))
        people[f"relayed_{n}"] = stack.dsn_pooler(port=port, application_name="crm")
    people["silent_named"] = stack.dsn_pooler(application_name="reporting")
    people["silent_nameless"] = stack.dsn_pooler()
    people["silent_long"] = stack.dsn_pooler(application_name="L" * 130)
    people["signing"] = stack.dsn_pooler(application_name="dash")
    return people


def disturbance(stack: Stack, sidecar: SidecarProcess, statements: int) -> Callable[[Crowd], None]:
    """What happens to the processes meanwhile, one thing after the other."""

    def said(command: str) -> None:
        dsn = stack.dsn_pooler(dbname="pgbouncer", user="postgres")
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute(command.encode())

    def kill_database() -> None:
        # After KILL, PgBouncer 1.18 may crash by itself, or run in circles; psql can be told to give up.
        dsn = stack.dsn_pooler(dbname="pgbouncer", user="postgres")
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                ["psql", "-X", "-c", "KILL app", dsn], timeout=2, capture_output=True, check=False
            )
        stack.crash_pooler()
        stack.start_pooler()

    acts: list[Callable[[], object]] = [
        partial(said, "RELOAD"),
        partial(said, "RECONNECT"),
        lambda: (sidecar.kill(), sidecar.start()),
        lambda: (stack.stop_pooler(), stack.start_pooler()),
        partial(said, "RECONNECT"),
        kill_database,
    ]
    steps = list(enumerate(acts, start=1))

    def meanwhile(crowd: Crowd) -> None:
        if steps and crowd.done > statements * steps[0][0] / (len(acts) + 1):
            steps.pop(0)[1]()
        # Nobody stops before everything has happened.
        crowd.statements = max(statements, crowd.done + 1) if steps else statements

    return meanwhile


def play(tmp_path: Path, mode: Mode, liars: int) -> tuple[Attributed, Crowd]:
    """A crowd in which so many lie."""
    statements = int(STATEMENTS * SHARE[mode])
    options = StackOptions(
        pool_mode=mode,
        pool_size=4 if mode != "session" else 40,
        pgbouncer_conf=("verbose = 2", "server_login_retry = 1"),
        users=200,
        eu_users=50,
    )
    blocks = mode != "statement"

    def visits(name: str) -> Any:
        kinds = {"mallory": hostile, "signing": signing}
        return partial(kinds.get(name.partition("_")[0], honest), blocks=blocks)

    with (
        Stack(options) as stack,
        before_pooler(stack, tmp_path) as sidecar,
        Relay(stack.pooler_port, tmp_path / "relay.jsonl") as relay,
    ):
        people = everybody(stack, sidecar, relay)
        for n in range(liars):
            name = f"mallory_{n}"
            through = (sidecar.dsn(stack, name), stack.dsn_pooler(application_name="crm"))
            people[name] = through[n % 2]
        crowd = Crowd(statements, seconds=1800.0, visits=visits)
        crowd.run(people, disturbance(stack, sidecar, statements))
    events = [sidecar.events, tmp_path / "relay.jsonl"]
    rules = Rules(pooler=Pooler(mode=mode))
    done = attribute_files(stack.csvlog_paths(), [stack.pgbouncer_log], events, rules)
    assert crowd.done >= statements
    return done, crowd


def told(done: Attributed) -> Counter[tuple[object, ...]]:
    """Who was named how."""
    return Counter(
        (str(row["truth"]).partition("_")[0], row["attribution_grade"], row["attribution_method"])
        for row in done.dicts()
        if row["truth"] is not None
    )


@pytest.mark.parametrize("mode", SHARE)
def test_honest_clients_of_all_kinds_are_never_taken_for_others(tmp_path: Path, mode: Mode) -> None:
    done, crowd = play(tmp_path, mode, 0)
    assert done.wrong(["proven", "confirmed", "claimed"]) == [], told(done)
    rows = [row for row in done.dicts() if row["truth"] is not None]
    assert len(rows) >= 0.9 * crowd.done
    for kind in ("tagged", "relayed"):
        own = [row for row in rows if str(row["truth"]).startswith(kind)]
        top = [row for row in own if row["attribution_grade"] in ("proven", "confirmed")]
        assert len(top) > 0.5 * len(own), told(done)


@pytest.mark.parametrize("mode", SHARE)
def test_hostile_clients_of_all_kinds_are_never_proven_to_be_others(
    tmp_path: Path, mode: Mode
) -> None:
    done, _ = play(tmp_path, mode, 4)
    assert done.wrong(["proven"]) == [], told(done)
    forged = [row for row in done.dicts() if row["truth"] == "nobody"]
    assert len(forged) > 5
    assert {row["session_user_id"] for row in forged} == {None}
    assert all("forged-line" in (row["findings"] or ()) for row in forged)  # type: ignore[operator]
