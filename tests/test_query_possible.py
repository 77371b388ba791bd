"""Which statements could have shown a person: each form here stands in a log written by hand."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalple.cli.declarations import rules_from_bytes, to_objects
from scalple.correlate.rules import Rules
from tests.commandline import scalple

CONFIG = """origin = "db1"
[pooler]
kind = "none"
[identifiers]
customer_id = ["public.users.id", "public.orders.user_id"]
[personal_data]
"public.users.email" = "email"
"public.users.iban" = "keep-last-4"
"public.Customer Notes.Body" = "redact"
[functions]
"public.get_orders" = ["", "customer_id"]
"""
SCHEMA = """
CREATE TABLE public.users (id bigint, email text, iban text, region text);
CREATE TABLE public.orders (id bigint, user_id bigint, note text);
CREATE TABLE public.archive (id bigint, email text, iban text, region text);
"""
NONE = "<none>"
MERGE = "MERGE INTO archive a USING users u ON a.id = u.id"

COULD_HAVE_SHOWN = [
    # Somebody else is named, and other rows are read all the same.
    ("SELECT email FROM users WHERE id = 5 OR region = 'EU'", NONE),
    ("SELECT email FROM users WHERE id IN (5) OR TRUE", NONE),
    ("SELECT email FROM users WHERE id = 5 OR email LIKE '%@%'", NONE),
    ("SELECT email FROM users WHERE ($1 IS NULL OR id = $1)", "5"),
    ("SELECT email FROM users WHERE id = 5 UNION ALL SELECT email FROM users", NONE),
    ("SELECT * FROM users WHERE id = 5 INTERSECT SELECT * FROM users", NONE),
    ("SELECT email FROM users WHERE id = 5; SELECT email, iban FROM users", NONE),
    ("WITH x AS (SELECT 1 FROM users WHERE id = 5) SELECT email FROM users", NONE),
    ("SELECT u.email FROM users u WHERE EXISTS (SELECT 1 FROM orders WHERE user_id = 5)", NONE),
    ("SELECT u.email FROM users u, orders o WHERE o.user_id = 5", NONE),
    ("SELECT u.email, o.user_id FROM users u LEFT JOIN orders o ON o.user_id = 5", NONE),
    ("SELECT (SELECT email FROM users v WHERE v.id = 5), u.email FROM users u", NONE),
    ("SELECT email FROM users WHERE id <> 5", NONE),
    # Writes that return or copy.
    ("UPDATE users SET region = 'EU' RETURNING email", NONE),
    ("UPDATE users SET email = '' WHERE id = 5 RETURNING email", NONE),
    ("DELETE FROM users WHERE region = 'EU' returning *", NONE),
    ("INSERT INTO archive SELECT * FROM users", NONE),
    ("INSERT INTO archive SELECT * FROM users WHERE id = 5 OR region = 'EU'", NONE),
    ("INSERT INTO archive (email) SELECT email FROM users WHERE region = 'EU'", NONE),
    ("INSERT INTO archive TABLE users", NONE),
    ("UPDATE orders SET note = u.email FROM users u WHERE user_id = 5", NONE),
    ("UPDATE users SET email = '' WHERE id = 5; UPDATE users SET email = ''", NONE),
    (f"{MERGE} WHEN NOT MATCHED THEN INSERT VALUES (u.id, u.email, u.iban, u.region)", NONE),
    (f"{MERGE} AND u.id = 5 WHEN MATCHED THEN UPDATE SET email = u.email", NONE),
    ("UPDATE users SET email = lower(email)", NONE),
    ("DELETE FROM users", NONE),
    ("UPDATE orders SET user_id = 5 WHERE id = 7", NONE),
    (
        "INSERT INTO orders (id, user_id) VALUES (7, 5) ON CONFLICT (id) DO UPDATE SET note = ''",
        NONE,
    ),
    # Rows chosen by something else than what names somebody.
    ("SELECT email FROM users WHERE id = 5 OR email = 'a@example.com'", NONE),
    ("SELECT b.email FROM users a JOIN users b ON b.region = a.region WHERE a.id = 5", NONE),
    ("WITH d AS (DELETE FROM users RETURNING id) SELECT 1", NONE),
    # pgAudit says that the table was read; the text doesn't.
    ("SELECT * FROM get_orders('x', 5)", NONE),
    ("SELECT email FROM users WHERE (id = 5", NONE),
]
EXCLUDED = [
    ("SELECT email FROM users WHERE id = 5", NONE),
    ("SELECT email FROM users WHERE id = $1", "5"),
    ("SELECT email FROM users WHERE id IN (5, 6) AND region = 'EU'", NONE),
    ("SELECT count(*) FROM users WHERE id = 5", NONE),
    ("UPDATE users SET email = 'a@example.com' WHERE id = 5", NONE),
    ("DELETE FROM users WHERE id = 5", NONE),
    ("INSERT INTO users (id, email) VALUES (5, 'a@example.com')", NONE),
    ("SELECT id FROM archive", NONE),
]
DIRECT = [
    ("SELECT email FROM users WHERE id = 4711", NONE),
    ("SELECT email FROM users WHERE id = 4711 OR region = 'EU'", NONE),
    ("UPDATE users SET email = '' WHERE id = 4711 RETURNING email", NONE),
    ("SELECT * FROM get_orders('x', 4711)", NONE),
    ("SELECT * FROM get_orders($1, $2)", "x,4711"),
    ("WITH o AS (SELECT get_orders('x', 4711)) SELECT * FROM o", NONE),
]
WRITES = ("INSERT", "UPDATE", "DELETE", "MERGE")


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def records() -> Iterator[str]:
    """One csvlog record for each statement."""
    for n, (text, values) in enumerate([*COULD_HAVE_SHOWN, *EXCLUDED, *DIRECT], 1):
        verb = text.split()[0].replace("WITH", "SELECT")
        kind = "WRITE" if verb in WRITES else "READ"
        bound = values if values == NONE else quoted(values)
        table = "archive" if text == "SELECT id FROM archive" else "users"
        audit = f"AUDIT: SESSION,{n},1,{kind},{verb},TABLE,public.{table},{quoted(text)},{bound},1"
        yield (
            f'2026-03-14 11:22:08.{n:03d} UTC,"app_user","app",7380,"127.0.0.1:5555",6b043fa0.1cd4,'
            f'{n},"{verb}",2026-03-14 11:22:00 UTC,3/{n},0,LOG,00000,{quoted(audit)},,,,,,,,,'
            '"psql","client backend",,0\n'
        )


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Part of the answer -> the statements in it."""
    place: Path = tmp_path_factory.mktemp("possible")
    for name, text in (("c.toml", CONFIG), ("s.sql", SCHEMA), ("l.csv", "".join(records()))):
        (place / name).write_text(text, "utf-8")
    store = place / "store"
    said = scalple(
        *("reprocess", "--store", store, "--config", place / "c.toml"),
        *("--schema", place / "s.sql", "--postgres-log", place / "l.csv"),
    )
    assert said.code == 0, said.err
    asked = scalple(
        *("query", "--store", store, "--subject", "customer_id=4711"),
        *("--disclosure", "controller", "--format", "json"),
    )
    assert asked.code == 0, asked.err
    found = asked.json()
    assert found["coverage"]["statements"] == len(list(records()))
    texts = [text for text, _ in (*COULD_HAVE_SHOWN, *EXCLUDED, *DIRECT)]
    return {
        part: [texts[row["session_line_num"] - 1] for row in found[part]]
        for part in ("direct", "possible")
    }


@pytest.mark.parametrize("text", [text for text, _ in COULD_HAVE_SHOWN])
def test_what_could_have_shown_the_person_is_possible(
    text: str, answer: dict[str, list[str]]
) -> None:
    assert text in answer["possible"]


@pytest.mark.parametrize("text", [text for text, _ in EXCLUDED])
def test_what_reads_others_only_is_left_out(text: str, answer: dict[str, list[str]]) -> None:
    assert text not in answer["possible"]
    assert text not in answer["direct"]


def test_what_names_the_person_is_direct_only(answer: dict[str, list[str]]) -> None:
    assert answer["direct"] == [text for text, _ in DIRECT]
    assert sorted(answer["possible"]) == sorted(text for text, _ in COULD_HAVE_SHOWN)


def test_rules_recorded_before_functions_could_be_declared_are_read() -> None:
    recorded = json.loads(to_objects(Rules())["rules"])
    del recorded["functions"]
    assert rules_from_bytes(json.dumps(recorded).encode()) == Rules()


def test_rules_that_declare_functions_are_recorded() -> None:
    rules = Rules(functions={"public.get": ("", "customer_id")})
    assert rules_from_bytes(to_objects(rules)["rules"]) == rules
