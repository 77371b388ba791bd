"""Answers about a real recording, held against what its clients really did.

What clients sent is tied to the raw log by its text and bind values, and the raw log to the answer
by session and statement id; nothing of the system under test takes part in that.
"""

import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scalple.cli.answer import BESIDE
from scalple.correlate.record import AUDIT
from tests.auditcount import audit_fields, audit_records, count_audit_records
from tests.commandline import Said, rows, scalple
from tests.conftest import Recorded
from tests.workload import DIRECT, PEOPLE_ACTORS

MARK = re.compile(r"/\* truth:(\w+) \*/")
NAMED = ("proven", "confirmed", "claimed")
MULLER = "employee_id_2291"
MULLER_EMAIL = "j.muller@company.com"


@pytest.fixture(scope="module")
def store(recorded_store: Path) -> Path:
    """The recording in a store."""
    return recorded_store


def ask(store: Path, *arguments: str, form: str = "json", disclosure: str = "controller") -> Said:
    """A question that is answered."""
    said = scalple(
        "query", "--store", store, "--format", form, "--disclosure", disclosure, *arguments
    )
    assert said.code == 0, said.err
    return said


def direct(store: Path, *arguments: str) -> list[dict[str, Any]]:
    """The rows that an answer calls direct."""
    found: list[dict[str, Any]] = ask(store, *arguments).json()["direct"]
    return found


# -- whose data ----------------------------------------------------------------------------------

Statement = tuple[str, int]
"""session_id and statement_id: one statement, however many rows tell of it."""


@pytest.fixture(scope="module")
def raw(recorded: Recorded) -> dict[tuple[str, tuple[str, ...]], set[Statement]]:
    """(text, bind values) -> statements, from the raw log, read by Python's csv module."""
    found: dict[tuple[str, tuple[str, ...]], set[Statement]] = defaultdict(set)
    for record in audit_records(recorded.csvlogs):
        _, statement_id, *_, text, parameters = audit_fields(record)[:9]
        values = () if parameters == "<none>" else tuple(next(csv.reader([parameters])))
        found[(text, values)].add((record[5], int(statement_id)))
    return found


def happened(
    recorded: Recorded,
    raw: dict[tuple[str, tuple[str, ...]], set[Statement]],
    *subjects: tuple[str, str],
) -> set[Statement]:
    """The statements that named one of these (identifier, value), from what the clients sent.

    With log_rows on, pgAudit writes nothing of a statement that failed.
    """
    found: set[Statement] = set()
    for entry in recorded.truth:
        named = {(one["identifier"], one["value"]) for one in entry.subjects}
        if entry.outcome == "ok" and named & set(subjects):
            found |= raw[(entry.text, tuple(entry.params))]
    return found


def statements(found: list[dict[str, Any]]) -> set[Statement]:
    """What an answer's rows tell of."""
    return {(row["session_id"], row["statement_id"]) for row in found}


def busiest(recorded: Recorded, identifier: str, count: int) -> list[str]:
    """The values that most messages named."""
    named = Counter(
        one["value"]
        for entry in recorded.truth
        for one in entry.subjects
        if one["identifier"] == identifier and entry.outcome == "ok"
    )
    return [value for value, _ in named.most_common(count)]


@pytest.mark.parametrize("identifier", ["customer_id", "email"])
def test_the_direct_accesses_are_those_that_happened(
    identifier: str,
    recorded: Recorded,
    store: Path,
    raw: dict[tuple[str, tuple[str, ...]], set[Statement]],
) -> None:
    values = busiest(recorded, identifier, 15)
    assert len(values) == 15
    for value in values:
        expected = happened(recorded, raw, (identifier, value))
        assert expected
        assert statements(direct(store, "--subject", f"{identifier}={value}")) == expected, value


def test_two_subjects_are_two_names_of_one_person(
    recorded: Recorded,
    store: Path,
    raw: dict[tuple[str, tuple[str, ...]], set[Statement]],
) -> None:
    names = [("customer_id", "4711"), ("email", busiest(recorded, "email", 1)[0])]
    options = [word for name, value in names for word in ("--subject", f"{name}={value}")]
    assert statements(direct(store, *options)) == happened(recorded, raw, *names)


