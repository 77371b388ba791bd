"""The sidecar before a real PgBouncer and PostgreSQL: who is named, and that nobody is named wrongly.

Enters: stacks in transaction pooling with PgBouncer's own defaults, sidecars as processes of their own,
crowds, application pools and hostile clients. Leaves: nothing. How single drivers fare is in
test_drivers.py; how the process behaves in test_sidecar_process.py.
"""

import contextlib
import os
import queue
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.attribute_logs import Attributed, attribute_files
from tests.crowd import Crowd, visit
from tests.rawclient import RawClient
from tests.sidecars import SidecarProcess, before_pooler
from tests.stack import HOST, SHARED_ROLE, Stack, StackOptions
from tests.wire_model import extended, message, simple

pytestmark = pytest.mark.stack

STATEMENTS = int(os.environ.get("SIDECAR_STATEMENTS", "9000"))
"""How many statements the crowd runs; `make prove` asks for more than 100,000."""
PEOPLE = 200
OPTIONS = StackOptions(application_name_add_host=False, pool_size=8)


def attributed(stack: Stack, *sidecars: SidecarProcess) -> Attributed:
    """Everything that was logged, attributed."""
    return attribute_files(
        stack.csvlog_paths(), [stack.pgbouncer_log], [one.events for one in sidecars]
    )


def marked(done: Attributed) -> list[dict[str, object]]:
    """The rows whose author is known."""
    return [row for row in done.dicts() if row["truth"] is not None]


def share(rows: list[dict[str, object]], grade: str) -> float:
    """Part of the rows of that grade."""
    return sum(row["attribution_grade"] == grade for row in rows) / len(rows)


def why(rows: list[dict[str, object]]) -> Counter[tuple[object, ...]]:
    """How many rows there are of each kind."""
    names = ("attribution_grade", "attribution_method", "attribution_reason")
    return Counter(tuple(row[name] for name in names) for row in rows)


def found(rows: list[dict[str, object]], finding: str) -> list[dict[str, object]]:
    """The rows with that finding."""
    return [row for row in rows if finding in (row["findings"] or ())]  # type: ignore[operator]


# -- a crowd ------------------------------------------------------------------------------------


def test_a_crowd_on_one_role_is_proven_through_restarts(tmp_path: Path) -> None:
    with Stack(OPTIONS) as stack, before_pooler(stack, tmp_path) as sidecar:
        acts: list[list[Callable[[], object]]] = [
            [sidecar.stop, sidecar.start],
            [sidecar.kill, sidecar.start],
            [stack.stop_pooler, stack.start_pooler],
            [sidecar.kill, stack.stop_pooler, stack.start_pooler, sidecar.start],
        ]
        following = list(enumerate(acts, start=1))

        def meanwhile(crowd: Crowd) -> None:
            if following and crowd.done > STATEMENTS * following[0][0] / (len(acts) + 1):
                for act in following.pop(0)[1]:
                    act()

        crowd = Crowd(STATEMENTS)
        people = [f"employee_{n}" for n in range(PEOPLE)]
        crowd.run({name: sidecar.dsn(stack, name) for name in people}, meanwhile)
        assert not following
    assert crowd.done >= STATEMENTS
    done = attributed(stack, sidecar)
    rows = marked(done)
    assert len(rows) >= crowd.done - 10 * PEOPLE  # what the restarts cut off may not be logged
    assert done.wrong() == []
    assert share(rows, "proven") >= 0.999, why(rows)
    # The numbering has no hole, though two of the four ends were without a word.
    numbers = [event["seq"] for event in sidecar.said()]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("add_host", [False, True])
def test_clients_round_the_sidecar_cost_the_proof_and_name_nobody_wrongly(
    tmp_path: Path, add_host: bool
) -> None:
    options = StackOptions(application_name_add_host=add_host, pool_size=5)
    with Stack(options) as stack, before_pooler(stack, tmp_path) as sidecar:
        dsns = {f"employee_{n}": sidecar.dsn(stack, f"employee_{n}") for n in range(20)}
        dsns["bypass_named"] = stack.dsn_pooler(application_name="reporting")
        dsns["bypass_nameless"] = stack.dsn_pooler()
        dsns["bypass_long"] = stack.dsn_pooler(application_name="L" * 130)
        Crowd(6000).run(dsns)
    done = attributed(stack, sidecar)
    rows = marked(done)
    assert done.wrong() == []
    # At the edges the bypassing clients may not be there: those rows may be proven.
    assert share(rows, "proven") < 0.1, why(rows)
    assert share(rows, "confirmed") > 0.3, why(rows)
    others = [row for row in rows if str(row["truth"]).startswith("bypass")]
    assert {row["session_user_id"] for row in others} == {None}
    assert len(found(rows, "unannounced-client")) > 0.9 * len(rows)


