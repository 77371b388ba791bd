"""A real PostgreSQL 15 with pgAudit, and a real PgBouncer in front of it, for one test run.

Enters: options, and the Debian packages postgresql-15, postgresql-15-pgaudit and pgbouncer.
Leaves: two servers on loopback, and after the stop their logs as the servers wrote them.
Does not: write identity events (relay.py), run statements (workload.py), or touch any server that it
did not start itself.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.cluster import (
    ENVIRONMENT,
    POSTGRES_BIN,
    SUPERUSER,
    StackError,
    as_server,
    lend,
    make_cluster,
)

PGBOUNCER = Path(os.environ.get("STACK_PGBOUNCER", "/usr/sbin/pgbouncer"))

HOST = "127.0.0.1"
SHARED_ROLE = "app_user"
PERSONAL_ROLES = ("jmueller", "awagner", "kweber")

PGAUDIT_DEFAULTS: dict[str, str] = {
    "log": "all",
    "log_catalog": "off",
    "log_parameter": "on",
    "log_relation": "on",
    "log_rows": "on",
}

# Listening ports are taken below Linux's ephemeral range: a client's own port can then never take
# the one that a server is about to listen on.
_LISTEN_PORTS = range(20000, 32000)

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class StackOptions:
    """What a stack looks like. Ports are chosen when they are None."""

    pool_mode: Literal["transaction", "session", "statement"] = "transaction"
    application_name_add_host: bool = True
    pool_size: int = 3
    pgaudit: Mapping[str, str] = field(default_factory=dict)
    """Settings without their prefix; they replace PGAUDIT_DEFAULTS one by one."""
    postgres_conf: Sequence[str] = ()
    pgbouncer_conf: Sequence[str] = ()
    log_destination: str = "csvlog"
    log_filename: str = "postgresql.log"
    database: str = "app"
    users: int = 5000
    eu_users: int = 2000
    auth: Literal["scram-sha-256", "md5", "trust"] = "scram-sha-256"
    pooler: bool = True
    postgres_port: int | None = None
    pooler_port: int | None = None


def missing_programs() -> list[str]:
    """The programs of the stack that this machine lacks; empty when a stack can be started."""
    wanted = [POSTGRES_BIN / "postgres", POSTGRES_BIN / "initdb", PGBOUNCER]
    missing = [str(path) for path in wanted if not path.exists()]
    return missing + [name for name in ("setpriv",) if shutil.which(name) is None]


def password_of(role: str) -> str:
    """The password of a role of the stack."""
    return f"{role}-password"


def free_port() -> int:
    """A loopback port that nothing listens on, outside the range of the clients' own ports."""
    for port in random.sample(_LISTEN_PORTS, 200):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            return port
    raise StackError("no free port to listen on")


