"""A crowd of people on one shared role, each with connections of their own, and who they are.

Enters: connection strings, one per person. Leaves: statements in the server's log that carry their
author in the mark that only tests read. Does not: read a log or judge it.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

Connection = psycopg.Connection[tuple[object, ...]]
Visit = Callable[[Connection, str, random.Random], int]
"""One person's next transaction on a connection; how many statements it was."""


@dataclass
class Crowd:
    """Runs until `statements` have been run, or for `seconds` at most."""

    statements: int
    seconds: float = 240.0
    visits: Callable[[str], Visit] = lambda name: visit
    """What each person does."""
    rate: float | None = None
    """Statements a second that they run together at most."""
    done: int = 0
    lost: int = 0
    """Connections that ended before they were to."""
    _begin: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, dsns: dict[str, str], meanwhile: Callable[["Crowd"], None] | None = None) -> None:
        """Everybody at once, by name; `meanwhile` is called in between, again and again."""
        self._begin = time.monotonic()
        threads = [
            threading.Thread(target=self._person, args=(name, dsn)) for name, dsn in dsns.items()
        ]
        for thread in threads:
            thread.start()
        until = self._begin + self.seconds
        try:
            while self.done < self.statements and time.monotonic() < until:
                time.sleep(0.05)
                if meanwhile is not None:
                    meanwhile(self)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _person(self, name: str, dsn: str) -> None:
        dice = random.Random(name)
        does = self.visits(name)
        while not self._stop.is_set():
            try:
                with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
                    for _ in range(dice.randint(20, 200)):
                        if self._stop.is_set():
                            return
                        ran = does(connection, name, dice)
                        with self._lock:
                            self.done += ran
                        self._keep_pace()
            except psycopg.OperationalError:
                with self._lock:
                    self.lost += 1
                time.sleep(0.05)

    def _keep_pace(self) -> None:
        if self.rate is not None:
            self._stop.wait(max(0.0, self._begin + self.done / self.rate - time.monotonic()))


def visit(connection: Connection, author: str, dice: random.Random) -> int:
    """One transaction, of one or several statements; how many they were."""
    mark = f"/* truth:{author} */"
    who = dice.randint(1, 50)
    simple = f"SELECT name FROM users WHERE id = {who} {mark}".encode()
    extended = f"SELECT email FROM users WHERE id = %s {mark}".encode()
    chance = dice.random()
    if chance < 0.2:
        connection.execute(f"BEGIN {mark}".encode())
        connection.execute(simple)
        connection.execute(extended, [who])
        connection.execute(f"COMMIT {mark}".encode())
        return 4
    if chance < 0.6:
        connection.execute(extended, [who])
    else:
        connection.execute(simple)
    return 1
