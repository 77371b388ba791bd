"""Small plays on a running stack: clients that rename themselves, reset, share names, or vanish.

Enters: a running stack and a file for identity events. Leaves: logs in which every statement of a
player carries its true author, unique to its scene, in the mark that only tests read.
Does not: read a log or judge it.
"""

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import psycopg

from tests.relay import Actor, EventFile, Relay
from tests.stack import SHARED_ROLE, Stack

Script = Callable[["Player"], None]
HOST6 = "::1"


@dataclass
class Player:
    """One client connection and its true author."""

    author: str
    connection: psycopg.Connection[tuple[object, ...]]
    random: random.Random

    def run(self, sql: str) -> list[tuple[object, ...]]:
        """Runs one statement under the author's mark."""
        cursor = self.connection.execute(f"{sql} /* truth:{self.author} */".encode())
        return cursor.fetchall() if cursor.description else []

    def work(self, times: int) -> None:
        """Reads, in transactions of one or several statements, with pauses in which others play."""
        for _ in range(times):
            who = self.random.randint(1, 50)
            if self.random.random() < 0.3:
                self.run("BEGIN")
                self.run(f"SELECT name FROM users WHERE id = {who}")
                self.run(f"SELECT count(*) FROM orders WHERE user_id = {who}")
                self.run("COMMIT")
            else:
                self.run(f"SELECT email FROM users WHERE id = {who}")
            if self.random.random() < 0.5:
                time.sleep(self.random.random() * 0.004)


@dataclass
class Part:
    """Who plays: an author, the application_name, what is done, and whether it is announced."""

    author: str
    application_name: str
    script: Script
    announced: bool = True


class Stage:
    """Plays parts through a relay that announces them, or past it. Use it by `with`."""

    def __init__(self, stack: Stack, relay: Relay) -> None:
        self.stack = stack
        self.relay = relay

    @contextlib.contextmanager
    def player(
        self, author: str, application_name: str, *, announced: bool = True, **dsn: object
    ) -> Iterator[Player]:
        """One connected player."""
        if announced:
            dsn = dsn | {"port": self.relay.listen(Actor(author))}
        conninfo = self.stack.dsn_pooler(application_name=application_name, **dsn)  # type: ignore[arg-type]
        with contextlib.closing(
            psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
        ) as connection:
            yield Player(author, connection, random.Random(author))

    def play(self, parts: Sequence[Part]) -> None:
        """All parts at once, each in a thread; returns when the last has left."""
        ready = threading.Barrier(len(parts))

        def act(part: Part) -> None:
            with self.player(part.author, part.application_name, announced=part.announced) as one:
                ready.wait(20)
                part.script(one)

        with ThreadPoolExecutor(len(parts)) as pool:
            for done in [pool.submit(act, part) for part in parts]:
                done.result()


def worker(times: int = 25) -> Script:
    """A client that only works."""
    return lambda player: player.work(times)


def resetting(sql: str, times: int = 25) -> Script:
    """A client that runs `sql` midway."""

    def script(player: Player) -> None:
        player.work(times // 3)
        player.run(sql)
        player.work(times)

    return script


class Forwarder:
    """Announces and forwards one connection to the pooler over IPv6."""

    def __init__(self, upstream_port: int, events: EventFile, actor: str) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self._upstream = upstream_port
        self._events = events
        self._actor = actor
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(20)
        self.listener.close()

    def _serve(self) -> None:
        client, _ = self.listener.accept()
        with client, socket.socket(socket.AF_INET6) as upstream:
            upstream.bind((HOST6, 0))
            endpoint = {
                "connection": f"v6/{self._actor}",
                "client_addr": HOST6,
                "client_port": upstream.getsockname()[1],
            }
            self._events.write("open", endpoint | Actor(self._actor).fields())
            upstream.connect((HOST6, self._upstream))
            back = threading.Thread(target=_pump, args=(upstream, client))
            back.start()
            _pump(client, upstream)
            back.join()
            self._events.write("close", endpoint)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def announce_unix(events: EventFile, port: int, author: str, number: int) -> dict[str, object]:
    """Announces a connection of this very process over the pooler's unix socket."""
    endpoint: dict[str, object] = {
        "connection": f"unix/{number}",
        "client_addr": f"unix({os.getpid()})",
        "client_port": port,
    }
    events.write(
        "open", endpoint | {"db_role": SHARED_ROLE} | Actor(author, authn="peercred").fields()
    )
    return endpoint


def has_ipv6() -> bool:
    """Whether ::1 can be bound."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((HOST6, 0))
    except OSError:
        return False
    return True
