"""A simulated stack: clients, a sidecar, PgBouncer and PostgreSQL, with their clocks and faults.

Enters: a `Setting` and a seed. Leaves: the three logs as the real software would write them, with the
true author of every statement in a mark that only tests read. Follows PgBouncer's varcache.c, client.c
and server.c in the differences between versions, and pgAudit 1.7 in what is logged and when; the same
scenes on the real stack give the same lines (`test_simulation.py`).

Time is in microseconds since the simulation's beginning. Does not judge anything.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scalple.ingest.tags import TAG_ALPHABET, TAG_LENGTH, tagged_name

EPOCH = datetime(2026, 3, 14, 11, 0, 0, tzinfo=UTC)
DATABASE, ROLE = "app", "app_user"
NAME_BYTES = 63
POOLER_PORT, SERVER_PORT = 6432, 5432


@dataclass(frozen=True)
class Setting:
    """What is simulated."""

    mode: str = "transaction"
    version: str = "1.18"
    add_host: bool = True
    verbose: bool = False
    """`verbose=2`: the pooler logs which client is on which server connection."""
    cast: tuple[str, ...] = ("sidecar",)
    """Kinds of clients, see `Client`."""
    clients: int = 8
    backends: int = 3
    statements: int = 300
    faults: tuple[str, ...] = ()
    """See `World.fault`."""
    logs_settings: bool = True
    """pgaudit.log includes misc."""
    pooler_ahead_us: int = 0
    """By so much the pooler's clock differs from the server's."""
    sidecar_ahead_us: int = 0


@dataclass
class Backend:
    """One server process."""

    pid: int
    session: str
    port: int
    pointer: str
    number: int
    """The backend's part of its virtual transactions."""
    line: int = 0
    statement: int = 0
    transaction: int = 0
    name: str = ""
    """application_name, as PostgreSQL has it."""
    known: str = ""
    """The same, as the pooler knows it."""
    client: "Client | None" = None
    idle_since: int = 0
    variable: str | None = None
    dead: bool = False


@dataclass
class Client:
    """One connection to the pooler, and who is behind it.

    Kinds: `sidecar` (tagged), `relay` (announced, without a tag), `silent` (nobody announces it),
    `nameless` and `overlong` (silent, with such a name), `web` (through the sidecar, several people
    by an identity variable), `asyncpg` (through the sidecar, resets), `thief` (through the sidecar,
    takes others' names), `burglar` (past the sidecar, takes others' names), `comment` (announced by
    nobody, says who it is in a comment).
    """

    kind: str
    author: str
    port: int
    pointer: str
    name: str = ""
    """As the pooler replays it."""
    backend: Backend | None = None
    plan: list[str] = field(default_factory=list)
    connection: str = ""
    tag: str = ""
    mine: str = ""
    """The name that the sidecar gave it."""
    person: str | None = None
    local: str | None = None
    wants: str | None = None
    """A person to be announced before the next statement."""
    drifted: bool = False
    left: int = 0

    @property
    def is_tagged(self) -> bool:
        return self.kind in ("sidecar", "web", "asyncpg", "thief")

    @property
    def truth(self) -> str:
        return self.local or self.person or self.author


