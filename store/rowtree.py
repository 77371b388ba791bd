"""The Merkle tree over the rows of a segment: salted leaf hashes and their root.

A table and the segment's salt key enter; concatenated leaf hashes, or the root, leave. The salt
keeps the hash of an expired row from being guessed back; it lives in the segment only and goes
with it. Where the hashing is done is `leafhash`'s.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from scalple.store import merkle
from scalple.store.encoding import Matrix, chunks, encode_rows
from scalple.store.leafhash import LeafHasher, Leaves, hash_leaves

SALT_KEY_BYTES = 32
SALT_BYTES = 16

WORKER_ROWS_MIN = 20_000
"""From so many rows on, another process is worth its start."""


def row_hashes(table: pa.Table, salt_key: bytes) -> bytes:
    """The RFC 6962 leaf hashes of the rows in order, concatenated."""
    return b"".join(hash_leaves(leaves) for leaves in _leaves(table, salt_key))


def salts(salt_key: bytes, rows: int) -> Matrix:
    """Row i's salt: block i of the AES-256-CTR keystream, counter from zero."""
    stream = Cipher(AES256(salt_key), CTR(bytes(16))).encryptor().update(bytes(SALT_BYTES * rows))
    return np.frombuffer(stream, np.uint8).reshape(rows, SALT_BYTES)


def _leaves(table: pa.Table, salt_key: bytes) -> Iterator[Leaves]:
    """Bounds and bytes of the leaves, chunk by chunk."""
    lead = np.zeros((table.num_rows, 1 + SALT_BYTES), np.uint8)  # 0x00 marks a leaf
    lead[:, 1:] = salts(salt_key, table.num_rows)
    at = 0
    for batch in chunks(table):
        values = encode_rows(batch, lead[at : at + batch.num_rows])
        bounds = memoryview(values.buffers()[1]).cast("B").cast("i")
        yield bounds[values.offset :][: len(values) + 1], memoryview(values.buffers()[2]).cast("B")
        at += batch.num_rows


class RowHasher:
    """Roots of the segments that one writer makes; starts the other process when it pays."""

    def __init__(self) -> None:
        self._hasher: LeafHasher | None = None
        self._alone = False

    def root(self, table: pa.Table, salt_key: bytes) -> bytes:
        """The RFC 6962 root over the table's rows in order."""
        if table.num_rows >= WORKER_ROWS_MIN and not self._alone:
            try:
                self._hasher = self._hasher or LeafHasher()
                return self._hasher.root(_leaves(table, salt_key))
            except OSError:  # it can't be started here, or was ended: do without from now on
                self.close()
                self._alone = True
        return merkle.root(row_hashes(table, salt_key))

    def close(self) -> None:
        """End the other process if there is one."""
        if self._hasher is not None:
            self._hasher.close()
            self._hasher = None
