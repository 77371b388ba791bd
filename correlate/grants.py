"""Who may do what to which column, by the privileges that a snapshot of the database lists.

In: a `Snapshot`. Out: answers. Resolves privileges as PostgreSQL's has_column_privilege does:
superusers, owners, PUBLIC, memberships that are inherited, grants on tables and on columns, and
the predefined roles pg_read_all_data and pg_write_all_data. Knows nothing of row-level security,
of USAGE on schemas, and of what functions and views do with their owners' privileges.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from scalple.correlate.snapshot import Snapshot

PUBLIC = "public"
_ANYWHERE = {
    "SELECT": "pg_read_all_data",
    "INSERT": "pg_write_all_data",
    "UPDATE": "pg_write_all_data",
    "DELETE": "pg_write_all_data",
}
_PREDEFINED_SINCE = 140_000


@dataclass(slots=True)
class Entitlements:
    """The privileges of one time."""

    _superusers: frozenset[str]
    _owners: dict[str, str]
    _owners_without: frozenset[tuple[str, str]]
    _granted: dict[tuple[str, str | None, str], set[str]]
    """(relation, column or None for all, privilege) -> roles."""
    _above: dict[str, list[str]]
    """Role -> those whose privileges it inherits at once."""
    _has_predefined: bool
    _reached: dict[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """The privileges that a snapshot lists."""
        granted: dict[tuple[str, str | None, str], set[str]] = {}
        for grant in snapshot.grants:
            place = (grant.relation, grant.column, grant.privilege.upper())
            granted.setdefault(place, set()).add(grant.role)
        above: dict[str, list[str]] = {}
        for one in snapshot.memberships:
            if one.inherits:
                above.setdefault(one.member, []).append(one.role)
        return cls(
            frozenset(role.name for role in snapshot.roles if role.superuser),
            dict(snapshot.owners),
            frozenset((one.relation, one.privilege.upper()) for one in snapshot.owners_without),
            granted,
            above,
            snapshot.server_version >= _PREDEFINED_SINCE,
        )

    def may(
        self,
        role: str,
        relation: str,
        column: str | None,
        privilege: str,
        *,
        has_bypass: bool = True,
    ) -> bool:
        """Whether a role has a privilege on a column.

        Args:
            role: as PostgreSQL keeps its name.
            relation: `schema.table`.
            column: its name; None asks for the relation as a whole.
            privilege: SELECT, INSERT, UPDATE, REFERENCES, and for relations DELETE, TRUNCATE, …
            has_bypass: a superuser has every privilege; otherwise only those that others would have.
        """
        privilege = privilege.upper()
        if has_bypass and role in self._superusers:
            return True
        roles = self.roles_of(role)
        if (relation, privilege) not in self._owners_without:
            owner = self._owners.get(relation)
            if owner is not None and owner in roles:
                return True
        if self._has_predefined and relation in self._owners and _ANYWHERE.get(privilege) in roles:
            return True
        places = [None] if column is None else [None, column]
        return any(
            not roles.isdisjoint(self._granted.get((relation, place, privilege), ()))
            for place in places
        )

    def unentitled(
        self, role: str, columns: Iterable[tuple[str, str]], privilege: str
    ) -> list[tuple[str, str]]:
        """Those of (relation, column) on which a role lacks a privilege."""
        return [one for one in columns if not self.may(role, *one, privilege)]

    def roles_of(self, role: str) -> frozenset[str]:
        """The role itself, PUBLIC, and all whose privileges it inherits."""
        if role not in self._reached:
            found = {role: None}
            queue = [role]
            while queue:
                new = [one for one in self._above.get(queue.pop(), ()) if one not in found]
                found.update(dict.fromkeys(new))
                queue += new
            self._reached[role] = frozenset(found) | {PUBLIC}
        return self._reached[role]
