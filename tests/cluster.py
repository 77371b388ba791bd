"""A PostgreSQL cluster as initdb leaves it: made once by a test process, copied for every server.

Enters: the Debian package postgresql-15. Leaves: a data directory that belongs to the servers' account.
Does not: configure it, or start anything. initdb takes longer than all the rest of a server's start, and
what it makes is the same each time.
"""

import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
import weakref
from pathlib import Path

POSTGRES_BIN = Path(os.environ.get("STACK_POSTGRES_BIN", "/usr/lib/postgresql/15/bin"))
SUPERUSER = "postgres"

# A clean environment: nothing of the caller's PG* variables may reach the servers; UTC makes PgBouncer's
# local time.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "TZ": "UTC", "LC_ALL": "C.UTF-8"}


class StackError(Exception):
    """A server of the stack did not start, or did not stop."""


def server_account() -> pwd.struct_passwd:
    """Who runs the servers: PostgreSQL refuses root, so root lends them an unprivileged account."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise StackError("running as root, and there is no account 'postgres' or 'nobody'")


def as_server(*arguments: str) -> list[str]:
    """The command prefix that runs a program as the servers' account; `arguments` are setpriv's."""
    if os.geteuid() != 0:
        return ["setpriv", *arguments, "--"] if arguments else []
    account = server_account()
    identity = ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]
    return ["setpriv", *arguments, *identity, "--"]


def lend(*paths: Path) -> None:
    """Give directories to the servers' account."""
    if os.geteuid() == 0:
        account = server_account()
        for path in paths:
            os.chown(path, account.pw_uid, account.pw_gid)


def make_cluster(data: Path) -> None:
    """A new cluster in `data`, which doesn't exist yet. Raises StackError where initdb fails."""
    subprocess.run(["cp", "-a", "--reflink=auto", _initialised().data, data], check=True)


class _Initialised:
    """What initdb made, for as long as the process lives."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="cluster-"))
        weakref.finalize(self, shutil.rmtree, self.root, ignore_errors=True)
        lend(self.root)
        self.data = self.root / "data"
        arguments = ["-D", str(self.data), "-U", SUPERUSER, "--no-sync", "-A", "trust"]
        command = [str(POSTGRES_BIN / "initdb"), *arguments, "-E", "UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(
            [*as_server(), *command],
            check=False,
            cwd=self.root,
            env=ENVIRONMENT,
            capture_output=True,
        )
        if done.returncode:
            raise StackError(f"initdb failed: {done.stderr.decode(errors='replace')}")


@functools.cache
def _initialised() -> _Initialised:
    return _Initialised()