# -- an application's own pool ------------------------------------------------------------------


def serve_everybody(dsn: str, connections: int, users: int, requests: int) -> None:
    """An application: a pool of connections, and for each request a user who is told by a variable."""
    pool: queue.Queue[psycopg.Connection[tuple[object, ...]]] = queue.Queue()
    for _ in range(connections):
        pool.put(psycopg.connect(dsn, prepare_threshold=None))

    def request(number: int) -> None:
        dice = random.Random(number)
        user = f"user_{dice.randint(1, users)}"
        connection = pool.get()
        try:
            _request(connection, user, dice)
        finally:
            connection.rollback()
            connection.autocommit = True
            connection.execute("select set_config('app.current_user', '', false)")
            connection.autocommit = False
            pool.put(connection)

    with ThreadPoolExecutor(connections) as threads:
        list(threads.map(request, range(requests)))
    while not pool.empty():
        pool.get().close()


def _request(
    connection: psycopg.Connection[tuple[object, ...]], user: str, dice: random.Random
) -> None:
    kind = dice.choice(("set", "local", "config", "bound", "rollback", "error", "savepoint"))
    connection.autocommit = kind in ("set", "config")
    if kind == "set":
        connection.execute(f"""SET app."current_user" = '{user}'""".encode())
    elif kind == "config":
        connection.execute(f"select set_config('app.current_user', '{user}', false)".encode())
    elif kind == "local":
        connection.execute(f"""/* who */ SET LOCAL "app"."current_user" TO '{user}';""".encode())
    else:
        local = kind == "bound"
        connection.execute("select set_config('app.current_user', %s, %s)", [user, local])
    for _ in range(dice.randint(1, 3)):
        text = "SELECT name FROM users WHERE id = {} " + f"/* truth:{user} */"
        if dice.random() < 0.5:
            connection.execute(text.format(7).encode())
        else:
            connection.execute(text.format("%s").encode(), [dice.randint(1, 50)])
    if kind == "error":
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")
    if kind == "savepoint":
        connection.execute("SAVEPOINT here")
        connection.execute("select set_config('app.current_user', 'someone_else', true)")
        connection.execute("SELECT name FROM users WHERE id = 8 /* truth:someone_else */")
        connection.execute("ROLLBACK TO here")
        connection.execute(f"SELECT name FROM users WHERE id = 9 /* truth:{user} */".encode())
    if not connection.autocommit:
        (connection.commit if kind in ("local", "bound") else connection.rollback)()
        connection.execute("SELECT name FROM users WHERE id = 7 /* truth:svc_web */")


def test_an_application_pool_that_serves_500_people_names_each(tmp_path: Path) -> None:
    with Stack(OPTIONS) as stack, before_pooler(stack, tmp_path) as sidecar:
        serve_everybody(sidecar.dsn(stack, "svc_web"), 20, 500, 900)
    done = attributed(stack, sidecar)
    rows = marked(done)
    assert done.wrong() == []
    assert len({row["truth"] for row in rows}) > 300
    # What follows a ROLLBACK TO is nobody's: which settings it took back can't be told.
    told = [row for row in rows if "id = 9" not in str(row["statement"])]
    assert share(told, "proven") == 1.0, why(told)
    assert {row["session_user_id"] for row in rows if row not in told} <= {None}


def test_without_the_sidecar_the_same_pool_leaks_and_the_leak_is_found(tmp_path: Path) -> None:
    options = StackOptions(pool_size=5)
    with Stack(options) as stack:
        serve_everybody(stack.dsn_pooler(application_name="web"), 20, 500, 300)
    done = attributed(stack)
    rows = marked(done)
    assert {row["attribution_grade"] for row in rows} <= {"unattributed", "candidates", "claimed"}
    # A setting speaks for its own transaction, or for the same client.
    assert done.wrong(["claimed"]) == []
    assert len(found(rows, "stale-identity")) > 20


# -- hostile clients ----------------------------------------------------------------------------

PREPARE = """
CREATE FUNCTION take(name text) RETURNS text LANGUAGE sql AS
  $$ SELECT set_config('application_name', name, false) $$;
CREATE PROCEDURE take_and_commit(name text) LANGUAGE plpgsql AS $$
BEGIN PERFORM set_config('application_name', name, false); COMMIT; END $$;
GRANT EXECUTE ON FUNCTION take(text) TO staff;
"""


