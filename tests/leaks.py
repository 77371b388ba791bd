"""Statements that hold personal values, in every way that SQL has to write one.

Enters: nothing. Leaves: `Case`s: a statement, its bind values, and the kind of value in it. Every value
is unique, and long enough that it occurs nowhere by chance: SECRET finds any of them. Does not: say how
they are masked.
"""

import datetime as dt
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SECRET = re.compile(rb"zq7\d{8}|90817\d{7}", re.IGNORECASE)
BIRTHDAYS = re.compile(rb"19\d\d-\d\d-\d\d")
"""No log is that old."""

_serial = itertools.count(1)


def _name() -> str:
    return f"AnZq7{next(_serial):08d}ski"


def _email() -> str:
    return f"a.zq7{next(_serial):08d}@example.org"


def _iban() -> str:
    account = f"90817{next(_serial):013d}"
    return f"DE{98 - int(account + '131400') % 97:02d}{account}"


def _phone() -> str:
    return f"+4990817{next(_serial):07d}"


def _born() -> str:
    return str(dt.date(1905, 1, 1) + dt.timedelta(days=next(_serial)))


def _number() -> str:
    return f"90817{next(_serial):08d}"


KINDS: dict[str, Callable[[], str]] = {
    "name": _name,
    "email": _email,
    "iban": _iban,
    "phone": _phone,
    "born": _born,
    "ssn": _number,
    "id": _number,
}
"""Column of public.users -> maker of values."""

SPELLINGS: dict[str, str] = {
    "plain": "'{v}'",
    "escape": "E'{v}'",
    "escaped": "E'\\x{x:02x}{rest}'",
    "unicode": "U&'\\{x:04x}{rest}'",
    "national": "N'{v}'",
    "dollar": "${v_tag}${v}${v_tag}$",
    "joined": "'{first}' || '{rest}'",
    "continued": "'{first}'\n'{rest}'",
    "cast": "'{v}'::text",
    "cast as": "CAST('{v}' AS varchar(40))",
    "typed": "text '{v}'",
    "function": "trim('{v}')",
    "case": "CASE WHEN true THEN '{v}' ELSE 'no' END",
    "coalesced": "coalesce(NULL, '{v}')",
    "bound": "$1",
    "bound, cast": "$1::text",
}


def spelled(spelling: str, value: str) -> str:
    """A value as it may stand in a statement."""
    return SPELLINGS[spelling].format(
        v=value, first=value[0], rest=value[1:], x=ord(value[0]), v_tag="q"
    )


