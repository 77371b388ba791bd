"""Rules find what somebody finds who reads them out, row by row; and what can't be known stays unknown."""

import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.policies import AS_LOGGED, OF_ACCESS, OF_PEOPLE, Policies
from scalple.correlate.policyrules import Hours, Person, Policy
from scalple.correlate.record import AUDIT, EVIDENCE
from scalple.correlate.rules import Rules
from tests.policyreading import DETAILS, PEOPLE, PERSONAL, read_out

COLUMNS = (*AS_LOGGED, *OF_PEOPLE, *OF_ACCESS)


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
