"""Proofs show what the log says and nothing else, whatever is done to their bytes.

Enters: small stores. Leaves: nothing. Does not: check the command line (that is test_bundle's).
"""

import copy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.record import KINDS
from scalple.ingest.errors import InputError, VerificationError
from scalple.store import proof
from scalple.store.decoding import decode_row
from scalple.store.note import VerifierKey
from scalple.store.proof import Proven
from scalple.store.reader import StoreReader
from scalple.store.rowid import RowId
from tests.store.sample import make_revised_store, signing_key
from tests.store.test_encoding import WIDE, encoded, rows


@pytest.mark.parametrize("schema", [WIDE, *KINDS.values()], ids=["wide", *KINDS])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_rows_bytes_say_what_the_row_says(schema: pa.Schema, data: st.DataObject) -> None:
    found = data.draw(rows(schema))
    made = pa.Table.from_pylist(found, schema=schema)
    assert [decode_row(schema, one) for one in encoded(made)] == made.to_pylist()


@settings(max_examples=200, deadline=None)
@given(row=rows(WIDE), at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_no_two_byte_strings_are_one_row(row: list[dict[str, Any]], at: int, byte: int) -> None:
    data = encoded(pa.Table.from_pylist(row[:1], schema=WIDE))[0]
    at %= len(data)
    other = data[:at] + bytes([byte]) + data[at + 1 :]
    if other == data:
        return
    try:
        assert decode_row(WIDE, other) != decode_row(WIDE, data)
    except (VerificationError, OverflowError):
        return


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_revised_store(tmp_path_factory.mktemp("proof") / "store", 7)


def made(store: Path, *ids: str) -> dict[str, Any]:
    parsed = [RowId.parse(one) for one in ids]
    return proof.make(StoreReader.open(store), [one for one in parsed if one is not None])


def keys(store: Path) -> dict[str, list[VerifierKey]]:
    return {"db1": [VerifierKey.of("db1", signing_key(store))]}


def checked(store: Path, value: Any) -> list[Proven]:
    return proof.check(proof.to_bytes(value), keys(store))


def test_every_row_of_every_kind_can_be_proven(store: Path) -> None:
    ids = [f"db1#{n}" for n in range(28)]
    ids += [
        f"db1/{kind}#{n}" for kind in ("evidence", "denied", "gaps", "unparsed") for n in range(7)
    ]
    found = {str(one.id): one.values for one in checked(store, made(store, *ids))}
    assert set(ids) <= found.keys()
    assert found["db1#9"]["query"] == "SELECT * FROM users WHERE id = 9"
    assert found["db1#9"]["subjects"] == [
        {"token": 1, "column": "id", "basis": "literal", "sealed": b"\0\1"}
    ]
    assert found["db1/unparsed#2"]["raw"] == b"\xff\x00"


def test_revisions_and_cited_evidence_come_along(store: Path) -> None:
    found = [str(one.id) for one in checked(store, made(store, "db1#5"))]
    assert found == ["db1#5", "db1/revisions#0", "db1/evidence#3"]
    assert [str(one.id) for one in checked(store, made(store, "db1#6"))] == ["db1#6"]


def test_a_row_that_is_not_there_has_no_proof(store: Path) -> None:
    with pytest.raises(InputError, match="no row db1#28"):
        made(store, "db1#28")
    assert RowId.parse("db1/audit#1") is None
    assert RowId.parse("db1#01") is None
    assert str(RowId.parse("db1/denied#17")) == "db1/denied#17"


def test_a_proof_of_one_row_is_none_of_another(store: Path) -> None:
    whole = made(store, "db1#5", "db1#17")
    for field in ("row", "salt", "path", "manifest", "seq", "id"):
        other = copy.deepcopy(whole)
        other["rows"][0][field], other["rows"][1][field] = (
            other["rows"][1][field],
            other["rows"][0][field],
        )
        with pytest.raises(VerificationError):
            checked(store, other)


def test_a_key_of_somebody_else_proves_nothing(store: Path, tmp_path: Path) -> None:
    whole = proof.to_bytes(made(store, "db1#5"))
    strange = VerifierKey.of("db1", signing_key(tmp_path / "other"))
    with pytest.raises(VerificationError):
        proof.check(whole, {"db1": [strange]})
    with pytest.raises(VerificationError, match="no public key of origin 'db1'"):
        proof.check(whole, {})


def test_a_manifest_that_was_never_signed_proves_nothing(store: Path) -> None:
    whole = made(store, "db1#5")
    one = whole["manifests"][0]
    one["manifest"] = one["manifest"].replace('"rows":4', '"rows":5')
    with pytest.raises(VerificationError):
        checked(store, whole)


def test_a_row_that_was_taken_out_is_missed(store: Path) -> None:
    whole = made(store, "db1#5", "db1#17")
    whole["rows"] = whole["rows"][1:]
    with pytest.raises(VerificationError, match="no proof of"):
        checked(store, whole)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b'{"v":2}', b"\xff", b'{"v":1,"manifests":3}']
)
def test_what_is_no_proof_is_refused(store: Path, data: bytes) -> None:
    with pytest.raises(VerificationError):
        proof.check(data, keys(store))