def test_a_column_names_its_identifier(store: Path) -> None:
    by_name = direct(store, "--subject", "customer_id=4711")
    assert direct(store, "--subject", "public.orders.user_id=4711") == by_name
    assert direct(store, "--subject", "customer_id= +004711 ") == by_name


def test_who_is_asked_for_is_never_only_possible(store: Path) -> None:
    answer = ask(store, "--subject", "customer_id=4711").json()
    ids = [row["log_id"] for part in ("direct", "possible") for row in answer[part]]
    assert len(ids) == len(set(ids))
    assert answer["possible"]
    points = [row for row in answer["possible"] if row["access_shape"] == "point"]
    assert points
    for row in points:
        named = {one["column"] for one in row["subjects"] or []}
        assert not named & {"public.users.id", "public.orders.user_id"}


# -- who -----------------------------------------------------------------------------------------


def test_nothing_of_the_log_is_missing(recorded: Recorded, store: Path) -> None:
    (kept,) = rows(store, "SELECT count(*) AS n FROM audit")
    (unparsed,) = rows(
        store, "SELECT count(*) AS n FROM unparsed WHERE decode(raw) LIKE '%AUDIT: %'"
    )
    assert kept["n"] + unparsed["n"] == count_audit_records(recorded.csvlogs)
    (dense,) = rows(store, "SELECT count(DISTINCT seq) AS n, max(seq) AS last FROM audit")
    assert dense == {"n": kept["n"], "last": kept["n"] - 1}


def test_nobody_is_named_for_what_another_ran(store: Path) -> None:
    marked = [
        (mark[1], row)
        for row in rows(store, "SELECT * FROM audit WHERE query LIKE '%/* truth:%'")
        if (mark := MARK.search(row["query"]))
    ]
    assert len(marked) > 900
    for author, row in marked:
        if row["attribution_grade"] in ("proven", "confirmed"):
            assert row["session_user_id"] == author, row["log_id"]
        if row["attribution_grade"] not in NAMED:
            assert row["session_user_id"] is None
            assert row["session_email"] is None
    sure = [row for _, row in marked if row["attribution_grade"] in ("proven", "confirmed")]
    known = [author for author, _ in marked if author != "none"]
    assert len(sure) >= 0.99 * len(known)


def test_an_actor_is_asked_for_by_id_and_by_email(store: Path) -> None:
    by_id = direct(store, "--actor", MULLER)
    assert by_id == direct(store, "--actor", MULLER_EMAIL)
    assert by_id == direct(store, "--actor", MULLER_EMAIL.upper())
    (counted,) = rows(store, f"SELECT count(*) AS n FROM audit WHERE session_user_id = '{MULLER}'")
    assert len(by_id) == counted["n"] > 0
    # Both ways: through the pooler, and by a login role of one's own.
    assert {row["db_role"] for row in by_id} == {"app_user", "jmueller"}
    assert direct(store, "--actor", "nobody@company.com") == []


def test_what_was_refused_is_told_of_its_actor(store: Path) -> None:
    named = rows(store, "FROM denied WHERE session_user_id IS NOT NULL")
    assert named
    for actor in {row["session_user_id"] for row in named}:
        answer = ask(store, "--actor", actor).json()
        expected = [row["id"] for row in named if row["session_user_id"] == actor]
        assert sorted(row["id"] for row in answer["refused"]) == sorted(expected)
        hidden = ask(store, "--actor", actor, disclosure="subject").json()["refused"][0]
        assert (hidden["query"], hidden["message"], hidden["db_role"]) == (None, None, None)
        assert hidden["session_user_id"] not in (None, actor)
        # Of what it would have touched nothing is known.
        assert ask(store, "--actor", actor, "--table", "users").json()["refused"] == []


def test_a_table_is_asked_for_with_and_without_its_schema(store: Path) -> None:
    found = direct(store, "--table", "orders")
    assert found == direct(store, "--table", "public.orders")
    assert found
    assert all("public.orders" in row["affected_tables"] for row in found)
    assert direct(store, "--table", "order") == []


