"""Whether people had in person the right that the shared role lent them: what a real server says of that second.

Enters: a stack with the sidecar, snapshots that the command takes, GRANT and REVOKE between them. The truth
is the server's own has_column_privilege and has_table_privilege, asked at each statement.
"""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.commandline import rows, scalple
from tests.sidecars import SidecarProcess, before_pooler
from tests.stack import Stack, StackOptions

pytestmark = pytest.mark.stack

PEOPLE = {"employee_1": "jmueller", "employee_2": "awagner", "employee_3": "kweber"}
SET_UP = """
CREATE ROLE root_too SUPERUSER LOGIN PASSWORD 'root_too-password'; CREATE ROLE readers; CREATE ROLE inner_readers; GRANT readers TO inner_readers;
REVOKE staff FROM jmueller, awagner; ALTER ROLE kweber NOINHERIT;
GRANT SELECT (id, region) ON public.users TO jmueller; GRANT SELECT ON public.users, public.active_customers TO awagner;
GRANT SELECT, UPDATE ON public.orders TO readers; GRANT inner_readers TO awagner;
CREATE FUNCTION public.lent() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS
    'DECLARE n bigint; BEGIN SELECT count(iban) INTO n FROM public.users; RETURN n; END';
CREATE FUNCTION public.fired() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    'BEGIN PERFORM count(iban) FROM public.users; RETURN NEW; END';
-- pgAudit logs what they run only if the shared role is a member of their owner.
CREATE ROLE lender; GRANT lender TO app_user; GRANT SELECT ON public.users TO lender;
ALTER FUNCTION public.lent() OWNER TO lender; ALTER FUNCTION public.fired() OWNER TO lender;
CREATE TABLE public.notes (id int PRIMARY KEY); GRANT ALL ON public.notes TO app_user;
CREATE TRIGGER fires BEFORE INSERT ON public.notes FOR EACH ROW EXECUTE FUNCTION public.fired();
"""
USERS, ORDERS = "public.users", "public.orders"
Needed = tuple[tuple[str, str | None, str], ...]
STATEMENTS: dict[str, Needed] = {
    "SELECT iban, region FROM users WHERE id = 7": (
        (USERS, "iban", "SELECT"),
        (USERS, "region", "SELECT"),
        (USERS, "id", "SELECT"),
    ),
    "SELECT region FROM users WHERE id = 7": ((USERS, "region", "SELECT"), (USERS, "id", "SELECT")),
    "SELECT o.amount FROM orders o JOIN users u ON u.id = o.user_id WHERE u.id = 9": (
        (ORDERS, "amount", "SELECT"),
        (ORDERS, "user_id", "SELECT"),
        (USERS, "id", "SELECT"),
    ),
    "UPDATE users SET name = name WHERE id = 7": ((USERS, "name", "UPDATE"),),
    "UPDATE orders SET amount = amount WHERE id = 7": ((ORDERS, "amount", "UPDATE"),),
    "DELETE FROM orders WHERE id = -1": ((ORDERS, None, "DELETE"),),
    "INSERT INTO products (name, price) VALUES (gen_random_uuid()::text, 1)": (
        ("public.products", None, "INSERT"),
    ),
    "SELECT email FROM active_customers WHERE id = 7": (
        ("public.active_customers", "email", "SELECT"),
    ),
}
RULES = """
[[policy]]
name            = "in-person"
tables          = ["public.*"]
unless_entitled = "actor"

[[policy]]
name            = "iban-in-person"
columns         = ["public.users.iban"]
unless_entitled = "actor"

[[policy]]
name            = "bypass"
tables          = ["public.payroll"]
unless_entitled = "role"
"""
BETWEEN = {
    "one": "GRANT SELECT, UPDATE (name) ON public.users TO jmueller",
    "two": "REVOKE readers FROM inner_readers; GRANT staff TO jmueller; "
    "REVOKE SELECT ON public.users FROM awagner; ALTER ROLE kweber INHERIT",
}
"""What is logged after the phase of that name, before the next snapshot."""


@dataclass
class Ran:
    """One statement, and what the server would have said of the person's own role."""

    phase: str
    actor: str
    text: str
    may: bool
    of_relation: dict[str, bool]
    is_partly: bool
    """Some columns may be written, and the record doesn't say which were."""


@dataclass
class Scene:
    """What was run, and the store of its log."""

    ran: list[Ran]
    store: Path
    config: Path
    read: list[dict[str, Any]]
    log: Path
    arguments: list[str | Path]


