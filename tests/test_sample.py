"""The recorded sample that is shipped: complete, small, and silent about where it was recorded."""

import json
import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from tests.auditcount import audit_fields, audit_records, csvlog_records
from tests.statements import EU_CUSTOMERS

SAMPLE = Path(__file__).resolve().parent.parent / "sample_logs"
CSVLOG = SAMPLE / "postgresql.csv"
RECORDED = ("postgresql.csv", "pgbouncer.log", "identity.jsonl", "schema.sql")


@pytest.fixture(scope="module")
def records() -> list[list[str]]:
    """The audit records of the sample."""
    return list(audit_records([CSVLOG]))


def test_its_size_is_bounded() -> None:
    assert sum((SAMPLE / name).stat().st_size for name in RECORDED) < 3_000_000


@pytest.mark.parametrize("name", RECORDED)
def test_it_names_no_temporary_directory(name: str) -> None:
    assert not re.search(r"/tmp/|/home/|stack-\w", (SAMPLE / name).read_text(encoding="utf-8"))


def test_every_address_is_loopback() -> None:
    ends = {record[4].rsplit(":", 1)[0] for record in csvlog_records([CSVLOG])}
    assert ends == {"", "[local]", "127.0.0.1"}


def test_the_question_of_the_brief_is_answered(records: list[list[str]]) -> None:
    (asked,) = [r for r in records if audit_fields(r)[7] == EU_CUSTOMERS]
    assert audit_fields(asked)[9] == "47291"
    port = int(asked[22].rsplit(":", 1)[1])
    events = map(json.loads, (SAMPLE / "identity.jsonl").read_text().rstrip("\n").split("\n"))
    (who,) = [e for e in events if e["event"] == "open" and e["client_port"] == port]
    assert (who["actor"], who["email"]) == ("employee_id_2291", "j.muller@company.com")


def test_a_customer_was_looked_at_by_many(records: list[list[str]]) -> None:
    readers = defaultdict(set)
    for fields in map(audit_fields, records):
        if mark := re.search(r"/\* truth:(\w+) \*/", fields[7]):
            readers[fields[8]].add(mark[1])
    assert len(readers["4711"]) >= 8


def test_ids_of_every_session_are_dense(records: list[list[str]]) -> None:
    numbers = defaultdict(set)
    for record in records:
        numbers[record[5]].add(int(audit_fields(record)[1]))
    assert all(seen == set(range(1, len(seen) + 1)) for seen in numbers.values())


def test_its_configuration_names_what_is_there() -> None:
    config = tomllib.loads((SAMPLE / "config.toml").read_text())
    named = [
        path for kind in ("postgres", "pgbouncer", "identity") for path in config["sources"][kind]
    ]
    assert all((SAMPLE / path).exists() for path in named)
    schema = (SAMPLE / "schema.sql").read_text()
    columns = [c for listed in config["identifiers"].values() for c in listed]
    for column in [*columns, *config["personal_data"]]:
        table, _, name = column.rpartition(".")
        body = schema.split(f"CREATE TABLE {table} (", 1)[1].split(");", 1)[0]
        assert re.search(rf"^\s+{name} ", body, re.MULTILINE)
