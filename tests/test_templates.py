"""Cutting statement texts: nothing is lost, and both routes cut at the same places."""

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scalple.correlate import templates

PIECES = st.sampled_from(
    [
        *["'", "''", '"', '""', "\\", "$", "$$", "$a$", "$1", "--", "/*", "*/", "\n", "\r", "; "],
        *["e'", "E'", "U&'", "x'", "N'", "1", "42", ".5", "1e", "+", "-", ".", "é", "a", " ", "t1"],
        *[
            "select ",
            "where id = ",
            "'x'",
            "'it''s'",
            '"Col 1"',
            "(1, 2)",
            "\x01",
            "\x03",
            "_",
            "=",
        ],
    ]
)
SQLISH = st.lists(PIECES, max_size=14).map("".join)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def cut(texts: list[str]) -> list[tuple[list[str], str]]:
    lexed = templates.lex(pa.array(texts, pa.string()))
    segments = lexed.segments.to_pylist()
    return [
        (segments[lexed.starts[p] : lexed.starts[p + 1]], lexed.skeletons[lexed.form[p]])
        for p in lexed.position
    ]


@given(st.lists(SQLISH | ANY_TEXT, max_size=8))
@example(["'a'", "'b'", "", "1", "2", "a1", "1a", '"x', "'\"'", "''"])
def test_both_routes_cut_alike_and_lose_nothing(texts: list[str]) -> None:
    got = cut(texts)
    assert got == [templates.split(text) for text in texts]
    assert ["".join(segments) for segments, _ in got] == texts


@pytest.mark.parametrize(
    ("text", "literals"),
    [
        ("select 'it''s', E'a\\'b', 5", ["'it''s'", "E'a\\'b'", "5"]),
        ("select $$a'b$$, $x$ $$ $x$, $1", ["$$a'b$$", "$x$ $$ $x$"]),
        ("select U&'d\\0061', X'ff', b'01', n'x'", ["U&'d\\0061'", "X'ff'", "b'01'", "n'x'"]),
        ("select a1, t.c2, 1.5e+10, .5, 0xff, 1_000", ["1.5e+10", ".5", "0xff", "1_000"]),
        ("select 1 /* a /* b */ 'c' */ -- 5\n, 2", ["1", "/* a /* b */ 'c' */", "-- 5", "2"]),
        ('select "a\'1" from "T 2" where x = \'"\'', ["'\"'"]),
        ("select 'unterminated 5", ["'unterminated 5"]),
        ("select /* unterminated 5", ["/* unterminated 5"]),
        ("select $x$ unterminated", ["$x$ unterminated"]),
        ("select e'\\", ["e'\\"]),
        ("select f(x)-1, -2, a-b", ["1", "2"]),
    ],
)
def test_literals(text: str, literals: list[str]) -> None:
    assert cut([text])[0][0][1::2] == literals


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("SELECT  *\nFROM t WHERE id=1", "select * from T where ID=22;", True),
        ('select "A" from t', 'select "a" from t', False),
        ("select 'A'", "select 'b' -- trailing", True),
        ("select /* one */ 1", "select /* two, longer */ 7", True),
        ("where id in (1, 2,3)", "where id IN ( 4 )", True),
        ("where id in ($1,$2)", "where id in ($1)", True),
        ("a = a + -5", "a = a + 7", True),
        ("insert into t values (1,'a'),(2,'b')", "insert into t values (1,'a')", True),
        ("select a - 1", "select a + 1", False),
        ("select id from a", "select id from b", False),
    ],
)
def test_fingerprint(one: str, other: str, same: bool) -> None:
    first, second = (templates.fingerprint(skeleton) for _, skeleton in cut([one, other]))
    assert (first == second) is same
    assert len(first) == 32


def test_large_texts_take_linear_time() -> None:
    big = ["'" * 300_001, "(" * 300_000, "1," * 200_000, "/*" * 100_000, "e'\\" * 100_000]
    assert ["".join(segments) for segments, _ in cut(big)] == big
