"""Digests: the quick answer is the slow one, whatever a store went through; a wrong digest is found."""

import json
import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scalple.correlate.record import AUDIT
from scalple.ingest.errors import VerificationError
from scalple.store import coverage as coverages
from scalple.store import digest, possible, query, writer
from scalple.store.digestnames import FACTS, NAMES, ROWS, SUBJECTS
from scalple.store.distinct import distinct
from scalple.store.layout import origin_layout
from scalple.store.question import Period, Question
from scalple.store.quick import Quick
from scalple.store.reader import StoreReader
from scalple.store.verified import VerifiedFiles
from scalple.store.verify import verify
from scalple.store.views import gaps_sql
from tests.store.sample import NOON, make_store, signing_key, table

USER, ORDER, EMAIL = "public.users.id", "public.orders.user_id", "public.users.email"
TOKENS = [7 << 32 | 1, 7 << 32 | 2, 9 << 32, 2**64 - 1]
"""Two of them share the half by which they are looked up."""


def some(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    """One of few values, or NULL."""
    return st.sampled_from([None, *values])


def lists(values: Sequence[Any], most: int = 3) -> st.SearchStrategy[Any]:
    """NULL, or a list of few of them."""
    return st.none() | st.lists(st.sampled_from([*values, None]), max_size=most)


subjects = st.none() | st.lists(
    st.builds(
        lambda token, column: {
            "token": token,
            "column": column,
            "basis": "literal",
            "sealed": b"\x01",
        },
        st.sampled_from(TOKENS),
        st.sampled_from([USER, ORDER, EMAIL, None]),
    ),
    max_size=3,
)
moments = st.integers(0, 72 * 60).map(lambda minutes: NOON + timedelta(minutes=minutes))
rows = st.fixed_dictionaries(
    {
        "log_time": moments,
        "database": some(["app", "erp"]),
        "db_role": some(["app_user", "batch"]),
        "class": some(["READ", "WRITE", "MISC"]),
        "command": some(["SELECT", "UPDATE", "PREPARE"]),
        "query": some(
            ["SELECT 1", "UPDATE users SET x = 1 RETURNING *", "UPDATE users SET x = 1", "a\nOR b"]
        ),
        "parameters": lists(["1", ""]),
        "query_fingerprint": some(["f1", "f2"]),
        "rows_returned": some([0, 5]),
        "session_user_id": some(["ann", "bob"]),
        "session_email": some(["ann@x.de", "Ann@x.de"]),
        "on_behalf_of": some(["eve"]),
        "attribution_grade": some(["proven", "claimed", "candidates", "unattributed", "pooler"]),
        "attribution_method": some(["tag"]),
        "attribution_reason": some(["no-client-known", "identity-conflict"]),
        "attribution_candidates": lists(["ann", "bob"]),
        "affected_tables": lists(["public.users", "public.orders"]),
        "columns_accessed": lists([USER, EMAIL, "public.orders.total"]),
        "columns_basis": some(["parsed", "unknown", "object-audit"]),
        "access_shape": some(["point", "range", "write", "none", "full"]),
        "findings": lists(["drift", "rolled-back"]),
        "subjects": subjects,
    }
)
revisions = st.fixed_dictionaries(
    {},
    optional={
        "session_user_id": some(["ann", "zoe"]),
        "attribution_grade": some(["proven", "unattributed"]),
        "attribution_reason": some(["no-client-known"]),
        "findings": lists(["late"]),
        "subjects": subjects.map(
            lambda given: given and [{**one, "sealed": "01"} for one in given]
        ),
    },
)
heard = st.fixed_dictionaries(
    {
        "source": st.sampled_from(["pgbouncer", "pgbouncer", "identity"]),
        "event": some(["alive", "process-up", "start"]),
        "ts": moments,
        "sidecar": some(["p"]),
    }
)
commits = st.fixed_dictionaries(
    {
        "origin": st.sampled_from(["db1", "db2"]),
        "evidence": st.lists(heard, max_size=2),
        "rows": st.lists(rows, max_size=8),
        "revisions": st.lists(st.tuples(st.integers(0, 12), revisions), max_size=3),
        "digested": st.sampled_from([True, True, True, False]),
        "again": st.booleans(),  # the writer is opened anew for it
    }
)
questions = st.builds(
    Question,
    tokens=st.lists(
        st.tuples(st.just("customer_id"), st.sampled_from(TOKENS)), min_size=1, max_size=2
    ).map(tuple),
    subject_columns=st.lists(st.sampled_from([USER, ORDER, EMAIL]), min_size=1, unique=True).map(
        tuple
    ),
    personal_columns=st.lists(st.sampled_from([EMAIL, "public.users.iban"]), unique=True).map(
        tuple
    ),
    actor=some(["ann", "ANN@X.de"]),
    table=some(["users"]),
    role=some(["app_user"]),
    period=st.builds(Period, st.none() | moments, st.none() | moments),
)


class Origins:
    """Writers of a store's origins, with a clock that each commit moves on."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.key = signing_key(store)
        self.open: dict[str, writer.StoreWriter] = {}
        self.hours = 0

    def now(self) -> datetime:
        """By the writers' clock."""
        return datetime(2026, 5, 1, tzinfo=UTC) + timedelta(hours=self.hours)

    def commit(self, commit: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """One batch, of this version or of one that knew no digests."""
        origin = commit["origin"]
        if commit["again"] and origin in self.open:
            self.open.pop(origin).close()
        if origin not in self.open:
            self.open[origin] = writer.StoreWriter.open(
                self.store, origin, self.key, create=True, clock=self.now
            )
        one = self.open[origin]
        self.hours += 1
        tables = {}
        if commit["rows"]:
            tables["audit"] = table("audit", one.next_seq["audit"], commit["rows"], origin)
        if commit["evidence"]:
            said = commit["evidence"]
            tables["evidence"] = table("evidence", one.next_seq["evidence"], said, origin)
        if commit["revisions"]:
            changes = [
                {"audit_seq": seq, "changes": json.dumps(change), "revised_at": NOON}
                for seq, change in commit["revisions"]
            ]
            tables["revisions"] = table("revisions", one.next_seq["revisions"], changes, origin)
        with monkeypatch.context() as patched:
            if not commit["digested"]:
                patched.setattr(one, "_digest", lambda _audit: {})
            one.commit(tables, [], {})

    def close(self) -> None:
        """All of them."""
        for one in self.open.values():
            one.close()


def by_hand(con: Any, question: Question, period: str) -> dict[str, Any]:
    """What `coverage` counts, straight from the rows."""
    values = {}
    if question.period.since is not None:
        values["since"] = question.period.since
    if question.period.until is not None:
        values["until"] = question.period.until

    def counts(column: str) -> dict[str, int]:
        sql = f"SELECT name, count(*) FROM (SELECT {column} AS name FROM audit WHERE {period})"
        found = con.execute(f"{sql} WHERE name IS NOT NULL GROUP BY 1", values).fetchall()
        return dict(found)

    sql = (
        "SELECT count(*) AS statements, min(log_time) AS first, max(log_time) AS last "
        f"FROM audit WHERE {period}"
    )
    totals: dict[str, Any] = con.sql(sql, params=values).to_arrow_table().to_pylist()[0]
    return totals | {
        "by_grade": counts("attribution_grade"),
        "by_method": counts("attribution_method"),
        "by_reason": counts("attribution_reason"),
        "findings": counts("unnest(findings)"),
    }


def gap_rows(con: Any, gaps: str) -> list[str]:
    """All that is said of gaps, in some order."""
    return sorted(map(str, con.sql(f"SELECT * FROM {gaps}").to_arrow_table().to_pylist()))


def assert_same(reader: StoreReader, as_of: datetime | None, question: Question) -> None:
    """Every answer that digests quicken."""
    quick = Quick(reader, as_of)
    con = quick.con
    assert query.direct(con, question, quick) == query.direct(con, question)

    slow = possible.possible_groups(con, question)
    for most in (None, 2):
        found = possible.possible_groups(con, question, most, quick)
        assert (found.groups, found.times) == (slow.groups, slow.times)
        assert found.rows == slow.rows[:most]
    assert slow.times == len(possible.possible(con, question))

    for unit in ("minute", "day"):
        quickly = possible.possible_times(con, question, unit, quick)
        assert quickly == possible.possible_times(con, question, unit)

    period = question.period
    known = coverages.coverage(con, period, quick)
    gaps = gap_rows(con, coverages._quick_gaps(con, quick))
    assert known == coverages.coverage(con, period)
    assert gaps == gap_rows(con, f"({gaps_sql()})")
    where = ["true"]
    where += ["log_time >= $since"] if period.since is not None else []
    where += ["log_time < $until"] if period.until is not None else []
    expected = by_hand(con, question, " AND ".join(where))
    assert {name: known[name] for name in expected} == expected


@settings(
    max_examples=int(os.environ.get("DIGEST_EXAMPLES", "8")),
    phases=[Phase.generate],  # to shrink a store takes minutes
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(commits, min_size=1, max_size=5),
    st.lists(questions, min_size=1, max_size=2),
    st.data(),
)
def test_the_quick_answer_is_the_slow_one(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    made: list[dict[str, Any]],
    asked: list[Question],
    data: st.DataObject,
) -> None:
    directory = tmp_path_factory.mktemp("digests")
    store = directory / "store"
    origins = Origins(store)
    for commit in made:
        origins.commit(commit, monkeypatch)
    origins.close()

    verify(store)
    reader = StoreReader.open(store, verified=VerifiedFiles(None))
    as_of = data.draw(st.none() | st.integers(0, origins.hours))
    when = None if as_of is None else datetime(2026, 5, 1, tzinfo=UTC) + timedelta(hours=as_of)
    for question in asked:
        assert_same(reader, when, question)
    shutil.rmtree(directory)


def objects(store: Path, n: int = 0) -> dict[str, bytes]:
    """The digest of a commit of db1."""
    named = StoreReader.open(store, "db1").manifests[n].objects
    layout = origin_layout(store, "db1")
    return {name: layout.object(named[name]).read_bytes() for name in NAMES}


def changed(data: bytes, column: str, values: Any) -> bytes:
    """The same Parquet file with other values in a column."""
    whole = pq.read_table(pa.BufferReader(data))
    at = whole.schema.get_field_index(column)
    new = pa.array(values(whole.column(at).to_pylist()), whole.schema.field(at).type)
    sink = pa.BufferOutputStream()
    pq.write_table(whole.set_column(at, whole.schema.field(at), new), sink, store_schema=False)
    return bytes(sink.getvalue().to_pybytes())


def write_with(store: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, bytes]) -> None:
    """A store whose writer signs another digest than that of its rows."""

    def digest_of(self: Any, audit: pa.Table | None) -> dict[str, bytes]:
        return {**right(self, audit), **wrong} if audit is not None else {}

    right = writer.StoreWriter._digest
    monkeypatch.setattr(writer.StoreWriter, "_digest", digest_of)
    make_store(store, 1)


@pytest.mark.parametrize(
    ("name", "column", "values"),
    [
        (SUBJECTS, "token_half", lambda column: [1, *column[1:]]),
        (SUBJECTS, "seq", lambda column: column[::-1]),
        (ROWS, "statement", lambda column: [1000, *column[1:]]),
        (ROWS, "statement", lambda column: [-1, *column[1:]]),
        (ROWS, "log_time", lambda column: [NOON + timedelta(days=1), *column[1:]]),
        (ROWS, "rows_returned", lambda column: [7, *column[1:]]),
        (
            FACTS,
            "fact",
            lambda column: [one.replace("public.users", "public.others") for one in column],
        ),
        (FACTS, "fact", lambda column: [one.replace("employee", "somebody") for one in column]),
        (FACTS, "fact", lambda column: ["", *column[1:]]),
        (FACTS, "of", lambda column: ["person" for _ in column]),
    ],
)
def test_a_signed_digest_that_says_something_else_than_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, column: str, values: Any
) -> None:
    made = make_store(tmp_path / "right" / "store", 1)
    right = objects(made)[name]
    wrong = changed(right, column, values)
    if pq.read_table(pa.BufferReader(wrong)).equals(pq.read_table(pa.BufferReader(right))):
        pytest.skip("the sample has no such value")
    write_with(tmp_path / "store", monkeypatch, {name: wrong})

    with pytest.raises(
        VerificationError, match=r"digest|isn't what the rows say|facts are"
    ) as caught:
        verify(tmp_path / "store")
    assert caught.value.place


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_a_digest_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    right = writer.StoreWriter._digest

    def part_of(self: Any, audit: pa.Table | None) -> dict[str, bytes]:
        return {key: data for key, data in right(self, audit).items() if key != name}

    monkeypatch.setattr(writer.StoreWriter, "_digest", part_of)
    make_store(tmp_path / "store", 1)
    with pytest.raises(VerificationError, match="part of one"):
        verify(tmp_path / "store")


