"""Rights at the second of a statement: what a naive reading finds row by row, and what ends a doubt."""

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.cli.config import load
from scalple.correlate.entitledrows import OF_STATEMENT
from scalple.correlate.policies import AS_LOGGED, OF_ACCESS, OF_PEOPLE, Policies
from scalple.correlate.policyrules import Person, Policy
from scalple.correlate.record import AUDIT, EVIDENCE
from scalple.correlate.rightschanges import CHANGES_MAX, Changed, RightsChanges
from scalple.correlate.rightsscope import scopes_of
from scalple.correlate.rightstimeline import DatedRights, RightsTimeline
from scalple.correlate.rules import Actors, Rules
from scalple.correlate.snapshot import Snapshot
from scalple.ingest.errors import ConfigError
from tests.commandline import SAMPLE, scalple
from tests.entitledreading import GROUPS, OWN, missing

EXAMPLES = int(os.environ.get("ENTITLED_EXAMPLES", "40"))
"""How many scenes are judged; `make prove` asks for more."""
ROLES = ["r_anna", "r_ben", "r_group", "r_other", "pg_read_all_data"]
RELATIONS = {"s.a": "table", "s.b": "table", "s.v": "view"}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
PEOPLE = (Person("anna", None, ("g",)), Person("ben", None, ()), Person("cleo", None, ("h", "x")))
GROUPS_OF: dict[str, tuple[str, ...] | None] = {
    "anna": ("g",),
    "ben": (),
    "cleo": ("h", "x"),
    "dora": None,
}


def some(*values: Any, most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), max_size=most, unique=True)


def with_end(change: dict[str, Any]) -> dict[str, Any]:
    return change | {"end": None if change["end"] is None else change["begin"] + change["end"]}


def with_groups(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"groups": GROUPS_OF.get(row["actor"] or "")}


GRANT = st.fixed_dictionaries(
    {
        "role": st.sampled_from([*ROLES[:4], "public"]),
        "relation": st.sampled_from(list(RELATIONS)),
        "column": st.sampled_from([None, "x", "y"]),
        "privilege": st.sampled_from(["SELECT", "SELECT", "INSERT", "UPDATE", "DELETE"]),
    }
)
SNAPSHOT = st.builds(
    lambda at, grants, pairs, noinherit, root, owners, audited: {
        "at": at,
        "v": 1,
        "taken_at": (EPOCH + dt.timedelta(microseconds=at)).isoformat(),
        "database": "app",
        "server_version": 150000,
        "relations": [
            {"name": name, "kind": kind, "columns": [{"name": c, "type": "text"} for c in "xy"]}
            for name, kind in RELATIONS.items()
        ],
        "owners": {"s.a": "owner", "s.v": "owner"} | owners,
        "grants": grants,
        "memberships": [
            {"role": role, "member": member, "inherits": member not in noinherit}
            for role, member in pairs
        ],
        "roles": [{"name": one, "superuser": one in root} for one in [*ROLES, "owner"]],
        "audited": audited,
    },
    st.sampled_from([10, 20, 30]),
    st.lists(GRANT, max_size=4),
    st.lists(st.tuples(st.sampled_from(ROLES), st.sampled_from(ROLES[:4])), max_size=4),
    some(*ROLES[:4]),
    some("r_ben", most=1),
    st.sampled_from([{}, {"s.b": "owner"}, {"s.b": "owner"}, {"s.b": "r_other"}]),
    st.sampled_from([["all"], ["all"], ["all"], ["all", "role, ddl"], ["all, -role"], []]),
)
CHANGE = st.fixed_dictionaries(
    {
        "database": st.sampled_from([None, "app", "another"]),
        "scope": st.sampled_from(["*", "s.a", ".b", "s.v", "t.a"]),
        "begin": st.integers(5, 35),
        "end": st.none() | st.integers(0, 12),
    }
).map(with_end)
ROW = st.fixed_dictionaries(
    {
        "at": st.integers(8, 40),
        "actor": st.sampled_from(["anna", "anna", "ben", "ben", "cleo", "dora", None]),
        "db_role": st.sampled_from(["r_group", "r_ben", "r_gone", None]),
        "class": st.sampled_from(["READ", "READ", "READ", "WRITE", "WRITE", "MISC"]),
        "command": st.sampled_from(["INSERT", "UPDATE", "DELETE", "TRUNCATE TABLE", "MERGE"]),
        "object": st.none() | st.sampled_from(["s.a", "s.b"]),
        "tables": st.none() | some("s.a", "s.b", "s.a", "s.v", "s.new", "pg_catalog.c"),
        "columns": st.none() | some("s.a.x", "s.a.y", "s.b.x", "s.v.x", "s.a.new"),
        "basis": st.sampled_from(["parsed", "parsed", "parsed", "unknown"]),
        "shape": st.sampled_from(["write", "full"]),
        "within": st.sampled_from([False, False, False, True, None]),
        "mixed": st.sampled_from([False, False, True]),
    }
).map(with_groups)
RULES = tuple(Policy(name, trust="claimed", unless_entitled=name) for name in ("actor", "role"))


