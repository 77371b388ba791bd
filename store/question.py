"""What is asked of a store, and the conditions on rows that it means.

Enters: what a person asked for, as plain values. Leaves: SQL conditions with named parameters and
their values. Asks nothing itself.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scalple.store.utf8 import require_utf8

ACTOR = "(session_user_id = $actor OR lower(session_email) = lower($actor))"
"""Who ran it is the actor asked for."""


@dataclass(frozen=True, slots=True)
class Period:
    """From `since`, inclusive, to `until`, exclusive; None is open."""

    since: datetime | None = None
    until: datetime | None = None


AS_DECLARED = 0
"""The number of rows whose tables and columns have had no other names (`rownames`)."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a question is about, in the names of some rows.

    Attributes:
        names: which rows: a number of `RowNames`.
        personal: columns with personal data, or that hold identifiers.
        subject_columns: those that hold identifiers.
    """

    names: int
    personal: tuple[str, ...]
    subject_columns: tuple[str, ...]

    @property
    def tables(self) -> list[str]:
        """Those of the personal columns."""
        return sorted({column.rpartition(".")[0] for column in self.personal})


@dataclass(frozen=True, slots=True)
class Question:
    """Filters combine with AND; the identifiers of `subject` are one person's and combine with OR.

    Attributes:
        tokens: (identifier, token) of the subject; empty if the question isn't about a subject.
        subject_columns: columns that hold those identifiers.
        personal_columns: all columns declared as personal data.
        carried: both, in the names of rows whose tables or columns were called otherwise before.
        actor: id or e-mail of whoever ran the statements.
        table: `table` or `schema.table`.
        role: the database role that they ran under.
        address: of the workstation, or of whoever PostgreSQL saw as its client.
    """

    tokens: tuple[tuple[str, int], ...] = ()
    subject_columns: tuple[str, ...] = ()
    personal_columns: tuple[str, ...] = ()
    carried: tuple[Meaning, ...] = ()
    actor: str | None = None
    table: str | None = None
    role: str | None = None
    address: str | None = None
    period: Period = Period()


def filters(question: Question, begins: str = "log_time") -> tuple[list[str], dict[str, Any]]:
    """Conditions and their values; `begins` is when a row begins, which lasts up to its log_time.

    Raises:
        InputError: a text of the question isn't valid UTF-8.
    """
    where: list[str] = []
    values: dict[str, Any] = {}
    if question.actor is not None:
        require_utf8(question.actor, "actor")
        where.append(ACTOR)
        values["actor"] = question.actor
    if question.table is not None:
        require_utf8(question.table, "table")
        where.append("list_contains(affected_tables, $table)")
        name = question.table
        values["table"] = name if "." in name else f"public.{name}"
    if question.role is not None:
        require_utf8(question.role, "role")
        where.append("db_role = $role")
        values["role"] = question.role
    if question.address is not None:
        require_utf8(question.address, "address")
        where.append("(peer_addr = $address OR client_addr = $address)")
        values["address"] = question.address
    if question.period.since is not None:
        where.append("log_time >= $since")
        values["since"] = question.period.since
    if question.period.until is not None:
        where.append(f"{begins} < $until")
        values["until"] = question.period.until
    return where, values
