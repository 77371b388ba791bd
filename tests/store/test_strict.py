"""Records are read exactly: whatever else a forger writes is refused, and nothing is converted."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.ingest.errors import VerificationError
from scalple.store import strict
from scalple.store.index import IndexFile
from scalple.store.manifest import Manifest, Position, canonical_json

HASH = "0123456789abcdef" * 4
FILE = {"holds": "audit", "sha256": HASH, "bytes": 7, "first_seq": 0, "rows": 3}
POSITION = {
    "source": "postgres",
    "path": "é.csv",
    "head_sha256": HASH,
    "head_bytes": 4096,
    "incarnation": 0,
    "begin": 0,
    "end": 9,
    "sha256": HASH,
    "tail_sha256": HASH,
}
SEGMENT = {
    "kind": "audit",
    "file": "x",
    "first_seq": 0,
    "rows": 1,
    "rows_root": HASH,
    "sha256": HASH,
    "bytes": 1,
}
MANIFEST: dict[str, Any] = {
    "v": 1,
    "origin": "db1",
    "n": 0,
    "previous": None,
    "segments": [SEGMENT],
    "positions": [POSITION],
    "positions_object": None,
    "objects": {"rules": HASH},
    "committed_at": "2026-03-14T00:00:00+00:00",
    "nonce": "n",
    "software": "s",
    "signature": "",
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just(HASH),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def test_what_is_written_is_read() -> None:
    manifest = Manifest.from_bytes(canonical_json(MANIFEST))
    assert manifest.segments[0].sha256 == HASH and manifest.positions[0].path == "é.csv"
    assert strict.plain(manifest) == MANIFEST
    assert manifest.to_bytes() == canonical_json(MANIFEST)


@pytest.mark.parametrize("name", FILE)
@pytest.mark.parametrize(
    "value", [None, True, 1.0, -1, 1 << 63, "", [], {}, HASH.upper(), "\ud800"]
)
def test_no_field_takes_a_value_of_another_type_or_range(name: str, value: object) -> None:
    if name == "holds" and value in ("", HASH.upper()):
        return  # what may stand there is looked at by who opens the index
    with pytest.raises(ValueError, match=name):
        strict.from_plain(IndexFile, FILE | {name: value})


@pytest.mark.parametrize(
    "wrong", [HASH + "\n", HASH[:-1], " " + HASH, HASH + HASH, HASH[:-1] + "g"]
)
def test_a_hash_is_64_hexadecimal_digits_and_nothing_else(wrong: str) -> None:
    for changed in (MANIFEST | {"previous": wrong}, MANIFEST | {"objects": {"rules": wrong}}):
        with pytest.raises(VerificationError, match="not a manifest"):
            Manifest.from_bytes(canonical_json(changed))


@pytest.mark.parametrize("name", MANIFEST)
def test_every_key_is_there_and_no_other(name: str) -> None:
    rest = {key: value for key, value in MANIFEST.items() if key != name}
    for changed in (rest, rest | {f"{name}_": MANIFEST[name]}, MANIFEST | {f"{name}_": None}):
        with pytest.raises(VerificationError, match="not a manifest"):
            Manifest.from_bytes(canonical_json(changed))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[" * 30_000,
        b'{"a":' * 5_000,
        b"\xef\xbb\xbf{}",
        b"\xff",
        b"null",
        b"[]",
        b"NaN",
        b"1" * 5_000,
        canonical_json(MANIFEST).replace(b'"n":0', b'"n":0,"n":0'),
        canonical_json(MANIFEST).replace(b'"n":0', b'"n": 0'),
        canonical_json(MANIFEST).replace(b'"n":0', b'"n":NaN'),
        canonical_json(MANIFEST).replace(b'"db1"', b'"db\\ud800"'),
        canonical_json(MANIFEST).replace(b'"db1"', b'"db\\u0031"'),
        json.dumps(MANIFEST).encode("utf-16"),
        canonical_json(MANIFEST) + b"\n",
    ],
    ids=range(17),
)
def test_text_that_is_no_manifest_is_refused_as_such(text: bytes) -> None:
    with pytest.raises(VerificationError):
        Manifest.from_bytes(text)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(POSITION)), VALUES)
def test_what_is_accepted_is_exactly_what_was_written(name: str, value: object) -> None:
    given = POSITION | {name: value}
    try:
        found = strict.from_plain(Position, given)
    except ValueError:
        return
    assert strict.plain(found) == given
    assert type(getattr(found, name)) is type(POSITION[name])
