"""No read that a person's data went into is outside direct and possible: shown on a real database.

Enters: random reads, run on PostgreSQL with pgAudit. Leaves: nothing. Whether somebody's data went into a
result is asked of the database itself: the read is run again after that person's personal columns have
other values; if the result differs, they did. Does not: check the other direction, what is possible too much.
"""

import os
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.commandline import scalple
from tests.probes import CONFIG, FILLING, PERSONAL, SCHEMA, Probes
from tests.stack import Stack, StackOptions

READS = int(os.environ.get("PROBES", "400"))
SUBJECTS = (5, 12, 17)
"""One of each region."""

Rows = Counter[str]


def result(connection: psycopg.Connection[Any], text: str) -> Rows | None:
    """What a read returns, in no order; None if PostgreSQL refuses it."""
    try:
        with connection.transaction():
            return Counter(map(repr, connection.execute(text.encode()).fetchall()))
    except psycopg.Error:
        return None


def influenced(connection: psycopg.Connection[Any], text: str, before: Rows) -> set[int]:
    """Whose personal data went into the result."""
    found = set()
    for subject in SUBJECTS:
        with connection.transaction(force_rollback=True):
            for table, column in PERSONAL:
                key = "id" if table == "users" else "user_id"
                connection.execute(
                    f"UPDATE {table} SET {column} = 'Q!' || md5({column}) WHERE {key} = {subject}"
                )
            if result(connection, text) != before:
                found.add(subject)
    return found


@pytest.mark.stack
def test_every_read_of_a_persons_data_is_direct_or_possible(tmp_path: Path) -> None:
    probes = Probes(random.Random(int(os.environ.get("PROBES_SEED", "20260314"))))
    truth: dict[int, set[int]] = {}
    texts: dict[int, str] = {}
    with Stack(StackOptions(pooler=False, users=10, eu_users=2)) as stack:
        unseen = psycopg.connect(stack.dsn_superuser(), autocommit=True)
        unseen.execute("SET pgaudit.log = 'none'")
        unseen.execute("DROP TABLE IF EXISTS users, orders, products CASCADE")
        unseen.execute(SCHEMA.encode())
        unseen.execute(FILLING.encode())
        unseen.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC")
        unseen.execute("ANALYZE")
        with psycopg.connect(stack.dsn_direct(), autocommit=True) as audited:
            while len(truth) < READS:
                text = probes.read()
                before = result(unseen, text)
                if before is None:
                    continue
                number = len(truth)
                texts[number] = f"{text} /* probe {number} */"
                truth[number] = influenced(unseen, text, before)
                assert result(audited, texts[number]) == before
        unseen.close()
    schema, config = tmp_path / "schema.sql", tmp_path / "config.toml"
    schema.write_text(SCHEMA)
    config.write_text(CONFIG)
    store = tmp_path / "store"
    options: list[str | Path] = ["--config", config, "--store", store, "--schema", schema]
    said = scalple("reprocess", *options, "--postgres-log", *stack.csvlog_paths())
    assert said.code == 0, said.err
    assert sum(map(bool, truth.values())) > READS / 6
    for subject in SUBJECTS:
        found = answer(store, subject)
        missing = [texts[n] for n, people in truth.items() if subject in people and n not in found]
        assert not missing, "\n".join(missing)
        # The claim would be worth nothing if everything were possible.
        assert len(found) < 0.9 * READS


def answer(store: Path, subject: int) -> set[int]:
    """The probes that are direct or possible."""
    names = [
        "--subject",
        f"customer_id={subject}",
        "--subject",
        f"email=person{subject}@example.com",
    ]
    said = scalple(
        "query", "--store", store, *names, "--disclosure", "controller", "--format", "json"
    )
    assert said.code == 0, said.err
    rows = [row for part in ("direct", "possible") for row in said.json()[part]]
    marks = (re.search(r"/\* probe (\d+) \*/", row["query"]) for row in rows)
    return {int(mark[1]) for mark in marks if mark}