class Stack:
    """A running PostgreSQL and PgBouncer. Start and stop it by `with`; the logs outlive the stop.

    The servers are children of the thread that starts them and are told to stop when it dies, so a
    killed test run leaves none behind; start a stack in a thread that lives as long as the stack.
    The directory is removed when the object is.
    """

    def __init__(self, options: StackOptions | None = None) -> None:
        self.options = options or StackOptions()
        self.root = Path(tempfile.mkdtemp(prefix="stack-"))
        weakref.finalize(self, shutil.rmtree, self.root, ignore_errors=True)
        self.data = self.root / "data"
        self.log_directory = self.root / "log"
        self.socket_directory = self.root / "run"
        self.pgbouncer_log = self.root / "pgbouncer.log"
        self.postgres_port = self.options.postgres_port or free_port()
        self.pooler_port = self.options.pooler_port or free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Makes the cluster, starts both servers, and fills the database."""
        for directory in (self.log_directory, self.socket_directory):
            directory.mkdir()
        lend(self.root, self.log_directory, self.socket_directory)
        make_cluster(self.data)
        self._configure_postgres()
        self.start_postgres()
        self._fill()
        if self.options.pooler:
            self.start_pooler()

    def stop(self) -> None:
        """Stops what was started, the pooler first. Safe to call at any time, and twice."""
        try:
            self.stop_pooler()
        finally:
            self.stop_postgres()

    def start_postgres(self) -> None:
        """Starts the PostgreSQL server of an initialised cluster."""
        self._spawn("postgres", [str(POSTGRES_BIN / "postgres"), "-D", str(self.data)], "INT")
        self._await("postgres", self.dsn_superuser("postgres"))

    def stop_postgres(self) -> None:
        """Stops PostgreSQL by its fast shutdown: clients are disconnected, the log is complete."""
        self._end("postgres", signal.SIGINT)

    def start_pooler(self) -> None:
        """Starts PgBouncer; its log is appended to when there was one before."""
        ini = self.root / "pgbouncer.ini"
        ini.write_text(self._pgbouncer_ini())
        names = (SUPERUSER, SHARED_ROLE, *PERSONAL_ROLES)
        auth = "".join(f'"{name}" "{password_of(name)}"\n' for name in names)
        (self.root / "userlist.txt").write_text(auth)
        self._spawn("pgbouncer", [str(PGBOUNCER), "-q", str(ini)], "TERM")
        # The console answers from PgBouncer itself: waiting for it opens no server connection.
        self._await("pgbouncer", self.dsn_pooler(user=SUPERUSER, dbname="pgbouncer"))

    def stop_pooler(self) -> None:
        """Stops PgBouncer at once."""
        self._end("pgbouncer", signal.SIGTERM)

    def crash_pooler(self) -> None:
        """Ends PgBouncer without a word."""
        self._end("pgbouncer", signal.SIGKILL)

    def pids(self) -> dict[str, int]:
        """The processes that run now, by the server's name."""
        return {name: process.pid for name, process in self._processes.items()}

    def dsn_pooler(
        self,
        *,
        user: str = SHARED_ROLE,
        application_name: str | None = None,
        dbname: str | None = None,
        port: int | None = None,
        unix: bool = False,
    ) -> str:
        """A connection string through PgBouncer, or through the relay that listens on `port`."""
        return self._dsn(
            self.pooler_port if port is None else port, user, application_name, dbname, unix
        )

    def dsn_direct(
        self,
        *,
        user: str = PERSONAL_ROLES[0],
        application_name: str | None = None,
        dbname: str | None = None,
        port: int | None = None,
        unix: bool = False,
    ) -> str:
        """A connection string to PostgreSQL itself, round the pooler."""
        return self._dsn(
            self.postgres_port if port is None else port, user, application_name, dbname, unix
        )

    def dsn_superuser(self, dbname: str | None = None) -> str:
        """A superuser's connection string over the unix socket, unseen by pgAudit: for set-up."""
        return make_conninfo(
            host=str(self.socket_directory),
            port=self.postgres_port,
            user=SUPERUSER,
            dbname=dbname or self.options.database,
            application_name="set-up",
            options="-c pgaudit.log=none -c log_min_duration_statement=-1",
        )

    def csvlog_paths(self) -> list[Path]:
        """The csvlog files, oldest first."""
        return self._logs("*.csv")

    def jsonlog_paths(self) -> list[Path]:
        """The jsonlog files, oldest first; needs log_destination to name jsonlog."""
        return self._logs("*.json")

    def stderr_paths(self) -> list[Path]:
        """The plain-text log files, oldest first."""
        return self._logs("*.log")

    def rotate(self) -> None:
        """Has PostgreSQL open a new log file (or the same one again, if its name is constant)."""
        with psycopg.connect(self.dsn_superuser(), autocommit=True) as connection:
            connection.execute("SELECT pg_rotate_logfile()")

    def dump_schema(self) -> str:
        """What `pg_dump --schema-only` prints of the database."""
        command = [str(POSTGRES_BIN / "pg_dump"), "--schema-only", "-d", self.dsn_superuser()]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _dsn(
        self, port: int, user: str, application_name: str | None, dbname: str | None, unix: bool
    ) -> str:
        parts: dict[str, str] = {
            "host": str(self.socket_directory) if unix else HOST,
            "port": str(port),
            "user": user,
            "password": password_of(user),
            "dbname": dbname or self.options.database,
            # PgBouncer and PostgreSQL are reached in the clear here; asking for TLS first would add
            # a second connection to every log.
            "sslmode": "disable",
            "gssencmode": "disable",
        }
        if application_name is not None:
            parts["application_name"] = application_name
        return make_conninfo(**parts)

    def _logs(self, pattern: str) -> list[Path]:
        return sorted(self.log_directory.glob(pattern), key=lambda p: (p.stat().st_mtime_ns, p))

    def _configure_postgres(self) -> None:
        (self.data / "postgresql.auto.conf").write_text(self._postgresql_conf())
        (self.data / "pg_hba.conf").write_text(
            f"local all {SUPERUSER} trust\n"
            f"local all all {self.options.auth}\n"
            f"host all all {HOST}/32 {self.options.auth}\n"
        )

    def _postgresql_conf(self) -> str:
        options = self.options
        settings = {
            "listen_addresses": HOST,
            "port": str(self.postgres_port),
            "unix_socket_directories": str(self.socket_directory),
            "max_connections": "120",
            "shared_buffers": "64MB",
            # What is tested is the log; a crash of the machine may lose the data.
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "on",
            "log_destination": options.log_destination,
            "log_directory": str(self.log_directory),
            "log_filename": options.log_filename,
            "log_file_mode": "0644",
            "log_connections": "on",
            "log_disconnections": "on",
            "log_checkpoints": "off",
            "log_line_prefix": "%m [%p] %q%u@%d %r %a ",
            "shared_preload_libraries": "pgaudit",
        }
        pgaudit = PGAUDIT_DEFAULTS | dict(options.pgaudit)
        settings |= {f"pgaudit.{name}": value for name, value in pgaudit.items()}
        lines = [f"{name} = '{value}'" for name, value in settings.items()]
        return "\n".join([*lines, *options.postgres_conf]) + "\n"

    def _pgbouncer_ini(self) -> str:
        options = self.options
        settings = {
            "listen_addr": HOST,
            "listen_port": str(self.pooler_port),
            "unix_socket_dir": str(self.socket_directory),
            "logfile": str(self.pgbouncer_log),
            "auth_type": options.auth,
            "auth_file": str(self.root / "userlist.txt"),
            "admin_users": SUPERUSER,
            "pool_mode": options.pool_mode,
            "default_pool_size": str(options.pool_size),
            "max_client_conn": "500",
            "application_name_add_host": str(int(options.application_name_add_host)),
            "ignore_startup_parameters": "extra_float_digits",
            "log_connections": "1",
            "log_disconnections": "1",
            "log_pooler_errors": "1",
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        target = f"{options.database} = host={HOST} port={self.postgres_port}"
        return "\n".join(
            ["[databases]", target, "", "[pgbouncer]", *lines, *options.pgbouncer_conf, ""]
        )

    def _fill(self) -> None:
        with psycopg.connect(self.dsn_superuser("postgres"), autocommit=True) as connection:
            connection.execute("CREATE ROLE staff")
            for role in (SHARED_ROLE, *PERSONAL_ROLES):
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE staff").format(
                        sql.Identifier(role), password_of(role)
                    )
                )
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                    sql.Identifier(SUPERUSER), password_of(SUPERUSER)
                )
            )
            connection.execute(
                sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.options.database))
            )
        company = Path(__file__).with_name("company.sql").read_bytes()
        with psycopg.connect(self.dsn_superuser()) as connection:
            self._extend(connection)
            connection.execute(
                "SELECT set_config('stack.users', %s, true),"
                " set_config('stack.eu_users', %s, true)",
                [str(self.options.users), str(self.options.eu_users)],
            )
            connection.execute(company)

    def _extend(self, connection: psycopg.Connection) -> None:
        connection.execute("CREATE EXTENSION pgaudit")

    def _spawn(self, name: str, command: Sequence[str], signal_at_death: str) -> None:
        if name in self._processes:
            raise StackError(f"{name} runs already")
        with (self.root / f"{name}.out").open("ab") as output:
            self._processes[name] = subprocess.Popen(
                [*as_server("--pdeathsig", signal_at_death), *command],
                cwd=self.root,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A Ctrl-C at the terminal is for the test run, which then stops the servers itself.
                start_new_session=True,
            )

    def _await(self, name: str, dsn: str) -> None:
        process = self._processes[name]
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(dsn, connect_timeout=5, autocommit=True).close()
                return
            except psycopg.OperationalError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    output = (self.root / f"{name}.out").read_text(errors="replace")
                    raise StackError(f"{name} did not start: {error}\n{output}") from error
                time.sleep(0.05)

    def _end(self, name: str, how: signal.Signals) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise StackError(f"{name} had to be killed") from None
