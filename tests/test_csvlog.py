"""csvlog: every byte is a record or a reject, however the file is cut, torn or filled with log text.

The yardstick is Python's csv module, which shares no code with the parser.
"""

import csv
import io
import itertools
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalple.ingest import csvlog, pgaudit, sourcefile
from scalple.ingest.csvlog import COLUMNS, parse_block
from scalple.ingest.errors import InputError
from scalple.ingest.logtime import LogTimes
from scalple.ingest.rejects import Block, Reject
from scalple.ingest.sourcefile import SourceFile
from tests import reads

TIMES = LogTimes("UTC", "test")
NUMBERS = {"process_id", "session_line_num", "leader_pid"}
BARE = {
    "log_time",
    "process_id",
    "session_id",
    "session_line_num",
    "session_start_time",
    "transaction_id",
    "internal_query_pos",
    "query_pos",
    "leader_pid",
    "query_id",
}
KEPT = ("session_line_num", "user_name", "message", "query", "application_name", "backend_type")


def record(line: int, width: int = 26, **values: str) -> bytes:
    """One record as write_csvlog() writes it: text in quotes, numbers and times bare."""
    defaults = {
        "log_time": f"2026-11-23 03:49:{line // 1000 % 60:02}.{line % 1000:03} UTC",
        "process_id": "4711",
        "session_id": "6b0448d1.1267",
        "session_line_num": str(line),
        "session_start_time": "2026-11-23 03:49:00 UTC",
        "transaction_id": "0",
        "query_id": "0",
        "error_severity": "LOG",
        "sql_state_code": "00000",
    }
    fields = []
    for name in COLUMNS[:width]:
        value = values.get(name, defaults.get(name, ""))
        quoted = value and name not in BARE
        fields.append('"' + value.replace('"', '""') + '"' if quoted else value)
    return (",".join(fields) + "\n").encode("utf-8", "surrogateescape")


def parse_in_reads(data: bytes, length: int) -> tuple[pa.Table, list[Reject], int]:
    """In reads of `length` bytes."""
    return reads.parse_in_reads(
        data, length, lambda piece, at, final: parse_block(piece, at, TIMES, final=final)
    )


def plain(table: pa.Table) -> list[dict[str, object]]:
    """The rows, without dictionaries."""
    return list(table.to_pylist())


def expected(data: bytes) -> list[tuple[str | None, ...]]:
    """What the csv module reads, in the columns of KEPT."""
    csv.field_size_limit(1 << 30)
    text = io.StringIO(data.decode("utf-8"), newline="")
    rows = []
    for row in csv.reader(text, strict=True):
        if row:
            named = dict(zip(COLUMNS, row, strict=False))
            rows.append(tuple(named.get(name) or None for name in KEPT))
    return rows


def found(table: pa.Table) -> list[tuple[str | None, ...]]:
    """The same columns of a parsed table."""
    columns = [
        [None if value is None else str(value) or None for value in table.column(name).to_pylist()]
        for name in KEPT
    ]
    return list(zip(*columns, strict=True))


PASTED = record(77, message="AUDIT: SESSION,1,1,READ,SELECT,,,x,<none>").decode()
TEXT = st.one_of(
    st.text(st.sampled_from("ab\",\n\r;é\x1f'2026-11-23 "), max_size=30),
    st.just(f"SELECT $$\n{PASTED}{PASTED}$$"),
    st.just("SELECT '\n2026-11-23 03:49:12.415 UTC,\"x\"\n2026-11-23 03:49:12.415 UTC'"),
)
RECORDS = st.lists(
    st.tuples(st.sampled_from([23, 24, 26]), TEXT, TEXT, st.sampled_from(["app", "", 'o"x'])),
    min_size=1,
    max_size=12,
)
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def written(rows: list[tuple[int, str, str, str]]) -> bytes:
    """A file of these records."""
    return b"".join(
        record(n, width, message=f"AUDIT: {message}", query=query, application_name=name)
        for n, (width, message, query, name) in enumerate(rows, start=1)
    )


@FEW
@given(RECORDS, st.integers(1, 4000))
def test_the_cut_into_reads_changes_nothing(
    rows: list[tuple[int, str, str, str]], length: int
) -> None:
    data = written(rows)
    whole = parse_block(data, 0, TIMES, final=True)
    assert (whole.rejects, whole.consumed) == ([], len(data))
    assert found(whole.table) == expected(data)
    table, rejects, end = parse_in_reads(data, length)
    assert (rejects, end) == ([], len(data))
    assert plain(table) == plain(whole.table)


