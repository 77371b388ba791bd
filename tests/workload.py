"""Drives many clients through a stack and writes down who did what.

Enters: a running stack, a path for the identity events, a seed and a size.
Leaves: the servers' logs of it, identity events of every client that has an identity, and the truth:
one entry per message sent, with author, text, bind values and the persons named.
Does not: read a log. The mark `/* truth:... */` at the end of a text is for tests; nothing that
attributes may read it.

The set of statements is determined by the options; their interleaving, ports and times are not.
"""

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psycopg

from tests.relay import Actor, Relay
from tests.stack import SHARED_ROLE, Stack
from tests.statements import (
    EU_CUSTOMERS,
    HOT_CUSTOMERS,
    JOB,
    PEOPLE,
    SERVICE,
    USERS_ID,
    Customer,
    Desk,
    Recipe,
    Step,
    Unit,
    Value,
    announced,
    named,
    units,
)

MULLER = Actor("employee_id_2291", "j.muller@company.com")
HELPDESK = Actor("employee_id_4502", "s.jensen@company.com")

PEOPLE_ACTORS = (
    MULLER,
    Actor("employee_id_1044", "k.weber@company.com"),
    Actor("employee_id_3310", "a.rossi@company.com", authn="mtls"),
    Actor("employee_id_0877", "m.dubois@company.com"),
    HELPDESK,
    Actor("employee_id_1960", "p.nowak@company.com", authn="peercred"),
    Actor("employee_id_2718", "l.garcia@company.com"),
    Actor("employee_id_5120", "t.okafor@company.com", authn="asserted"),
)
INVOICING = Actor("svc_invoicing", kind="service", authn="mtls")
AGENT = Actor("agent_helpdesk", kind="agent", on_behalf_of=HELPDESK.name)

# Login roles that belong to one person each, and connect round the pooler.
DIRECT = {"jmueller": MULLER, "awagner": Actor("employee_id_6001", "a.wagner@company.com")}

_APPLICATIONS = ("billing", "crm", "psql", "DBeaver 24.0.1 - Main", "pgAdmin 4 - CONN:3040112")


@dataclass(frozen=True)
class WorkloadOptions:
    """How much is done, and by whom. `statements` is the number of messages, about."""

    seed: int = 7
    statements: int = 1000
    people: int = len(PEOPLE_ACTORS)
    services: bool = True
    cron: bool = True
    direct: bool = True
    eu_question: bool = True
    """Whether employee_id_2291 asks for all customers in the EU, in the words of the brief."""


@dataclass(frozen=True)
class Truth:
    """One message as it was sent, and what came of it."""

    author: str | None
    via: str
    client: str
    connection: int
    application_name: str
    text: str
    params: list[str]
    protocol: str
    subjects: list[dict[str, str]]
    outcome: str
    rows: int | None


@dataclass
class Client:
    """One program of one actor: a connection string and what it will run, connection by connection.

    `visits` are the connections, each with its units.
    """

    name: str
    actor: Actor | None
    via: str
    application_name: str
    visits: list[list[Unit]]
    dsn: str = ""
    truth: list[Truth] = field(default_factory=list)

    @property
    def author(self) -> str | None:
        """The true author of whatever this client runs."""
        return self.actor.name if self.actor else None


