"""Policies from the configuration to the findings in a store, and to what the verb says of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import SAMPLE, manifests, reprocess_sample, rows, scalple

SAMPLE_RULES = """
[actors]
roles = { jmueller = "employee_id_2291", awagner = "employee_id_6001" }
file  = "people.csv"

[[policy]]
name    = "billing-no-iban"
actors  = ["group:billing"]
columns = ["public.users.iban"]

[[policy]]
name   = "unattributed-users"
actors = ["unattributed"]
tables = ["public.users"]

[[policy]]
name          = "writes-need-tickets"
classes       = ["WRITE"]
unless_ticket = ["*"]

[[policy]]
name          = "services-only"
tables        = ["public.*"]
unless_actors = ["actor:svc_*"]
"""
PEOPLE_CSV = """actor,groups,valid_until
employee_id_2291,billing,
employee_id_0877,support,2026-11-01
"""
ANSWER = "SELECT source_offset, findings FROM audit ORDER BY source_offset"


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's configuration with rules and a list of people."""
    folder = tmp_path_factory.mktemp("rules")
    text = (SAMPLE / "config.toml").read_text()
    begin = text.index("[actors]")
    sources = text[text.index("[sources]") : text.index("[pooler]")]
    (folder / "config.toml").write_text(text[:begin].replace(sources, "") + SAMPLE_RULES)
    (folder / "people.csv").write_text(PEOPLE_CSV)
    return folder / "config.toml"


def read(store: Path, config: Path, log: Path, *more: str | Path) -> None:
    arguments = (
        "--config",
        config,
        "--schema",
        SAMPLE / "schema.sql",
        "--postgres-log",
        log,
        *more,
    )
    done = scalple("reprocess", "--store", store, *arguments)
    assert done.code == 0, done.err


OTHERS: tuple[str | Path, ...] = (
    *("--pgbouncer-log", SAMPLE / "pgbouncer.log"),
    *("--identity-events", SAMPLE / "identity.jsonl"),
)


