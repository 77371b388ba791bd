"""A naive reading of `unless_entitled`, one row at a time: what `scalple.correlate.entitled` has to find.

Shares no code with it. Rights are worked out by going through all grants for all roles that are reached, as
PostgreSQL 15 reaches them: a member has a role's rights only if he inherits, at every step.
"""

from collections.abc import Iterable, Mapping
from typing import Any

Truth = bool | None
"""True: a right was missing; None: unknown."""
OWN = {"anna": ["r_anna", "r_gone"], "ben": ["r_ben"]}
GROUPS = {"g": "r_group", "h": "r_other"}
WRITES = {"INSERT": "INSERT", "UPDATE": "UPDATE", "DELETE": "DELETE", "TRUNCATE TABLE": "TRUNCATE"}
ALL = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"]


def reached(snapshot: Mapping[str, Any], role: str) -> set[str]:
    found = {role}
    for _ in snapshot["memberships"]:
        for one in snapshot["memberships"]:
            if one["member"] in found and one["inherits"]:
                found.add(one["role"])
    return found | {"public"}


def has(
    snapshot: Mapping[str, Any],
    roles: Iterable[str],
    relation: str,
    column: str | None,
    privilege: str,
    superusers: bool,
) -> bool:
    """has_table_privilege, has_column_privilege."""
    for role in roles:
        mine = reached(snapshot, role)
        if superusers and any(r["name"] == role and r["superuser"] for r in snapshot["roles"]):
            return True
        if snapshot["owners"].get(relation) in mine:
            return True
        if "pg_read_all_data" in mine and privilege == "SELECT":
            return True
        for grant in snapshot["grants"]:
            if (
                grant["role"] in mine
                and grant["relation"] == relation
                and grant["privilege"] == privilege
                and grant["column"] in (None, column)
            ):
                return True
    return False


def newest(snapshots: list[dict[str, Any]], at: int) -> dict[str, Any] | None:
    earlier = [one for one in snapshots if one["at"] <= at]
    return max(earlier, key=lambda one: one["at"]) if earlier else None


def is_stale(
    snapshot: dict[str, Any], changes: list[dict[str, Any]], at: int, relation: str
) -> bool:
    """Something touched it that was logged by now, and wasn't over when the snapshot was taken."""
    return any(
        one["begin"] <= at
        and (one["end"] is None or one["end"] >= snapshot["at"])
        and one["database"] in (None, "app")
        and one["scope"] in ("*", relation, "." + relation.split(".")[1])
        for one in changes
    )


def missing(
    whose: str,
    row: dict[str, Any],
    snapshots: list[dict[str, Any]],
    changes: list[dict[str, Any]],
    log_begins: int,
) -> Truth:
    """Whether a right was missing."""
    if row["class"] not in ("READ", "WRITE"):
        return False
    if row["tables"] == [] and row["object"] is None:
        return False
    groups = row["groups"]
    if whose == "role":
        roles = [row["db_role"]] if row["db_role"] else []
    elif row["actor"] is None:
        return None
    else:
        roles = OWN.get(row["actor"], []) + [GROUPS[g] for g in groups or () if g in GROUPS]
    snapshot = newest(snapshots, row["at"])
    enough = snapshot is not None and snapshot["audited"] in (["all"], ["all", "role, ddl"])
    if snapshot is None or not enough or log_begins > snapshot["at"]:
        return None
    roles = [one for one in roles if any(r["name"] == one for r in snapshot["roles"])]
    if not roles:
        return None
    if row["tables"] is None and row["object"] is None:
        return None
    touched = {*(row["tables"] or ()), *([row["object"]] if row["object"] else [])}
    names = {one["name"]: one for one in snapshot["relations"]}
    views = {one for one in touched if one in names and names[one]["kind"] == "view"}
    judged = ({row["object"]} | views) if row["object"] else touched
    answers = [
        of_relation(one, row, snapshot, touched, views, roles, whose == "actor")
        if one in names
        and one in snapshot["owners"]
        and not is_stale(snapshot, changes, row["at"], one)
        else None
        for one in judged
        if not one.startswith(("pg_temp.", "pg_catalog."))
    ]
    answer = True if True in answers else None if None in answers else False
    # Groups of which nobody tells may have brought what is missing.
    return None if answer and whose == "actor" and groups is None else answer


def of_relation(
    relation: str,
    row: dict[str, Any],
    snapshot: dict[str, Any],
    touched: set[str],
    views: set[str],
    roles: list[str],
    superusers: bool,
) -> Truth:
    def may(column: str | None, privilege: str) -> bool:
        return has(snapshot, roles, relation, column, privilege, superusers)

    there = next(o["columns"] for o in snapshot["relations"] if o["name"] == relation)
    there = [column["name"] for column in there]
    known = row["columns"] is not None and row["basis"] == "parsed"
    read = [c.rpartition(".")[2] for c in row["columns"] or () if c.rpartition(".")[0] == relation]

    def at_all(privilege: str) -> bool:
        return any(may(column, privilege) for column in [None, *there])

    is_own = relation == row["object"] or len(touched) == 1
    lacks: Truth
    if row["class"] == "READ":
        if may(None, "SELECT") or (known and read and all(may(c, "SELECT") for c in read)):
            return False
        if known and read:
            gone = [c for c in read if not may(c, "SELECT")]
            lacks = True if any(c in there for c in gone) else None
        elif at_all("SELECT"):
            return False if known else None
        else:
            lacks = True
    else:
        privilege = WRITES.get(row["command"])
        if privilege is None or not is_own:
            had = [one for one in ALL if at_all(one)]
            lacks = None if had else True
            if all(may(None, one) for one in ALL):
                return False
        elif may(None, privilege):
            return False
        elif privilege in ("DELETE", "TRUNCATE") or not at_all(privilege):
            lacks = True
        elif known and read and all(may(c, privilege) for c in read):
            return False
        else:
            none = known and read and not any(may(c, privilege) for c in read)
            lacks = True if none and privilege == "UPDATE" and row["shape"] == "write" else None
    if not lacks:
        return lacks
    # It was missing by the snapshot; could anything else have given it?
    names = {one["name"] for one in snapshot["relations"]}
    strange = {one for one in touched if one not in names and not one.startswith("pg_catalog.")}
    if row["within"] is not False or ((views or strange) and relation not in views):
        return None
    if not known_basis(row):
        return None
    plain = not row["mixed"] and (row["object"] is not None or len(touched) == 1)
    if row["class"] == "READ" and not plain and any(at_all(one) for one in ALL[1:]):
        return None
    return True


def known_basis(row: dict[str, Any]) -> bool:
    return row["basis"] == "parsed" or (row["command"] or "").startswith("TRUNCATE")