def run(stack: Stack, sidecar: SidecarProcess, truth: Any, phase: str, count: int = 9) -> list[Ran]:
    """The statements, or the first of them, by everybody."""
    found = []
    for actor, role in PEOPLE.items():
        with psycopg.connect(sidecar.dsn(stack, actor), autocommit=True) as person:
            for text, needed in list(STATEMENTS.items())[:count]:
                of_relation: dict[str, bool] = {}
                is_partly = False
                for relation, column, privilege in needed:
                    asked = "SELECT has_table_privilege(%s, %s, %s)"
                    (said,) = (whole,) = truth.execute(
                        asked, (role, relation, privilege)
                    ).fetchone()
                    if column is not None:
                        asked = "SELECT has_column_privilege(%s, %s, %s, %s)"
                        values = (role, relation, column, privilege)
                        (said,) = truth.execute(asked, values).fetchone()
                    of_relation[relation] = of_relation.get(relation, True) and said
                    is_partly |= privilege == "UPDATE" and said and not whole
                person.execute(f"{text} /* {phase} */", prepare=False)
                may = all(of_relation.values())
                found.append(Ran(phase, actor, text, may, of_relation, is_partly))
            person.execute("SELECT public.lent()", prepare=False)
            # The second one fails, and leaves no record but its trigger's.
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                person.execute("INSERT INTO notes VALUES (1)", prepare=False)
    return found


def taken(stack: Stack, file: Path) -> Path:
    """A snapshot of now."""
    dsn = stack.dsn_direct(user="app_user")
    said = scalple("schema", "snapshot", "--output", file, "--dsn", dsn)
    assert said.code == 0, said.err
    return file


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("entitled")
    config, ran = folder / "config.toml", list[Ran]()
    people = ", ".join(f'{role} = "{actor}"' for actor, role in PEOPLE.items())
    config.write_text(f"[actors]\nroles = {{ {people} }}\n{RULES}")
    options = StackOptions(application_name_add_host=False, users=50, eu_users=20)
    snapshots: list[str | Path] = []
    with (
        Stack(options) as stack,
        before_pooler(stack, folder) as sidecar,
        psycopg.connect(stack.dsn_superuser(), autocommit=True) as truth,
    ):
        truth.execute(SET_UP)
        ran += run(stack, sidecar, truth, "before", 2)
        with psycopg.connect(stack.dsn_direct(user="root_too"), autocommit=True) as admin:
            for phase in ("one", "two", "three"):
                snapshots.append(taken(stack, folder / f"{phase}.json"))
                ran += run(stack, sidecar, truth, phase)
                for text in filter(None, BETWEEN.get(phase, "").split("; ")):
                    admin.execute(text)
                if phase in BETWEEN:
                    ran += run(stack, sidecar, truth, f"{phase}-changed")
                # Another transaction of the same session: the change's is over.
                admin.execute("SELECT count(*) FROM public.payroll")
            admin.execute("BEGIN")
            admin.execute("GRANT SELECT ON public.users TO jmueller, awagner, kweber")
            snapshots.append(taken(stack, folder / "uncommitted.json"))
            admin.execute("COMMIT")
            ran += run(stack, sidecar, truth, "uncommitted", 3)
    store = folder / "store"
    log = Path(shutil.copy(stack.csvlog_paths()[0], folder / "postgresql.csv"))
    pooler = Path(shutil.copy(stack.pgbouncer_log, folder / "pgbouncer.log"))
    arguments: list[str | Path] = ["--postgres-log", log, "--schema", *snapshots]
    arguments += ["--pgbouncer-log", pooler, "--identity-events", sidecar.events]
    said = scalple("reprocess", "--store", store, "--config", config, *arguments)
    assert said.code == 0, said.err
    read = rows(
        store,
        "SELECT object_name, findings, session_user_id AS actor, query FROM audit "
        "WHERE class IN ('READ', 'WRITE') ORDER BY log_time",
    )
    return Scene(ran, store, config, read, log, arguments)


def findings(scene: Scene, one: Ran) -> dict[str, set[str]]:
    """Per relation (pgAudit's object) the findings of a statement's rows."""
    found = {
        str(row["object_name"]): set(row["findings"] or ())
        for row in scene.read
        if row["actor"] == one.actor
        and row["query"].endswith(f"/* {one.phase} */")
        and row["query"].startswith(one.text[:20])
    }
    assert found, one
    return found


