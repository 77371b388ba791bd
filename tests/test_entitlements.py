"""A right counts as never used only if no statement can have needed it."""

import datetime as dt
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.unusedrights import Grant, Members, Use, rights
from tests.commandline import rows, scalple

ROLES = ("anna", "bot", "readers", "writers", "public")
NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
GRANT = st.builds(
    Grant,
    st.sampled_from(ROLES),
    st.sampled_from(["public.users", "public.orders"]),
    st.sampled_from([None, "id", "iban"]),
    st.sampled_from(["SELECT", "UPDATE", "TRIGGER"]),
)
USE = st.builds(
    Use,
    st.sampled_from(["anna", "bot", None]),
    st.sampled_from(["public.users", "public.orders", None]),
    st.none() | st.frozensets(st.sampled_from(["id", "iban", "name"])),
    st.sampled_from(["SELECT", "UPDATE"]),
    st.booleans(),
    st.integers(1, 9),
    st.just(NOON),
)
PAIRS = st.lists(st.tuples(st.sampled_from(ROLES[:4]), st.sampled_from(ROLES[:4])), max_size=5)


def acts_as(login: str, role: str, pairs: list[tuple[str, str]]) -> bool:
    """Whether some chain of memberships leads from one to the other."""
    chains: Iterable[tuple[str, ...]] = (
        chain for n in range(4) for chain in itertools.permutations(ROLES[:4], n + 1)
    )
    return role == "public" or any(
        chain[0] == login
        and chain[-1] == role
        and all((above, below) in pairs for below, above in itertools.pairwise(chain))
        for chain in chains
    )


@settings(max_examples=100, deadline=None)
@given(
    GRANT, PAIRS, st.lists(USE, max_size=5), st.lists(st.sampled_from(["READ", "WRITE", "MISC"]))
)
def test_a_grant_is_judged_as_a_naive_reading_of_the_uses_judges_it(
    grant: Grant, pairs: list[tuple[str, str]], uses: list[Use], classes: list[str]
) -> None:
    sure: list[Use] = []
    unsure: list[Use] = []
    for use in uses:
        if use.privilege != grant.privilege or use.relation not in (None, grant.relation):
            continue
        if use.login is not None and not acts_as(use.login, grant.role, pairs):
            continue
        if grant.column and use.columns is not None and grant.column not in use.columns:
            continue
        blind = None in (use.login, use.relation) or (grant.column and use.columns is None)
        (unsure if blind or not use.is_certain else sure).append(use)
    seen = {"SELECT": "READ", "UPDATE": "WRITE"}.get(grant.privilege) in classes
    expected = "used" if sure else "perhaps" if unsure else "never" if seen else "not-judged"
    (found,) = rights([grant], Members(pairs), uses, classes)
    assert (found.use, found.statements) == (expected, sum(u.statements for u in sure or unsure))
    assert found.last == (NOON if sure or unsure else None)


def asked(store: Path, snapshot: dict[str, Any], folder: Path, *more: str) -> dict[str, Any]:
    path = folder / "snapshot.json"
    path.write_text(json.dumps(snapshot))
    said = scalple("entitlements", "--store", store, "--snapshot", path, "--format", "json", *more)
    assert said.code == 0, said.err
    answer: dict[str, Any] = said.json()
    return answer


