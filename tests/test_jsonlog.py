"""jsonlog: every line is a record or a reject, however the file is cut or damaged.

The yardstick is Python's json module, which the fast way doesn't use.
"""

import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalple.ingest.jsonlog import looks_like_jsonlog, parse_block
from scalple.ingest.logtime import LogTimes
from scalple.ingest.rejects import Block, Reject
from tests import reads

TIMES = LogTimes("UTC", "test")


def line(number: int, **values: object) -> bytes:
    """One line as write_jsonlog() writes it: keys without a value are left out."""
    made: dict[str, object] = {
        "timestamp": f"2026-11-23 03:49:{number // 1000 % 60:02}.{number % 1000:03} UTC",
        "pid": 4711,
        "session_id": "6b0448d1.1267",
        "line_num": number,
        "session_start": "2026-11-23 03:49:00 UTC",
        "txid": 0,
        "error_severity": "LOG",
        "backend_type": "client backend",
        "query_id": 2**63 - 1,
    }
    made |= values
    text = json.dumps(made, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def parse(data: bytes) -> Block:
    """One parse of a whole file."""
    return parse_block(data, 0, TIMES)


def parse_in_reads(data: bytes, length: int) -> tuple[pa.Table, list[Reject]]:
    """In reads of `length` bytes."""
    table, rejects, _ = reads.parse_in_reads(
        data, length, lambda piece, at, _: parse_block(piece, at, TIMES)
    )
    return table, rejects


TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ['{"timestamp":"2026-11-23 03:49:12.415 UTC","x":1}', 'a\n{"timestamp":"', "\\u0000"]
    ),
)
GOOD = st.builds(
    lambda message, user, port, state: {
        "message": message,
        **({"user": user} if user else {}),
        **({"remote_host": "10.0.0.5", "remote_port": port} if port else {}),
        **({"state_code": state} if state else {}),
    },
    TEXT.filter(lambda text: "\0" not in text),
    st.sampled_from(["", "app_user", "ü"]),
    st.sampled_from([0, 51234]),
    st.sampled_from(["", "42P01"]),
)
BAD = st.sampled_from(
    [
        b'{"timestamp":"2026-11-23 03:49:12.415 UTC","pid":1}{"a":1}\n',
        b'{"timestamp":"2026-11-23 03:49:12.415 UTC","pid":"x"}\n',
        b'{"timestamp":"2026-11-23 03:49:12.415 UTC","pid":1,"pid":2}\n',
        b'{"timestamp":"2026-11-23 03:49:12.415 UTC","line_num":1,"session_id":"zz"}\n',
        b'{"timestamp":"2026-99-23 03:49:12.415 UTC","line_num":1,"session_id":"1.2"}\n',
        b'{"timestamp":"2026-11-23 03:49:12.415 UTC","message":"caf\xe9"}\n',
        b'{"timestamp":"2026-11-23 03:49:12\n',
        b'["timestamp"]\n',
        b"lorem ipsum\n",
        b"\x00\xff\n",
        b'{"timestamp":"2026-11-23 03:49:12.415 UTC","message":"\\ud800"}\n',
    ]
)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FEW
@given(st.lists(st.one_of(GOOD, BAD), max_size=12), st.integers(1, 2000))
def test_each_line_is_a_record_or_a_reject_however_it_is_cut(
    lines: list[dict[str, object] | bytes], length: int
) -> None:
    made = [one if isinstance(one, bytes) else line(n, **one) for n, one in enumerate(lines, 1)]
    data = b"".join(made)
    block = parse(data)
    assert block.consumed == len(data)
    assert [one.raw for one in block.rejects] == [one for one in lines if isinstance(one, bytes)]
    good = [json.loads(one) for one, given in zip(made, lines, strict=True) if one is not given]
    rows = block.table.to_pylist()
    assert [row["message"] for row in rows] == [one["message"] for one in good]
    assert [row["user_name"] for row in rows] == [one.get("user") for one in good]
    assert [row["sql_state_code"] for row in rows] == [
        one.get("state_code", "00000") for one in good
    ]
    expected = ["10.0.0.5:51234" if "remote_port" in one else None for one in good]
    assert [row["connection_from"] for row in rows] == expected
    offsets = [data.index(one) for one, given in zip(made, lines, strict=True) if one is not given]
    assert [row["source_offset"] for row in rows] == offsets
    table, rejects = parse_in_reads(data, length)
    assert table.to_pylist() == rows
    assert rejects == block.rejects


def test_half_a_line_waits_for_its_rest() -> None:
    whole = line(1, message="a")
    for cut in range(len(whole)):
        block = parse(whole + whole[:cut])
        assert (block.table.num_rows, block.consumed, block.rejects) == (1, len(whole), [])


def test_windows_line_ends_and_empty_lines() -> None:
    data = line(1, message="a").replace(b"\n", b"\r\n") + b"\n\r\n" + line(2, message="b")
    block = parse(data)
    assert block.table["message"].to_pylist() == ["a", "b"]
    assert block.rejects == []


def test_a_megabyte_statement() -> None:
    text = 'x,"\n' * 3_000_000
    block = parse(line(1, message="a") + line(2, message=text) + line(3, message="b"))
    assert block.table["message"].to_pylist() == ["a", text, "b"]


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (line(1, message="x"), True),
        (b'{"v":1,"event":"start","ts":"2026-11-23T03:49:12Z"}\n', False),
        (b'{"timestamp":"2026-11-23T03:49:12Z","level":"info","message":"x"}\n', False),
        (b"2026-11-23 03:49:12.415 UTC [1] LOG:  x\n", False),
    ],
)
def test_it_is_told_from_other_json(head: bytes, is_one: bool) -> None:
    assert looks_like_jsonlog(head) is is_one