def table(rows: list[dict[str, Any]]) -> pa.Table:
    fields = [AUDIT.field(name) for name in (*AS_LOGGED, *OF_PEOPLE, *OF_ACCESS)]
    schema = pa.schema([*fields, *(pa.field(*one) for one in OF_STATEMENT.items())])
    plain = [
        {
            "log_time": EPOCH + dt.timedelta(microseconds=one["at"]),
            "database": "app",
            "db_role": one["db_role"],
            "class": one["class"],
            "session_user_id": one["actor"],
            "attribution_grade": "proven" if one["actor"] else "unattributed",
            "affected_tables": one["tables"],
            "columns_accessed": one["columns"],
            "columns_basis": one["basis"],
            "access_shape": one["shape"],
            "command": one["command"],
            "object_type": "TABLE" if one["object"] else None,
            "object_name": one["object"],
            "is_within": one["within"],
            "is_mixed": one["mixed"],
        }
        for one in rows
    ]
    return pa.Table.from_pylist(plain, schema=schema)


def policies(
    snapshots: list[dict[str, Any]], changes: list[dict[str, Any]], begins: int
) -> Policies:
    told = RightsChanges(
        begins,
        [Changed(o["database"], o["scope"], o["begin"], o["end"], "s", "3/1") for o in changes],
    )
    dated = [DatedRights(Snapshot.model_validate(o), o["at"], o["at"]) for o in snapshots]
    actors = Actors(
        roles={role: actor for actor, roles in OWN.items() for role in roles}, group_roles=GROUPS
    )
    # What is recorded and read again says the same.
    again = RightsChanges.from_bytes(told.to_bytes())
    rules = Rules(actors=actors, policies=RULES, people=PEOPLE)
    return Policies(rules, EVIDENCE.empty_table(), RightsTimeline(dated, again))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(SNAPSHOT, max_size=3, unique_by=lambda one: one["at"]),
    st.lists(CHANGE, max_size=3),
    st.sampled_from([0, 0, 0, 15]),
    st.lists(ROW, min_size=1, max_size=8),
)
def test_every_row_is_judged_as_a_naive_reading_judges_it(
    snapshots: list[dict[str, Any]],
    changes: list[dict[str, Any]],
    begins: int,
    many: list[dict[str, Any]],
) -> None:
    found = policies(snapshots, changes, begins).findings(table(many)).to_pylist()
    expected = []
    for row in many:
        told = {rule.name: missing(rule.name, row, snapshots, changes, begins) for rule in RULES}
        names = [f"policy:{name}" for name, one in told.items() if one]
        names += [f"policy-unknown:{name}" for name, one in told.items() if one is None]
        expected.append(names or None)
    assert found == expected


