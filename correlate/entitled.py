"""Whether somebody had, in person, the right to do what a statement did.

Enters: whose roles, what the statement touched, which snapshot of rights was in force. Leaves: yes (a right
was missing), no, or unknown and why. The rights are those that `scalple.correlate.grants` works out of the
snapshot. A right is said to be missing only where nothing else could have given it: what is reached through
a view or a function needs its owner's right, and not the reader's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from scalple.correlate.catalog import TEMPORARY, relation_name
from scalple.correlate.policyaccess import Access, wanted_columns, wants_table
from scalple.correlate.policyactors import Someone, groups_of, is_named
from scalple.correlate.policyrules import ACTOR, ROLE, Policy
from scalple.correlate.policyterms import NO, UNKNOWN, YES, any_of
from scalple.correlate.rightstimeline import Rights, State
from scalple.correlate.rules import Actors

NOBODY_NAMED = "nobody-named"
NO_ROLE = "no-role"
GROUPS_UNKNOWN = "groups-unknown"
NOT_IN_SNAPSHOT = "not-in-snapshot"
CHANGED_SINCE = "changed-since"
WITHIN_ANOTHER = "within-another"
THROUGH_VIEW = "through-view"
COLUMNS_UNKNOWN = "columns-unknown"
PARTLY = "partly"
_KNOWN = ("parsed", "star-expanded")
_SYSTEM = ("pg_catalog", "information_schema", "pg_toast", TEMPORARY)
_RELATIONS = ("TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "PARTITIONED TABLE")
_WRITTEN = {"INSERT": "INSERT", "COPY": "INSERT", "UPDATE": "UPDATE", "DELETE": "DELETE"}
_ANY = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")


@dataclass(frozen=True, slots=True)
class Touch:
    """One record of pgAudit."""

    access: Access
    command: str | None
    object_type: str | None
    object_name: str | None
    is_within: bool | None
    """Run by a function, a trigger, or EXECUTE; None where that isn't known."""
    is_mixed: bool
    """Its text may be of several statements, or write as well as read."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A right that none of the roles had."""

    privilege: str
    relation: str
    column: str | None
    """None: on the relation as a whole, and on none of its columns that could do instead."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether a right was missing."""

    answer: int
    why_unknown: str = ""
    missing: tuple[Missing, ...] = ()
    roles: tuple[str, ...] = ()
    """Whose rights were asked for."""
    snapshot: int = -1


HAD_IT = Judged(NO)


class Judge:
    """Judges by the rights of all snapshots.

    Args:
        rights: by the snapshots' numbers.
        actors: which roles belong to whom.
        personal: columns that are so declared.
    """

    def __init__(self, rights: list[Rights], actors: Actors, personal: tuple[str, ...]) -> None:
        self._rights = rights
        self._personal = personal
        self._group_roles = dict(actors.group_roles)
        self._own: dict[str, list[str]] = {}
        for role, actor in sorted(actors.roles.items()):
            self._own.setdefault(actor, []).append(role)

    def judged(self, policy: Policy, one: Someone, touch: Touch, state: State) -> Judged:
        """Whether a right was missing to whom the rule asks for."""
        if touch.access.kind not in ("READ", "WRITE"):
            return HAD_IT  # it touches no rows itself
        if touch.access.tables is not None and not touched_by(touch):
            return HAD_IT
        known = self._roles(policy, one, state)
        if isinstance(known, str):
            return Judged(UNKNOWN, known, snapshot=state.number)
        roles, has_all = known
        rights = self._rights[state.number]
        asked = _Asked(rights, roles, policy.unless_entitled == ACTOR)
        found = list(_relations(policy, touch, state, asked, self._personal))
        answer = any_of(one.answer for one in found)
        why = next((one.why_unknown for one in found if one.answer == UNKNOWN), "")
        if answer == YES and not has_all:
            answer, why = UNKNOWN, GROUPS_UNKNOWN
        missing = tuple(right for one in found for right in one.missing) if answer == YES else ()
        return Judged(answer, why if answer == UNKNOWN else "", missing, roles, state.number)

    def _roles(
        self, policy: Policy, one: Someone, state: State
    ) -> tuple[tuple[str, ...], bool] | str:
        """(roles; whether these are all that are known to be theirs), or why nothing can be said."""
        if policy.unless_entitled == ROLE:
            roles, has_all = [one.role] if one.role is not None else [], True
        elif not is_named(policy, one) or one.actor is None:
            return NOBODY_NAMED
        else:
            groups = groups_of(one)
            has_all = groups is not None or not self._group_roles
            roles = [*self._own.get(one.actor, ())]
            roles += [self._group_roles[g] for g in groups or () if g in self._group_roles]
        if not roles:
            return NO_ROLE if has_all else GROUPS_UNKNOWN
        if state.why_unknown:
            return state.why_unknown
        there = [role for role in dict.fromkeys(roles) if self._rights[state.number].knows(role)]
        return (tuple(there), has_all) if there else NO_ROLE