def test_since_is_inclusive_and_until_is_not(store: Path) -> None:
    everything = direct(store, "--table", "users")
    times = sorted({row["log_time"] for row in everything})
    first, last = times[len(times) // 3], times[2 * len(times) // 3]
    found = direct(store, "--table", "users", "--since", first, "--until", last)
    assert found == [row for row in everything if first <= row["log_time"] < last]
    assert found[0]["log_time"] == first
    elsewhere = [f"{time[:-1]}+00:00" for time in (first, last)]
    options = ["--since", elsewhere[0], "--until", elsewhere[1]]
    assert direct(store, "--table", "users", *options) == found
    assert direct(store, "--table", "users", "--until", times[0]) == []


def test_filters_combine_with_and(store: Path) -> None:
    of_actor = {row["log_id"] for row in direct(store, "--actor", MULLER)}
    of_table = {row["log_id"] for row in direct(store, "--table", "users")}
    of_subject = {row["log_id"] for row in direct(store, "--subject", "customer_id=4711")}
    options = ["--actor", MULLER, "--table", "users", "--subject", "customer_id=4711"]
    found = {row["log_id"] for row in direct(store, *options)}
    assert found == of_actor & of_table & of_subject
    assert found


# -- what is disclosed ---------------------------------------------------------------------------


def staff() -> Iterator[str]:
    """What must not reach a data subject: names, e-mails and login roles of the company's people."""
    for actor in (*PEOPLE_ACTORS, *DIRECT.values()):
        yield str(actor.name)
        yield str(actor.email)
    yield from DIRECT
    yield from ("127.0.0.1", "svc_invoicing", "agent_helpdesk")


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "table"])
def test_the_subject_learns_no_name_of_staff(form: str, store: Path) -> None:
    text = ask(store, "--subject", "customer_id=4711", form=form, disclosure="subject").out
    assert [name for name in staff() if name in text] == []
    default = scalple("query", "--store", store, "--subject", "customer_id=4711", "--format", form)
    assert default.out == text


def test_the_subject_learns_dates_categories_and_pseudonyms(store: Path) -> None:
    told = ask(store, "--subject", "customer_id=4711", disclosure="subject").json()
    known = ask(store, "--subject", "customer_id=4711").json()
    assert told["coverage"] == known["coverage"]
    pseudonyms: dict[str, set[str]] = defaultdict(set)
    for part in ("direct", "possible"):
        for shown, row in zip(told[part], known[part], strict=True):
            assert list(shown) == list(row)
            for name in ("log_id", "log_time", "command", "columns_accessed", "attribution_grade"):
                assert shown[name] == row[name]
            if row["session_user_id"] is not None:
                pseudonyms[row["session_user_id"]].add(shown["session_user_id"])
    assert all(len(one) == 1 for one in pseudonyms.values())
    assert len(set.union(*pseudonyms.values())) == len(pseudonyms) > 3
    tokens = {one["token"] for row in told["direct"] for one in row["subjects"]}
    assert len(tokens) == 1


def test_the_controller_learns_names(store: Path) -> None:
    text = ask(store, "--subject", "customer_id=4711").out
    assert MULLER in text
    assert MULLER_EMAIL in text


# -- formats -------------------------------------------------------------------------------------