@pytest.mark.parametrize("name", NAMES)
def test_a_digest_whose_bytes_were_changed_answers_nothing(tmp_path: Path, name: str) -> None:
    store = make_store(tmp_path / "store", 1)
    reader = StoreReader.open(store, "db1")
    path = origin_layout(store, "db1").object(reader.manifests[0].objects[name])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    for refuse in (lambda: verify(store), lambda: Quick(StoreReader.open(store))):
        with pytest.raises(VerificationError) as caught:
            refuse()
        assert caught.value.place == str(path)


def test_the_digest_of_another_commit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_store(tmp_path / "right" / "store", 2)
    write_with(tmp_path / "store", monkeypatch, objects(made, 1))
    with pytest.raises(VerificationError):
        verify(tmp_path / "store")


def test_facts_are_told_once_per_opening_of_the_writer(tmp_path: Path) -> None:
    store = make_store(make_store(tmp_path / "store", 3), 1)
    told = [digest.read_meaning(pa.BufferReader(objects(store, n)[FACTS])).people for n in range(4)]
    assert [len(people) for people in told] == [1, 0, 0, 1]
    since = [digest.read_rows(pa.BufferReader(objects(store, n)[ROWS])).since for n in range(4)]
    assert since == [0, 0, 0, 3]


def test_rows_are_alike_only_if_every_column_is() -> None:
    values = [None, [], [None], ["a"], ["a", "b"], ["b", "a"], ["a", "a"], ["ab"]]
    lists = pa.chunked_array([pa.array(values * 2, pa.list_(pa.string()))])
    texts = pa.chunked_array([pa.array(["x"] * 8 + [None] * 4 + ["x"] * 4).dictionary_encode()])

    found = distinct([lists, texts], 16)

    pairs = list(zip(map(repr, lists.to_pylist()), texts.to_pylist(), strict=True))
    codes = found.codes.to_pylist()
    assert len(set(codes)) == len(set(pairs)) == 12
    assert [pairs[first] for first in found.first[codes]] == pairs


def test_digested_columns_come_in_any_form(tmp_path: Path) -> None:
    made = table("audit", 0, [{"findings": ["a"], "query": "x", "subjects": []}] * 2)
    plain = pa.concat_tables([made, made.slice(1)])
    coded = plain
    for at, field in enumerate(AUDIT):
        if field.type == pa.string():
            coded = coded.set_column(
                at, field.name, plain.column(at).cast(pa.string()).dictionary_encode()
            )
    digester = digest.Digester()
    for one in (plain, coded, coded.combine_chunks()):
        facts = digester.facts(one)
        assert [json.loads(fact)["findings"] for fact in facts.person.to_pylist()] == [["a"]] * 3
        assert np.asarray(digest.subjects_index(one)["seq"]).size == 0