class _Asked:
    """The rights of some roles together, by one snapshot."""

    def __init__(self, rights: Rights, roles: tuple[str, ...], has_bypass: bool) -> None:
        self.rights = rights
        self._roles = roles
        self._has_bypass = has_bypass

    def may(self, relation: str, column: str | None, privilege: str) -> bool:
        return any(
            self.rights.entitled.may(role, relation, column, privilege, has_bypass=self._has_bypass)
            for role in self._roles
        )

    def may_somewhere(self, relation: str, privilege: str) -> bool:
        """On the relation, or on any of its columns."""
        columns = (None, *self.rights.columns.get(relation, ()))
        return any(self.may(relation, column, privilege) for column in columns)


def _relations(
    policy: Policy, touch: Touch, state: State, asked: _Asked, personal: tuple[str, ...]
) -> Iterator[Judged]:
    """The answer for each relation that the rule is about."""
    access = touch.access
    own = _own(touch)
    touched = touched_by(touch)
    if access.tables is None and own is None:
        yield Judged(UNKNOWN, COLUMNS_UNKNOWN)
        return
    views = asked.rights.views
    # Each relation has a record of its own where pgAudit names them; views have none that says READ.
    mine = touched if own is None else {own} | (touched & views)
    others = any(one not in asked.rights.columns and not _is_system(one) for one in touched)
    has_view = not touched.isdisjoint(views) or others or any(map(_is_temporary, touched))
    for relation in sorted(mine):
        if _is_system(relation):
            continue
        names = (relation, *_ancestors(asked.rights, relation))
        if not any(wants_table(policy, access, name) for name in names):
            continue
        columns = wanted_columns(policy, access, names, personal)
        if columns is not None and not columns and (policy.columns or policy.unless_columns):
            continue
        one = _one(touch, relation, columns, asked, is_own=relation == own or len(touched) == 1)
        if not asked.rights.tells(relation):
            yield Judged(UNKNOWN, NOT_IN_SNAPSHOT)
        elif state.is_stale(relation):
            yield Judged(UNKNOWN, CHANGED_SINCE)
        elif one.answer == YES:
            is_plain = not touch.is_mixed and (own is not None or len(touched) == 1)
            yield _doubted(one, touch, relation, asked, has_view, is_plain, own is None)
        else:
            yield one