@dataclass
class Workload:
    """What was run, and where the identity events are."""

    truth: list[Truth]
    events: Path

    def write_truth(self, path: Path) -> None:
        """Writes the truth as JSON Lines."""
        lines = (json.dumps(asdict(entry), ensure_ascii=False) for entry in self.truth)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_truth(path: Path) -> list[Truth]:
    """The truth that `write_truth` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Truth(**json.loads(line)) for line in file]


def run_workload(stack: Stack, events: Path, options: WorkloadOptions | None = None) -> Workload:
    """Runs the workload to its end, every client in a thread of its own."""
    options = options or WorkloadOptions()
    clients = plan(options, customers_of(stack))
    with Relay(stack.pooler_port, events) as relay:
        ports = {c.actor: relay.listen(c.actor) for c in clients if c.actor and c.via == "relay"}
        for client in clients:
            client.dsn = _dsn(stack, client, ports)
        with ThreadPoolExecutor(len(clients)) as pool:
            for done in [pool.submit(_run, client) for client in clients]:
                done.result()
    return Workload([entry for client in clients for entry in client.truth], events)


def customers_of(stack: Stack) -> list[Customer]:
    """The customers that statements may name, by id from 1, read unseen by pgAudit."""
    with psycopg.connect(stack.dsn_superuser()) as connection:
        rows = connection.execute(
            "SELECT id, email, name FROM users WHERE id <= 5000 ORDER BY id"
        ).fetchall()
    return [Customer(*row) for row in rows]


def plan(options: WorkloadOptions, customers: Sequence[Customer]) -> list[Client]:
    """Who does what; the same for the same options and customers."""
    parts: list[tuple[str, Actor | None, str, str, Sequence[tuple[Recipe, int]], float]] = []
    for n, person in enumerate(PEOPLE_ACTORS[: options.people]):
        # The first two use two programs at a time.
        for m in range(2 if n < 2 else 1):
            name = f"p{n}{'ab'[m]}"
            application = _APPLICATIONS[(n + 2 * m) % len(_APPLICATIONS)]
            parts.append((name, person, "relay", application, PEOPLE, 1.0))
    if options.services:
        parts.append(("svc", INVOICING, "relay", "invoicing", SERVICE, 1.5))
        parts.append(("agent", AGENT, "relay", "helpdesk-agent", PEOPLE, 0.5))
    if options.cron:
        parts.append(("cron", None, "pooler", "nightly-report", JOB, 0.4))
    if options.direct:
        parts.extend((role, actor, role, "psql", PEOPLE, 0.3) for role, actor in DIRECT.items())
    share = options.statements / sum(weight for *_, weight in parts)
    clients = []
    for name, actor, via, application, recipes, weight in parts:
        desk = Desk(random.Random(f"{options.seed}/{name}"), customers, name)
        made = _sprinkled(desk, units(desk, recipes, round(share * weight)), actor)
        visits = list(_visits(desk.random, made, churning=name in {"p2a", "p5a", "cron"}))
        clients.append(Client(name, actor, via, application, visits))
    if options.eu_question and clients:
        clients[0].visits.append([[Step(EU_CUSTOMERS, marked=False)]])
    return clients


def _sprinkled(desk: Desk, made: list[Unit], actor: Actor | None) -> list[Unit]:
    """The units, with the much looked at customers added, and some transactions saying their user."""
    if actor is None:
        return made
    for who in HOT_CUSTOMERS:
        if who <= len(desk.customers):
            text = "SELECT id, email, iban FROM users WHERE id = %s"
            unit = [Step(text, (who,), named("parameter", USERS_ID, who))]
            made.insert(desk.random.randint(0, len(made)), unit)
    if actor.kind == "service":
        return [
            announced(desk, u) if len(u) == 1 and desk.random.random() < 0.2 else u for u in made
        ]
    return made


def _visits(chance: random.Random, made: list[Unit], *, churning: bool) -> Iterator[list[Unit]]:
    """The units cut into connections: a few each when churning, otherwise some dozens."""
    start = 0
    while start < len(made):
        length = chance.randint(1, 4) if churning else chance.randint(20, 60)
        yield made[start : start + length]
        start += length


def _dsn(stack: Stack, client: Client, ports: dict[Actor, int]) -> str:
    name = client.application_name
    if client.via == "relay" and client.actor is not None:
        return stack.dsn_pooler(application_name=name, port=ports[client.actor])
    if client.via == "pooler":
        return stack.dsn_pooler(user=SHARED_ROLE, application_name=name)
    return stack.dsn_direct(user=client.via, application_name=name)


def _run(client: Client) -> None:
    for number, visit in enumerate(client.visits):
        # A plan made by the protocol's Parse lives on one backend; the pooler's next transaction
        # may get another. So: none.
        with psycopg.connect(client.dsn, autocommit=True, prepare_threshold=None) as connection:
            for step in (step for unit in visit for step in unit):
                client.truth.append(_send(connection, client, number, step))


def _send(
    connection: psycopg.Connection[tuple[object, ...]], client: Client, number: int, step: Step
) -> Truth:
    author = client.author or "none"
    sql = step.sql.replace("{author}", author)
    params = [author if value == "{author}" else value for value in step.params]
    if step.marked:
        sql += f" /* truth:{author} */"
    rows: int | None = None
    outcome = "ok"
    try:
        rows = _execute(connection, sql, params, step)
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        outcome = error.sqlstate
    return Truth(
        author=client.author,
        via=client.via,
        client=client.name,
        connection=number,
        application_name=client.application_name,
        text=_numbered(sql) if step.params else sql,
        params=list(_as_logged(params)),
        protocol="extended" if step.params else "simple",
        subjects=[asdict(subject) for subject in step.subjects],
        outcome=outcome,
        rows=rows,
    )


def _execute(
    connection: psycopg.Connection[tuple[object, ...]],
    sql: str,
    params: Sequence[Value],
    step: Step,
) -> int | None:
    with connection.cursor() as cursor:
        if step.copy_in is None and not step.copy_out:
            cursor.execute(sql.encode(), params or None)
            return None if cursor.rowcount < 0 else cursor.rowcount
        with cursor.copy(sql.encode()) as copy:
            if step.copy_in is not None:
                copy.write(step.copy_in)
            else:
                for _ in copy:
                    pass
        return cursor.rowcount


def _numbered(sql: str) -> str:
    numbers = iter(range(1, sql.count("%s") + 1))
    return re.sub("%s", lambda _: f"${next(numbers)}", sql)


def _as_logged(params: Iterable[Value]) -> Iterator[str]:
    """The bind values as PostgreSQL prints them."""
    for value in params:
        yield "{" + ",".join(map(str, value)) + "}" if isinstance(value, list) else str(value)
