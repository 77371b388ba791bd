"""A connection string -> a connection to a live PostgreSQL.

Enters: a connection string. Leaves: psycopg's connection. Owns psycopg, which is an optional dependency, and
shows nothing of the connection string in its errors.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scalple.ingest.errors import ConfigError, InputError

_TIMEOUT_S = 10


@contextmanager
def connected(dsn: str, what: str) -> Iterator[Any]:
    """A connection in autocommit mode, closed at the end.

    Args:
        dsn: libpq's connection string or URI; empty for what PGHOST and so on say.
        what: what it is for, for messages: `take a snapshot`.

    Raises:
        ConfigError: psycopg isn't installed, or it is no connection string.
        InputError: the server can't be reached, or refuses.
    """
    try:
        import psycopg
        from psycopg.conninfo import make_conninfo
    except ImportError as error:
        raise ConfigError(
            f"psycopg, which is needed to {what}, isn't installed",
            hint="pip install 'scalple-ingest[snapshot]'",
        ) from error
    try:
        whole = make_conninfo(dsn, connect_timeout=_TIMEOUT_S, application_name="scalple-ingest")
    except psycopg.ProgrammingError:
        # The error itself quotes parts of the string, which may hold a password.
        raise ConfigError(
            "is no connection string",
            place="--dsn",
            hint="for example 'host=db1 dbname=app user=auditor' or postgresql://auditor@db1/app",
        ) from None
    try:
        with psycopg.connect(whole, autocommit=True) as connection:
            yield connection
    except psycopg.Error as error:
        state = error.sqlstate
        reason = error.diag.message_primary if state else _reason(str(error), "password" in whole)
        raise InputError(
            f"can't {what}: {reason}",
            place="--dsn",
            hint="passwords come from PGPASSWORD, ~/.pgpass or a service file",
        ) from None


def _reason(text: str, has_password: bool) -> str:
    """libpq's own words for a failed connection, in one line.

    It repeats no password, but what it takes for a host may be the rest of one.
    """
    words = " ".join(text.split())[:300]
    return re.sub(r"""(["'])(?:(?!\1).)*\1""", "…", words) if has_password else words
