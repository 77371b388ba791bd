"""A live PostgreSQL -> a snapshot of its schema and privileges (docs/SCHEMA.md).

Enters: a connection string. Leaves: a value for JSON. One read-only transaction of one point in
time, whose locks hinder only who changes the same tables at that moment; needs no privileges but
CONNECT. Reads the system catalogs, never a row of a table.
"""

import datetime as dt
from typing import Any

from scalple.ingest.liveconnection import connected

VERSION = 1
_KINDS = {"r": "table", "p": "partitioned", "v": "view", "m": "matview", "f": "foreign"}

_OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'"
_RELATION = "n.nspname || '.' || c.relname"

_FACTS = """
SELECT now(), current_database(), current_setting('server_version_num')::int,
       current_schemas(false)::text[]
"""
_RELATIONS = f"""
SELECT {_RELATION}, c.relkind::text, c.relispartition, pn.nspname || '.' || p.relname,
       CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END, c.oid,
       pg_get_userbyid(c.relowner)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
LEFT JOIN pg_class p ON p.oid = i.inhparent
LEFT JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_OURS}
ORDER BY 1
"""
_COLUMNS = f"""
SELECT c.oid, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_OURS}
ORDER BY c.oid, a.attnum
"""
_KEYS = f"""
SELECT c.oid, x.relname,
       array(SELECT a.attname::text
             FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, at)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
             WHERE k.at <= i.indnkeyatts ORDER BY k.at)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND {_OURS}
ORDER BY c.oid, x.relname
"""
_FUNCTIONS = """
SELECT n.nspname || '.' || p.proname,
       array(SELECT coalesce(p.proargnames[at], '') FROM generate_series(1, p.pronargs) AS at)
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1, 2
"""
_PRIVILEGES = f"""
SELECT coalesce(r.rolname, 'public'), {_RELATION}, NULL, g.privilege_type, g.grantee = c.relowner
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS g
LEFT JOIN pg_roles r ON r.oid = g.grantee
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_OURS}
UNION
SELECT coalesce(r.rolname, 'public'), {_RELATION}, a.attname, g.privilege_type, false
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL aclexplode(a.attacl) AS g
LEFT JOIN pg_roles r ON r.oid = g.grantee
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_OURS}
ORDER BY 2, 3 NULLS FIRST, 1, 4
"""
_OWNERS_WITHOUT = f"""
SELECT {_RELATION}, g.privilege_type
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL aclexplode(acldefault('r', c.relowner)) AS g
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_OURS}
EXCEPT
SELECT {_RELATION}, g.privilege_type
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS g
WHERE g.grantee = c.relowner
ORDER BY 1, 2
"""
# Since 16 each membership says whether it is inherited; before, the member does.
_INHERITS = {True: "m.inherit_option", False: "u.rolinherit"}
_MEMBERSHIPS = """
SELECT r.rolname, u.rolname, bool_or({inherits})
FROM pg_auth_members m
JOIN pg_roles r ON r.oid = m.roleid
JOIN pg_roles u ON u.oid = m.member
GROUP BY 1, 2
UNION
SELECT 'pg_database_owner', u.rolname, {always} OR u.rolinherit
FROM pg_database d JOIN pg_roles u ON u.oid = d.datdba
WHERE d.datname = current_database()
  AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_database_owner')
ORDER BY 1, 2
"""
_ROLES = "SELECT rolname, rolsuper, rolcanlogin FROM pg_roles ORDER BY 1"

# What holds for everybody, unless only an own setting of this role or database can be seen; and all
# settings of single roles and databases.
_AUDITED = """
SELECT CASE WHEN source IN ('user', 'database', 'database user', 'session', 'client') THEN ''
            ELSE setting END
FROM pg_settings WHERE name = 'pgaudit.log'
UNION
SELECT split_part(one, '=', 2)
FROM pg_db_role_setting, unnest(setconfig) AS one
WHERE lower(split_part(one, '=', 1)) = 'pgaudit.log'
ORDER BY 1
"""


def take(dsn: str) -> dict[str, Any]:
    """A snapshot of the database that a connection string names, in the form of docs/SCHEMA.md.

    Raises:
        ConfigError: psycopg isn't installed, or it is no connection string.
        InputError: the server can't be reached, or refuses.
    """
    with connected(dsn, "take a snapshot") as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return _read(connection)


def _read(connection: Any) -> dict[str, Any]:
    def rows(query: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = connection.execute(query).fetchall()
        return found

    ((now, database, version, path),) = rows(_FACTS)
    # Nothing is in sight by its bare name: types and views are told with their schemas.
    connection.execute("SET LOCAL search_path = ''")
    columns: dict[int, list[dict[str, str]]] = {}
    for oid, name, kind in rows(_COLUMNS):
        columns.setdefault(oid, []).append({"name": name, "type": kind})
    keys: dict[int, list[tuple[str, list[str]]]] = {}
    for oid, name, names in rows(_KEYS):
        keys.setdefault(oid, []).append((name, names))
    relations, owners = [], {}
    for name, kind, is_partition, parent, query, oid, owner in rows(_RELATIONS):
        owners[name] = owner
        relations.append(
            {
                "name": name,
                "kind": "partition" if is_partition else _KINDS[kind],
                "columns": columns.get(oid, []),
                "keys": [names for _, names in keys.get(oid, [])],
                "key_names": [label for label, _ in keys.get(oid, [])],
                "parent": parent,
                "query": query,
            }
        )
    always = version >= 160_000
    memberships = _MEMBERSHIPS.format(inherits=_INHERITS[always], always=str(always).lower())
    return {
        "v": VERSION,
        "taken_at": now.astimezone(dt.UTC).isoformat().replace("+00:00", "Z"),
        "database": database,
        "server_version": version,
        "search_path": path,
        "relations": relations,
        "functions": [{"name": n, "arguments": a} for n, a in rows(_FUNCTIONS)],
        "owners": owners,
        "owners_without": [
            {"relation": relation, "privilege": what} for relation, what in rows(_OWNERS_WITHOUT)
        ],
        "grants": [
            {"role": role, "relation": relation, "column": column, "privilege": what}
            for role, relation, column, what, is_owner in rows(_PRIVILEGES)
            if not is_owner
        ],
        "memberships": [
            {"role": role, "member": member, "inherits": inherits}
            for role, member, inherits in rows(memberships)
        ],
        "roles": [
            {"name": name, "superuser": superuser, "login": login}
            for name, superuser, login in rows(_ROLES)
        ],
        "audited": [value for (value,) in rows(_AUDITED)],
    }
