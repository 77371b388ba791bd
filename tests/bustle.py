"""Everything at once on real servers: all kinds of clients, all kinds of statements, and disturbance.

Enters: a pooling mode, how many statements, how many liars. Leaves: the logs of a PostgreSQL and of a
PgBouncer at `verbose=2`, and the events of a sidecar, which tags its clients, and of a relay, which only
announces them; some clients nobody announces. Does not: read or judge the logs.
"""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import psycopg

from tests.crowd import Crowd, Visit
from tests.errands import Liars, honest, signing
from tests.relay import Actor, Relay
from tests.sidecars import SidecarProcess, before_pooler
from tests.stack import Stack, StackOptions

Mode = Literal["transaction", "session", "statement"]


@dataclass(frozen=True)
class Logs:
    """What a run left."""

    stack: Stack
    """Stopped; its directory lives as long as it does."""
    events: list[Path]
    statements: int
    """So many were run."""


def everybody(
    stack: Stack, sidecar: SidecarProcess, relay: Relay, announced: int
) -> dict[str, str]:
    """Connection strings, by who is behind them; so many of each announced kind."""
    people = {}
    for n in range(announced):
        people[f"tagged_{n}"] = sidecar.dsn(stack, f"tagged_{n}")
        port = relay.listen(Actor(f"relayed_{n}"))
        people[f"relayed_{n}"] = stack.dsn_pooler(port=port, application_name="crm")
    people["silent_named"] = stack.dsn_pooler(application_name="reporting")
    people["silent_nameless"] = stack.dsn_pooler()
    people["silent_long"] = stack.dsn_pooler(application_name="L" * 130)
    people["signing"] = stack.dsn_pooler(application_name="dash")
    return people


def disturbance(stack: Stack, sidecar: SidecarProcess, statements: int) -> Callable[[Crowd], bool]:
    """What happens to the processes meanwhile, one thing after the other; whether all of it has."""

    def said(command: str) -> None:
        dsn = stack.dsn_pooler(dbname="pgbouncer", user="postgres")
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute(command.encode())

    def restart_sidecar() -> None:
        sidecar.kill()
        sidecar.start()

    def restart_pooler() -> None:
        stack.stop_pooler()
        stack.start_pooler()

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
        restart_sidecar,
        restart_pooler,
        partial(said, "RECONNECT"),
        kill_database,
    ]
    steps = list(enumerate(acts, start=1))

    def disturb(crowd: Crowd) -> bool:
        if steps and crowd.done > statements * steps[0][0] / (len(acts) + 1):
            steps.pop(0)[1]()
        return not steps

    return disturb


def play(
    directory: Path,
    mode: Mode,
    statements: int,
    *,
    announced: int = 6,
    liars: int = 0,
    disturbed: bool = True,
    follow: Callable[[Stack, list[Path]], AbstractContextManager[Callable[[], bool]]] | None = None,
    rate: float | None = None,
    seconds: float = 1800.0,
) -> Logs:
    """Run a crowd, with so many of each announced kind and so many liars.

    With `follow` somebody reads along, who is given the files of events, and is asked again and again whether
    enough has happened; until then the crowd goes on. It runs `rate` statements a second at most,
    and for `seconds` at most.
    """
    options = StackOptions(
        pool_mode=mode,
        pool_size=4 if mode != "session" else 40,
        pgbouncer_conf=("verbose = 2", "server_login_retry = 1"),
        users=200,
        eu_users=50,
    )

    blocks = mode != "statement"
    hostile = Liars(blocks=blocks)

    def visits(name: str) -> Visit:
        if name.startswith("mallory"):
            return hostile.lie
        return partial(signing if name == "signing" else honest, blocks=blocks)

    with (
        Stack(options) as stack,
        before_pooler(stack, directory) as sidecar,
        Relay(stack.pooler_port, directory / "relay.jsonl") as relay,
    ):
        people = everybody(stack, sidecar, relay, announced)
        for n in range(liars):
            name = f"mallory_{n}"
            ways = (sidecar.dsn(stack, name), stack.dsn_pooler(application_name="crm"))
            people[name] = ways[n % 2]
        crowd = Crowd(statements, seconds=seconds, visits=visits, rate=rate)
        disturb = disturbance(stack, sidecar, statements) if disturbed else None
        events = [sidecar.events, directory / "relay.jsonl"]
        with ExitStack() as following:
            watch = following.enter_context(follow(stack, events)) if follow else None

            def meanwhile(crowd: Crowd) -> None:
                happened = disturb is None or disturb(crowd)
                told = not (liars and hostile.untold)
                seen = watch is None or watch()
                # Nobody stops before everything has happened.
                crowd.statements = statements if happened and told and seen else sys.maxsize

            crowd.run(people, meanwhile)
    assert crowd.done >= crowd.statements, "not everything happened in time"
    return Logs(stack, events, crowd.done)