def attacks(victim: str, mark: str) -> Iterator[list[bytes]]:
    """What hostile clients send, each a list of messages sent at once; `victim` is a live name."""
    read = f"SELECT iban FROM users WHERE id = 3 {mark}"
    form = f"SET application_name='{victim}';"
    spaced = f"SET application_name = '{victim}'"
    yield [simple(form), simple(read)]
    yield [simple(spaced), simple(read), simple(read)]
    yield [simple(f"SELECT take('{victim}')"), simple(read)]
    yield [simple(f"CALL take_and_commit('{victim}')"), simple(read)]
    yield [simple(f"{form}{read}")]
    yield [simple(f"BEGIN;{form}COMMIT;BEGIN;{read};COMMIT")]
    yield [simple("BEGIN"), simple(form), simple("COMMIT"), simple(read)]
    yield [extended(form, read), extended(read)]
    yield [extended("BEGIN", form, "COMMIT", "BEGIN", read, "COMMIT"), extended(read)]
    yield [extended(form, sync=False), message("S"), extended(read), message("S"), simple(read)]
    # Back to the own name before anything is reported.
    yield [extended("BEGIN", form, "COMMIT", "BEGIN", read, "COMMIT", "RESET application_name")]
    yield [simple(f"DO $$ BEGIN EXECUTE $x${spaced}$x$; END $$"), simple(read)]
    yield [simple("RESET ALL"), simple(read)]
    yield [simple("DISCARD ALL"), simple(read)]
    yield [simple("SET application_name=''"), extended(read, read)]
    yield [simple("SET SESSION AUTHORIZATION DEFAULT"), simple(read)]
    yield [simple(f"/* */ {form}"), message("d", b"stray"), simple(read)]
    yield [extended(form, name="s1"), extended(read), message("d", b"x" * 9), extended(read)]
    # What was prepared under this name may be another's; names are cut to 63 bytes.
    yield [message("P", b"held\0" + form.encode() + b"\0\0\0") + message("S")]
    again = message("B", b"\0held\0" + b"\0" * 6) + message("E", b"\0" + b"\0" * 4)
    yield [extended("BEGIN", sync=False) + again + extended("COMMIT", "BEGIN", read, "COMMIT")]
    long = "n" * 63
    yield [
        message("P", f"{long}A\0{form}\0".encode() + b"\0\0")
        + extended("BEGIN", sync=False)
        + message("B", f"\0{long}B\0".encode() + b"\0" * 6)
        + message("E", b"\0" + b"\0" * 4)
        + extended("COMMIT", "BEGIN", read, "COMMIT")
    ]
    # The client is thrown out, and the server goes on with what it has.
    late = f"DO $$ BEGIN PERFORM pg_sleep(0.3); COMMIT; {form} COMMIT; PERFORM iban FROM users {mark}; END $$"
    yield [simple(late), message("p", b"stray")]


@pytest.mark.parametrize("audit", ["all", "read,write,misc_set"])
def test_hostile_clients_are_never_taken_for_others(tmp_path: Path, audit: str) -> None:
    options = StackOptions(
        application_name_add_host=False,
        pool_size=2,
        auth="trust",
        pgaudit={"log": audit, "log_rows": "off"},
    )
    with Stack(options) as stack, before_pooler(stack, tmp_path) as sidecar:
        with psycopg.connect(stack.dsn_superuser(), autocommit=True) as admin:
            admin.execute(PREPARE.encode())
        stop = threading.Event()

        def victim(name: str) -> None:
            dice = random.Random(name)
            with psycopg.connect(sidecar.dsn(stack, name), autocommit=True) as connection:
                connection.prepare_threshold = None
                while not stop.is_set():
                    visit(connection, name, dice)

        with ThreadPoolExecutor(3) as threads:
            running = [threads.submit(victim, f"victim_{n}") for n in range(3)]
            while len(sidecar.said("open")) < len(running):
                time.sleep(0.01)
            try:
                for round_ in range(3):
                    _attack(stack, sidecar, round_)
            finally:
                stop.set()
            for one in running:
                one.result()
    done = attributed(stack, sidecar)
    assert done.wrong(["proven"]) == []
    assert len([row for row in marked(done) if row["truth"] == "mallory"]) > 100
    reasons = Counter(event.get("reason") for event in sidecar.said("drift"))
    assert reasons["replay-form"] >= 10
    assert reasons["changed"] >= 10
    victims = [row for row in marked(done) if row["truth"] != "mallory"]
    # A thief who is thrown out in the middle costs the sessions that were there their proof.
    assert share(victims, "proven") > 0.15, why(victims)