class World:
    """One simulation."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting = setting
        self.random = random.Random(seed)
        self.now = 1_000_000
        self.postgres: list[str] = []
        self.pooler: list[str] = []
        self.events: list[dict[str, object]] = []
        self.backends: list[Backend] = []
        self.clients: list[Client] = []
        self.done = 0
        self.people = 0
        self.seq = 0
        self.life = 0
        self.pids = 4000
        self.ports = 30_000
        self.pooler_pid = 900
        self.hears = True
        """The sidecar's events are written."""
        self.version = tuple(int(part) for part in setting.version.split("."))

    # -- clocks and files ---------------------------------------------------------------------

    def tick(self, low: int = 20, high: int = 400) -> int:
        """Time goes on."""
        self.now += self.random.randint(low, high)
        return self.now

    def log_pooler(self, level: str, text: str) -> None:
        self.pooler.append(
            f"{self.stamp(self.now + self.setting.pooler_ahead_us)} UTC [{self.pooler_pid}] {level} {text}"
        )

    def stamp(self, us: int) -> str:
        return f"{EPOCH + timedelta(microseconds=us):%Y-%m-%d %H:%M:%S.%f}"[:-3]

    def say(self, event: str, **fields: object) -> None:
        """One identity event."""
        now = self.now + self.setting.sidecar_ahead_us
        when = f"{EPOCH + timedelta(microseconds=now):%Y-%m-%dT%H:%M:%S.%fZ}"
        head = {"v": 1, "event": event, "ts": when, "sidecar": "side", "seq": self.seq}
        self.seq += 1
        if self.hears:
            self.events.append(head | fields)

    def record(self, one: Backend, message: str, *, transaction: bool = True, **more: str) -> None:
        """One record of the server's log."""
        one.line += 1
        vxid = f"{one.number}/{one.transaction}" if transaction else ""
        quoted = message.replace('"', '""')
        role = more.get("role", f'"{ROLE}","{DATABASE}"')
        name = more.get("name", one.name).replace('"', '""')
        self.postgres.append(
            f'{self.stamp(self.now)} UTC,{role},{one.pid},"127.0.0.1:{one.port}",{one.session},'
            f'{one.line},"{more.get("tag", "SELECT")}",2026-03-14 11:00:00 UTC,{vxid},0,'
            f'{more.get("severity", "LOG")},{more.get("state", "00000")},"{quoted}",,,,,'
            f'{more.get("context", "")},{more.get("query", "")},,,"{name}","client backend",,0'
        )

    def audit(self, one: Backend, command: str, text: str) -> None:
        """One record of pgAudit's."""
        group = "READ" if command == "SELECT" else "MISC"
        if group == "MISC" and not self.setting.logs_settings:
            return
        one.statement += 1
        field_ = '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text
        self.record(
            one,
            f"AUDIT: SESSION,{one.statement},1,{group},{command},,,{field_},<none>",
            tag=command,
        )
        self.done += group == "READ"

    # -- server connections -------------------------------------------------------------------

    def connect(self) -> Backend:
        """The pooler opens a server connection."""
        self.pids += self.random.randint(1, 3)
        self.ports += self.random.randint(1, 3)
        began = int((EPOCH + timedelta(microseconds=self.now)).timestamp())
        one = Backend(
            self.pids,
            f"{began:x}.{self.pids:x}",
            self.ports,
            f"0x{0xA000 + 16 * self.random.randint(0, 40):x}",
            self.random.randint(3, 9),
        )
        # Pointers are used again only when their owner has gone.
        while any(other.pointer == one.pointer for other in self.backends):
            one.pointer = f"0x{0xA000 + 16 * self.random.randint(0, 400):x}"
        one.transaction = self.random.randint(1, 50)
        self.log_pooler(
            "LOG",
            f"S-{one.pointer}: {DATABASE}/{ROLE}@127.0.0.1:{SERVER_PORT} "
            f"new connection to server (from 127.0.0.1:{one.port})",
        )
        self.tick()
        self.record(
            one, f"connection received: host=127.0.0.1 port={one.port}", transaction=False, role=","
        )
        self.record(one, f"connection authorized: user={ROLE} database={DATABASE}", tag="auth")
        self.tick(500, 3000)
        one.idle_since = self.now
        self.backends.append(one)
        return one

    def disconnect(self, one: Backend, why: str) -> None:
        """The pooler closes a server connection."""
        self.tick()
        self.log_pooler(
            "LOG",
            f"S-{one.pointer}: {DATABASE}/{ROLE}@127.0.0.1:{SERVER_PORT} closing because: {why} "
            "(age=3s)",
        )
        self.tick()
        self.record(
            one,
            f"disconnection: session time: 0:00:01.000 user={ROLE} database={DATABASE} "
            f"host=127.0.0.1 port={one.port}",
            transaction=False,
        )
        one.dead = True
        self.backends.remove(one)

    # -- clients ------------------------------------------------------------------------------

    def join(self, kind: str) -> Client:
        """A client connects."""
        self.people += 1
        used = {one.port for one in self.clients}
        port = self.random.choice([p for p in range(40_000, 40_040) if p not in used])
        taken = {one.pointer for one in self.clients}
        pointer = self.random.choice([f"0x{p:x}" for p in range(0xC000, 0xC400, 16)])
        while pointer in taken:
            pointer = f"0x{0xC000 + 16 * self.random.randint(0, 4000):x}"
        one = Client(kind, f"{kind}{self.people}", port, pointer)
        one.connection = f"side/{self.life}.{self.people}"
        own = self.random.choice(["billing", "psql", "crm"])
        suffix = f" - 127.0.0.1:{port}" if self.setting.add_host else ""
        if one.is_tagged:
            one.tag = self.new_tag()
            one.mine = tagged_name(one.tag, own, len(" - 127.0.0.1:65535")) + suffix
            one.name = one.mine
            self.open_event(one, one.tag)
        elif kind == "relay":
            one.name = own + suffix
            self.open_event(one, None)
        elif kind == "nameless":
            one.name = "" if not self.setting.add_host else suffix
        elif kind == "overlong":
            one.name = "x" * 130 + suffix
        else:
            one.name = own + suffix
        one.left = self.random.randint(3, 40)
        self.tick()
        self.log_pooler("LOG", f"{self.prefix(one)}login attempt: db={DATABASE} user={ROLE} tls=no")
        self.tick()
        self.clients.append(one)
        return one

    def prefix(self, one: Client) -> str:
        return f"C-{one.pointer}: {DATABASE}/{ROLE}@127.0.0.1:{one.port} "

    def open_event(self, one: Client, tag: str | None) -> None:
        named = {} if tag is None else {"tag": tag}
        self.say(
            "open",
            connection=one.connection,
            client_addr="127.0.0.1",
            client_port=one.port,
            database=DATABASE,
            db_role=ROLE,
            actor=one.author,
            authn="asserted",
            **named,
        )
        self.tick()

    def new_tag(self) -> str:
        return "".join(self.random.choice(TAG_ALPHABET) for _ in range(TAG_LENGTH))

    def leave(self, one: Client, why: str = "client close request") -> None:
        """A client disconnects."""
        self.tick()
        held, one.backend = one.backend, None
        clean = held is None or (self.setting.mode == "session" and not one.plan)
        if not clean:
            why = "client unexpected eof"
        self.log_pooler("LOG", f"{self.prefix(one)}closing because: {why} (age=1s)")
        if held is not None:
            held.client = None
            if clean:
                self.reset(held)
            else:
                self.disconnect(held, "client disconnect while server was not ready")
        self.tick()
        if one.is_tagged or one.kind == "relay":
            self.say("close", connection=one.connection)
        self.clients.remove(one)

    def reset(self, held: Backend) -> None:
        """Session pooling: DISCARD ALL between clients."""
        held.transaction += 1
        if self.setting.verbose:
            self.noise("S", held.pointer, SERVER_PORT, "resetting: DISCARD ALL", "DEBUG")
        self.tick()
        held.name = held.known = ""
        held.variable = None
        self.audit(held, "DISCARD ALL", "DISCARD ALL")
        self.tick()
        self.ready(held)

    # -- transactions -------------------------------------------------------------------------

    def step(self) -> None:
        """One client does one thing."""
        cast = self.setting.cast
        if len(self.clients) < self.setting.clients and self.random.random() < 0.5:
            self.join(cast[self.people % len(cast)])
            return
        if not self.clients:
            return
        one = self.random.choice(self.clients)
        if one.backend is None or not one.plan:
            if one.left <= 0:
                self.leave(one)
                return
            one.left -= 1
            if not self.begin(one):
                self.tick(500, 2000)
                return
        self.run(one, one.plan.pop(0))
        if not one.plan:
            self.end(one)
        self.tick(10, self.random.choice([100, 100, 3000, 30_000]))

    def begin(self, one: Client, plan: list[str] | None = None) -> bool:
        """Decide on a transaction, unless it is given, and get a server connection for it."""
        if one.backend is None:
            free = [x for x in self.backends if x.client is None]
            if not free and len(self.backends) >= self.setting.backends:
                return False
            # The last one used is used again first.
            self.link(one, max(free, key=lambda x: x.idle_since) if free else self.connect())
        held = one.backend
        assert held is not None
        one.plan = list(self.plan(one)) if plan is None else list(plan)
        held.transaction += 1
        return True

    def link(self, one: Client, held: Backend) -> None:
        """PgBouncer gives a client a server connection, and plays its settings there."""
        idle = self.now - held.idle_since
        if idle > 30_000_000 and self.version < (1, 25):
            held.transaction += 1
            if self.setting.verbose:
                self.noise("S", held.pointer, SERVER_PORT, "P: checking: select 1", "DEBUG")
            self.audit(held, "SELECT", "select 1")
            self.ready(held)
        one.backend, held.client = held, one
        applied = self.replay(one, held)
        if self.setting.verbose:
            if applied is not None:
                self.noise("S", held.pointer, SERVER_PORT, f"varcache_apply: {applied}", "DEBUG")
            if self.version >= (1, 21):
                self.noise("C", one.pointer, one.port, f"linking client to S-{held.pointer}")
        if applied is not None:
            held.transaction += 1
            self.tick(20, 150)
            held.name = cut(one.name)
            self.audit(held, "SET", applied)
            one.name = held.known = held.name
            self.tick(20, 150)
            self.ready(held)

    def replay(self, one: Client, held: Backend) -> str | None:
        """The SET that varcache_apply() sends, if any."""
        if one.name.casefold() == held.known.casefold():
            return None
        if not one.name and self.version < (1, 22):
            return None
        text = f"SET application_name='{one.name}';"
        too_long = len(text) >= 128 if self.version < (1, 20) else len(one.name) > 126
        if too_long:
            if self.version < (1, 20):
                self.log_pooler("WARNING", "got too long value, skipping")
            return None
        return text

    def plan(self, one: Client) -> Iterator[str]:
        """The statements of one transaction."""
        chance = self.random.random()
        if one.kind == "thief" or one.kind == "burglar":
            if chance < 0.35:
                yield "steal"
                return
            if chance < 0.5:
                yield from ("begin", "steal", "read", self.random.choice(["commit", "rollback"]))
                return
        if one.kind == "asyncpg" and chance < 0.3:
            yield "reset"
            return
        if one.kind == "web" and chance < 0.6:
            if chance < 0.3:
                yield "set"
                return
            yield from (
                "begin",
                "local",
                "read",
                "read",
                self.random.choice(["commit", "rollback"]),
            )
            return
        if self.setting.mode == "statement" or chance < 0.55:
            yield "fail" if chance < 0.05 else "read"
            return
        if chance < 0.62:
            yield "nothing"
            return
        yield "begin"
        for _ in range(self.random.randint(0, 4)):
            yield "read"
        yield "rollback" if chance < 0.7 else "commit"

    def run(self, one: Client, what: str) -> None:
        """One statement of a client, on its server connection."""
        held = one.backend
        assert held is not None
        self.tick()
        if one.is_tagged and (one.drifted or one.wants is not None):
            self.retag(one, held, alone=what == "begin" or not self.inside(held))
        mark = f"/* truth:{one.truth} */"
        victim = self.random.choice(self.clients)
        if what == "read":
            text = f"SELECT {self.random.randint(1, 9)} {mark}"
            if one.kind == "comment":
                text = f"SELECT 1 {mark} /*user='{one.author}'*/"
            self.audit(held, "SELECT", text)
        elif what == "fail":
            # What can be computed beforehand fails before pgAudit sees it.
            self.audit(held, "SELECT", f"SELECT 1 / (random() * 0)::int {mark}")
            self.record(held, "division by zero", severity="ERROR", state="22012")
        elif what in ("begin", "commit", "rollback"):
            self.audit(held, what.upper(), f"{what.upper()} {mark}")
        elif what == "steal":
            self.steal(one, held, victim, mark)
        elif what == "reset":
            held.name = ""
            self.audit(held, "RESET", f"RESET ALL {mark}")
            self.renamed(one, held)
        elif what in ("set", "local"):
            person = f"person{self.random.randint(1, 50)}"
            local = "LOCAL " if what == "local" else ""
            if local:
                one.local = person
            else:
                one.person = person
            # The statement that sets is the one before's.
            self.audit(held, "SET", f"SET {local}app.user = '{person}'")
            one.wants = person
        if what in ("commit", "rollback") and one.local is not None:
            one.local = None
            one.wants = one.person or one.author

    def steal(self, one: Client, held: Backend, victim: Client, mark: str) -> None:
        """A client takes another's name."""
        form = self.random.choice(["SET application_name='{}';", "SET application_name TO '{}' "])
        if self.random.random() < 0.3 and one.kind == "burglar":
            self.record(
                held,
                f"AUDIT: SESSION,99,1,READ,SELECT,,,SELECT 1 /* truth:{one.truth} */,<none>",
                context='"PL/pgSQL function shout"',
            )
            self.done += 1
            return
        if one.is_tagged and form.endswith(";"):
            # The sidecar sees it coming only in the pooler's exact form.
            self.drift(one, "form")
        held.name = cut(victim.name)
        self.audit(held, "SET", form.format(victim.name) + ("" if form.endswith(";") else mark))
        self.renamed(one, held)

    def renamed(self, one: Client, held: Backend) -> None:
        """The server reports the new name; pooler and sidecar hear it."""
        one.name = held.known = held.name
        if one.is_tagged and one.name != one.mine:
            self.drift(one, "changed", name=one.name)

    def drift(self, one: Client, reason: str, name: str = "") -> None:
        one.drifted = True
        self.say(
            "drift",
            connection=one.connection,
            reason=reason,
            **({"application_name": name} if name else {}),
        )

    def retag(self, one: Client, held: Backend, *, alone: bool) -> None:
        """The sidecar sets a new tag, before anything else of the client's goes on."""
        self.tag_anew(one, held)
        if alone:
            # The sidecar's own SET was a transaction of its own.
            if self.setting.verbose:
                self.served(one, held)
            held.transaction += 1
        self.tick()

    def tag_anew(self, one: Client, held: Backend) -> None:
        """The sidecar's words and its SET."""
        actor = one.wants or one.truth
        one.tag = self.new_tag()
        suffix = f" - 127.0.0.1:{one.port}" if self.setting.add_host else ""
        one.mine = f"{one.tag} app{suffix}"
        self.say("identify", connection=one.connection, tag=one.tag, actor=actor, authn="asserted")
        self.tick()
        held.name = cut(one.mine)
        self.audit(held, "SET", f"SET application_name='{one.mine}';")
        one.name = held.known = held.name
        one.drifted, one.wants = False, None

    def inside(self, held: Backend) -> bool:
        """Whether an explicit transaction is open."""
        plan = held.client.plan if held.client else []
        return plan[-1:] in (["commit"], ["rollback"])

    def end(self, one: Client) -> None:
        """The transaction is over; in transaction pooling the server connection is free again."""
        held = one.backend
        assert held is not None
        self.tick()
        if self.setting.verbose:
            self.served(one, held)
        if self.setting.mode == "session":
            return
        if self.setting.verbose:
            self.noise("S", held.pointer, SERVER_PORT, "release_server: new state=12")
        one.backend, held.client = None, None
        held.idle_since = self.now
        if one.is_tagged and (one.drifted or one.wants is not None):
            # The next message brings the sidecar's own SET first, wherever that is.
            self.begin_own(one)

    def begin_own(self, one: Client) -> None:
        """The sidecar's SET in a transaction of its own, on whatever backend is free."""
        free = [x for x in self.backends if x.client is None]
        if not free:
            return
        held = self.random.choice(free)
        self.link(one, held)
        held.transaction += 1
        self.tick()
        one.plan = []
        self.tag_anew(one, held)
        self.tick()
        if self.setting.verbose:
            self.served(one, held)
        if self.setting.mode != "session":
            one.backend, held.client = None, None
        held.idle_since = self.now

    # -- the pooler at verbose=2 --------------------------------------------------------------

    def noise(self, kind: str, pointer: str, port: int, text: str, level: str = "NOISE") -> None:
        self.log_pooler(level, f"{kind}-{pointer}: {DATABASE}/{ROLE}@127.0.0.1:{port} {text}")

    def ready(self, held: Backend) -> None:
        if self.setting.verbose:
            self.noise("S", held.pointer, SERVER_PORT, "read pkt='Z', len=6")

    def served(self, one: Client, held: Backend) -> None:
        self.ready(held)
        self.noise("C", one.pointer, one.port, "query time: 90 us", "DEBUG")
        self.noise("C", one.pointer, one.port, "transaction time: 90 us", "DEBUG")
        self.noise("C", one.pointer, one.port, "read pkt='Q' len=97")

    # -- faults -------------------------------------------------------------------------------

    def fault(self, what: str) -> None:
        """Something happens to the processes."""
        if what == "sidecar-dies" or what == "sidecar-restarts":
            if what == "sidecar-restarts":
                for one in [c for c in self.clients if c.is_tagged or c.kind == "relay"]:
                    self.leave(one)
                self.say("stop")
            else:
                # Killed: its clients lose their connections, and nothing says so.
                for one in [c for c in self.clients if c.is_tagged or c.kind == "relay"]:
                    self.hears = False
                    self.leave(one)
                    self.hears = True
            self.life += 1
            self.tick(1000, 100_000)
            self.say("start", heartbeat_s=10)
        elif what in ("pooler-dies", "pooler-restarts"):
            for held in list(self.backends):
                self.tick()
                self.record(held, "disconnection: session time: 0:00:01.000", transaction=False)
                held.dead = True
            lines = len(self.pooler)
            for one in list(self.clients):
                one.backend, one.plan = None, []
                self.leave(one)
            self.backends.clear()
            if what == "pooler-dies":
                del self.pooler[lines:]
            self.pooler_pid += 1
            self.tick(1000, 100_000)
            self.up()
        elif what == "server-lifetime":
            free = [one for one in self.backends if one.client is None]
            if free:
                self.disconnect(free[0], "server lifetime over")
        elif what == "pause":
            self.now += 40_000_000
            self.say("heartbeat")
            self.log_pooler("LOG", "stats: 1 xacts/s, 1 queries/s, in 1 B/s, out 1 B/s, xact 1 us")

    def up(self) -> None:
        self.log_pooler("LOG", f"process up: PgBouncer {self.setting.version}.0, libevent 2.1.12")

    def play(self) -> "World":
        """Everything, from the start of the processes to their end."""
        self.up()
        self.tick()
        self.say("start", heartbeat_s=10)
        happenings = [one for one in self.setting.faults if one in HAPPENINGS]
        happenings += ["server-lifetime", "pause"]
        while self.done < self.setting.statements:
            if self.random.random() < 0.004:
                self.fault(self.random.choice(happenings))
            if self.random.random() < 0.01:
                self.say("heartbeat")
            self.step()
        for one in list(self.clients):
            one.plan = [] if one.backend is None else one.plan
            self.leave(one)
        self.say("stop")
        self.now += 1_000_000
        self.log_pooler("LOG", "got SIGTERM, shutting down, waiting for all clients disconnect")
        return self

    def write(self, directory: Path) -> tuple[Path, Path, Path]:
        """The server's log, the pooler's and the events."""
        logs = (
            directory / "postgresql.csv",
            directory / "pgbouncer.log",
            directory / "events.jsonl",
        )
        lines = self.postgres, self.pooler, [json.dumps(one) for one in self.events]
        for path, content in zip(logs, damaged(self, lines), strict=True):
            path.write_text("\n".join(content) + "\n", "utf-8")
        return logs