@FEW
@given(RECORDS, RECORDS, st.data())
def test_a_torn_record_costs_itself_only(
    before: list[tuple[int, str, str, str]],
    after: list[tuple[int, str, str, str]],
    draw: st.DataObject,
) -> None:
    """Whatever the place of the tear, what stands before and after it is kept, and no byte lost.

    A tear inside a quoted field may swallow the next record; the reject then holds its bytes.
    """
    torn = record(500, message='AUDIT: a, b and "c"\nd', query="SELECT 1")
    cut = draw.draw(st.integers(1, len(torn) - 2))
    first, last = written(before), written(after)
    data = first + torn[:cut] + b"\n" * draw.draw(st.integers(0, 1)) + last
    block = parse_block(data, 0, TIMES, final=True)
    assert_every_byte_is_accounted_for(block, data)
    kept = found(block.table)
    assert kept[: len(before)] == expected(first)
    # A tear inside quotes leaves them open: the first record after it may go with it.
    assert kept[len(before) :][-(len(after) - 1) or len(kept) :] == expected(last)[1:]
    for length in (50, 700):
        table, rejects, end = parse_in_reads(data, length)
        assert plain(table) == plain(block.table)
        assert [(r.offset, r.raw) for r in rejects] == [(r.offset, r.raw) for r in block.rejects]
        assert end == block.consumed


def assert_every_byte_is_accounted_for(block: Block, data: bytes) -> None:
    """Records and rejects tile the consumed bytes; only line ends may stand between."""
    rejects = {one.offset: one.raw for one in block.rejects}
    offsets = sorted([*block.table.column("source_offset").to_pylist(), *rejects, block.consumed])
    at = 0
    for begin, end in itertools.pairwise(offsets):
        assert data[at:begin].strip(b"\r\n") == b""
        if begin in rejects:
            assert data[begin : begin + len(rejects[begin])] == rejects[begin]
            end = begin + len(rejects[begin])
        at = end
    assert data[at : block.consumed].strip(b"\r\n") == b""


@pytest.mark.parametrize("length", [64, 1 << 20])
def test_binary_garbage_in_the_middle_is_a_reject(length: int) -> None:
    garbage = bytes(range(256)) * 3 + b"\n"
    data = record(1, message="a") + garbage + record(2, message="b")
    table, rejects, end = parse_in_reads(data, length)
    assert table.column("session_line_num").to_pylist() == [1, 2]
    assert b"".join(one.raw for one in rejects).strip() == garbage.strip()
    assert end == len(data)


def test_carriage_returns_and_empty_lines_between_records() -> None:
    one, two = record(1, message="a"), record(2, message="b\nc")
    data = one.replace(b"\n", b"\r\n") + b"\n\r\n\n" + two + b"\n"
    table, rejects, _ = parse_in_reads(data, 1 << 16)
    assert table.column("message").to_pylist() == ["a", "b\nc"]
    assert rejects == []


def test_a_statement_longer_than_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = "SELECT '" + 'x",\n' * 300_000 + "'"
    data = record(1, message="a") + record(2, message=big, query=big) + record(3, message="c")
    path = tmp_path / "big.csv"
    path.write_bytes(data)
    monkeypatch.setattr(sourcefile, "BLOCK_BYTES", 100_000)
    file = SourceFile(path)
    pieces = list(
        file.pieces(lambda part, offset, final: parse_block(part, offset, TIMES, final=final))
    )
    messages = [m for one in pieces for m in one.block.table.column("message").to_pylist()]
    assert messages == ["a", big, "c"]
    assert sum(one.block.consumed for one in pieces) == len(data)
    assert not [reject for one in pieces for reject in one.block.rejects]


def test_a_file_that_is_cut_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv"
    path.write_bytes(record(1, message="a") * 3)
    file = SourceFile(path)
    path.write_bytes(record(1, message="a")[:50])
    with pytest.raises(InputError, match="was cut while it was read"):
        list(file.pieces(lambda part, at, final: parse_block(part, at, TIMES, final=final)))


