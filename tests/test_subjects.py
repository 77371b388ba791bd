"""Names of subjects: one spelling, one token, one ciphertext; the key opens it again."""

import hashlib
import hmac

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from scalple.correlate.subjects import Sealer, canonical, open_sealed, subject_token

KEY = bytes(range(32))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[("42", "42"), ("042", "42"), ("+42", "42"), (" 42 ", "42"), ("-042", "-42"), ("-0", "0")],
        *[("000", "0"), ("4.20", "4.20"), ("", ""), ("  ", ""), ("٤٢", "٤٢"), ("²", "²")],
        *[("4711.0", "4711"), ("4711.", "4711"), ("-0.00", "0"), ("4_711", "4711")],
        *[("0_0_7", "7"), ("0x1267", "4711"), ("-0X12_67", "-4711"), ("0o11147", "4711")],
        *[("0b101", "5"), ("0x", "0x"), ("4__7", "4__7"), ("_47", "_47"), ("4711.01", "4711.01")],
        *[(" J.Doe@X.com", "j.doe@x.com"), ("Not@ mail", "Not@ mail"), ("Ann", "Ann")],
        (
            "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
        ("a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("A0EE-BC99-9C0B-4EF8-BB6D-6BB9-BD38-0A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        # Digits only, like an integer's: PostgreSQL writes it with hyphens all the same.
        ("11111111222233334444555555555555", "11111111-2222-3333-4444-555555555555"),
        ("1" * 31, "1" * 31),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_canonical(value: str, expected: str) -> None:
    assert canonical(value) == expected
    assert canonical(expected) == expected


def test_token_is_the_documented_hmac() -> None:
    digest = hmac.new(KEY, b"email\0j.doe@x.com", hashlib.sha256).digest()
    assert subject_token(KEY, "email", "J.Doe@X.com ") == int.from_bytes(digest[:8], "big")


@given(st.binary(min_size=32, max_size=100), st.text(max_size=9), st.lists(st.text(max_size=40)))
def test_sealer_agrees_with_the_query_side(key: bytes, name: str, values: list[str]) -> None:
    name = name.encode("utf-8", "replace").decode()
    sealer = Sealer(key)
    for value, both in zip(values, sealer.name(name, values), strict=True):
        assert int.from_bytes(both[:8], "big") == subject_token(key, name, value)
        if canonical(value):
            assert open_sealed(key, name, both[8:]) == canonical(value)
        else:
            assert both[8:] == b""
    assert sealer.name(name, values) == Sealer(key).name(name, values)


def test_another_name_doesnt_open() -> None:
    both = Sealer(KEY).name("email", ["a@b.de"])[0]
    with pytest.raises(InvalidTag):
        open_sealed(KEY, "customer_id", both[8:])
