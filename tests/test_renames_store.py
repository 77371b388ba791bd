"""A store alone answers a history of renames as it would one without: whatever is asked of it."""

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scalple.cli import asking
from scalple.correlate.subjects import subject_token
from scalple.ingest.errors import VerificationError
from scalple.store import compaction, namesobject, rownames
from scalple.store.keys import signing_key, subject_key
from scalple.store.possible import possible, possible_groups, possible_times
from scalple.store.question import Question
from scalple.store.quick import Quick
from scalple.store.reader import StoreReader
from tests.commandline import rows, scalple
from tests.ddl_log import DdlLog
from tests.renamed_world import RULES, SCHEMA, UNDECLARED, World

OPS = [(1, 0, 0), (0, 2, 4), (2, 0, 1), (3, 0, 4), (1, 1, 1), (0, 0, 5), (3, 2, 5), (2, 1, 1)]
CONFIG = """
[pooler]
kind = "none"

[identifiers]
customer_id = ["public.customers.id", "crm.notes.customer_id"]
supplier_id = ["public.suppliers.id"]

[personal_data]
"public.customers.email" = "email"
"public.customers.name" = "redact"
"public.suppliers.iban" = "keep-last-4"
"public.suppliers.email" = "none"
"crm.notes.body" = "redact"

[[policy]]
name = "bodies"
actors = ["unattributed"]
columns = ["crm.notes.body"]

[[policy]]
name = "suppliers"
actors = ["unattributed"]
tables = ["public.suppliers"]
"""