def test_half_a_record_at_the_end_waits_for_its_rest() -> None:
    data = record(1, message="a") + record(2, message="b")
    whole = len(record(1, message="a"))
    for cut in range(whole + 1, len(data)):
        block = parse_block(data[:cut], 0, TIMES, final=True)
        assert (block.table.num_rows, block.consumed, block.rejects) == (1, whole, [])


def test_a_name_that_is_no_utf8_is_not_lost() -> None:
    bad = record(2, message="caf\udce9", user_name="\udcff")
    data = record(1, message="a") + bad + record(3, message="c")
    table, rejects, _ = parse_in_reads(data, 1 << 16)
    seen = table.column("session_line_num").to_pylist()
    assert seen in ([1, 2, 3], [1, 3])
    assert (len(seen), len(rejects)) in ((3, 0), (2, 1))


@pytest.mark.parametrize("width", [23, 24, 26])
def test_each_width_is_recognised(width: int) -> None:
    assert csvlog.looks_like_csvlog(record(1, width, message="a"))
    assert not csvlog.looks_like_csvlog(b'{"v":1,"event":"start"}\n')


def test_the_sample_has_as_many_records_as_the_csv_module_counts() -> None:
    data = (Path(__file__).parent.parent / "sample_logs" / "postgresql.csv").read_bytes()
    table, rejects, _ = parse_in_reads(data, 200_000)
    assert rejects == []
    assert found(table) == expected(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session_id", "6b{4.1267"),
        ("session_id", ""),
        ("session_id", "6b0448d16b0448d1.1267"),
        ("connection_from", "10.0.0.5:6086²"),
        ("connection_from", "10.0.0.5:608629999"),
        ("process_id", "47x1"),
        ("leader_pid", "99999999999"),
        ("session_line_num", ""),
        ("session_line_num", "-5"),
        ("session_line_num", "9223372036854775807"),
        ("log_time", "0000-11-23 03:49:00.002 UTC"),
        ("log_time", "9999-12-31 23:59:59.999 UTC"),
    ],
)
def test_a_damaged_field_makes_a_reject_of_its_record_only(field: str, value: str) -> None:
    bad = record(2, 26, message="b", **{field: value})
    data = record(1, message="a", connection_from="[local]") + bad
    data += record(3, message="c", connection_from="2001:db8::7:6553")
    table, rejects, _ = parse_in_reads(data, 1 << 16)
    assert table.column("message").to_pylist() == ["a", "c"]
    assert [one.raw for one in rejects] == [bad]


def test_a_padded_statement_does_not_slip_out_of_the_log() -> None:
    padded = "AUDIT: SESSION,1,1,READ,SELECT,,,SELECT 1 /* " + "A" * 20_000_000 + " */,<none>"
    data = record(1, message="a") + record(2, message=padded) + record(3, message="c")
    block = parse_block(data, 0, TIMES, final=True)
    assert (block.rejects, block.consumed) == ([], len(data))
    messages = block.table.column("message").combine_chunks()
    assert messages[1].as_py() == padded
    payload, ok = pgaudit.split_payloads(messages.slice(1, 1))
    assert ok.to_pylist() == [True]
    assert payload["statement"][0].as_py() == padded.split(",,,", 1)[1].removesuffix(",<none>")


def test_one_record_in_another_zone_costs_itself_only() -> None:
    times = LogTimes(None, "test")
    strange = record(2, message="b").replace(b" UTC,", b" CET,", 1)
    block = parse_block(
        record(1, message="a") + strange + record(3, message="c"), 0, times, final=True
    )
    assert block.table.column("message").to_pylist() == ["a", "c"]
    assert [one.raw for one in block.rejects] == [strange]


def test_log_like_lines_in_statements_are_found_by_few_readings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A surprise costs a number of readings that grows with the logarithm of what is around it."""
    pasted = "SELECT 1 /*\n2026-11-23 13:29:07.825  INFO 1 --- [main] hello */"
    parts = [record(n, message=pasted if n % 200 == 0 else "x" * 300) for n in range(1, 3001)]
    readings = 0
    read = csvlog._read_csv

    def counted(data: bytes | memoryview, longest: int) -> pa.Table | None:
        nonlocal readings
        readings += 1
        return read(data, longest)

    monkeypatch.setattr(csvlog, "_read_csv", counted)
    block = parse_block(b"".join(parts), 0, TIMES, final=True)
    assert block.table.num_rows == 3000
    assert block.rejects == []
    assert readings < 15 * 60
