"""The simulated stack writes what the real one writes: the same scene on both, line by line.

Enters: scenes, played on a real PostgreSQL and PgBouncer and in the simulation. Leaves: nothing. Compared
is all that attribution reads of both logs; sessions, sockets and ports are numbered in the order in which
they appear.
"""

import contextlib
import csv
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.attribute_logs import read_evidence
from tests.simulation import Client, Setting, World
from tests.stack import SHARED_ROLE, Stack, StackOptions

pytestmark = pytest.mark.stack

TURNS = """
anna comes; anna read; bert comes; bert read; anna read; anna read; bert read; anna goes
bert read; bert goes
"""
BLOCKS = """
anna comes; anna read; bert comes; anna begin read read commit; bert fail; bert begin read rollback
anna fail; anna read; bert goes; anna begin read commit; anna goes
"""
CASES = [("transaction", TURNS), ("transaction", BLOCKS), ("statement", TURNS), ("session", TURNS)]
TEXTS = {"fail": "SELECT 1 / (random() * 0)::int", "read": "SELECT 1"}


def acts(scene: str) -> list[tuple[str, list[str]]]:
    """Who does what."""
    words = [one.split() for one in re.split(r"[;\n]", scene) if one.strip()]
    return [(who, what) for who, *what in words]


@pytest.mark.parametrize(("verbose", "add_host"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize(("mode", "scene"), CASES)
def test_the_same_scene_gives_the_same_lines(
    tmp_path: Path, mode: Any, scene: str, verbose: bool, add_host: bool
) -> None:
    options = StackOptions(
        pool_mode=mode,
        pool_size=2 if mode == "session" else 1,
        application_name_add_host=add_host,
        pgaudit={"log_rows": "off"},
        pgbouncer_conf=("verbose = 2",) if verbose else (),
        users=10,
        eu_users=5,
    )
    with Stack(options) as stack:
        on_servers(stack, scene)
    setting = Setting(
        mode=mode, add_host=add_host, verbose=verbose, clients=2, backends=options.pool_size
    )
    server, pooler, _ = in_simulation(setting, scene).write(tmp_path)
    assert said_by_server(server) == said_by_server(stack.csvlog_paths()[0])
    assert said_by_pooler(pooler) == said_by_pooler(stack.pgbouncer_log)


def on_servers(stack: Stack, scene: str) -> None:
    """Play it with real clients."""
    there: dict[str, psycopg.Connection[tuple[object, ...]]] = {}
    for who, what in acts(scene):
        if what == ["comes"]:
            there[who] = psycopg.connect(
                stack.dsn_pooler(application_name=who), autocommit=True, prepare_threshold=None
            )
        elif what == ["goes"]:
            there.pop(who).close()
        for one in what if what[0] not in ("comes", "goes") else ():
            text = f"{TEXTS.get(one, one.upper())} /* truth:{who} */"
            with contextlib.suppress(psycopg.errors.DivisionByZero):
                there[who].execute(text.encode())
        time.sleep(0.05)  # the pooler hears one after the other


def in_simulation(setting: Setting, scene: str) -> World:
    """Play it there."""
    world = World(setting, 1)
    world.up()
    there: dict[str, Client] = {}
    for who, what in acts(scene):
        if what == ["comes"]:
            one = there[who] = world.join("silent")
            one.author = who
            one.name = who + one.name[one.name.index(" - ") :] if setting.add_host else who
        elif what == ["goes"]:
            world.leave(there.pop(who))
        else:
            one = there[who]
            assert world.begin(one, what)
            while one.plan:
                world.run(one, one.plan.pop(0))
            world.end(one)
    return world


def numbered() -> Callable[[str, object], str]:
    """Names things by kind, in the order in which they appear."""
    known: dict[tuple[str, object], str] = {}

    def name(kind: str, what: object) -> str:
        count = sum(one == kind for one, _ in known) + 1
        return known.setdefault((kind, what), f"{kind} {count}")

    return name


def said_by_server(csvlog: Path) -> list[tuple[object, ...]]:
    """The records of pooled sessions: session, transaction, what, name."""
    name = numbered()
    first: dict[str, int] = {}
    found: list[tuple[object, ...]] = []
    with csvlog.open(newline="") as file:
        for row in csv.reader(file):
            message = row[13]
            if (
                row[1] != SHARED_ROLE
                or row[2] != StackOptions().database
                or "authenticated:" in message
            ):
                continue
            if message.startswith(("disconnection", "terminating")):
                continue  # what is still there when the servers stop
            number = int(row[9].partition("/")[2])
            number -= first.setdefault(row[5], number)
            called = re.sub(r"\d+$", lambda port: name("port", port[0]), row[22])
            text = re.sub(
                r"(127\.0\.0\.1:)(\d+)", lambda port: port[1] + name("port", port[2]), message
            )
            text = re.sub(r"SELECT \d ", "SELECT n ", text).split(" application_name=")[0]
            found.append((name("session", row[5]), number, row[11], text, called))
    return found


def said_by_pooler(log: Path) -> list[tuple[object, ...]]:
    """What the pooler's log tells of clients and server connections, in order."""
    name = numbered()
    events, rejects = read_evidence([log], [])
    assert rejects == []
    rows = events.to_pylist()
    console = {row["client_port"] for row in rows if row["database"] == "pgbouncer"}
    found: list[tuple[object, ...]] = []
    for row in rows:
        if row["event"] in ("process-up", "process-down", "alive", "server-close"):
            continue
        if row["event"] == "pairing-begins":
            continue  # where reading begins
        if row["client_port"] in console:
            continue
        detail = row["detail"] or ""
        detail = re.sub(r"0x[0-9a-f]+", lambda one: name("socket", one[0]), detail)
        detail = re.sub(
            r"(127\.0\.0\.1:)(\d+)", lambda port: port[1] + name("port", port[2]), detail
        )
        found.append(
            (
                row["event"],
                name("socket", row["connection"]),
                name("port", str(row["client_port"])) if row["client_port"] else None,
                row["database"],
                row["db_role"],
                detail,
            )
        )
    return found