def stored(directory: Path, log: DdlLog, parts: int) -> Path:
    """A store of a log that comes in parts, a run for each."""
    directory.mkdir()
    (directory / "schema.sql").write_text(SCHEMA)
    (directory / "config.toml").write_text(CONFIG)
    store, size = directory / "store", -(-len(log.rows) // parts)
    for at in range(parts):
        file = directory / f"{at}.csv"
        part = DdlLog(log.rows[at * size : (at + 1) * size])
        file.write_text(part.text())
        said = scalple(
            *("reprocess", "--store", store, "--config", directory / "config.toml"),
            *("--postgres-log", file, *(() if at else ("--schema", directory / "schema.sql"))),
        )
        assert said.code == 0, said.err
    return store


Both = tuple[World, Path, Path]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The world, the store of its history without renames, and that with them."""
    world = World()
    world.run(OPS)
    folder = tmp_path_factory.mktemp("renames")
    return (
        world,
        stored(folder / "plain", world.plain, 1),
        stored(folder / "renamed", world.renamed, 3),
    )


def number(row: dict[str, Any]) -> int:
    """The statement's, which stands in its comment."""
    return int(row["query"].rpartition("/*")[2].strip(" */"))


def asked(store: Path, *options: str) -> dict[str, Any]:
    said = scalple(
        "query", "--store", store, "--disclosure", "controller", "--format", "json", *options
    )
    assert said.code == 0, said.err
    found: dict[str, Any] = said.json()
    return found


@pytest.mark.parametrize("subject", ["customer_id=42", "supplier_id=42"])
def test_a_persons_answer_is_the_same(both: Both, subject: str) -> None:
    world, *stores = both
    plain, renamed = (asked(store, "--subject", subject) for store in stores)
    for part in ("direct", "possible"):
        told, found = ({number(one) for one in answer[part]} for answer in (plain, renamed))
        of_nobody = {at for at, tables in enumerate(world.of) if UNDECLARED in tables}
        assert found - of_nobody == told - of_nobody
        assert told
        assert found >= told
    # A column stands for its identifier by whichever of its names.
    names = {one["column"] for row in renamed["direct"] for one in row["subjects"]}
    value = subject.partition("=")[2]
    column = min(names - {c for many in RULES.identifiers.values() for c in many})
    assert asked(stores[1], "--subject", f"{column}={value}")["direct"]


def test_digests_and_rows_give_the_same_answer(both: Both) -> None:
    reader = StoreReader.open(both[2])
    quick = Quick(reader)
    known = asking.known(reader, quick.names)
    assert quick.names.lineages
    key = subject_key(both[2], None).secret
    question = Question(
        tokens=(("customer_id", subject_token(key, "customer_id", "4711")),),
        subject_columns=RULES.identifiers["customer_id"],
        personal_columns=tuple(RULES.personal_data),
        carried=known.carried(["customer_id"]),
    )
    slow, fast = (
        possible_groups(quick.con, question),
        possible_groups(quick.con, question, None, quick),
    )
    assert fast.rows == slow.rows
    assert fast.times == len(possible(quick.con, question)) > 10
    quick.names.register(quick.con, few=0)  # as if names had changed often
    assert possible_groups(quick.con, question) == slow
    times = [possible_times(quick.con, question, "minute", one) for one in (None, quick)]
    assert times[0] == times[1]


def test_a_breach_names_the_same_people_and_counts_the_same_statements(both: Both) -> None:
    plain, renamed = (
        asked(store, "--breach", "--role", "u", "--since", "2026-03-01") for store in both[1:]
    )

    def people(answer: dict[str, Any]) -> list[tuple[Any, ...]]:
        found = answer["breach"]["certain"]["subjects"]
        return sorted((one["identifier"], one["value"], one["statements"]) for one in found)

    assert people(plain) == people(renamed)
    assert people(plain)
    assert renamed["possible"]


def test_minimisation_knows_the_columns_by_every_name(both: Both) -> None:
    found = []
    for store in both[1:]:
        said = scalple("minimisation", "--store", store, "--format", "json")
        assert said.code == 0, said.err
        templates = said.json()["templates"]
        found.append(sum(one["statements"] * len(one["columns"]) for one in templates))
    assert found[0] <= found[1]
    assert found[0]


def test_detect_proposes_nothing_that_is_declared_under_another_name(both: Both) -> None:
    plain, renamed = (
        scalple("detect", "--store", store, "--format", "json").json()["proposals"]
        for store in both[1:]
    )
    first = {"public.parts.email", "public.parts.name"}
    assert {one["column"] for one in plain} == first
    meant = {now: then for one in both[0].meant for now, then in one.items() if then in first}
    assert {one["column"] for one in renamed} <= first | meant.keys()


def test_rules_go_with_what_they_are_about(both: Both, tmp_path: Path) -> None:
    found = []
    for store in both[1:]:
        broken: dict[int, set[str]] = {}
        for row in rows(store, "SELECT query, findings FROM audit WHERE query LIKE '%/*%'"):
            broken[number(row)] = {f for f in row["findings"] or () if f.startswith("policy:")}
        found.append(broken)
        said = scalple("policy", "--store", store, "--format", "json")
        counts = {one["finding"]: one for one in said.json()["findings"]}
        assert all(one["found"] == one["stored"] for one in counts.values())
        assert {"policy:bodies", "policy:suppliers"} <= counts.keys()
    plain, renamed = found
    assert all(renamed[at] >= told for at, told in plain.items())


def test_the_store_is_intact_and_a_wrong_object_is_refused(both: Both) -> None:
    assert scalple("verify", "--store", both[2]).code == 0
    reader = StoreReader.open(both[2])
    commits = [one for one in reader.audit_commits() if one.names is not None]
    assert commits
    other = next(one for one in commits if one.names is not None)
    wrong = type(other)(other.origin, "0", 0, other.rows + 1, False, (), {}, other.names)
    with pytest.raises(VerificationError, match="isn't about the rows"):
        rownames.RowNames([wrong])
    broken = other.names.with_name("broken") if other.names else None
    assert broken is not None
    for data in (b"", b"PAR1", json.dumps([1]).encode()):
        with pytest.raises(VerificationError):
            broken_file(broken, data)


def broken_file(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        namesobject.read(path)
    finally:
        path.unlink()


def test_an_index_changes_nothing_of_what_names_tell(both: Both, tmp_path: Path) -> None:
    questions = [
        ("query", "--subject", "customer_id=42", "--disclosure", "controller"),
        ("minimisation",),
        ("policy",),
        ("detect",),
    ]

    def told(store: Path, as_of: str | None) -> list[Any]:
        reader = StoreReader.open(store)
        when = None if as_of is None else dt.datetime.fromisoformat(as_of)
        quick = Quick(reader, when)
        names: list[Any] = [quick.names.lineages_of(one) for one in reader.origins]
        names.append(quick.con.sql(f"FROM {quick.names.source} ORDER BY seq").to_arrow_table())
        quick.load_facts(quick.con)
        names.append(quick.con.sql("SELECT count(*), sum(names) FROM facts").fetchall())
        more = () if as_of is None else ("--as-of", as_of)
        for question in questions:
            if as_of is None or question[0] in ("query", "minimisation"):
                said = scalple(*question, "--store", store, *more, "--format", "json")
                assert said.code == 0, said.err
                names.append(said.out)
        return names

    store = tmp_path / "store"
    shutil.copytree(both[2], store)
    shutil.copytree(both[2].with_name("store.keys"), tmp_path / "store.keys")
    times = [one.committed_at for one in StoreReader.open(store).manifests]
    moments = [None, times[1]]
    plain = [told(store, at) for at in moments]
    assert len(plain[0][0]) > 1
    assert plain[0] != plain[1]
    (sample,) = StoreReader.open(store).origins
    key = signing_key(store, None, name="signing", may_create=False).private
    for size in (1, 1 << 22):  # a run for each commit, and one for all
        shutil.rmtree(store / sample / "index", ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compaction, "RUN_ROWS_MAX", size)
            compaction.compact(store, sample, key)
        assert StoreReader.open(store)._indexed
        assert [told(store, at) for at in moments] == plain
        assert scalple("verify", "--store", store).code == 0
