"""Rights that were granted, and whether anybody used them.

Enters: grants and memberships of a database, and what its login roles did. Leaves: per grant `used`,
`perhaps`, `never` or `not-judged`. Errs towards use: a right that two grants give counts as used by way
of both, memberships count whether they are inherited or not, and what can't be told is `perhaps`. Says
nothing of owners and superusers, who need no grant. Touches no file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

PUBLIC = "public"
USED, PERHAPS, NEVER, NOT_JUDGED = "used", "perhaps", "never", "not-judged"
JUDGED_BY = {
    "READ": frozenset({"SELECT"}),
    "WRITE": frozenset({"INSERT", "UPDATE", "DELETE", "TRUNCATE"}),
}
"""pgAudit's class -> privileges whose use it logs; where it logged none of a class, nothing is judged."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A privilege on a relation, or on one of its columns."""

    role: str
    relation: str
    column: str | None
    privilege: str


@dataclass(frozen=True, slots=True)
class Use:
    """What statements of a login role needed, perhaps."""

    login: str | None
    """None: the log doesn't say whose."""
    relation: str | None
    """None: it isn't known which."""
    columns: frozenset[str] | None
    """Names of columns of the relation; None: it isn't known which."""
    privilege: str
    is_certain: bool
    statements: int
    last: datetime


@dataclass(frozen=True, slots=True)
class Right:
    """A grant, and what became of it."""

    grant: Grant
    use: str
    statements: int
    """Those that certainly used it, or, if there are none, that perhaps did."""
    last: datetime | None
    logins: tuple[str, ...]


class Members:
    """Who can act as whom.

    Args:
        memberships: (role, member) pairs.
    """

    def __init__(self, memberships: Iterable[tuple[str, str]]) -> None:
        self._above: dict[str, set[str]] = {}
        for role, member in memberships:
            self._above.setdefault(member, set()).add(role)
        self._reached: dict[str, frozenset[str]] = {}

    def roles_of(self, login: str) -> frozenset[str]:
        """The login itself, all roles that it is in, through others too, and PUBLIC."""
        if login not in self._reached:
            found, queue = {login, PUBLIC}, [login]
            for one in queue:  # grows while it is walked
                new = self._above.get(one, set()) - found
                found |= new
                queue += sorted(new)
            self._reached[login] = frozenset(found)
        return self._reached[login]


def rights(
    grants: Iterable[Grant], members: Members, uses: Sequence[Use], classes: Iterable[str]
) -> list[Right]:
    """What became of each grant, in the order of `grants`.

    Args:
        grants: as the database lists them.
        members: its memberships.
        uses: what login roles did in the period.
        classes: pgAudit's classes of which the period has any statement.
    """
    judged = frozenset(one for name in classes for one in JUDGED_BY.get(name, ()))
    by_place: dict[tuple[str | None, str], list[Use]] = {}
    for use in uses:
        by_place.setdefault((use.relation, use.privilege), []).append(use)
    return [_right(grant, members, by_place, judged) for grant in grants]


def _right(
    grant: Grant,
    members: Members,
    uses: Mapping[tuple[str | None, str], list[Use]],
    judged: frozenset[str],
) -> Right:
    near = [
        *uses.get((grant.relation, grant.privilege), ()),
        *uses.get((None, grant.privilege), ()),
    ]
    certain: list[Use] = []
    perhaps: list[Use] = []
    for use in near:
        if use.login is not None and grant.role not in members.roles_of(use.login):
            continue
        told = use.login is not None and use.relation is not None
        if grant.column is not None and use.columns is not None and grant.column not in use.columns:
            continue
        told &= grant.column is None or use.columns is not None
        (certain if told and use.is_certain else perhaps).append(use)
    found = certain or perhaps
    unused = NEVER if grant.privilege in judged else NOT_JUDGED
    return Right(
        grant,
        USED if certain else PERHAPS if perhaps else unused,
        sum(use.statements for use in found),
        max((use.last for use in found), default=None),
        tuple(sorted({use.login for use in found if use.login is not None})),
    )