def _attack(stack: Stack, sidecar: SidecarProcess, round_: int) -> None:
    live = [
        event["tag"] for event in sidecar.said("open") if str(event["actor"]).startswith("victim")
    ]
    mark = "/* truth:mallory */"
    for number, messages in enumerate(attacks(f"{live[round_ % len(live)]} app", mark)):
        parameters = {
            "user": SHARED_ROLE,
            "database": stack.options.database,
            "application_name": "app",
            "scalple.user": "mallory",
        }
        with RawClient(sidecar.port, parameters) as client:
            whole = b"".join(messages)
            ends = sum(kind == "Z" for kind in _ends(messages))
            if number % 2:
                client.send(whole)
            else:
                for piece in _cut(whole, 11):
                    client.send(piece)
            # Some are thrown out, or leave the count of answers in disorder: that is theirs.
            with contextlib.suppress(ConnectionError, EOFError, TimeoutError):
                client.until_ready(ends)
                client.run(f"SELECT iban FROM users WHERE id = 4 {mark}")


def _ends(messages: list[bytes]) -> list[str]:
    """A `Z` for every message that is answered by ReadyForQuery."""
    found_ends = []
    for data in messages:
        at = 0
        while at < len(data):
            if data[at : at + 1] in (b"Q", b"S"):
                found_ends.append("Z")
            at += 1 + int.from_bytes(data[at + 1 : at + 5])
    return found_ends


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_a_name_taken_by_a_client_round_the_sidecar_is_at_most_confirmed(tmp_path: Path) -> None:
    options = StackOptions(application_name_add_host=False, pool_size=2, auth="trust")
    dice = random.Random(1)
    with (
        Stack(options) as stack,
        before_pooler(stack, tmp_path) as sidecar,
        psycopg.connect(sidecar.dsn(stack, "victim"), autocommit=True) as honest,
    ):
        honest.prepare_threshold = None
        visit(honest, "victim", dice)
        (name,) = honest.execute("SELECT current_setting('application_name')").fetchone() or ()
        forger = stack.dsn_pooler(application_name=str(name))
        with psycopg.connect(forger, autocommit=True, prepare_threshold=None) as forged:
            for _ in range(50):
                visit(forged, "forger", dice)
                visit(honest, "victim", dice)
    done = attributed(stack, sidecar)
    assert done.wrong(["proven"]) == []
    forged_rows = [row for row in marked(done) if row["truth"] == "forger"]
    assert found(forged_rows, "unannounced-client")


# -- other ways to the pooler -------------------------------------------------------------------


def test_unix_sockets_on_both_sides_are_proven(tmp_path: Path) -> None:
    listen = str(tmp_path / ".s.PGSQL.6433")
    with Stack(OPTIONS) as stack:
        upstream = f"{stack.socket_directory}/.s.PGSQL.{stack.pooler_port}"
        with SidecarProcess(tmp_path, upstream, {"listen": listen}) as sidecar:
            places: dict[str, Any] = {"host": str(tmp_path), "port": 6433}
            dsns = {
                f"employee_{n}": sidecar.dsn(stack, f"employee_{n}", **places) for n in range(9)
            }
            Crowd(1500).run(dsns)
    done = attributed(stack, sidecar)
    assert done.wrong() == []
    assert share(marked(done), "proven") == 1.0, why(marked(done))
    (event,) = [one for one in sidecar.said("open") if one["seq"] == 1]
    assert event["client_addr"].startswith("unix(")
    assert event["peer_addr"].startswith("unix(")


def test_before_postgresql_itself_the_endpoint_proves(tmp_path: Path) -> None:
    with (
        Stack(StackOptions(pooler=False)) as stack,
        SidecarProcess(tmp_path, f"{HOST}:{stack.postgres_port}") as sidecar,
    ):
        Crowd(600).run({f"employee_{n}": sidecar.dsn(stack, f"employee_{n}") for n in range(5)})
        serve_everybody(sidecar.dsn(stack, "svc_web"), 3, 50, 60)
    from scalple.correlate.rules import Pooler, Rules

    rules = Rules(pooler=Pooler("none"))
    done = attribute_files(stack.csvlog_paths(), [], [sidecar.events], rules)
    rows = [row for row in marked(done) if "id = 9" not in str(row["statement"])]
    assert done.wrong() == []
    assert share(rows, "proven") > 0.99, why(rows)


