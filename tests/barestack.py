"""A PostgreSQL and a PgBouncer as they come, without a word about logs; `doctor`'s lines put into their files.

Enters: what `doctor --json` said. Leaves: changed files. Reads the fixes as docs/DOCTOR.md describes them, and
nothing else.
"""

from pathlib import Path
from typing import Any

import psycopg

from tests.cluster import SUPERUSER
from tests.stack import HOST, Stack


class BareStack(Stack):
    """Servers that log what they log by default (PgBouncer to a file, as Debian has it)."""

    @property
    def conf(self) -> Path:
        """The postgresql.conf that initdb made."""
        return self.data / "postgresql.conf"

    @property
    def ini(self) -> Path:
        """The pgbouncer.ini."""
        return self.root / "pgbouncer.ini"

    def _extend(self, connection: psycopg.Connection) -> None:
        """pgAudit isn't loaded yet."""

    def _postgresql_conf(self) -> str:
        lines = [
            f"listen_addresses = '{HOST}'",
            f"port = {self.postgres_port}",
            f"unix_socket_directories = '{self.socket_directory}'",
            "fsync = off",
        ]
        return "\n".join([*lines, *self.options.postgres_conf]) + "\n"

    def _pgbouncer_ini(self) -> str:
        if self.ini.exists():
            return self.ini.read_text()
        lines = [
            "[databases]",
            f"{self.options.database} = host={HOST} port={self.postgres_port}",
            "[pgbouncer]",
            f"listen_addr = {HOST}",
            f"listen_port = {self.pooler_port}",
            f"unix_socket_dir = {self.socket_directory}",
            f"logfile = {self.pgbouncer_log}",
            "auth_type = scram-sha-256",
            f"auth_file = {self.root / 'userlist.txt'}",
            f"admin_users = {SUPERUSER}",
            "pool_mode = transaction",
        ]
        return "\n".join([*lines, ""])


def apply(fix: dict[str, Any]) -> None:
    """Put a fix's lines where it says."""
    if not fix["lines"]:
        return
    (added,) = fix["lines"]
    path = Path(fix["file"])
    lines = path.read_text().split("\n")
    if fix["replaces"] is not None:
        lines[fix["replaces"] - 1] = added
    elif fix["section"] is None:
        lines.append(added)
    else:
        lines.insert(_end_of(fix["section"], lines), added)
    path.write_text("\n".join(lines) + ("" if lines[-1] == "" else "\n"))


def _end_of(section: str, lines: list[str]) -> int:
    start = lines.index(f"[{section}]")
    heads = (n for n, line in enumerate(lines) if n > start and line.startswith("["))
    return next(heads, len(lines) - (lines[-1] == ""))
