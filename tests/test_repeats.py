"""Records that repeat another one are marked, and say which; none is removed.

Shown on a real server's log, and on modelled sessions cut into batches anywhere.
"""

import itertools
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.repeats import NONE, Repeats
from tests.commandline import rows, scalple
from tests.stack import Stack, StackOptions

TWICE = "SELECT 1 AS a; SELECT 2 AS b; SELECT 3 AS c"


@pytest.mark.stack
def test_a_real_servers_repetitions_are_marked(tmp_path: Path) -> None:
    options = StackOptions(
        users=3000,
        pgaudit={"log_statement_once": "on", "log_rows": "off"},
    )
    with Stack(options) as stack:
        with psycopg.connect(stack.dsn_direct(), autocommit=True) as connection:
            connection.execute(f"{TWICE} /* one */")
            connection.execute(f"{TWICE} /* one */")
            connection.execute(
                "SELECT u.id, o.id FROM users u JOIN orders o ON o.user_id = u.id LIMIT 1"
            )
            connection.execute("SET force_parallel_mode = on")
            connection.execute("SELECT count(*) FROM users /* parallel */")
            connection.execute("SET force_parallel_mode = off")
            connection.execute("SELECT 5")
        log = stack.csvlog_paths()[0]
    store = tmp_path / "store"
    said = scalple("reprocess", "--store", store, "--postgres-log", log)
    assert said.code == 0, said.err
    found = rows(
        store,
        "SELECT a.log_id, a.query, a.repeat_of, a.session_id, a.object_name, b.query AS first, "
        "b.session_id AS whose FROM audit a LEFT JOIN audit b ON b.log_id = a.repeat_of ORDER BY a.seq",
    )
    message = [row for row in found if row["query"] and "one" in row["query"]]
    assert [row["repeat_of"] for row in message] == [
        *(None, message[0]["log_id"], message[0]["log_id"]),
        *(None, message[3]["log_id"], message[3]["log_id"]),
    ]
    joined = [row for row in found if row["query"] and "JOIN" in row["query"]]
    assert len({row["object_name"] for row in joined}) == len(joined) >= 2
    assert joined[0]["repeat_of"] is None
    # The text that wasn't logged again is filled in.
    assert {row["repeat_of"] for row in joined[1:]} == {joined[0]["log_id"]}
    parallel = [row for row in found if row["query"] and "/* parallel" in row["query"]]
    own = [row for row in parallel if row["repeat_of"] is None]
    assert len(own) == 1
    assert len(parallel) > 1
    assert {row["whose"] for row in parallel if row["repeat_of"]} == {own[0]["session_id"]}
    assert [row["repeat_of"] for row in found if row["query"] == "SELECT 5"] == [None]


class _Batch:
    """What `Repeats` asks of a batch."""

    def __init__(self, texts: list[str], statements: list[int]) -> None:
        self.audit_rows = np.arange(len(texts))
        self.payload = pa.table(
            {"statement": pa.array(texts, pa.string()), "statement_id": pa.array(statements)}
        )


MESSAGES = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([1, 1, 2, 3]), st.booleans()), max_size=12
)


@settings(max_examples=150, deadline=None)
@given(MESSAGES, st.lists(st.integers(0, 40), max_size=3))
def test_each_record_repeats_the_first_of_its_message(
    messages: list[tuple[int, int, bool]], cuts: list[int]
) -> None:
    texts: list[str] = []
    statements: list[int] = []
    sessions: list[int] = []
    numbers: list[int] = []
    expected: list[int] = []
    last = {0: 0, 1: 0}
    for number, (session, size, other) in enumerate(messages):
        text = "; ".join(f"SELECT {'x' if other else 'y'}{n}" for n in range(size))
        first = len(texts)
        for part in range(size):
            last[session] += 1
            texts.append(text)
            statements.append(last[session])
            sessions.append(session)
            numbers.append(number)
            expected.append(NONE if not part else first)
    repeats = Repeats()
    found: list[int] = []
    places = sorted({0, len(texts), *(one for one in cuts if one < len(texts))})
    for begin, end in itertools.pairwise(places):
        session_of = np.array(sessions[begin:end])
        batch = _Batch(texts[begin:end], statements[begin:end])
        found += repeats.find(
            batch,  # type: ignore[arg-type]
            session_of,
            session_of,
            np.array(numbers[begin:end]),
            begin,
        ).tolist()
    assert found == expected