def test_the_pooler_s_restart_is_an_error_that_names_it(tmp_path: Path) -> None:
    with Stack(OPTIONS) as stack, before_pooler(stack, tmp_path) as sidecar:
        stack.stop_pooler()
        with pytest.raises(psycopg.OperationalError, match="can't reach"):
            psycopg.connect(sidecar.dsn(stack, "anna"))
        stack.start_pooler()
        psycopg.connect(sidecar.dsn(stack, "anna")).close()
        with socket.create_connection((HOST, sidecar.port)):
            pass  # comes and goes without a word
        assert sidecar.ready()


def test_a_hostile_client_that_leaves_at_once_is_taken_for_nobody(tmp_path: Path) -> None:
    options = StackOptions(
        application_name_add_host=False,
        pool_size=1,
        auth="trust",
        pgaudit={"log": "read,write,misc_set", "log_rows": "off"},
    )
    with Stack(options) as stack, before_pooler(stack, tmp_path) as sidecar:  # noqa: SIM117
        with psycopg.connect(sidecar.dsn(stack, "victim"), autocommit=True) as honest:
            honest.prepare_threshold = None
            visit(honest, "victim", random.Random(1))
            (name,) = honest.execute("SELECT current_setting('application_name')").fetchone() or ()
            form = f"SET application_name='{name}';"
            read = "SELECT iban FROM users WHERE id = 3 /* truth:mallory */"
            steps = ["BEGIN", "SELECT pg_sleep(0.4)", "COMMIT", "BEGIN", form, "COMMIT"]
            client = RawClient(sidecar.port, hostile(stack))
            client.send(extended(*steps, "BEGIN", read, "COMMIT"))
            time.sleep(0.1)
            client.socket.close()
            time.sleep(1)
            # And one that is done by code that commits.
            block = f"BEGIN EXECUTE {form!r}; COMMIT; EXECUTE {read!r}; END"
            with RawClient(sidecar.port, hostile(stack)) as client:
                client.run("DO $$ " + block.replace('"', "$q$") + " $$")
    done = attributed(stack, sidecar)
    assert len([row for row in marked(done) if row["truth"] == "mallory"]) >= 1
    assert done.wrong(["proven"]) == []


def hostile(stack: Stack) -> dict[str, str]:
    """Startup parameters of somebody who is up to no good."""
    return {
        "user": SHARED_ROLE,
        "database": stack.options.database,
        "application_name": "app",
        "scalple.user": "mallory",
    }


def test_a_client_that_leaves_while_its_statement_runs_is_nobody_else(tmp_path: Path) -> None:
    options = StackOptions(application_name_add_host=False, pool_size=1, auth="trust")
    with (
        Stack(options) as stack,
        before_pooler(stack, tmp_path) as sidecar,
        psycopg.connect(sidecar.dsn(stack, "victim"), autocommit=True) as honest,
    ):
        honest.prepare_threshold = None
        visit(honest, "victim", random.Random(1))
        who = {"user": SHARED_ROLE, "database": stack.options.database}
        client = RawClient(stack.pooler_port, who)
        client.send(simple("SELECT count(*) FROM users, pg_sleep(0.4) /* truth:nameless */"))
        time.sleep(0.1)
        client.socket.close()
        time.sleep(1)
        visit(honest, "victim", random.Random(2))
    done = attributed(stack, sidecar)
    assert [row for row in marked(done) if row["truth"] == "nameless"]
    assert done.wrong() == []


def test_a_session_that_no_pooler_tells_of_proves_nothing(tmp_path: Path) -> None:
    options = StackOptions(application_name_add_host=False, pool_size=1, auth="trust")
    with Stack(options) as stack:
        direct = psycopg.connect(stack.dsn_direct(user=SHARED_ROLE), autocommit=True)
        direct.prepare_threshold = None
        stack.stop_pooler()
        stack.pgbouncer_log.unlink()
        stack.start_pooler()
        with (
            before_pooler(stack, tmp_path) as sidecar,
            psycopg.connect(sidecar.dsn(stack, "victim"), autocommit=True) as honest,
        ):
            honest.prepare_threshold = None
            visit(honest, "victim", random.Random(1))
            text = "SELECT current_setting('application_name')"
            (name,) = honest.execute(text).fetchone() or ()
            direct.execute(f"SET application_name='{name}';".encode())
            direct.execute(b"SELECT iban FROM users WHERE id = 3 /* truth:mallory */")
        direct.close()
    done = attributed(stack, sidecar)
    assert done.wrong(["proven"]) == []
    assert share([row for row in marked(done) if row["truth"] == "victim"], "proven") == 1.0
