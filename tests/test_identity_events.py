"""Identity events: bad lines become rejects, cuts change nothing, repeats count once."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.evidence import Evidence
from scalple.correlate.rules import Rules
from scalple.ingest.identity import parse_events
from scalple.ingest.rejects import Block
from tests.attribute_logs import numbered

OPEN: dict[str, object] = {
    "v": 1,
    "event": "open",
    "ts": "2026-03-14T11:22:07.913482Z",
    "sidecar": "app1-7f3a",
    "seq": 42,
    "connection": "app1-7f3a/17",
    "client_addr": "127.0.0.1",
    "client_port": 47580,
    "actor": "employee_id_2291",
}


def line(**changes: object) -> bytes:
    """An `open` event with other values; ... leaves a key out."""
    event = {key: value for key, value in (OPEN | changes).items() if value is not ...}
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"


def parse(data: bytes) -> Block:
    """One parse of a whole file."""
    return parse_events(data, 0, "identity.jsonl")


BAD = [
    b"{}\n",
    b"null\n",
    b"[1,2]\n",
    b'{"v":1\n',
    b"\xff\xfe\x00\n",
    b"open\n",
    line(v=2),
    line(event="opened"),
    line(ts="yesterday"),
    line(ts="2026-03-14T11:22:07"),
    line(ts="0001-01-01T00:00:00+01:00"),
    line(ts="9999-12-31T23:59:59-01:00"),
    line(seq=-1),
    line(seq=2**63),
    line(client_port=65536),
    line(client_addr="localhost"),
    line(connection=...),
    line(client_port=...),
    line(actor=...),
    line(actor=""),
    line(actor_kind="robot"),
    line(authn="password"),
    line(tag="UPPER"),
    line(email=7),
    line().replace(b"employee", b"\\ud800"),
    line(deep=1).replace(b'"deep": 1', b'"deep": ' + b"[" * 5000 + b"]" * 5000),
]


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_line_is_a_reject_and_its_neighbours_stay(bad: bytes) -> None:
    block = parse(line(seq=1) + bad + line(seq=2))
    assert block.table.column("sidecar_seq").to_pylist() == [1, 2]
    assert [one.raw for one in block.rejects] == [bad.rstrip(b"\n")]
    assert [one.offset for one in block.rejects] == [len(line(seq=1))]
    assert block.consumed == len(line(seq=1) + bad + line(seq=2))


def test_an_actor_may_be_null_but_not_absent() -> None:
    block = parse(line(actor=None))
    assert block.rejects == []
    assert block.table.column("actor").to_pylist() == [None]


def test_unknown_keys_are_kept_but_mean_nothing() -> None:
    block = parse(line(ticket="OPS-7", source="pgbouncer", source_offset=9, detail="x"))
    (row,) = block.table.to_pylist()
    assert (row["source"], row["source_offset"], row["source_file"]) == (
        "identity",
        0,
        "identity.jsonl",
    )
    assert json.loads(row["detail"])["ticket"] == "OPS-7"


def test_addresses_have_one_spelling() -> None:
    spelt = ["2001:DB8:0:0::7", "[2001:db8::7]", "unix(4711)", "10.0.0.5"]
    block = parse(b"".join(line(client_addr=one) for one in spelt))
    assert block.table.column("client_addr").to_pylist() == [
        "2001:db8::7",
        "2001:db8::7",
        "unix(4711)",
        "10.0.0.5",
    ]


def test_a_partial_last_line_waits_for_its_rest() -> None:
    whole = line(seq=1)
    block = parse(whole + line(seq=2)[:-1])
    assert (block.table.num_rows, block.consumed, block.rejects) == (1, len(whole), [])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(BAD), st.just(line()), st.just(b"\n"), st.just(b"  \r\n"))),
    st.integers(1, 700),
)
def test_the_cut_into_reads_changes_nothing(lines: list[bytes], length: int) -> None:
    data = b"".join(lines)
    whole = parse(data)
    rows, rejects, at, size = [], [], 0, length
    while at < len(data):
        block = parse_events(data[at : at + size], at, "identity.jsonl")
        rows += block.table.to_pylist()
        rejects += block.rejects
        at += block.consumed
        size = length if block.consumed else size * 2
    assert rows == whole.table.to_pylist()
    assert rejects == whole.rejects


def test_an_event_that_is_shipped_twice_counts_once() -> None:
    data = line(seq=1, event="start", actor=..., connection=...) + line() * 3
    evidence = Evidence(numbered([parse(data).table]), Rules())
    assert evidence.clients.num_rows == 1


def test_a_text_with_line_separators_stays_one_line() -> None:
    block = parse(line(actor="a\u2028b\x0bc\x85d"))
    assert block.rejects == []
    assert block.table.column("actor").to_pylist() == ["a\u2028b\x0bc\x85d"]


@pytest.mark.parametrize("seconds", [0, -1, 86_401, 9_000_000_000_000_000_000])
def test_an_impossible_heartbeat_is_no_event(seconds: int) -> None:
    block = parse(line(event="start", actor=..., connection=..., heartbeat_s=seconds))
    assert block.table.num_rows == 0
    assert len(block.rejects) == 1


@pytest.mark.parametrize("detail", ['{"heartbeat_s": 9000000000000000000}', '{"x": NaN}', "{"])
def test_a_stored_start_with_odd_detail_does_not_stop_later_runs(detail: str) -> None:
    events = parse(line(seq=1, event="start", actor=..., connection=...) + line(seq=2)).table
    at = events.schema.get_field_index("detail")
    odd = events.set_column(at, events.schema.field(at), pa.array([detail, None], pa.string()))
    assert Evidence(numbered([odd]), Rules()).clients.num_rows == 1


@pytest.mark.parametrize(
    "twice",
    [
        b'"actor":"employee_id_2291","actor":"somebody_else"',
        b'"actor":"employee_id_2291","\\u0061ctor":"somebody_else"',
        b'"actor":"employee_id_2291","actor" : "somebody_else"',
        b'"actor":"employee_id_2291","ticket":{"a":1,"a":2}',
    ],
)
def test_a_key_that_stands_twice_is_no_event(twice: bytes) -> None:
    """Two lines that were glued together by lost bytes may look like one."""
    bad = line().replace(b'"actor": "employee_id_2291"', twice)
    assert twice in bad
    block = parse(line() + bad + line(ticket='"x":1', note={"a": {"b": 1}}))
    assert block.table.num_rows == 2
    assert [one.raw for one in block.rejects] == [bad.removesuffix(b"\n")]