@pytest.fixture(scope="module")
def at_once(ruled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the sample under those rules."""
    store = tmp_path_factory.mktemp("once") / "store"
    read(store, ruled, SAMPLE / "postgresql.csv", *OTHERS)
    return store


def test_the_sample_has_the_findings_that_its_rows_show(at_once: Path) -> None:
    known = rows(
        at_once,
        "SELECT session_user_id AS actor, attribution_grade AS grade, class, coalesce(findings, []) "
        "AS findings, list_contains(columns_accessed, 'public.users.iban') AS iban, "
        "list_contains(affected_tables, 'public.users') AS users, columns_basis AS basis FROM audit",
    )
    wrong = []
    for one in (one for one in known if one["grade"] != "pooler"):
        found = one["findings"]
        if one["actor"] == "employee_id_2291" and one["basis"] == "parsed":
            wrong += [one] if ("policy:billing-no-iban" in found) != one["iban"] else []
        if one["actor"] == "employee_id_0877" and "after-offboarding" not in found:
            wrong.append(one)
        if one["actor"] is None and ("policy:unattributed-users" in found) != one["users"]:
            wrong.append(one)
        if one["actor"] and (one["class"] == "WRITE") != ("policy:writes-need-tickets" in found):
            wrong.append(one)
    assert wrong == []
    counts = rows(
        at_once, "SELECT f, count(*) AS n FROM (SELECT unnest(findings) AS f FROM audit) GROUP BY 1"
    )
    by_finding = {one["f"]: one["n"] for one in counts}
    assert by_finding["policy:billing-no-iban"] > 50
    assert by_finding["policy-unknown:billing-no-iban"] > 50  # groups of others aren't known
    assert by_finding["after-offboarding"] > 100
    denied = rows(at_once, "SELECT findings, session_user_id AS actor FROM denied")
    assert {one["actor"] for one in denied if one["findings"] == ["after-offboarding"]} == {
        "employee_id_0877"
    }


def test_a_ticket_and_groups_that_an_event_gives_hold_for_the_statements_that_cite_it(
    ruled: Path, tmp_path: Path
) -> None:
    """Every other connection of one actor has a ticket; another actor's events tell his groups."""
    events = tmp_path / "identity.jsonl"
    lines = (SAMPLE / "identity.jsonl").read_text().splitlines()
    said = [json.loads(line) for line in lines]
    with_ticket = {
        one["connection"]
        for one in [one for one in said if one.get("actor") == "employee_id_1044"][::2]
    }
    for one in said:
        if one.get("connection") in with_ticket:
            one["ticket"] = "CHG-1"
        if one.get("actor") == "employee_id_4502":
            one["groups"] = ["support"]
    events.write_text("".join(json.dumps(one) + "\n" for one in said))
    store = tmp_path / "store"
    read(store, ruled, SAMPLE / "postgresql.csv", *OTHERS[:-1], events)
    known = rows(
        store,
        "SELECT session_user_id AS actor, class, coalesce(findings, []) AS findings, "
        "list_contains(columns_accessed, 'public.users.iban') AS iban, (SELECT bool_or(detail LIKE "
        "'%CHG-1%') FROM evidence WHERE id IN a.attribution_evidence) AS ticket FROM audit a",
    )
    wrote = [one for one in known if one["actor"] == "employee_id_1044" and one["class"] == "WRITE"]
    assert 0 < sum(one["ticket"] is True for one in wrote) < len(wrote)
    for one in wrote:
        assert ("policy:writes-need-tickets" in one["findings"]) == (one["ticket"] is not True)
    supporters = [one for one in known if one["actor"] == "employee_id_4502" and one["iban"]]
    assert supporters
    assert not any("billing-no-iban" in str(one["findings"]) for one in supporters)


@pytest.mark.parametrize("rotated", [False, True])
def test_a_log_read_in_pieces_has_the_same_findings(
    rotated: bool, ruled: Path, at_once: Path, tmp_path: Path
) -> None:
    """Transactions that are rolled back behind a cut keep what the rules found of them."""
    lines = (SAMPLE / "postgresql.csv").read_bytes().splitlines(keepends=True)
    back = rows(
        at_once,
        "SELECT source_offset AS o FROM audit WHERE 'rolled-back' IN findings "
        "AND findings::VARCHAR LIKE '%services-only%' ORDER BY 1",
    )
    store, log = tmp_path / "store", tmp_path / "postgresql.csv"
    ends, total = [], 0
    for line in lines:
        total += len(line)
        ends.append(total)
    # Behind a statement of a transaction that was rolled back.
    cut = next(end for end in ends if end > back[-1]["o"])
    whole = b"".join(lines)
    log.write_bytes(whole[:cut])
    read(store, ruled, log, *OTHERS)
    if rotated:  # what was read has another name now, and its name another log
        before = log.rename(log.with_suffix(".csv.1"))
        log.write_bytes(whole[cut:])
        read(store, ruled, log, "--postgres-log", before, *OTHERS)
    else:
        log.write_bytes(whole)
        read(store, ruled, log, *OTHERS)
    findings = "SELECT findings FROM audit ORDER BY seq"
    assert rows(store, findings) == rows(at_once, findings)
    revised = rows(store, "SELECT changes FROM revisions WHERE reason = 'rolled-back'")
    assert any("services-only" in one["changes"] for one in revised)
    assert scalple("verify", "--store", store).code == 0


def test_a_name_found_later_brings_its_findings_and_takes_the_unknown_ones_back(
    ruled: Path, at_once: Path, tmp_path: Path
) -> None:
    store, log = tmp_path / "store", SAMPLE / "postgresql.csv"
    read(store, ruled, log, "--pgbouncer-log", SAMPLE / "pgbouncer.log")
    before = rows(store, ANSWER)
    assert any("policy-unknown:billing-no-iban" in (one["findings"] or ()) for one in before)
    read(store, ruled, log, "--identity-events", SAMPLE / "identity.jsonl")
    assert rows(store, ANSWER) == rows(at_once, ANSWER) != before


def test_rules_that_changed_are_applied_when_asked_for(
    ruled: Path, at_once: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    assert reprocess_sample(store, "--schema", SAMPLE / "schema.sql").code == 0
    assert not any("policy" in str(one["findings"]) for one in rows(store, ANSWER))
    read(store, ruled, SAMPLE / "postgresql.csv", "--revise")
    kept = "SELECT source_offset, list_filter(findings, lambda f: f LIKE 'policy%') FROM audit ORDER BY 1"
    assert rows(store, kept) == rows(at_once, kept)


def asked(store: Path, *more: str | Path) -> dict[str, Any]:
    """What the verb says, and that it wrote nothing."""
    before = manifests(store)
    said = scalple("policy", "--store", store, "--format", "json", *more)
    assert said.code == 0, said.err
    assert manifests(store) == before
    answer: dict[str, Any] = said.json()
    return answer


def test_what_other_rules_would_find_is_what_they_find_when_they_are_in_force(
    ruled: Path, at_once: Path, sample_store: Path
) -> None:
    tried, true = asked(sample_store, "--config", ruled), asked(at_once)
    assert [one["finding"] for one in true["findings"]] == sorted(
        {f for one in rows(at_once, ANSWER) for f in one["findings"] or () if f != "rolled-back"}
    )
    for part in ("findings", "actors", "days"):
        assert {one["stored"] for one in tried[part]} == {0}
        for one in true[part]:
            assert one["found"] == one["stored"] > 0
        assert [one | {"stored": 0} for one in true[part]] == tried[part]
    days = sum(one["found"] for one in true["days"])
    assert days == sum(one["found"] for one in true["findings"]) > 0
    assert tried["silent"] == true["silent"] == []
    assert asked(at_once, "--until", "2020-01-01")["silent"] == [
        "billing-no-iban",
        "services-only",
        "unattributed-users",
        "writes-need-tickets",
    ]
    readers = scalple("minimisation", "--store", at_once, "--format", "json").json()["actors"]
    groups = {one["actor"]: one["groups"] for one in readers}
    assert (groups["employee_id_2291"], groups["employee_id_1044"]) == (["billing"], None)
    assert groups["employee_id_0877"] == []  # not here any more
    table = scalple("policy", "--store", at_once)
    assert table.code == 0
    assert "policy-unknown:billing-no-iban" in table.out
    assert scalple("policy", "--store", sample_store).code == 4  # no rules, nothing stored
