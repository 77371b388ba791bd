"""What the operator declared about identifiers, personal data and actors, as plain values.

The command line builds these from the configuration; nothing here reads a file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scalple.correlate.policyrules import Person, Policy


@dataclass(frozen=True, slots=True)
class Pooler:
    """Which pooler stands before PostgreSQL."""

    kind: str = "pgbouncer"
    """`pgbouncer`, or `none` when clients connect straight to PostgreSQL."""
    mode: str = "transaction"
    """`transaction`, `session` or `statement`."""


@dataclass(frozen=True, slots=True)
class Actors:
    """Who is behind PostgreSQL's own names."""

    roles: Mapping[str, str] = field(default_factory=dict)
    """Login role that belongs to one person -> actor."""
    identities: Mapping[str, str] = field(default_factory=dict)
    """Externally authenticated identity (certificate DN, principal, …) -> actor."""
    emails: Mapping[str, str] = field(default_factory=dict)
    """Actor -> e-mail."""
    group_roles: Mapping[str, str] = field(default_factory=dict)
    """Group -> the database role that its members have in person."""


COMMENT_FORMS = ("sqlcommenter", "metabase", "redash", "looker", "supabase", "dbt")


@dataclass(frozen=True, slots=True)
class Claims:
    """What of a client's own words is believed, as far as words can be."""

    comments: tuple[str, ...] = COMMENT_FORMS
    """Forms of SQL comment that are read."""
    comment_keys: tuple[str, ...] = (
        "user",
        "user_id",
        "username",
        "user_name",
        "enduser.id",
        "actor",
    )
    """Keys of sqlcommenter's and dbt's comments that hold the actor."""
    comment_patterns: tuple[str, ...] = ()
    """Regular expressions with a group `actor`, tried on each comment."""
    name_patterns: tuple[str, ...] = ()
    """The same, for the application_name."""
    variables: tuple[str, ...] = ("app.current_user", "app.user")
    """Settings by which applications say who their user is."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """How well the clocks of the hosts agree that write the logs."""

    skew_ms: int = 0
    """By how much any two of them may differ at most."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The declarations that shape a row; recorded in the store with the rows they shaped."""

    identifiers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Identifier name -> columns (`schema.table.column`) that hold it."""
    personal_data: Mapping[str, str] = field(default_factory=dict)
    """Column (`schema.table.column`) -> name of its masking rule, or `keep:` and a pattern."""
    harmless: tuple[str, ...] = ()
    """Columns that hold no personal data, whatever their names and values look like."""
    functions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Function or procedure (`schema.name`) -> by position, the identifier that each argument
    names; empty for an argument that names nobody."""
    actors: Actors = field(default_factory=Actors)
    pooler: Pooler = field(default_factory=Pooler)
    claims: Claims = field(default_factory=Claims)
    clocks: Clocks = field(default_factory=Clocks)
    policies: tuple[Policy, ...] = ()
    people: tuple[Person, ...] = ()
    """Periods in which actors were here; of others nothing is known."""
