"""The examples of docs/FORMAT.md are true."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from scalple.correlate.record import KINDS
from scalple.store.encoding import encode_rows
from scalple.store.manifest import Manifest
from tests.store.sample import files, make_store
from tests.store.test_encoding import reference
from tests.store.test_merkle import mth

FORMAT = Path(__file__).resolve().parents[2] / "docs" / "FORMAT.md"


def test_the_example_row() -> None:
    batch = pa.record_batch(
        {
            "a": pa.array([7], pa.uint64()),
            "b": pa.nulls(1, pa.int32()),
            "c": pa.array(["é"]),
            "d": pa.array([["", None]], pa.list_(pa.field("item", pa.string()))),
        }
    )
    found = re.search(r"^(01  02  .*)$", FORMAT.read_text(), re.MULTILINE)
    assert found

    expected = bytes.fromhex(found[1].replace(" ", ""))
    assert encode_rows(batch, np.zeros((1, 0), np.uint8)).to_pylist() == [expected]


def test_a_stranger_finds_the_same_root(tmp_path: Path) -> None:
    """From FORMAT.md alone: Parquet, keystream, reference encoding, RFC 6962 word for word."""
    store = make_store(tmp_path / "store", 1)
    manifest = Manifest.from_bytes(files(store / "db1" / "manifests")[0].read_bytes())
    for record in manifest.segments:
        path = store / "db1" / "segments" / record.file
        key = bytes.fromhex(pq.read_metadata(path).metadata[b"scalple.salt_key"].decode())
        types = [(field.name, field.type) for field in KINDS[record.kind]]
        stream = Cipher(AES256(key), CTR(bytes(16))).encryptor().update(bytes(16 * record.rows))
        leaves = [
            stream[16 * at : 16 * at + 16] + b"\x01" + reference(row, types)
            for at, row in enumerate(pq.read_table(path).to_pylist())
        ]

        assert hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256
        assert mth(leaves).hex() == record.rows_root
