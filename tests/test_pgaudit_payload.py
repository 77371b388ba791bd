"""pgAudit's payload: nine or ten fields whatever they hold, and no forged one shifts a row.

The yardstick is csv.reader in strict mode, message by message.
"""

import csv

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.ingest.pgaudit import PAYLOAD_SCHEMA, is_audit, split_payloads

TEXT_FIELDS = ("command", "object_type", "object_name", "statement", "parameter")


def quoted(value: str | None) -> str:
    """append_valid_csv(): quotes only what needs them."""
    if value is None:
        return ""
    if any(one in value for one in ',"\n\r'):
        return '"' + value.replace('"', '""') + '"'
    return value


VALUE = st.one_of(
    st.none(),
    st.text(st.sampled_from("ab ,\"\n\r\t'é\x1f"), min_size=1, max_size=20),
    st.sampled_from(["<none>", "<not logged>", "<previously logged>", "SESSION,1,1", '"', "\n"]),
)
GENUINE = st.builds(
    lambda kind, ids, klass, fields, rows: (
        f"AUDIT: {kind},{ids[0]},{ids[1]},{klass},"
        + ",".join(quoted(one) for one in fields)
        + ("" if rows is None else f",{rows}")
    ),
    st.sampled_from(["SESSION", "OBJECT"]),
    st.tuples(st.integers(1, 2**53), st.integers(1, 99)),
    st.sampled_from(["READ", "WRITE", "MISC", "DDL"]),
    st.lists(VALUE, min_size=5, max_size=5),
    st.one_of(st.none(), st.integers(0, 2**40)),
)
FORGED = st.one_of(
    st.sampled_from(
        [
            'AUDIT: "',
            "AUDIT: \n",
            "AUDIT: ",
            "AUDIT: SESSION,1,1,READ,SELECT,,,x",
            'AUDIT: SESSION,1,1,READ,SELECT,,,"open',
            "AUDIT: SESSION,1,1,READ,SELECT,,,x,<none>\nSESSION,2,1,READ,SELECT,,,y,<none>",
            'AUDIT: SESSION,1,1,READ,SELECT,,,"x"y,<none>',
            "AUDIT: SESSION,x,1,READ,SELECT,,,x,<none>",
            "AUDIT: SESSION,1,1,READ,SELECT,,,x,<none>,many",
            "AUDIT: SESSION,99999999999999999999,1,READ,SELECT,,,x,<none>",
            "AUDIT: ,,,,,,,,",
        ]
    ),
    st.text(st.sampled_from('a,"\n\rAUDIT: SESSION'), max_size=60).map(lambda t: "AUDIT: " + t),
)


def reference(message: str) -> tuple[object, ...] | None:
    """The fields as the csv module reads them, or None if they aren't pgAudit's nine or ten."""
    try:
        rows = list(csv.reader([message.removeprefix("AUDIT: ")], strict=True))
    except csv.Error:
        return None
    if len(rows) != 1 or len(rows[0]) not in (9, 10):
        return None
    row = rows[0] + [""] * (10 - len(rows[0]))
    return tuple(one or None for one in row)


def rows_of(table: pa.Table) -> list[tuple[object, ...]]:
    """The table's rows, numbers as text."""
    return [
        tuple(None if value is None else str(value) or None for value in row.values())
        for row in table.to_pylist()
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(GENUINE, min_size=1, max_size=12))
def test_payloads_are_read_as_the_csv_module_reads_them(messages: list[str]) -> None:
    table, ok = split_payloads(pa.array(messages))
    assert ok.to_pylist() == [True] * len(messages)
    assert rows_of(table) == [reference(one) for one in messages]
    assert table.schema.equals(PAYLOAD_SCHEMA)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(GENUINE, FORGED), min_size=1, max_size=12))
def test_a_forged_payload_shifts_no_row(messages: list[str]) -> None:
    table, ok = split_payloads(pa.array(messages))
    flags = ok.to_pylist()
    assert table.num_rows == sum(flags)
    kept = [message for message, good in zip(messages, flags, strict=True) if good]
    for row, message in zip(rows_of(table), kept, strict=True):
        expected = reference(message)
        if expected is None:  # text behind a closing quote: more than a strict reader takes
            assert message.startswith(f"AUDIT: {row[0]},{row[1]},{row[2]},{row[3]},")
        else:
            assert row == expected


@settings(max_examples=100, deadline=None)
@given(GENUINE, st.lists(FORGED, min_size=1, max_size=6))
def test_a_genuine_payload_survives_forged_neighbours(genuine: str, forged: list[str]) -> None:
    table, ok = split_payloads(pa.array([*forged, genuine, *forged]))
    assert ok.to_pylist()[len(forged)]
    at = sum(ok.to_pylist()[: len(forged)])
    assert rows_of(table)[at] == reference(genuine)


def test_a_field_that_is_quoted_and_empty_differs_from_none() -> None:
    table, _ = split_payloads(pa.array(["AUDIT: SESSION,1,1,READ,SELECT,,,x,"]))
    assert table.column("object_type").to_pylist() == [None]
    assert table.column("parameter").to_pylist() == [None]


def test_a_megabyte_statement_of_line_breaks() -> None:
    statement = "SELECT\n'\"',\r\n" * 100_000
    message = f"AUDIT: SESSION,1,1,READ,SELECT,,,{quoted(statement)},<none>,7"
    table, ok = split_payloads(pa.array([message, message]))
    assert ok.to_pylist() == [True, True]
    assert table.column("statement").to_pylist() == [statement, statement]


@pytest.mark.parametrize("text", ["AUDIT:", "xAUDIT: SESSION", " AUDIT: SESSION", "audit: x", None])
def test_what_only_contains_the_word_is_no_audit_message(text: str | None) -> None:
    assert is_audit(pa.array([text], pa.string())).to_pylist() == [False]


def test_control_characters_pass() -> None:
    message = "AUDIT: SESSION,1,1,READ,SELECT,,,SELECT '\x0b\x0c\x1c\u2028',<none>"
    table, _ = split_payloads(pa.array([message]))
    assert table.column("statement").to_pylist() == ["SELECT '\x0b\x0c\x1c\u2028'"]
    assert set(TEXT_FIELDS) < set(table.column_names)
