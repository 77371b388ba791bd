"""The verifier of docs/ that needs nothing of ours, beside our own: they agree on every byte.

Enters: proofs of small stores. Leaves: nothing. The vectors are those that others publish: of RFC
6962's reference implementation, of C2SP's specifications, and of a log that Tessera tests itself with.
"""

import base64
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from scalple.correlate.record import KINDS
from scalple.ingest.errors import VerificationError
from scalple.store import merkle, proof
from scalple.store.checkpoint import open_checkpoint
from scalple.store.keys import keys_by_origin
from scalple.store.note import VerifierKey
from scalple.store.reader import StoreReader
from scalple.store.rowid import RowId
from tests.store.sample import make_revised_store
from tests.store.test_merkle import VECTOR

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def alone() -> ModuleType:
    """docs/check_proof.py."""
    spec = importlib.util.spec_from_file_location("check_proof", DOCS / "check_proof.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_revised_store(tmp_path_factory.mktemp("alone") / "store", 5)


def made(store: Path, *ids: str) -> bytes:
    parsed = [RowId.parse(one) for one in ids]
    return proof.to_bytes(proof.make(StoreReader.open(store), [one for one in parsed if one]))


def plain(value: Any) -> Any:
    """As the verifier shows values."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if hasattr(value, "timestamp"):
        return round(value.timestamp() * 1_000_000)
    return value


def test_it_is_short_and_needs_nothing_of_ours(store: Path, tmp_path: Path) -> None:
    text = (DOCS / "check_proof.py").read_text()
    assert len(text.splitlines()) <= 100
    path = tmp_path / "row.proof"
    path.write_bytes(made(store, "db1#5"))
    command = [sys.executable, "-I", "-c", f"import sys; sys.modules['scalple'] = None\n{BLOCKED}"]
    arguments = [str(DOCS / "check_proof.py"), str(path), str(store / "db1" / "public-key")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["db1#5"]["session_user_id"] == "employee_id_2291"
    path.write_bytes(made(store, "db1#5").replace(b"db1#5", b"db1#6"))
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


BLOCKED = """
import runpy
for name in ("pyarrow", "duckdb", "numpy", "pydantic"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_it_knows_the_columns_of_every_kind() -> None:
    def said(kind: pa.DataType) -> Any:
        if pa.types.is_list(kind):
            return [said(kind.value_type)]
        if pa.types.is_struct(kind):
            return {kind.field(i).name: said(kind.field(i).type) for i in range(kind.num_fields)}
        return "time" if pa.types.is_timestamp(kind) else str(kind)

    expected = {kind: [(f.name, said(f.type)) for f in schema] for kind, schema in KINDS.items()}
    found = json.loads((DOCS / "columns.json").read_text())
    assert {kind: list(columns.items()) for kind, columns in found.items()} == expected


def test_both_verifiers_say_the_same_of_every_kind_of_row(store: Path, alone: ModuleType) -> None:
    ids = [f"db1#{n}" for n in range(20)]
    ids += [f"db1/{k}#{n}" for k in ("evidence", "denied", "gaps", "unparsed") for n in range(5)]
    data = made(store, *ids)
    ours = proof.check(data, keys_by_origin(store / "db1" / "public-key"))
    theirs = alone.check(data.decode(), (store / "db1" / "public-key").read_text())
    assert {str(one.id): plain(one.values) for one in ours} == theirs
    assert {"db1#9", "db1/unparsed#2", "db1/revisions#0"} <= set(theirs)


SMALL: list[tuple[str, ...]] = [("db1/gaps#1",)]
LARGE: list[tuple[str, ...]] = (
    [("db1#5",), ("db1#17", "db1/evidence#2")] if os.environ.get("EVERY_BIT") else []
)


@pytest.mark.parametrize("ids", SMALL + LARGE)
def test_every_changed_byte_of_a_proof_is_refused_by_both(
    store: Path, alone: ModuleType, ids: tuple[str, ...]
) -> None:
    data = made(store, *ids)
    keys, lines = keys_by_origin(store / "db1/public-key"), (store / "db1/public-key").read_text()
    proof.check(data, keys)
    alone.check(data.decode(), lines)
    tried = 0
    for at, new in changed(data):
        other = data[:at] + new + data[at + 1 :]
        with pytest.raises(VerificationError):
            proof.check(other, keys)
        with pytest.raises(Exception):  # noqa: B017 (it has no errors of its own)
            alone.check(other.decode(), lines)
        tried += 1
    print(f"{tried:,} changes of {len(data):,} bytes")


def changed(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Every place with another byte: one of its bits; in some a blank, a digit, nothing, or more."""
    for at, byte in enumerate(data):
        yield at, bytes([byte ^ 1 << at % 8])
        if LARGE or at % 8 == 0:
            yield at, b" " if byte != 0x20 else b"\n"
            yield at, b"0" if byte != 0x30 else b"1"
            yield at, b""
            yield at, bytes([byte, byte])


def test_a_byte_moved_from_the_row_into_the_salt_is_refused_by_both(
    store: Path, alone: ModuleType
) -> None:
    whole = json.loads(made(store, "db1/gaps#1"))
    row = whole["rows"][0]
    data, salt = base64.b64decode(row["row"]), base64.b64decode(row["salt"])
    row["salt"] = base64.b64encode(salt + data[:1]).decode()
    row["row"] = base64.b64encode(data[1:]).decode()
    with pytest.raises(VerificationError, match="salt"):
        proof.check(proof.to_bytes(whole), keys_by_origin(store / "db1" / "public-key"))
    with pytest.raises(Exception):  # noqa: B017
        alone.check(proof.to_bytes(whole).decode(), (store / "db1" / "public-key").read_text())


def test_what_was_asked_for_is_said_once_and_comes_first(store: Path, alone: ModuleType) -> None:
    whole = json.loads(made(store, "db1#3", "db1#17"))
    keys, lines = keys_by_origin(store / "db1/public-key"), (store / "db1/public-key").read_text()
    swapped = {"proves": ["db1#17"]}  # that row is proven as well, but comes second
    for changes in (swapped, {"proves": ["db1#3", "db1#3"]}, {"proves": ["db1#17", "db1#4"]}):
        other = proof.to_bytes(whole | changes)
        with pytest.raises(VerificationError):
            proof.check(other, keys)
        with pytest.raises(ValueError, match="missing"):
            alone.check(other.decode(), lines)
    rows, manifests = whole["rows"], whole["manifests"]
    for wrong in (
        whole | {"comment": "x"},
        dict(reversed(whole.items())),
        whole | {"rows": [*rows, rows[0]]},
        whole | {"manifests": [*manifests, manifests[0]]},
        whole | {"rows": [], "proves": []},
        whole | {"rows": [{**rows[0], "manifest": False}, *rows[1:]]},
        whole | {"rows": [{**rows[0], "path": "".join(rows[0]["path"])}, *rows[1:]]},
    ):
        with pytest.raises(VerificationError, match="proof: "):
            proof.check(proof.to_bytes(wrong), keys)


# Roots and proofs of the test data of certificate-transparency's successor.
ROOT_8 = "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg="
ROOT_6 = "duZ9rbzfHhDht03cYIq9L5jfsW+851J3tSMqEn8gh+8="
A, B, C, D, E, F, G = (
    "lqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c=",
    "Xwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=",
    "a0eq8p7jwq+a+Im8H7klTavTEXfxYjLdaqsDXKOb9uQ=",
    "vBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms=",
    "yoVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=",
    "037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=",
    "DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=",
)
INCLUSION = [
    (0, 8, [A, B, C]),
    (5, 8, [D, E, F]),
    (2, 3, ["+sVCA+fMaWzw38tCySodnbr3CtnmIfS9jZhmLwDjwSU="]),
]
INCLUSION += [(1, 5, ["bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=", B, D])]
CONSISTENCY = [(1, 8, [A, B, C]), (6, 8, [G, E, F]), (2, 5, [B, D])]
CONSISTENCY += [(6, 7, [G, "sIaT7C5yFZcTBkHoIR5+7cy0wmQTlj7ubB4u0W/7Gl8=", F])]


def test_published_proofs(alone: ModuleType) -> None:
    tree = merkle.Tree(b"".join(map(merkle.leaf_hash, VECTOR)))
    assert tree.root(8) == base64.b64decode(ROOT_8)
    assert tree.root(6) == base64.b64decode(ROOT_6)
    for index, size, texts in INCLUSION:
        path = [base64.b64decode(one) for one in texts]
        assert tree.inclusion_proof(index, size) == path
        leaf = merkle.leaf_hash(VECTOR[index])
        merkle.verify_inclusion(leaf, index, size, path, tree.root(size))
        alone.check_inclusion(VECTOR[index], index, size, texts, tree.root(size))
    for old, size, texts in CONSISTENCY:
        path = [base64.b64decode(one) for one in texts]
        assert tree.consistency_proof(old, size) == path
        merkle.verify_consistency(old, size, path, tree.root(old), tree.root(size))


TESSERA_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
TESSERA = {
    0: "example.com/log/testdata\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— example.com/log/"
    "testdata M9e0lhxJACzE1KoUdqKuPa+9p6R7dSW8BlEvrg/noo8FkGg6PbJoRNOcdjqjOq89wVvTA60eubCc4oufo5BvIVEg"
    "tQc=\n",
    5: "example.com/log/testdata\n5\ngy5gl3aksFyiCO95a/1vLXz88A3dRq+0l9Sxte8ZqZQ=\n\n— example.com/log/"
    "testdata M9e0lmn5eDHyHP10zJObZdFAX2y1V8fdDKBi4IiHbDYf1TCUBwxZOhqwv2QZCqrdda2zTRTrmnwjwscN5RBTEmZU"
    "YAs=\n",
}


def test_heads_of_anothers_log(alone: ModuleType) -> None:
    hashes = b"".join(merkle.leaf_hash(one) for one in b"one two three four five".split())
    for size, text in TESSERA.items():
        head, key = open_checkpoint(text.encode(), [VerifierKey.from_text(TESSERA_KEY)])
        assert (head.size, head.root) == (size, merkle.root(hashes[: 32 * size]))
        assert key.to_text() == TESSERA_KEY
        assert alone.open_checkpoint(text, TESSERA_KEY) == (head.origin, head.size, head.root)