def _doubted(
    one: Judged,
    touch: Touch,
    relation: str,
    asked: _Asked,
    has_view: bool,
    is_plain: bool,
    by_text: bool,
) -> Judged:
    """A missing right, unless something else may have given it."""
    if touch.is_within is not False:
        return Judged(UNKNOWN, WITHIN_ANOTHER)
    if has_view and relation not in asked.rights.views:
        return Judged(UNKNOWN, THROUGH_VIEW)
    is_truncated = (touch.command or "").startswith("TRUNCATE")
    if touch.access.basis not in _KNOWN and not is_truncated:
        return Judged(UNKNOWN, COLUMNS_UNKNOWN)
    # Of a text that reads and writes, a column may have been written only.
    writing = [name for name in _ANY if name != "SELECT"]
    may_write = any(asked.may_somewhere(relation, name) for name in writing)
    if touch.access.kind == "READ" and not is_plain and may_write:
        return Judged(UNKNOWN, PARTLY)
    # By the text alone, a partition goes by its parent's name.
    parts = asked.rights.partitions(relation) if by_text else frozenset()
    if any(asked.may_somewhere(part, name) for part in parts for name in _ANY):
        return Judged(UNKNOWN, PARTLY)
    return one


def _one(
    touch: Touch,
    relation: str,
    columns: frozenset[str] | None,
    asked: _Asked,
    *,
    is_own: bool,
) -> Judged:
    """By the snapshot alone. `is_own`: the record's class and command are of that relation."""
    if touch.access.kind == "READ":
        return _read(relation, columns, asked)
    command = (touch.command or "").upper()
    privilege = "TRUNCATE" if command.startswith("TRUNCATE") else _WRITTEN.get(command)
    if privilege is None or not is_own:
        return _any(relation, asked)
    if asked.may(relation, None, privilege):
        return HAD_IT
    lacks = Judged(YES, missing=(Missing(privilege, relation, None),))
    if privilege in ("DELETE", "TRUNCATE") or not asked.may_somewhere(relation, privilege):
        return lacks
    if columns:
        with_it = [asked.may(relation, column, privilege) for column in columns]
        if all(with_it):
            return HAD_IT
        if privilege == "UPDATE" and touch.access.shape == "write" and not any(with_it):
            return lacks
    return Judged(UNKNOWN, PARTLY)


def _read(relation: str, columns: frozenset[str] | None, asked: _Asked) -> Judged:
    if asked.may(relation, None, "SELECT"):
        return HAD_IT
    if columns is None:
        if asked.may_somewhere(relation, "SELECT"):
            return Judged(UNKNOWN, COLUMNS_UNKNOWN)
        return Judged(YES, missing=(Missing("SELECT", relation, None),))
    if not columns:
        if asked.may_somewhere(relation, "SELECT"):
            return HAD_IT  # count(*) needs one column, whichever
        return Judged(YES, missing=(Missing("SELECT", relation, None),))
    there = asked.rights.columns.get(relation, frozenset())
    lacking = sorted(one for one in columns if not asked.may(relation, one, "SELECT"))
    if not lacking:
        return HAD_IT
    missing = tuple(Missing("SELECT", relation, one) for one in lacking if one in there)
    return Judged(YES, missing=missing) if missing else Judged(UNKNOWN, NOT_IN_SNAPSHOT)


def _any(relation: str, asked: _Asked) -> Judged:
    """It isn't known which right was needed."""
    had = [privilege for privilege in _ANY if asked.may_somewhere(relation, privilege)]
    if not had:
        return Judged(YES, missing=(Missing("any", relation, None),))
    whole = all(asked.may(relation, None, privilege) for privilege in _ANY)
    return HAD_IT if whole else Judged(UNKNOWN, PARTLY)


def touched_by(touch: Touch) -> frozenset[str]:
    """All relations that a record names."""
    own = _own(touch)
    return frozenset(touch.access.tables or ()) | ({own} if own else frozenset())


def _own(touch: Touch) -> str | None:
    """The relation of which the record is."""
    return relation_name(touch.object_name) if touch.object_type in _RELATIONS else None


def _ancestors(rights: Rights, relation: str) -> Iterator[str]:
    seen = {relation}
    while (parent := rights.parents.get(relation)) is not None and parent not in seen:
        yield parent
        seen.add(parent)
        relation = parent


def _is_system(relation: str) -> bool:
    return relation.partition(".")[0] in _SYSTEM


def _is_temporary(relation: str) -> bool:
    return relation.startswith(f"{TEMPORARY}.")
