"""Purpose and kind of staff, as identity events gave them, stand beside each access; tickets don't for the subject.

Enters: a small log with identity events of people who connect straight to PostgreSQL. Leaves: nothing.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import scalple

CONFIG = """origin = "db1"
[pooler]
kind = "none"
[identifiers]
customer_id = ["public.users.id"]
[personal_data]
"public.users.email" = "email"
"""
OPEN: dict[str, Any] = {
    "v": 1,
    "event": "open",
    "sidecar": "a",
    "seq": 2,
    "connection": "a/1",
    "authn": "jwt",
    "client_addr": "10.0.0.5",
    "client_port": 4000,
    "database": "shop",
    "db_role": "app",
    "ts": "2026-03-14T10:59:00Z",
    "actor": "e1",
    "purpose": "complaint",
    "ticket": "T-17",
    "groups": ["support", "tier 2"],
}
CHANGED: dict[str, Any] = {
    "v": 1,
    "event": "identify",
    "sidecar": "a",
    "seq": 3,
    "connection": "a/1",
    "authn": "jwt",
    "ts": "2026-03-14T11:30:00Z",
    "actor": "e1",
    "purpose": "billing",
}
START = {
    "v": 1,
    "event": "start",
    "ts": "2026-03-14T10:58:00Z",
    "sidecar": "a",
    "seq": 1,
    "heartbeat_s": 3600,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("circumstances")
    log = io.StringIO()
    lines = csv.writer(log, lineterminator="\n")
    for n, when in enumerate(("11:00:00.000", "12:00:00.000")):
        said = io.StringIO()
        text = "SELECT email FROM users WHERE id = 4711"
        fields = ["SESSION", n + 1, 1, "READ", "SELECT", "TABLE", "public.users", text, "<none>", 1]
        csv.writer(said, lineterminator="").writerow(fields)
        start = "2026-03-14 10:59:30 UTC"
        session = ["app", "shop", 100, "10.0.0.5:4000", "69b2a1c0.64", n + 1, "SELECT", start]
        rest = [f"3/{n}", 0, "LOG", "00000", f"AUDIT: {said.getvalue()}", *[""] * 8]
        lines.writerow([f"2026-03-14 {when} UTC", *session, *rest, "web", "client backend", "", 0])
    (directory / "postgresql.csv").write_text(log.getvalue())
    (directory / "config.toml").write_text(CONFIG)
    (directory / "schema.sql").write_text("CREATE TABLE users (id int PRIMARY KEY, email text);")
    events = "".join(json.dumps(one) + "\n" for one in (START, OPEN, CHANGED))
    (directory / "identity.jsonl").write_text(events)
    options = ["--config", "config.toml", "--schema", "schema.sql"]
    options += ["--postgres-log", "postgresql.csv", "--identity-events", "identity.jsonl"]
    paths = [one if one[0] == "-" else directory / one for one in options]
    said_by = scalple("reprocess", "--store", directory / "store", *paths)
    assert said_by.code == 0, said_by.err
    return directory / "store"


def told(store: Path, *more: str) -> list[tuple[Any, ...]]:
    said = scalple(
        "query", "--store", store, "--subject", "customer_id=4711", "--format", "json", *more
    )
    assert said.code == 0, said.err
    keys = ("session_user_id", "purpose", "groups", "ticket")
    return [tuple(row[key] for key in keys) for row in said.json()["direct"]]


def test_the_controller_learns_purpose_groups_and_ticket(store: Path) -> None:
    assert told(store, "--disclosure", "controller") == [
        ("e1", "complaint", ["support", "tier 2"], "T-17"),
        ("e1", "billing", None, None),
    ]


def test_the_subject_learns_purpose_and_kind_of_staff_and_no_ticket(store: Path) -> None:
    rows = told(store)
    assert [row[1:] for row in rows] == [
        ("complaint", ["support", "tier 2"], None),
        ("billing", None, None),
    ]
    assert all(row[0].startswith("actor-") for row in rows)


def test_the_page_and_csv_say_the_same(store: Path) -> None:
    question = ("query", "--store", store, "--subject", "customer_id=4711", "--format")
    page = scalple(*question, "html").out
    assert "purpose: complaint" in page
    assert "(support, tier 2)" in page
    assert "T-17" not in page
    listed = list(csv.DictReader(io.StringIO(scalple(*question, "csv").out)))
    assert [row["purpose"] for row in listed] == ["complaint", "billing"]
