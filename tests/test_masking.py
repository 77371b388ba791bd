"""Masks by rule and by detector, and the text forms of values they have to understand."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalple.cli.config import load
from scalple.cli.declarations import rules_from_bytes as from_bytes
from scalple.cli.declarations import to_objects
from scalple.correlate import keeping, masking, parameters
from scalple.correlate.enrichment import Enricher
from scalple.ingest.errors import ConfigError
from tests.test_enrichment import KEY, SCHEMA, batch

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
    "text",
    [
        *["a" * 10**6, "a." * 10**6, "@" * 10**6, "1 " * 10**6, "%" * 10**6, "eyJ" * 10**6],
        *["eyJaaaaaaaa-" * 10**5, "password" * 10**5, "://" * 10**6, "<password" * 10**5],
        *["-----BEGIN PRIVATE KEY-----" * 10**4, "bearer " * 10**5, '"a":' * 10**5, '"' * 10**6],
        *["authorization:" * 10**5, "mysql " * 10**5, "+1" * 10**6, "AKIA" * 10**5, " -u " * 10**5],
    ],
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


# -- masks of the operator's own -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "value", "mask"),
    [
        *[(r"^\+\d{2}", "+49 170 1234567", "+49***"), (r"^\+\d{2}", "0170 1234567", "***")],
        *[(r"@.*", "j.muller@company.com", "***@company.com"), (r"@.*", "ann@x.de", "***")],
        *[(r"\d{4}$", "12345678", "***5678"), (r"[A-Z]{2}", "12 DE 3456", "***DE***")],
        *[
            (r"^.", "Anna", "***"),
            (r"^.", "Hannah", "H***"),
            (r"x*", "abcdef", "***"),
            (r"a", "", "***"),
        ],
        *[
            (r"^\d+", "1" * 5000 + "x" * 10, "***"),
            (r"(?:1|11)+$", "0000" + "1" * 4000, "***" + "1" * 4000),
        ],
        *[(r"a\nb", "xxxx a\nb yyyy", "***a\nb***"), (r"é", "caféteria", "***é***")],
    ],
)
def test_what_a_pattern_keeps(pattern: str, value: str, mask: str) -> None:
    assert keeping.fault(pattern) is None
    assert keeping.keep(pattern, ["other", value])[1] == mask
    masker = masking.masker_of(keeping.PREFIX + pattern)
    assert masker is not None
    assert masker(value) == mask


@given(st.text(max_size=30))
def test_a_pattern_never_shows_more_than_it_matches(value: str) -> None:
    for pattern in ("[a-z]+", "^..", "[^@]*", ".$"):
        kept = keeping.keep(pattern, [value])[0].removeprefix("***").removesuffix("***")
        assert kept in value
        assert len(kept) <= max(0, len(value) - 4)


def test_no_pattern_takes_long() -> None:
    begin = time.perf_counter()
    for pattern in ("(?:a+)+$", "(?:a|aa)+b", "(?:[^x]*)*y", "(?:a?){50}a{50}"):
        assert keeping.fault(pattern) is None
        keeping.keep(pattern, ["a" * 4000] * 20)
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        *[("{ keep = '.*' }", "keeps the whole value"), ("{ keep = '(?s).+' }", "keeps the whole")],
        *[
            ("{ keep = '(a' }", "is no regular expression"),
            ("{ keep = 'a)|(?:b' }", "is no regular"),
        ],
        *[
            ("{ keep = '(?=a)' }", "no look-around"),
            ("{ keep = '(a)' }", "write (?:…) instead of (…)"),
        ],
        *[
            ("{ keep = '(?P<x>a)' }", "named group"),
            ("{ keep = '(?:a{1000}){1000}' }", "is no regular"),
        ],
        *[("{ kept = 'a' }", "{ keep = 'PATTERN' }"), ("{ keep = 5 }", "{ keep = 'PATTERN' }")],
        *[("'keep:a'", "{ keep = 'PATTERN' }"), ("'blur'", "unknown masking rule 'blur'")],
        ("5", "valid string"),
    ],
)
def test_a_wrong_rule_is_told_with_its_line(tmp_path: Path, rule: str, said: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[personal_data]\n"public.a.b" = "email"\n\n"public.users.phone" = {rule}\n')
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert said in str(caught.value)
    assert f"{path}:4" in str(caught.value)


def test_a_rule_of_ones_own_and_none(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    rules = '"public.users.name" = { keep = \'^.\' }\n"public.users.region" = "none"\n'
    path.write_text(f"[personal_data]\n{rules}")
    declared = load(path).rules()
    assert declared.harmless == ("public.users.region",)
    assert from_bytes(to_objects(declared)["rules"]) == declared
    asked = [
        "SELECT id FROM users WHERE name = 'Zanzibarski' AND region = 'EU'",
        "SELECT id FROM users WHERE name = ANY ('{Zanzibarski,Bob}')",
        "SELECT id FROM users WHERE name LIKE 'Zanzi%'",
    ]
    shown = Enricher(declared, SCHEMA, KEY).enrich(batch([*asked]))["query"].to_pylist()
    assert shown == [
        "SELECT id FROM users WHERE name = 'Z***' AND region = 'EU'",
        "SELECT id FROM users WHERE name = ANY ('{Z***,***}')",
        "SELECT id FROM users WHERE name LIKE '***'",
    ]
    path.write_text(f'[identifiers]\nx = ["public.users.region"]\n[personal_data]\n{rules}')
    with pytest.raises(ConfigError, match="is an identifier"):
        load(path)
