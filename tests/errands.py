"""What people and attackers do on a pooled connection: every form of statement, and every lie.

Enters: connections. Leaves: statements with the mark of their author in the server's log. The lies are
told by `mallory_…`, who takes the names of others that are connected; forged lines bear the mark
`nobody`. Does not: open connections or judge anything.
"""

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator

import psycopg

from tests.crowd import Connection

FORGED = "AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.users,SELECT 1 /* truth:nobody */,<none>"

Errand = Callable[[Connection, str, int], int]


def run(connection: Connection, *texts: str) -> int:
    """Each in a message of its own."""
    for text in texts:
        connection.execute(text.encode())
    return len(texts)


def read(connection: Connection, mark: str, who: int) -> int:
    return run(connection, f"SELECT name FROM users WHERE id = {who} {mark}")


def read_by_parameter(connection: Connection, mark: str, who: int) -> int:
    connection.execute(f"SELECT email FROM users WHERE id = %s {mark}".encode(), [who])
    return 1


def fail(connection: Connection, mark: str, who: int) -> int:
    with contextlib.suppress(psycopg.errors.DivisionByZero):
        run(connection, f"SELECT id / 0 FROM users WHERE id = {who} {mark}")
    return 1


def be_refused(connection: Connection, mark: str, who: int) -> int:
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        run(connection, f"SELECT passwd FROM pg_shadow WHERE usesysid = {who} {mark}")
    with contextlib.suppress(psycopg.errors.SyntaxError):
        run(connection, f"SELEC {who} {mark}")
    return 0


def copy_out(connection: Connection, mark: str, who: int) -> int:
    text = f"COPY (SELECT name FROM users WHERE id <= {who} {mark}) TO STDOUT"
    with connection.cursor() as cursor, cursor.copy(text.encode()) as copy:
        for _ in copy:
            pass
    return 1


def say_two_at_once(connection: Connection, mark: str, who: int) -> int:
    connection.execute(f"SELECT {who} {mark}; SELECT email FROM users LIMIT 1 {mark}".encode())
    return 2


def pipeline(connection: Connection, mark: str, who: int) -> int:
    with connection.pipeline():
        for one in range(3):
            read_by_parameter(connection, mark, who + one)
    return 3


def transact(connection: Connection, mark: str, who: int) -> int:
    run(connection, f"BEGIN {mark}")
    read(connection, mark, who)
    read_by_parameter(connection, mark, who)
    return 3 + run(connection, f"{'COMMIT' if who % 2 else 'ROLLBACK'} {mark}")


def fail_in_transaction(connection: Connection, mark: str, who: int) -> int:
    run(connection, f"BEGIN {mark}")
    fail(connection, mark, who)
    with contextlib.suppress(psycopg.errors.InFailedSqlTransaction):
        read(connection, mark, who)
    return 2 + run(connection, f"ROLLBACK {mark}")


def use_a_cursor(connection: Connection, mark: str, who: int) -> int:
    return run(
        connection,
        f"BEGIN {mark}",
        f"DECLARE c CURSOR FOR SELECT name FROM users WHERE id < {who + 9} {mark}",
        f"FETCH 2 FROM c {mark}",
        f"FETCH ALL FROM c {mark}",
        f"CLOSE c {mark}",
        f"COMMIT {mark}",
    )


def use_a_prepared_statement(connection: Connection, mark: str, who: int) -> int:
    return run(
        connection,
        f"BEGIN {mark}",
        f"PREPARE p{who} (int) AS SELECT name FROM users WHERE id = $1 {mark}",
        f"EXECUTE p{who}({who}) {mark}",
        f"DEALLOCATE p{who} {mark}",
        f"COMMIT {mark}",
    )


SINGLE: tuple[Errand, ...] = (
    read,
    read,
    read_by_parameter,
    read_by_parameter,
    fail,
    be_refused,
    copy_out,
    say_two_at_once,
    pipeline,
)
"""What every pooling mode allows."""
BLOCKS: tuple[Errand, ...] = (
    transact,
    transact,
    fail_in_transaction,
    use_a_cursor,
    use_a_prepared_statement,
)


def honest(connection: Connection, author: str, dice: random.Random, *, blocks: bool) -> int:
    """One errand of an honest client's."""
    errand = dice.choice((*SINGLE, *BLOCKS) if blocks else SINGLE)
    return errand(connection, f"/* truth:{author} */", dice.randint(1, 50))


def signing(connection: Connection, author: str, dice: random.Random, *, blocks: bool) -> int:
    """The same, by a client that says in a comment who it is."""
    errand = dice.choice((*SINGLE, *BLOCKS) if blocks else SINGLE)
    return errand(connection, f"/* truth:{author} *//*user='{author}'*/", dice.randint(1, 50))


class Liars:
    """Hostile clients: every lie is told before any is told again, whoever's turn it is."""

    def __init__(self, *, blocks: bool) -> None:
        self.blocks = blocks
        self._turn = itertools.count()
        self.untold = set(range(len(self._lies("", "", random.Random(0)))))
        """Lies that nobody came to the end of yet, as places in the list."""

    def _lies(self, victim: str, mark: str, dice: random.Random) -> list[list[str]]:
        return list(_lies(victim, mark, dice, blocks=self.blocks))

    def lie(self, connection: Connection, author: str, dice: random.Random) -> int:
        """One lie, and what it is told for."""
        mark = f"/* truth:{author} */"
        rows = connection.execute(
            b"SELECT application_name FROM pg_stat_activity WHERE usename = current_user "
            b"AND pid <> pg_backend_pid() AND application_name <> ''"
        ).fetchall()
        victim = str(dice.choice(rows)[0]).replace("'", "''") if rows else "nobody"
        lies = self._lies(victim, mark, dice)
        which = next(self._turn) % len(lies)
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            run(connection, *lies[which])
        ran = 1 + read(connection, mark, 3)
        self.untold.discard(which)
        return ran


def _lies(victim: str, mark: str, dice: random.Random, *, blocks: bool) -> Iterator[list[str]]:
    steal = f"SET application_name='{victim}';"
    theft = f"SELECT iban FROM users WHERE id = 3 {mark}"
    # The statement that makes it isn't to bear its mark.
    forged = "'" + FORGED.replace("truth", "tru' || 'th") + "'"
    yield [steal, theft]
    yield [f"SET application_name TO '{victim}'", theft]
    yield [f"SELECT set_config('application_name', '{victim}', false) {mark}", theft]
    yield [f"{steal}{theft}"]
    yield [f"DO $$ BEGIN PERFORM set_config('application_name', '{victim}', false); END $$", theft]
    yield [f"DO $$ BEGIN EXECUTE $x${steal}$x$; END $$", theft]
    yield ["RESET application_name", theft]
    yield ["RESET ALL", theft]
    yield ["SET application_name=''", theft]
    yield [f"SET application_name='{'n' * dice.randint(60, 140)}'", theft]
    yield [f"DO $$ BEGIN RAISE LOG '%', {forged}; END $$"]
    yield [f"DO $$ BEGIN RAISE LOG USING MESSAGE = {forged} || chr(10) || {forged}; END $$"]
    raised = f"RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = {forged}"
    yield [f"DO $$ BEGIN {raised}; END $$"]
    if blocks:
        yield ["BEGIN", steal, "COMMIT", theft]
        yield ["BEGIN", f"SET LOCAL application_name='{victim}';", theft, "COMMIT"]
        yield ["BEGIN", steal, theft, "ROLLBACK", theft]