@pytest.mark.parametrize(
    ("command", "text", "scopes", "is_everywhere"),
    [
        ("GRANT", "GRANT SELECT (id, iban) ON public.users TO anna", {"public.users"}, False),
        (
            "REVOKE",
            'revoke all on TABLE "S x"."T", Users from anna cascade;',
            {"S x.T", ".users"},
            False,
        ),
        ("GRANT", "GRANT USAGE ON SCHEMA public TO anna", set(), False),
        ("GRANT", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO anna", {"*"}, False),
        ("GRANT", "GRANT SELECT /* ON a TO b */ ON public.users TO anna", {"*"}, False),
        ("GRANT", "GRANT SELECT -- ON a TO b\n ON public.users TO anna", {"*"}, False),
        ("GRANT", "GRANT ALL ON a TO b; GRANT ALL ON public.users TO anna", {"*"}, False),
        ("GRANT", "GRANT ALL ON SEQUENCE q TO b; GRANT ALL ON t TO anna", {"*"}, False),
        ("GRANT", None, {"*"}, False),
        ("GRANT ROLE", "GRANT billing_ro TO anna", {"*"}, True),
        ("ALTER ROLE", "ALTER ROLE anna SUPERUSER", {"*"}, True),
        (
            "ALTER DEFAULT PRIVILEGES",
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO b",
            set(),
            False,
        ),
    ],
)
def test_what_a_change_of_rights_touches_is_never_less_than_it_may_touch(
    command: str, text: str | None, scopes: set[str], is_everywhere: bool
) -> None:
    found = scopes_of("ROLE", command, "TABLE", None, text, is_naming=True)
    assert found == (frozenset(scopes), is_everywhere)


@pytest.mark.parametrize(
    ("command", "kind", "name", "is_naming", "scopes"),
    [
        ("ALTER TABLE", "TABLE", "public.users", True, {"public.users"}),
        ("ALTER TABLE", "TABLE COLUMN", "public.users.iban", True, {"public.users"}),
        ("ALTER SCHEMA", "SCHEMA", "public", True, {"*"}),
        ("CREATE TABLE", "TABLE", "pg_temp.t", True, set()),
        ("CREATE INDEX", "INDEX", "public.i", True, set()),
        ("DROP TABLE", None, None, True, set()),
        ("DROP TABLE", None, None, False, {"*"}),
    ],
)
def test_a_table_that_was_made_anew_has_other_rights(
    command: str, kind: str | None, name: str | None, is_naming: bool, scopes: set[str]
) -> None:
    found = scopes_of("DDL", command, kind, name, "…", is_naming=is_naming)
    assert found == (frozenset(scopes), False)


def test_a_transaction_that_never_ends_is_not_forgotten() -> None:
    told = RightsChanges(0, [Changed("app", "s.open", 0, None, "t", "4/1")])
    for at in range(3 * CHANGES_MAX):
        told.changes.append(Changed("app", f"s.t{at}", at, at + 1, "s", "3/1"))
        told.fold()
    assert "s.open" in {one.scope for one in told.changes}
    many = [Changed("app", f"s.t{at}", at, None, f"s{at}", "3/1") for at in range(3 * CHANGES_MAX)]
    told = RightsChanges(0, many)
    told.fold()
    assert len(told.changes) <= CHANGES_MAX
    assert any(one.scope == "*" and one.end_us is None for one in told.changes)


def test_too_many_changes_make_less_known_and_never_more() -> None:
    """The oldest are put together, then forgotten; what they touched isn't judged meanwhile."""
    told = RightsChanges(0)
    for at in range(3 * CHANGES_MAX):
        told.changes.append(Changed("app", f"s.t{at % 5000}", at, at + 1, "s", "3/1"))
        told.fold()
        since = told.since_us
        assert since is not None
        assert len(told.changes) <= CHANGES_MAX
        if at % 1000 == 0:
            kept = {one.scope for one in told.changes}
            assert {f"s.t{n % 5000}" for n in range(since, at + 1)} <= kept
            assert at < CHANGES_MAX or since > 0


RULE = '[[policy]]\nname = "a"\nunless_entitled = "{}"\n'


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (RULE.format("anybody"), 3, "Input should be 'actor' or 'role'"),
        (RULE.format("actor"), 3, "nobody's own database roles are known"),
        ('[actors]\ngroup_role = { a = "b" }\n', 2, "unknown key 'actors.group_role'"),
    ],
)
def test_a_rule_that_nothing_could_be_judged_by_is_refused(
    tmp_path: Path, text: str, line: int, what: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=what) as caught:
        load(path)
    assert caught.value.place == f"{path}:{line}"


def test_a_rule_about_rights_without_a_snapshot_is_refused_and_nothing_is_written(
    tmp_path: Path, sample_store: Path
) -> None:
    path, store = tmp_path / "config.toml", tmp_path / "store"
    path.write_text(RULE.format("role"))
    log = ("--postgres-log", SAMPLE / "postgresql.csv", "--schema", SAMPLE / "schema.sql")
    said = scalple("reprocess", "--store", store, "--config", path, *log)
    assert said.code == 4
    assert "needs snapshots" in said.err
    assert "schema snapshot" in said.err
    assert not store.exists()
    said = scalple("policy", "--store", sample_store, "--config", path)
    assert said.code == 4
    assert "needs snapshots" in said.err