HAPPENINGS = (
    "sidecar-dies",
    "sidecar-restarts",
    "pooler-dies",
    "pooler-restarts",
)
DAMAGES = ("lost-lines", "lost-events", "doubled-events", "cut-out", "shuffled")


def damaged(
    world: World, lines: tuple[list[str], list[str], list[str]]
) -> tuple[list[str], list[str], list[str]]:
    """What shipping and storage do to the files."""
    faults, chance = world.setting.faults, world.random
    server, pooler, events = (list(one) for one in lines)
    if "lost-lines" in faults:
        server = [one for one in server if chance.random() > 0.01]
        pooler = [one for one in pooler if chance.random() > 0.003 or "process up" in one]
    if "lost-events" in faults:
        events = [one for one in events if chance.random() > 0.03]
    if "doubled-events" in faults:
        events = [one for one in events for _ in range(1 + (chance.random() < 0.2))]
    if "shuffled" in faults:
        chance.shuffle(events)
    if "cut-out" in faults:
        at = chance.randrange(max(1, len(server) - 40))
        del server[at : at + chance.randint(5, 40)]
    return server, pooler, events


def cut(name: str) -> str:
    """As PostgreSQL keeps it."""
    return name.encode()[:NAME_BYTES].decode("ascii", "ignore")