# {c}: the column, {v}: a value as it is spelled, {t}: the value alone.
TEMPLATES = r"""
SELECT id FROM users WHERE {c} = {v}
SELECT region FROM users WHERE {v} = {c}
SELECT region FROM users u WHERE u.{c} <> {v}
SELECT region FROM public.users WHERE {c} IN ({v}, 'no')
SELECT region FROM users WHERE {c} NOT IN ({v})
SELECT region FROM users WHERE {c} = ANY (ARRAY[{v}, 'no'])
SELECT region FROM users WHERE {c} = ANY ('{{no,{t}}}')
SELECT region FROM users WHERE {c} = ANY ('{{"{t}"}}'::text[])
SELECT region FROM users WHERE {c} = ANY (string_to_array('no,{t}', ','))
SELECT region FROM users WHERE {c}::text LIKE {v}
SELECT region FROM users WHERE {c} LIKE '%' || {v} || '%'
SELECT region FROM users WHERE {c} ILIKE '%{t}%'
SELECT region FROM users WHERE {c} SIMILAR TO {v}
SELECT region FROM users WHERE {c} ~* '^{t}'
SELECT region FROM users WHERE {c} BETWEEN {v} AND 'zz'
SELECT region FROM users WHERE {c} IS NOT DISTINCT FROM {v}
SELECT region FROM users WHERE lower({c}) = lower({v})
SELECT region FROM users WHERE coalesce({c}, 'x') = {v}
SELECT region FROM users WHERE md5({c}) = md5({v})
SELECT region FROM users WHERE ({c}, region) = ({v}, 'EU')
SELECT region FROM users WHERE (region, {c}) IN (('EU', {v}))
SELECT region FROM users WHERE CASE WHEN {c} = {v} THEN true END
SELECT region FROM users WHERE CASE {c} WHEN {v} THEN true END
SELECT region FROM users WHERE NOT ({c} = {v}) OR region = 'EU'
SELECT region FROM users WHERE {c} = (SELECT {v})
SELECT region FROM users WHERE {c} IN (VALUES ({v}))
SELECT {v} = (SELECT {c} FROM users LIMIT 1)
SELECT {v} IN (SELECT {c} FROM users)
SELECT 1 WHERE {v} = ANY (SELECT {c} FROM users)
SELECT region FROM users u WHERE EXISTS (SELECT 1 FROM orders o WHERE o.id = 5 AND u.{c} = {v})
SELECT count(*) FILTER (WHERE {c} = {v}) FROM users
SELECT region, {c} = {v} AS hit FROM users
SELECT nullif({c}, {v}) FROM users
SELECT max(region) FROM users GROUP BY {c} HAVING {c} = {v}
SELECT region FROM users ORDER BY {c} = {v}
SELECT rank() OVER (PARTITION BY {c} = {v}) FROM users
SELECT {c} FROM users UNION ALL SELECT {v}
WITH x AS (SELECT {v} AS q) SELECT region FROM users JOIN x ON x.q = users.{c}
WITH x(q) AS (VALUES ({v})) SELECT region FROM users, x WHERE {c} = q
WITH RECURSIVE r(n) AS (SELECT {v} UNION SELECT {c} FROM users) SELECT * FROM r
SELECT region FROM users JOIN LATERAL (SELECT {v} AS q) l ON l.q = {c}
SELECT * FROM (SELECT {c} AS q FROM users) s WHERE q = {v}
SELECT region FROM users WHERE to_jsonb(users) @> '{{"{c}": "{t}"}}'
SELECT region FROM users WHERE to_jsonb(users)->>'{c}' = {v}
SELECT region FROM users WHERE jsonb_path_exists(to_jsonb(users), '$.{c} ? (@ == "{t}")')
SELECT region FROM users WHERE xpath_exists('//{c}[.="{t}"]', xmlelement(name x, {c}))
SELECT region FROM users WHERE array[{c}] && array[{v}]
SELECT region FROM users WHERE levenshtein({c}, {v}) < 3
SELECT region FROM users WHERE position({v} IN {c}) > 0
SELECT region FROM users WHERE strange_function({c}, {v})
SELECT find_somebody({v})
SELECT * FROM crm.find_somebody(p_{c} => {v})
SELECT * FROM dblink('dbname=x', 'SELECT id FROM users WHERE {c} = ''{t}''') AS d(id int)
SELECT pg_notify('changes', {v})
NOTIFY changes, '{t}'
SET app.customer_id = '{t}'
SET LOCAL app.user_email TO '{t}'
SELECT set_config('app.customer_id', {v}, true)
INSERT INTO users ({c}, region) VALUES ({v}, 'EU')
INSERT INTO users ({c}) VALUES ('no'), ({v})
INSERT INTO users ({c}) SELECT {v}
INSERT INTO users ({c}) SELECT {v} FROM orders WHERE id = 5
INSERT INTO users ({c}) SELECT unnest('{{{t}}}'::text[])
INSERT INTO users ({c}) VALUES (upper({v})) RETURNING id
INSERT INTO users ({c}) VALUES ('no') ON CONFLICT (id) DO UPDATE SET {c} = {v}
INSERT INTO users SELECT * FROM jsonb_populate_record(NULL::users, '{{"{c}": "{t}"}}')
UPDATE users SET {c} = {v} WHERE region = 'EU'
UPDATE users SET ({c}, region) = ({v}, 'EU')
UPDATE users SET region = 'EU' WHERE {c} = {v} RETURNING id
UPDATE users SET {c} = x.q FROM (SELECT {v} AS q) x
DELETE FROM users WHERE {c} = {v}
DELETE FROM users USING orders WHERE {c} = {v} AND orders.id = 5
MERGE INTO users u USING (VALUES ({v})) s(q) ON u.{c} = s.q WHEN MATCHED THEN DELETE
MERGE INTO users u USING orders o ON u.id = o.user_id WHEN MATCHED THEN UPDATE SET {c} = {v}
WITH x AS (UPDATE users SET {c} = {v} RETURNING id) SELECT count(*) FROM x
PREPARE p AS SELECT region FROM users WHERE {c} = {v}
EXECUTE p({v})
EXPLAIN (ANALYZE) SELECT region FROM users WHERE {c} = {v}
DECLARE c CURSOR FOR SELECT region FROM users WHERE {c} = {v}
COPY (SELECT region FROM users WHERE {c} = {v}) TO STDOUT
COPY users ({c}) FROM STDIN WHERE {c} = {v}
CALL change_somebody({v})
DO $do$ BEGIN UPDATE users SET region = 'EU' WHERE {c} = {v}; END $do$
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $do$ SELECT 1 FROM users WHERE {c} = '{t}' $do$
CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN (SELECT 1 FROM users WHERE {c} = {v})
CREATE VIEW v AS SELECT region FROM users WHERE {c} = {v}
CREATE TABLE x AS SELECT region FROM users WHERE {c} = {v}
CREATE TABLE users_z PARTITION OF users FOR VALUES IN ({v})
ALTER TABLE users ATTACH PARTITION users_z FOR VALUES FROM ({v}) TO ('zz')
ALTER TABLE users ALTER COLUMN {c} SET DEFAULT {v}
ALTER TABLE users ADD CONSTRAINT k CHECK ({c} <> {v})
CREATE INDEX i ON users (region) WHERE {c} = {v}
CREATE POLICY p ON users USING ({c} = {v})
CREATE RULE r AS ON DELETE TO users WHERE {c} = {v} DO INSTEAD NOTHING
CREATE TRIGGER t BEFORE UPDATE ON users FOR EACH ROW WHEN (NEW.{c} = {v}) EXECUTE FUNCTION f()
SELECT 1; SELECT region FROM users WHERE {c} = {v}
BEGIN; UPDATE users SET {c} = {v}; COMMIT
SELECT region FROM users WHERE {c} = {v} -- {t}
SELECT region FROM users WHERE {c} = {v} /* for {t} /* nested */ */
SELECT region FROM users WHERE {c} = {v} AND region = {v}
SELECT region FROM users WHERE {c} = {v} AND
SELECT region FROM WHERE {c} == {v}
SELECT region FORM users WHERE {c} = {v}
""".strip().split("\n")


@dataclass(frozen=True)
class Case:
    """One statement with one personal value in it."""

    text: str
    bound: tuple[str, ...]
    value: str


def cases() -> Iterator[Case]:
    """Every template with every kind of value, in every spelling."""
    for template, (column, make) in itertools.product(TEMPLATES, KINDS.items()):
        for spelling in SPELLINGS if "{v}" in template else ["plain"]:
            if spelling.startswith("bound") and template.startswith(("CREATE TABLE", "ALTER")):
                continue  # no bind values there
            value = make()
            text = template.format(c=column, v=spelled(spelling, value), t=value)
            yield Case(text, (value,) if spelling.startswith("bound") else (), value)
    for column, make in KINDS.items():
        if column in ("ssn", "id"):
            for template in TEMPLATES:
                if any(function in template for function in ("md5", "levenshtein", "position")):
                    continue  # they take no numbers
                value = make()
                yield Case(template.format(c=column, v=value, t=value), (), value)