def test_what_the_sample_used_is_what_its_rows_touched(sample_store: Path, tmp_path: Path) -> None:
    # A parallel worker's row may lack the role, which its leader's has.
    known = rows(
        sample_store,
        "SELECT * FROM audit WHERE class IN ('READ', 'WRITE') "
        "AND (repeat_of IS NULL OR db_role IS NOT NULL)",
    )
    logins = sorted({one["db_role"] for one in known if one["db_role"]} | {"idle"})
    tables = sorted({table for one in known for table in one["affected_tables"] or ()})
    privileges = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")
    grants = [
        {"role": login, "relation": table, "column": None, "privilege": what}
        for login in logins
        for table in [*tables, "public.nothing"]
        for what in privileges
    ]
    snapshot = {"grants": grants, "roles": [{"name": one, "login": True} for one in logins]}
    answer = asked(sample_store, snapshot, tmp_path)
    assert len(answer["rights"]) == len(grants)
    for one in answer["rights"]:
        touching = [
            row
            for row in known
            if row["db_role"] in (one["role"], None)
            and (row["affected_tables"] is None or one["relation"] in row["affected_tables"])
        ]
        alone = [row for row in touching if row["db_role"] and row["affected_tables"]]
        if not touching:
            assert one["use"] != "used", one
        if one["use"] == "never":  # nothing of that kind touched it, whoever it was
            assert (
                not any(row["class"] == "READ" for row in touching) or one["privilege"] != "SELECT"
            )
            assert not any(row["command"] == one["privilege"] for row in touching), one
        if one["privilege"] == "SELECT" and any(row["class"] == "READ" for row in alone):
            assert one["use"] == "used"
            assert one["logins"] == [one["role"]]
    uses = {
        (one["role"], one["relation"], one["privilege"]): one["use"] for one in answer["rights"]
    }
    assert uses["app_user", "public.users", "SELECT"] == "used"
    assert uses["idle", "public.users", "SELECT"] in ("never", "perhaps")
    assert uses["app_user", "public.nothing", "TRUNCATE"] == "never"
    counts = {one["role"]: one["statements"] for one in answer["roles"]}
    assert counts["idle"] == 0 < counts["app_user"]


def test_owners_and_superusers_need_no_grant_and_members_use_those_of_their_groups(
    sample_store: Path, tmp_path: Path
) -> None:
    snapshot = {
        "taken_at": "2026-03-01T00:00:00Z",
        "database": "production",
        "roles": [{"name": "boss", "superuser": True, "login": True}],
        "owners": {"public.users": "owner"},
        "memberships": [{"role": "readers", "member": "app_user", "inherits": False}],
        "grants": [
            {"role": role, "relation": "public.users", "column": None, "privilege": "select"}
            for role in ("boss", "owner", "readers", "others")
        ],
    }
    answer = asked(sample_store, snapshot, tmp_path)
    by_role = {one["role"]: one for one in answer["rights"]}
    assert set(by_role) == {"readers", "others"}
    assert by_role["readers"]["use"] == "used"
    assert by_role["readers"]["logins"] == ["app_user"]
    assert by_role["others"]["use"] == "never"
    # Another database's statements use none of these; of a time without any, nothing is judged.
    path = tmp_path / "elsewhere.json"
    path.write_text(json.dumps(snapshot | {"database": "elsewhere"}))
    elsewhere = scalple("entitlements", "--store", sample_store, "--snapshot", path)
    assert (elsewhere.code, elsewhere.out) == (3, "")
    assert "no statement of the database 'elsewhere'" in elsewhere.err
    before = asked(sample_store, snapshot, tmp_path, "--until", "2020-01-01")
    assert {one["use"] for one in before["rights"]} == {"not-judged"}
    table = scalple(
        "entitlements", "--store", sample_store, "--snapshot", tmp_path / "snapshot.json"
    )
    assert "1 of 2 rights were used" in table.out
    csv = scalple(
        "entitlements",
        "--store",
        sample_store,
        "--snapshot",
        tmp_path / "snapshot.json",
        "--format",
        "csv",
    )
    assert len(csv.out.splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "can't read the snapshot"),
        ("[]", "is no snapshot"),
        ('{"relations": []}', "is no snapshot"),
        ('{"grants": {}}', "grants is no list of objects"),
        ('{"grants": [{"role": "a", "relation": "b.c"}]}', r"grants[0] has no privilege"),
        ('{"grants": [], "memberships": [{"role": "a"}]}', r"memberships[0] has no member"),
        ('{"grants": [], "owners": []}', "owners isn't an object"),
        ('{"grants": [], "taken_at": 3}', "taken_at is no text"),
    ],
)
def test_a_file_that_is_no_snapshot_is_refused(
    sample_store: Path, tmp_path: Path, text: str, what: str
) -> None:
    path = tmp_path / "snapshot.json"
    path.write_text(text)
    said = scalple("entitlements", "--store", sample_store, "--snapshot", path)
    assert said.code == 3
    assert what in said.err
    assert str(path) in said.err
