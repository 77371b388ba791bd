"""Rules find what somebody finds who reads them out, row by row; and what can't be known stays unknown."""

import dataclasses
import datetime as dt
import json
import zoneinfo
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.cli.config import load
from scalple.correlate.policies import AS_LOGGED, OF_ACCESS, OF_PEOPLE, Policies
from scalple.correlate.policyrules import Hours, Person, Policy
from scalple.correlate.record import AUDIT, EVIDENCE
from scalple.correlate.rules import Rules
from scalple.ingest.errors import ConfigError
from tests.commandline import SAMPLE, manifests, reprocess_sample, rows, scalple

COLUMNS = (*AS_LOGGED, *OF_PEOPLE, *OF_ACCESS)
PERSONAL = {"public.users.iban": "keep-last-4", "public.users.email": "email"}
DETAILS: dict[int, dict[str, Any] | None] = {
    1: {"groups": ["billing"], "ticket": "CHG-1"},
    2: {"groups": [], "purpose": "support"},
    3: {"ticket": 7},
    4: None,
}
PEOPLE = (
    Person("anna", "human", ("billing", "dpo"), None, "2026-03-10T00:00:00+00:00"),
    Person("anna", "human", ("support",), "2026-03-12T00:00:00+00:00", None),
    Person("bot", None, None, "2026-03-11T00:00:00+00:00", None),
)
Truth = bool | None
"""None is unknown."""


# -- a naive reading of one rule and one row ---------------------------------------------------


def some(answers: Iterable[Truth]) -> Truth:
    found = list(answers)
    return True if True in found else None if None in found else False


def every(answers: Iterable[Truth]) -> Truth:
    found = list(answers)
    return False if False in found else None if None in found else True


def like(pattern: str, text: str) -> bool:
    """`*` is any text; without regular expressions."""
    if "*" not in pattern:
        return pattern == text
    head, _, rest = pattern.partition("*")
    if not text.startswith(head):
        return False
    return any(like(rest, text[at:]) for at in range(len(head), len(text) + 1))


def parts_like(pattern: str, name: str) -> bool:
    wanted, given_ = pattern.split("."), name.split(".")
    return len(wanted) == len(given_) and all(
        like(w, g) for w, g in zip(wanted, given_, strict=True)
    )


def moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)


def valid(person: Person, when: dt.datetime) -> bool:
    since, until = moment(person.valid_from), moment(person.valid_until)
    return (since is None or since <= when) and (until is None or when < until)


def said(row: dict[str, Any]) -> dict[str, Any]:
    for cited in row["attribution_evidence"] or []:
        detail = DETAILS.get(int(cited.rpartition("#")[2]))
        if detail:
            return detail
    return {}


def is_named(policy: Policy, row: dict[str, Any]) -> bool:
    enough = {"proven": 1, "confirmed": 2, "claimed": 3}
    rank = enough.get(row["attribution_grade"], 9)
    if row["session_user_id"] is None or rank > enough[policy.trust]:
        return False
    return not policy.authn or any(like(one, row["session_authn"] or "") for one in policy.authn)


def term(policy: Policy, text: str, row: dict[str, Any], people: Sequence[Person]) -> Truth:
    named = is_named(policy, row)
    if text in ("*", "unattributed"):
        return text == "*" or not named
    kind, _, pattern = text.partition(":")
    if kind == "role":
        return None if row["db_role"] is None else like(pattern, row["db_role"])
    if not named:
        return None
    mine = [one for one in people if one.actor == row["session_user_id"]]
    now = [one for one in mine if valid(one, row["log_time"])]
    if text == "unlisted":
        return not mine
    if kind == "actor":
        return like(pattern, row["session_user_id"])
    if kind == "kind":
        told = row["actor_kind"] or next((one.kind for one in (now or mine) if one.kind), None)
        return None if told is None else told == pattern
    if any(one.groups is not None for one in (now or mine)):
        return any(like(pattern, group) for one in now for group in one.groups or ())
    groups = said(row).get("groups")
    return None if groups is None else any(like(pattern, group) for group in groups)


