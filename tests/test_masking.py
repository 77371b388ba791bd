"""Masks by rule and by detector, and the text forms of values they have to understand."""

import pytest

from scalple.correlate import masking, parameters

RULES = masking.PLAIN_RULES


@pytest.mark.parametrize(
    ("rule", "value", "mask"),
    [
        *[
            ("email", "j.muller@company.com", "j***@***.com"),
            ("email", "ann@localhost", "a***@***"),
        ],
        *[("email", "no address", "***"), ("email", "@x.de", "***"), ("redact", "x", "***")],
        *[
            ("keep-last-4", "DE89 3704 0044 0532 0130 00", "****3000"),
            ("keep-last-4", "1234", "****"),
        ],
        *[("date-year", "1984-07-01", "1984-**-**"), ("date-year", "1.7.1984", "***")],
    ],
)
def test_rules(rule: str, value: str, mask: str) -> None:
    assert RULES[rule](value) == mask


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("mail j.doe@company.com now", "mail j***@***.com now"),
        ("user='a.b%40company.co.uk'", "user='a***@***.uk'"),
        ("müller@käse.de", "m***@***.de"),
        ("DE89 3704 0044 0532 0130 00 AND MORE", "****3000 AND MORE"),
        ("de89370400440532013000", "****3000"),
        ("DE89370400440532013001", "DE89370400440532013001"),
        ("card 4111-1111-1111-1111", "card ****1111"),
        ("order 4111111111111112, 1700000000000", "order 4111111111111112, 1700000000000"),
        ("host=h password=hunter2 user=u", "host=h password=*** user=u"),
        ("password='two words' x", "password='***' x"),
        ('{"api_key": "abc", "a": 1}', '{"api_key": "***", "a": 1}'),
        ("postgres://u:p%40ss@h/db", "postgres://u:***@h/db"),
        ("a @ b, x@y, 12:30:00", "a @ b, x@y, 12:30:00"),
    ],
)
def test_scrub(text: str, scrubbed: str) -> None:
    assert masking.scrub(text) == scrubbed


def test_telephone_numbers_in_comments_and_alone() -> None:
    assert masking.scrub("-- +49 170 1234567", is_comment=True) == "-- ****4567"
    assert masking.scrub("+49 170 1234567") == "****4567"
    for text in (
        "a +49 170 1234567",
        "+02:00",
        "+1234567",
        "49170123456",
        "+1.5e+10",
        "+1-2+34567890",
    ):
        assert masking.scrub(text) == text


@pytest.mark.parametrize(
    "text", ["a" * 10**6, "a." * 10**6, "@" * 10**6, "1 " * 10**6, "%" * 10**6]
)
def test_scrub_takes_linear_time(text: str) -> None:
    assert masking.scrub(text, is_comment=True)


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        *[("'it''s'", "it's"), ("E'a\\'b\\n\\x41\\u00e9'", "a'b\nAé"), ("$$a'b$$", "a'b")],
        *[("$t$x$t$", "x"), ("U&'\\0041\\+000042'", "AB"), ("B'01'", "01"), ("4.5", "4.5")],
        *[("'open", "open"), ("E'\\ud800'", "\N{REPLACEMENT CHARACTER}"), ("$$open", "open")],
    ],
)
def test_unquote(literal: str, value: str) -> None:
    assert masking.unquote(literal) == value


@pytest.mark.parametrize(
    ("literal", "scrubbed"),
    [
        ("$q$ to a@b.de $q$", "$q$ to a***@***.de $q$"),
        ("'it''s a@b.de'", "'it''s a***@***.de'"),
        ("E'\\'x'", "E'\\'x'"),
        ("4111111111111111", "'****1111'"),
    ],
)
def test_scrub_literal(literal: str, scrubbed: str) -> None:
    assert masking.scrub_literal(literal) == scrubbed


def test_arrays() -> None:
    assert masking.array_elements('{1,"a\\"b, c",NULL,{x,y}}') == ["1", 'a"b, c', "x", "y"]
    assert masking.mask_array("{a@b.de,c@d.de}", masking.mask_email) == "{a***@***.de,c***@***.de}"
    assert masking.mask_array("x", masking.redact) == "***"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        *[("", [""]), ("1", ["1"]), ("1,", ["1", ""]), (",", ["", ""]), ('"a,b"', ["a,b"])],
        *[('1,"a""b,c",', ["1", 'a"b,c', ""]), ('"a\nb",x', ["a\nb", "x"])],
        *[('"open', ['"open']), ('"a"b,c', ['"a"b', "c"])],
    ],
)
def test_parameters(text: str, values: list[str]) -> None:
    assert parameters.split_text(text) == values