def test_findings_are_where_the_server_says_that_the_person_may_not(scene: Scene) -> None:
    known = [one for one in scene.ran if one.phase in BETWEEN or one.phase == "three"]
    wrong = []
    for one in known:
        found = findings(scene, one)
        if "active_customers" in one.text:
            # The tables behind a view are read with its owner's right; the view with one's own.
            told = any("policy:in-person" in many for many in found.values())
            wrong += [one] if told != (not one.may) else []
            continue
        for relation, may in one.of_relation.items():
            told = "policy:in-person" in found.get(relation, ())
            unsure = "policy-unknown:in-person" in found.get(relation, ())
            wrong += [one] if told != (not may) or unsure != one.is_partly else []
    assert wrong == []
    assert {one.may for one in known} == {True, False}
    assert len({(o.text, o.actor, o.may) for o in known}) > len({(o.text, o.actor) for o in known})


def test_what_a_change_touched_is_unknown_until_the_next_snapshot(scene: Scene) -> None:
    for one in scene.ran:
        if one.phase == "before":
            every = set().union(*findings(scene, one).values())
            assert {f for f in every if f.startswith("policy")} <= {
                "policy-unknown:in-person",
                "policy-unknown:iban-in-person",
            }
        if one.phase.endswith("-changed"):
            found = findings(scene, one)
            for relation, may in one.of_relation.items():
                if "active_customers" in one.text:
                    continue
                told = "policy:in-person" in found[relation]
                is_touched = relation == USERS or one.phase != "one-changed"
                # What the change said nothing of is judged as before.
                assert told == (not may and not is_touched), one
                assert ("policy-unknown:in-person" in found[relation]) == is_touched, one


def test_a_snapshot_during_a_transaction_that_changes_rights_does_not_have_them(
    scene: Scene,
) -> None:
    mine = [one for one in scene.ran if one.phase == "uncommitted" and USERS in one.of_relation]
    for one in mine:
        found = findings(scene, one)[USERS]
        assert "policy:in-person" not in found, one
    assert mine


def test_a_log_that_is_read_in_two_runs_is_judged_as_one_that_is_read_at_once(
    scene: Scene, tmp_path: Path
) -> None:
    """What the first run saw of GRANT goes on into the second; its schema does, too."""
    whole, piece = scene.log.read_bytes(), tmp_path / scene.log.name
    at = whole.index(b"GRANT SELECT, UPDATE (name)")
    ends = (whole.index(b"\n", at) + 1, len(whole))
    store, text = tmp_path / "store", "SELECT source_offset AS at, findings FROM audit ORDER BY 1"
    for end, more in zip(ends, (scene.arguments[2:], ()), strict=True):
        piece.write_bytes(whole[:end])
        known = ("--store", store, "--config", scene.config, "--postgres-log", piece, *more)
        said = scalple("reprocess", *known)
        assert said.code == 0, said.err
    for mine, at_once in zip(rows(store, text), rows(scene.store, text), strict=True):
        # Of the last statement before the cut it isn't known whether it was an inner one.
        names = {one.replace("policy:", "policy-unknown:") for one in at_once["findings"] or ()}
        assert mine == at_once or (mine["at"] < ends[0] and set(mine["findings"]) == names)


def test_functions_and_triggers_lend_their_owners_right_and_nobody_is_accused(scene: Scene) -> None:
    inner = [one for one in scene.read if "count(iban)" in one["query"]]
    assert len(inner) >= 2 * 6 * len(PEOPLE)
    assert not any("policy:in-person" in (one["findings"] or ()) for one in inner)


def test_a_superuser_passes_every_grant_by_and_is_told(scene: Scene) -> None:
    found = [one for one in scene.read if one["object_name"] == "public.payroll"]
    told = ["policy:bypass" in (one["findings"] or ()) for one in found]
    # The next snapshot is what ends the doubt after a change of roles.
    assert told == [True, False, True]


def test_the_report_names_the_right_and_the_snapshot_and_what_it_cannot_judge(
    scene: Scene,
) -> None:
    said = scalple("policy", "--store", scene.store, "--format", "json")
    assert said.code == 0, said.err
    answer = said.json()
    for one in answer["findings"]:
        assert one["found"] == one["stored"], one
    mine = [
        one
        for one in answer["missing"]
        if (one["finding"], one["actor"]) == ("policy:iban-in-person", "employee_1")
    ]
    assert [(o["privilege"], o["relation"], o["columns"], o["roles"]) for o in mine] == [
        ("SELECT", USERS, ["iban"], ["jmueller"])
    ]
    assert mine[0]["found"] == 1
    why = {one["why"] for one in answer["unjudged"] if one["finding"].endswith(":in-person")}
    assert why >= {"no-snapshot", "changed-since", "within-another", "through-view"}
    tried = scalple("policy", "--store", scene.store, "--config", scene.config, "--format", "json")
    assert tried.json()["missing"] == answer["missing"]
    table = scalple("policy", "--store", scene.store)
    assert "Rights that were missing" in table.out