def unexcused(policy: Policy, key: str, excuses: tuple[str, ...], row: dict[str, Any]) -> Truth:
    if not is_named(policy, row):
        return None
    given_ = said(row).get(key)
    return given_ is None or not any(like(one, str(given_)) for one in excuses)


def at_that_time(hours: Hours, when: dt.datetime) -> bool:
    local = when.astimezone(zoneinfo.ZoneInfo(hours.timezone))
    minute = local.hour * 60 + local.minute

    def begins(day: dt.date) -> bool:
        return day.weekday() in hours.days and day.isoformat() not in hours.holidays

    yesterday = local.date() - dt.timedelta(days=1)
    if hours.begin < hours.end:
        inside = begins(local.date()) and hours.begin <= minute < hours.end
    else:
        inside = (begins(local.date()) and minute >= hours.begin) or (
            begins(yesterday) and minute < hours.end
        )
    return inside != hours.outside


def spelt_out(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(one for name in names for one in (PERSONAL if name == "personal" else (name,)))


def touched(policy: Policy, row: dict[str, Any]) -> Iterable[Truth]:
    untold = None if row["class"] in ("READ", "WRITE", None) else False
    if policy.databases:
        name = row["database"]
        yield None if name is None else any(like(one, name) for one in policy.databases)
    if policy.classes:
        yield None if row["class"] is None else row["class"] in policy.classes
    if policy.shapes:
        yield untold if row["access_shape"] is None else row["access_shape"] in policy.shapes
    if policy.rows_over is not None:
        count = row["rows_returned"]
        yield untold if count is None else count > policy.rows_over
    tables, columns = row["affected_tables"], row["columns_accessed"]
    if policy.tables or policy.unless_tables:
        wanted = policy.tables or ("*.*",)
        yield (
            untold
            if tables is None
            else any(
                any(parts_like(one, table) for one in wanted)
                and not any(parts_like(one, table) for one in policy.unless_tables)
                for table in tables
            )
        )
    if policy.columns or policy.unless_columns:
        wanted = spelt_out(policy.columns or ("*.*.*",))
        excused = spelt_out(policy.unless_columns)
        if any(
            any(parts_like(one, column) for one in wanted)
            and not any(parts_like(one, column) for one in excused)
            for column in columns or ()
        ):
            yield True
        elif columns is not None and row["columns_basis"] in ("parsed", "star-expanded"):
            yield False
        elif tables is None:
            yield untold
        else:
            # Perhaps one of the table's columns that the rule names and doesn't excuse.
            perhaps = any(
                any(parts_like(one.rpartition(".")[0], table) for one in wanted)
                and not any(
                    one.rpartition(".")[2] == "*" and parts_like(one.rpartition(".")[0], table)
                    for one in excused
                )
                for table in tables
            )
            yield untold if perhaps else False


def broken(policy: Policy, row: dict[str, Any], people: Sequence[Person]) -> Truth:
    answers = [
        some(term(policy, one, row, people) for one in policy.actors),
        every(
            None if answer is None else not answer
            for answer in (term(policy, one, row, people) for one in policy.unless_actors)
        ),
        *touched(policy, row),
    ]
    if policy.unless_ticket:
        answers.append(unexcused(policy, "ticket", policy.unless_ticket, row))
    if policy.unless_purpose:
        answers.append(unexcused(policy, "purpose", policy.unless_purpose, row))
    if policy.when is not None:
        answers.append(at_that_time(policy.when, row["log_time"]))
    return every(answers)


def read_out(
    policies: Sequence[Policy], people: Sequence[Person], row: dict[str, Any]
) -> list[str] | None:
    """The findings of a row."""
    own = row["findings"] or []
    found = [one for one in own if one != "rolled-back"]
    if row["attribution_grade"] != "pooler" and "forged-line" not in own:
        mine = [one for one in people if one.actor == row["session_user_id"]]
        if mine and not any(valid(one, row["log_time"]) for one in mine):
            ended = [moment(one.valid_until) for one in mine if one.valid_until]
            after = any(end is not None and end <= row["log_time"] for end in ended)
            found.append("after-offboarding" if after else "before-onboarding")
        in_order = sorted(policies, key=lambda one: one.name)
        answers = {one.name: broken(one, row, people) for one in in_order}
        if "ambiguous-line" in own:
            answers = {name: None if one else one for name, one in answers.items()}
            found = [one for one in found if "boarding" not in one]
        found += [f"policy:{name}" for name, one in answers.items() if one]
        found += [f"policy-unknown:{name}" for name, one in answers.items() if one is None]
    return [*found, *(one for one in own if one == "rolled-back")] or None


# -- rules and rows ----------------------------------------------------------------------------


def several(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


TERMS = (
    *("*", "unattributed", "unlisted", "actor:anna", "actor:*o*", "group:billing", "group:*"),
    *("role:app", "role:a*", "kind:agent", "kind:human"),
)
HOURS = st.builds(
    Hours,
    days=st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
    begin=st.sampled_from([0, 8 * 60, 22 * 60]),
    end=st.sampled_from([6 * 60, 18 * 60, 24 * 60]),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
    outside=st.booleans(),
    holidays=several("2026-03-11", "2026-03-28"),
)
POLICY = st.builds(
    Policy,
    name=st.sampled_from("abcdef"),
    actors=several(*TERMS).map(lambda terms: terms or ("*",)),
    unless_actors=several(*TERMS),
    trust=st.sampled_from(["proven", "confirmed", "claimed"]),
    authn=several("jwt", "pg:*"),
    databases=several("prod", "p*"),
    tables=several("public.users", "crm.*", "*.*"),
    unless_tables=several("public.*", "public.users"),
    columns=several("personal", "public.users.iban", "*.users.*", "crm.notes.text"),
    unless_columns=several("public.users.id", "public.users.*", "personal"),
    classes=several("READ", "WRITE"),
    shapes=several("full", "export"),
    rows_over=st.none() | st.sampled_from([0, 100]),
    when=st.none() | HOURS,
    unless_ticket=several("*", "CHG-*"),
    unless_purpose=several("support"),
)
RULES = st.lists(POLICY, max_size=5, unique_by=lambda one: one.name)
ROW = st.fixed_dictionaries(
    {
        "log_time": st.datetimes(dt.datetime(2026, 3, 9), dt.datetime(2026, 3, 30)).map(
            lambda when: when.replace(tzinfo=dt.UTC)
        ),
        "database": st.sampled_from(["prod", "test", None]),
        "db_role": st.sampled_from(["app", "etl", None]),
        "class": st.sampled_from(["READ", "WRITE", "MISC", None]),
        "rows_returned": st.sampled_from([None, 0, 5, 101]),
        "session_user_id": st.sampled_from(["anna", "bot", "cleo", None]),
        "actor_kind": st.sampled_from(["human", "agent", None]),
        "attribution_grade": st.sampled_from(
            ["proven", "confirmed", "claimed", "candidates", "pooler", "unattributed"]
        ),
        "session_authn": st.sampled_from(["jwt", "pg:cert", "asserted", None]),
        "attribution_evidence": st.none()
        | st.lists(st.integers(0, 9).map("o/evidence#{}".format), max_size=2),
        "affected_tables": st.none() | several("public.users", "crm.notes").map(list),
        "columns_accessed": st.none()
        | several("public.users.iban", "public.users.id", "crm.notes.text").map(list),
        "columns_basis": st.sampled_from(["parsed", "star-expanded", "object-audit", "unknown"]),
        "access_shape": st.sampled_from(["point", "full", "export", None]),
        "findings": st.none()
        | several("drift", "forged-line", "ambiguous-line", "rolled-back").map(
            lambda found: sorted(found) or None
        ),
    }
)
ROWS = st.lists(ROW, min_size=1, max_size=12)


def events() -> pa.Table:
    details = [None if one is None else json.dumps(one) for one in DETAILS.values()]
    missing = {name: [None] * len(DETAILS) for name in EVIDENCE.names}
    known = {"seq": list(DETAILS), "source": ["identity"] * len(DETAILS), "detail": details}
    return pa.table(missing | known, EVIDENCE)


def table(many: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(many, pa.schema([AUDIT.field(name) for name in COLUMNS]))


def found(
    policies: Sequence[Policy], many: pa.Table, people: tuple[Person, ...] = PEOPLE
) -> list[list[str] | None]:
    rules = Rules(personal_data=PERSONAL, policies=tuple(policies), people=people)
    result: list[list[str] | None] = (
        Policies(rules, events()).findings(many, "rolled-back").to_pylist()
    )
    return result


@settings(max_examples=120, deadline=None)
@given(RULES, ROWS, st.sampled_from([PEOPLE, ()]))
def test_every_row_has_what_a_naive_reading_of_the_rules_finds(
    policies: list[Policy], many: list[dict[str, Any]], people: tuple[Person, ...]
) -> None:
    assert found(policies, table(many), people) == [read_out(policies, people, one) for one in many]


@settings(max_examples=40, deadline=None)
@given(RULES, ROWS, st.data())
def test_neither_the_order_of_rules_nor_where_batches_end_nor_how_columns_are_kept_matters(
    policies: list[Policy], many: list[dict[str, Any]], data: st.DataObject
) -> None:
    whole = table(many)
    expected = found(policies, whole)
    shuffled = data.draw(st.permutations(policies))
    cut = data.draw(st.integers(0, len(many)))
    rules = Policies(
        Rules(personal_data=PERSONAL, policies=tuple(shuffled), people=PEOPLE), events()
    )
    parts = [whole.slice(0, cut), whole.slice(cut)]
    again = [one for part in parts for one in rules.findings(part, "rolled-back").to_pylist()]
    assert again == expected
    shared = pa.table(
        {
            name: column.dictionary_encode() if column.type == pa.string() else column
            for name, column in zip(whole.column_names, whole.columns, strict=True)
        }
    )
    assert found(policies, shared) == expected
    # What earlier rules found is replaced, whatever it was.
    at = whole.column_names.index("findings")
    rated = whole.set_column(at, "findings", rules.findings(whole, "rolled-back"))
    assert found(policies, rated) == expected
    assert found((), rated) == found((), whole)


@settings(max_examples=40, deadline=None)
@given(RULES, POLICY, ROWS)
def test_a_further_rule_takes_nothing_away(
    policies: list[Policy], more: Policy, many: list[dict[str, Any]]
) -> None:
    further = dataclasses.replace(more, name="zz-further")
    for before, after in zip(
        found(policies, table(many)), found([*policies, further], table(many)), strict=True
    ):
        assert [one for one in after or () if "zz-further" not in one] == (before or [])


def test_more_rules_than_fit_into_one_number() -> None:
    many = [f"r{n:03}" for n in range(100)]
    policies = [Policy(name, actors=("actor:anna",)) for name in many]
    row = dict.fromkeys(COLUMNS) | {
        "log_time": dt.datetime(2026, 3, 20, tzinfo=dt.UTC),
        "session_user_id": "anna",
        "attribution_grade": "proven",
    }
    nobody = row | {"session_user_id": None, "attribution_grade": "unattributed"}
    assert found(policies, table([row, nobody])) == [
        [f"policy:{name}" for name in many],
        [f"policy-unknown:{name}" for name in many],
    ]


# -- the command -------------------------------------------------------------------------------

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
ACCESS = "array_to_string(affected_tables, ' '), array_to_string(columns_accessed, ' ')"


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


def test_a_log_read_in_pieces_has_the_same_findings(
    ruled: Path, at_once: Path, tmp_path: Path
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
    for end in (cut, len(whole)):
        log.write_bytes(whole[:end])
        read(store, ruled, log, *OTHERS)
    assert rows(store, ANSWER) == rows(at_once, ANSWER)
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


@pytest.mark.parametrize(
    ("rule", "line", "what"),
    [
        ('name = "a"\ncolums = ["public.users.iban"]', 3, "unknown key 'policy.0.colums'"),
        ('name = "a"\nactors = ["groups:billing"]', 3, "is none of actor:NAME, group:NAME"),
        ('name = "a"\nactors = ["unlisted"]', 3, "needs a list of people"),
        ('name = "a"\ntables = ["users"]', 3, "is not schema.table"),
        ('name = "a"\ncolumns = ["users.iban"]', 3, "is not schema.table.column"),
        ('name = "a"\nrows_over = "many"', 3, "valid integer"),
        ('name = "a"\nclasses = ["SELECT"]', 3, "Input should be 'READ'"),
        ('name = "a"\nunless_ticket = []', 1, "unless_ticket is empty"),
        ('name = "a"', 1, "says nothing"),
        ('name = "A b"\nshapes = ["full"]', 2, "match pattern"),
        ('name = "a"\ntables = ["a.b"]\ncolumns = ["a.b.c"]', 1, "give tables or columns"),
        ('name = "a"\nwhen = { from = "8" }', 3, "is no time such as 08:00"),
        (
            'name = "a"\n[policy.when]\ndays = ["mon"]\ntimezone = "Europe/Berlim"',
            5,
            "no time zone",
        ),
        ('name = "a"\nwhen = { from = "08:00", until = "08:00" }', 3, "is no time at all"),
        ('name = "a"\nwhen = { days = ["mo-fri"] }', 3, "is no day such as mon"),
        (
            "\n[[policy]]\n".join(f'name = "{name}"\nshapes = ["full"]' for name in "aba"),
            8,
            "another policy of the name 'a'",
        ),
    ],
)
def test_a_rule_that_cannot_be_followed_is_an_error_that_names_its_line(
    tmp_path: Path, rule: str, line: int, what: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[[policy]]\n{rule}\n")
    with pytest.raises(ConfigError, match=what.replace("(", r"\(")) as caught:
        load(path)
    assert caught.value.place == f"{path}:{line}"


def test_the_rule_book_of_the_document_loads(tmp_path: Path) -> None:
    text = (SAMPLE.parent / "docs" / "POLICIES.md").read_text()
    path = tmp_path / "config.toml"
    for example in text.split("```toml\n")[1:]:
        path.write_text(example.partition("```")[0])
        assert load(path).policy
    _, _, csv = text.partition("```\nactor,")
    (tmp_path / "people.csv").write_text("actor," + csv.partition("```")[0])
    assert len(load(path).rules().people) == 3


@pytest.mark.parametrize(
    ("key", "value", "is_known"),
    [
        ("columns", "public.users.iban", True),
        ("columns", "public.users.ibann", False),
        ("columns", "public.users.ib*", True),
        ("unless_tables", "public.user", False),
        ("tables", "pg_catalog.pg_authid", True),
    ],
)
def test_a_rule_for_what_the_schema_does_not_have_is_an_error(
    tmp_path: Path, key: str, value: str, is_known: bool
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'\n[[policy]]\nname = "a"\n{key} = ["{value}"]\n')
    arguments = ("--config", path, "--schema", SAMPLE / "schema.sql")
    done = scalple(
        "reprocess", "--store", tmp_path / "store", *arguments, "--identity-events", OTHERS[-1]
    )
    assert done.code == (0 if is_known else 4), done.err
    assert is_known or f"config.toml:4: policy a: the schema has no {value}" in done.err
    assert is_known == (tmp_path / "store").exists()


@pytest.mark.parametrize("line", ["anna,,2026-13-01", "anna,billing", ",billing,2026-01-01"])
def test_a_list_of_people_that_cannot_be_read_names_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "people.csv").write_text(f"actor,groups,valid_until\n{line}\n")
    path = tmp_path / "config.toml"
    path.write_text('[actors]\nfile = "people.csv"\n')
    with pytest.raises(ConfigError) as caught:
        load(path).rules()
    assert caught.value.place == f"{tmp_path}/people.csv:2"
