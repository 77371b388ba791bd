"""A series of random DDL and `SELECT *` on a real server, and what the server answered.

Enters: a seed and connections. Leaves: per `SELECT *` the columns that the server gave. Each of these
statements has its number in a comment. Sessions take turns; some work within transactions that they
commit or roll back, some within savepoints, DO blocks and temporary tables.
"""

import contextlib
import random
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

INERROR = TransactionStatus.INERROR


@dataclass
class Series:
    """One run.

    Attributes:
        answers: number -> (relation as asked, columns that the server gave).
    """

    sessions: list["psycopg.Connection[Any]"]
    seed: int
    schema: str
    answers: dict[int, tuple[str, list[str]]] = field(default_factory=dict)
    _number: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def run(self, steps: int) -> None:
        """That many statements, about half of them `SELECT *`."""
        for name in (self.schema, f"{self.schema}x"):
            self.sessions[0].execute(f"CREATE SCHEMA {name}")
        for one in self.sessions:
            one.execute(f"SET search_path = {self.schema}; SET lock_timeout = 10")
        for _ in range(steps):
            session = self._random.choice(self.sessions)
            if session.info.transaction_status == INERROR and self._random.random() < 0.6:
                with contextlib.suppress(psycopg.Error):
                    session.execute(self._random.choice(["ROLLBACK", "ROLLBACK TO s"]))
            elif self._random.random() < 0.5:
                self._ask(session)
            else:
                with contextlib.suppress(psycopg.Error):
                    session.execute(self._ddl())
        for one in self.sessions:
            with contextlib.suppress(psycopg.Error):
                one.execute("COMMIT")
        for name in (self.schema, f"{self.schema}x", f"{self.schema}y"):
            self.sessions[0].execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")

    def _ask(self, session: "psycopg.Connection[Any]") -> None:
        relation = self._name()
        if self._random.random() < 0.2:
            relation = f"{self.schema}{self._random.choice(('', 'x'))}.{relation}"
        self._number += 1
        with contextlib.suppress(psycopg.Error):
            cursor = session.execute(f"SELECT * FROM {relation} /* q{self._number}q */")
            assert cursor.description is not None
            self.answers[self._number] = (relation, [one.name for one in cursor.description])

    def _name(self) -> str:
        return self._random.choice(["t1", "t2", "t3", "v1", "v2", "p1", "p1a", "w1", "m1"])

    def _column(self) -> str:
        return self._random.choice(["a", "b", "c", "d", '"E e"'])

    def _ddl(self) -> str:
        pick = self._random.choice
        table, column, other = pick(["t1", "t2", "t3"]), self._column(), self._column()
        anywhere = self._name()
        caught = "RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL"
        statements = [
            f"CREATE TABLE {table} (a int, b text, {pick(['c date', 'd int DEFAULT 5', 'PRIMARY KEY (a)'])})",
            f"CREATE TABLE IF NOT EXISTS {table} (a int, d text)",
            f"CREATE TABLE {table} (LIKE {pick(['t1', 't2', 'p1'])}, f int)",
            f"CREATE TABLE {table} AS SELECT * FROM {anywhere}",
            f"SELECT * INTO {table} FROM {anywhere}",
            f"CREATE TEMP TABLE {pick(['w1', 't1'])} AS SELECT a, b FROM {anywhere}",
            f"CREATE TEMP TABLE w1 (x int, y text) {pick(['', 'ON COMMIT DROP'])}",
            "DROP TABLE IF EXISTS w1",
            "DISCARD TEMP",
            f"DROP TABLE {table} {pick(['', 'CASCADE'])}",
            f"DROP TABLE IF EXISTS {table}, t3",
            *[f"ALTER TABLE {table} ADD COLUMN {column} int"] * 3,
            *[f"ALTER TABLE {pick([table, 'p1'])} DROP COLUMN {column} {pick(['', 'CASCADE'])}"]
            * 2,
            *[f"ALTER TABLE {pick([table, 'p1', 'v1'])} RENAME COLUMN {column} TO {other}"] * 3,
            f"ALTER TABLE {table} ADD {column} text UNIQUE, DROP {other}",
            f"ALTER TABLE {table} RENAME TO {pick(['t1', 't2', 't3'])}",
            f"ALTER TABLE {table} SET SCHEMA {self.schema}x",
            f"ALTER TABLE {self.schema}x.{table} SET SCHEMA {self.schema}",
            f"CREATE VIEW {pick(['v1', 'v2'])} AS SELECT * FROM {anywhere}",
            f"CREATE OR REPLACE VIEW v1 AS SELECT a, b FROM {table}",
            f"CREATE VIEW v2 (x, y) AS SELECT a, b FROM {anywhere}",
            f"CREATE MATERIALIZED VIEW m1 AS SELECT a FROM {anywhere}",
            "DROP VIEW IF EXISTS v1 CASCADE",
            "DROP MATERIALIZED VIEW m1",
            f"ALTER VIEW v1 RENAME TO {pick(['v1', 'v2'])}",
            "CREATE TABLE p1 (a int, b text) PARTITION BY RANGE (a)",
            "CREATE TABLE p1a PARTITION OF p1 FOR VALUES FROM (0) TO (10)",
            "ALTER TABLE p1 DETACH PARTITION p1a",
            "ALTER TABLE p1 ATTACH PARTITION p1a FOR VALUES FROM (0) TO (10)",
            "DROP TABLE p1",
            f"DO $$ BEGIN ALTER TABLE {table} ADD COLUMN {column} int; END $$",
            f"DO $$ BEGIN ALTER TABLE {table} DROP COLUMN {column}; RAISE 'no'; END $$",
            f"DO $$ BEGIN ALTER TABLE {table} DROP COLUMN {column}; {caught}; END $$",
            f"CREATE TABLE {table} (a int); ALTER TABLE {table} ADD z int; SELECT 1",
            f"ALTER SCHEMA {self.schema}x RENAME TO {self.schema}y",
            f"ALTER SCHEMA {self.schema}y RENAME TO {self.schema}x",
        ]
        transactions = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s"]
        return pick(statements) if self._random.random() < 0.8 else pick(transactions)