def test_every_format_says_the_same(store: Path, tmp_path: Path) -> None:
    options = ("--subject", "customer_id=4711")
    answer = ask(store, *options).json()
    assert list(answer) == ["direct", "possible", "refused", "coverage"]
    flat = [{"part": part, **row} for part in ("direct", "possible") for row in answer[part]]
    lines = ask(store, *options, form="jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == flat
    table = list(csv.DictReader(io.StringIO(ask(store, *options, form="csv").out)))
    assert [row["log_id"] for row in table] == [row["log_id"] for row in flat]
    assert [json.loads(row["subjects"] or "null") for row in table] == [
        row["subjects"] for row in flat
    ]
    assert [row["rows_returned"] for row in table] == [
        "" if row["rows_returned"] is None else str(row["rows_returned"]) for row in flat
    ]
    shown = ask(store, *options, form="table").out
    assert all(row["log_id"] in shown for row in answer["direct"])
    assert f"Direct ({len(answer['direct'])})" in shown
    assert f"({len(answer['possible'])})" in shown
    said = ask(store, *options, "--output", str(tmp_path / "answer.json"))
    assert said.out == ""
    assert json.loads((tmp_path / "answer.json").read_text()) == answer
    assert (tmp_path / "answer.json").stat().st_mode & 0o077 == 0


def test_the_keys_are_the_columns_of_the_record(store: Path) -> None:
    (row, *_) = direct(store, "--subject", "customer_id=4711")
    assert list(row) == ["log_id", *AUDIT.names, "purpose", "groups", "ticket"]
    assert re.fullmatch(r"db1#\d+", row["log_id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row["log_time"])
    (subject,) = {one["token"] for one in row["subjects"]}
    assert 0 <= subject < 2**64


def test_no_answer_is_still_an_answer(store: Path) -> None:
    options = ("--subject", "customer_id=999999999")
    answer = ask(store, *options).json()
    assert answer["direct"] == []
    assert answer["coverage"]["statements"] > 0
    header = ask(store, "--actor", "nobody", form="csv").out.splitlines()
    assert header == [",".join(["part", "log_id", *AUDIT.names, *BESIDE])]
    assert "Direct (0): none" in ask(store, *options, form="table").out


# -- sql -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "table"])
def test_sql_answers_in_every_format(form: str, store: Path) -> None:
    text = "SELECT attribution_grade AS g, count(*) AS n FROM audit GROUP BY 1 ORDER BY 1"
    said = scalple("sql", "--store", store, "--format", form, text)
    expected = rows(store, text)
    if form == "json":
        assert said.json() == expected
    elif form == "jsonl":
        assert [json.loads(line) for line in said.out.splitlines()] == expected
    elif form == "csv":
        read = list(csv.DictReader(io.StringIO(said.out)))
        assert [(row["g"], int(row["n"])) for row in read] == [
            (row["g"], row["n"]) for row in expected
        ]
    else:
        assert all(row["g"] in said.out for row in expected)


def test_values_that_json_does_not_have_are_text(store: Path) -> None:
    text = "SELECT 1 AS a, 2 AS a, 'nan'::DOUBLE AS x, 1.50::DECIMAL(4, 2) AS d, '\\x00'::BLOB AS b"
    said = scalple("sql", "--store", store, "--format", "json", text)
    assert said.json() == [{"a": 1, "a_1": 2, "x": "nan", "d": "1.50", "b": "AA=="}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT * FROM read_csv('/etc/passwd')", "/etc/passwd"),
        ("SELECT * FROM '/etc/passwd'", "passwd"),
        ("COPY audit TO '{tmp}/stolen.csv'", "one SELECT"),
        ("WITH x AS (COPY audit TO '{tmp}/stolen.csv') SELECT 1", ""),
        ("CREATE TABLE t AS SELECT 1", "one SELECT"),
        ("DELETE FROM audit", "one SELECT"),
        ("ATTACH '{tmp}/stolen.db'", "one SELECT"),
        ("SET enable_external_access = true", "one SELECT"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("", "one SELECT"),
        ("SELECT nonsense FROM audit", "nonsense"),
        ("SELECT * FROM nonsense", "nonsense"),
        ("SELEC 1", "SELEC"),
    ],
)
def test_sql_reads_the_views_and_nothing_else(
    text: str, words: str, store: Path, tmp_path: Path
) -> None:
    said = scalple("sql", "--store", store, text.format(tmp=tmp_path))
    assert (said.code, said.out) == (3, "")
    assert "error: sql: " in said.err
    assert words in said.err
    assert list(tmp_path.iterdir()) == []


def test_more_columns_than_fit_are_shown_below_each_other(store: Path) -> None:
    said = scalple("sql", "--store", store, "SELECT * FROM audit WHERE query IS NOT NULL LIMIT 2")
    (row, *_) = rows(store, "SELECT * FROM audit WHERE query IS NOT NULL LIMIT 2")
    assert row["log_id"] in said.out
    assert row["session_id"] in said.out
    assert max(map(len, said.out.splitlines())) <= 120


# -- coverage and verify -------------------------------------------------------------------------


def test_the_numbers_of_coverage_add_up(store: Path) -> None:
    said = scalple("coverage", "--store", store, "--format", "json")
    found = said.json()
    (counted,) = rows(
        store, "SELECT count(*) AS n, count(DISTINCT session_user_id) AS actors FROM audit"
    )
    assert found["statements"] == counted["n"] == sum(found["by_grade"].values())
    assert found["actors"] == counted["actors"]
    assert found["attributed"] == sum(found["by_grade"].get(grade, 0) for grade in NAMED)
    people = found["statements"] - found["by_grade"]["pooler"]
    assert found["attributed_share"] == pytest.approx(found["attributed"] / people, abs=1e-6)
    assert found["denied"] == rows(store, "SELECT count(*) AS n FROM denied")[0]["n"] > 0
    assert sum(found["gaps"].values()) == rows(store, "SELECT count(*) AS n FROM gaps")[0]["n"]
    shown = ask(store, "--actor", "nobody").json()["coverage"]
    assert {name: found[name] for name in shown} == shown
    assert sum(found["unnamed"].values()) == people - found["attributed"]
    assert sum(found["by_actor"].values()) == found["attributed"]
    assert sum(day["statements"] for day in found["days"]) == found["statements"]
    middle = rows(store, "SELECT median(log_time) AS t FROM audit")[0]["t"].isoformat()
    halves = [
        scalple("coverage", "--store", store, "--format", "json", option, middle).json()
        for option in ("--since", "--until")
    ]
    assert sum(half["statements"] for half in halves) == found["statements"]
    shown = scalple("coverage", "--store", store).out
    assert f"{found['statements']:,} statements" in shown
    assert all(grade in shown for grade in found["by_grade"])


def test_verify_says_0_when_intact_and_7_after_one_flipped_byte(store: Path) -> None:
    said = scalple("verify", "--store", store, "--public-key", store / "db1" / "public-key")
    assert said.code == 0
    assert said.out.startswith("intact: db1")
    segment = max(store.glob("*/segments/*-audit-*.parquet"), key=lambda path: path.stat().st_size)
    good = segment.read_bytes()
    try:
        segment.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
        for verb in (["verify"], ["query", "--actor", "x"], ["sql", "SELECT 1"], ["coverage"]):
            said = scalple(verb[0], "--store", store, *verb[1:])
            assert (said.code, said.out) == (7, ""), verb
            assert segment.name in said.err
    finally:
        segment.write_bytes(good)
    assert scalple("verify", "--store", store).code == 0


# -- what is not kept ----------------------------------------------------------------------------


def personal_values(recorded: Recorded) -> set[str]:
    """E-mails, IBANs and names of customers that clients wrote into statements."""
    sent = [entry.text for entry in recorded.truth]
    sent += [value for entry in recorded.truth for value in entry.params]
    text = "\n".join(sent)
    found = set(re.findall(r"[\w.]+@example\.\w+", text))
    found |= set(re.findall(r"\b[A-Z]{2}\d{2}[0-9A-Z]{11,30}\b", text))
    for entry in recorded.truth:
        if entry.text.startswith("INSERT INTO users (email, name"):
            found |= set(entry.params[1:2])
        if "FROM users WHERE name = " in entry.text:
            literals = re.findall(r"name = '((?:[^']|'')*)'", entry.text)
            found |= {*entry.params, *literals, *(one.replace("''", "'") for one in literals)}
    return found


def test_no_personal_value_reaches_the_disk(recorded: Recorded, store: Path) -> None:
    values = personal_values(recorded)
    assert len(values) > 80
    assert sum("@" in value for value in values) > 50
    assert min(map(len, values)) >= 10  # shorter ones occur in compressed bytes by chance
    pattern = re.compile("|".join(map(re.escape, sorted(values))).encode(), re.IGNORECASE)
    searched = 0
    for path in sorted(store.rglob("*")):
        if not path.is_file() or "-unparsed-" in path.name:
            continue
        data = path.read_bytes()
        hit = pattern.search(data)
        assert hit is None, f"{path.name}: {data[max(0, hit.start() - 60) : hit.end() + 60]!r}"
        if path.suffix == ".parquet":
            for name, text in texts(pq.read_table(path)):
                searched += len(text)
                hit = pattern.search(text)
                near = hit and text[max(0, hit.start() - 200) : hit.end() + 60]
                assert hit is None, f"{path.name}, {name}: {near!r}"
    assert searched > 1_000_000


def texts(table: pa.Table) -> Iterator[tuple[str, bytes]]:
    """Every column's values, as one text each."""
    for name in table.column_names:
        values = table.column(name).to_pylist()
        yield name, json.dumps(values, default=repr, ensure_ascii=False).encode()
