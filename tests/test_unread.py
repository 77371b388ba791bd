"""What no parser ties to a column: refusals, bytes that can't be read, the text of a schema."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalple.correlate import catalog
from scalple.correlate.blankschema import without_values
from scalple.correlate.rawbytes import without_statements
from scalple.correlate.refusals import telling


@pytest.mark.parametrize(
    ("state", "message", "shown"),
    [
        *[("42501", f"permission denied for {what}", True) for what in ("table users", "schema x")],
        *[
            ("42501", "must be owner of materialized view v", True),
            ("42883", "function f(text) does not exist", True),
        ],
        ("42501", 'new row violates row-level security policy for table "users"', True),
        *[("42501", f"permission denied for {what}", False) for what in ("Anna Ott", "user 4711")],
        *[("42501", "Anna Ott may not see Bob", False), ("42883", "no function for Anna", False)],
        *[("42703", 'column "anna" does not exist', False), ("42601", "syntax error", False)],
        *[(None, "permission denied for table users", False), ("42501", None, False)],
    ],
)
def test_refusals_are_told_only_in_the_servers_own_words(
    state: str | None, message: str | None, shown: bool
) -> None:
    assert telling(message, state) == (message if shown else None)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (
            b"x AUDIT: SESSION,1,1,READ,SELECT,,,\"SELECT 'Anna",
            b"x AUDIT: SESSION,1,1,READ,SELECT,***",
        ),
        (b"10:00 UTC STATEMENT:  SELECT 5", b"10:00 UTC STATEMENT:  ***"),
        (
            b"10:00 LOG:  duration: 5 ms  statement: SELECT 5",
            b"10:00 LOG:  duration: 5 ms  statement: ***",
        ),
        (b'{"ts":1,"message":"AUDIT: SESSION', b'{"ts":1,"message":"AUDIT: ***'),
        (b"a = 'Anna' AND b = 'Bob' c", b"a = '***' c"),
        (b"nna' AND b = 5", b"***"),
        (b"2026-03-14 x 'Anna", b"2026-03-14 x '***"),
        (b"mail to j.doe@x.de \xff\xfe", b"mail to j***@***.de \xff\xfe"),
        (b"\x00\x80 no statement", b"\x00\x80 no statement"),
    ],
)
def test_raw_bytes_keep_no_statement(raw: bytes, kept: bytes) -> None:
    assert without_statements(raw) == kept


@given(st.binary(max_size=80))
def test_any_bytes_at_all(raw: bytes) -> None:
    if b"'" not in raw and b":" not in raw and b"@" not in raw and b'"' not in raw:
        assert without_statements(raw) == raw or any(c in raw for c in b"+0123456789")


def test_a_schema_is_kept_without_values() -> None:
    text = (
        "-- for Anna\nCREATE TABLE public.t (a varchar(40) DEFAULT 'Anna', b int DEFAULT 471100, "
        "PRIMARY KEY (a));\nCOPY public.t (a) FROM stdin;\nAnna\n\\.\n\\connect x\n"
        "CREATE VIEW public.v AS SELECT t.a FROM public.t WHERE t.a = 'Anna';"
    )
    kept = without_values(text)
    assert "Anna" not in kept
    assert "471100" not in kept
    assert "varchar(40)" in kept
    before, after = catalog.read_schema(text), catalog.read_schema(kept)
    assert after.tables == before.tables
    assert list(after.views) == ["public.v"]
