"""An index changes no answer, whatever it was made of; and nothing in it is believed unchecked."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scalple.correlate.record import KINDS
from scalple.store import compaction, coverage, keyedrows, merging, possible, query
from scalple.store.question import Question
from scalple.store.quick import Quick
from scalple.store.reader import StoreReader
from scalple.store.verified import VerifiedFiles
from scalple.store.verify import verify
from scalple.store.views import gaps_sql
from scalple.store.writer import StoreWriter
from tests.store.sample import NOON, other_kinds, signing_key, table
from tests.store.test_digest import Origins, assert_same, commits, questions

MOMENTS = [datetime(2026, 5, 1, 1, 30, tzinfo=UTC), None]
"""After two of three hourly commits, and now."""
NAMED = {"token": 7 << 32, "column": "public.users.id", "basis": "literal", "sealed": b"\x01"}
ABOUT = Question(
    tokens=(("id", 7 << 32),),
    subject_columns=("public.users.id",),
    personal_columns=("public.users.email",),
)


def compacted(store: Path, origin: str, key: Any) -> compaction.Compacted:
    """Brings an index up to date; remembers nothing."""
    return compaction.compact(store, origin, key, VerifiedFiles(None))


def opened(store: Path) -> StoreReader:
    """The store, every byte looked at."""
    return StoreReader.open(store, verified=VerifiedFiles(None))


def answers(reader: StoreReader, as_of: datetime | None, question: Question) -> dict[str, Any]:
    """All that is asked of a store, and all of its rows."""
    quick = Quick(reader, as_of)
    groups = possible.possible_groups(quick.con, question, 3, quick)
    found: dict[str, Any] = {
        "direct": query.direct(quick.con, question, quick),
        "groups": (groups.rows, groups.groups, groups.times),
        "coverage": coverage.coverage(quick.con, question.period, quick),
    }
    for kind in (one for one in KINDS if one != "access"):
        gaps = f"FROM ({gaps_sql()}) ORDER BY ALL"
        sql = gaps if kind == "gaps" else f"FROM {kind} ORDER BY origin, seq"
        found[kind] = quick.con.sql(sql).to_arrow_table().to_pylist()
    for origin in reader.origins:
        chain = reader.chain(origin)
        found[origin] = (chain.head, chain.next_seq, list(chain.manifests), list(chain.leaf_hashes))
        found[f"{origin} by key"] = chain.manifests.keyed()
    return found


@settings(
    max_examples=int(os.environ.get("INDEX_EXAMPLES", "2")),
    phases=[Phase.generate],  # to shrink a store takes minutes
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.tuples(commits, st.sampled_from([True, True, False])), min_size=2, max_size=8),
    questions,
    st.data(),
)
def test_an_index_changes_no_answer(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    made: list[tuple[dict[str, Any], bool]],
    asked: Question,
    data: st.DataObject,
) -> None:
    # Small enough for many files and runs.
    monkeypatch.setattr(merging, "FILE_ROWS_MAX", 5)
    monkeypatch.setattr(compaction, "RUN_ROWS_MAX", data.draw(st.sampled_from([14, 1000])))
    directory = tmp_path_factory.mktemp("index")
    store = directory / "store"
    origins = Origins(store)
    known: set[str] = set()
    for commit, compact in made:
        origins.commit(commit, monkeypatch)
        known.add(commit["origin"])
        if compact:
            compacted(store, commit["origin"], origins.key)
    origins.close()
    indexed = {one for one in known if (store / one / "index" / "head").exists()}

    verify(store)
    reader = opened(store)
    assert reader.notes == []
    as_of = data.draw(st.none() | st.integers(0, origins.hours))
    when = None if as_of is None else datetime(2026, 5, 1, tzinfo=UTC) + timedelta(hours=as_of)
    assert_same(reader, when, asked)
    found = answers(reader, when, asked)
    assert {one for one in known if one in reader._indexed} == indexed
    for origin in indexed:
        shutil.rmtree(store / origin / "index")
    assert answers(opened(store), when, asked) == found
    shutil.rmtree(directory)


def test_what_was_committed_later_is_left_out_of_a_run(tmp_path: Path) -> None:
    store = tmp_path / "store"
    hours = (datetime(2026, 5, 1, hour, tzinfo=UTC) for hour in range(9))
    key = signing_key(store)
    with StoreWriter.open(store, "db1", key, create=True, clock=lambda: next(hours)) as writer:
        for n in range(3):
            rows: list[dict[str, Any]] = [
                {"log_time": NOON, "subjects": [NAMED]},
                {"log_time": NOON},
            ]
            changes = {"audit_seq": 0, "changes": f'{{"session_user_id": "ann{n}"}}'}
            batch = {
                "audit": table("audit", 2 * n, rows),
                "revisions": table("revisions", n, [changes]),
                **other_kinds(n),
            }
            writer.commit(batch, [], {})
    plain = [answers(opened(store), at, ABOUT) for at in MOMENTS]
    assert [len(one["direct"]) for one in plain] == [2, 3]
    compacted(store, "db1", key)
    reader = opened(store)
    assert [answers(reader, at, ABOUT) for at in MOMENTS] == plain


def test_rows_are_counted_by_subject_key_whatever_is_in_the_index(tmp_path: Path) -> None:
    store = tmp_path / "store"
    hours = (datetime(2026, 5, 1, hour, tzinfo=UTC) for hour in range(9))
    key = signing_key(store)
    found = []
    with StoreWriter.open(store, "db1", key, create=True, clock=lambda: next(hours)) as writer:
        for n, name in enumerate((None, b"a", b"b", b"a", None, b"c")):
            rows = {"audit": table("audit", n, [{"log_time": NOON}])} if n != 5 else {}
            writer.commit(rows, [], {"subject-key": name} if name else {})
            if n in (2, 3):
                compacted(store, "db1", key)
            chain = opened(store).chain("db1")
            found = [
                (one.rows, one.first[11:13], one.last[11:13]) for one in chain.manifests.keyed()
            ]
            assert (chain.manifests.past is None) == (n < 2)
            assert chain.manifests.keyed() == keyedrows.counted(list(chain.manifests))
    assert found == [(1, "02", "02"), (2, "01", "03"), (2, "00", "04"), (0, "05", "05")]
    assert opened(store)._indexed["db1"].index.runs[-1].end == 4
