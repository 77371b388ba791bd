"""The Merkle tree over the rows of a segment: salted leaf hashes and their root.

A table and the segment's salt key enter; concatenated leaf hashes leave. The salt keeps the hash
of an expired row from being guessed back; it lives in the segment only and goes with it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from scalple.store.encoding import Matrix, chunks, encode_rows

SALT_KEY_BYTES = 32
SALT_BYTES = 16


def row_hashes(table: pa.Table, salt_key: bytes) -> bytes:
    """The RFC 6962 leaf hashes of the rows in order, concatenated."""
    return hashes_of_parts(table, [(salt_key, table.num_rows)])


def hashes_of_parts(table: pa.Table, parts: Sequence[tuple[bytes, int]], skipped: int = 0) -> bytes:
    """As `row_hashes`, of rows that stand in several segments.

    Args:
        table: their rows, one segment's after the other's.
        parts: of each the salt key and how many rows.
        skipped: so many rows of the first segment stand before these.
    """
    firsts = [skipped, *[0] * len(parts)]
    salted = [salts(key, rows, first) for (key, rows), first in zip(parts, firsts, strict=False)]
    return b"".join(hash_each(*one) for one in leaves(table, np.concatenate(salted)))


def salts(salt_key: bytes, rows: int, first: int = 0) -> Matrix:
    """Row i's salt: block i of the AES-256-CTR keystream, counter from zero; of rows from `first` on."""
    counter = CTR(first.to_bytes(16, "big"))
    stream = Cipher(AES256(salt_key), counter).encryptor().update(bytes(SALT_BYTES * rows))
    return np.frombuffer(stream, np.uint8).reshape(rows, SALT_BYTES)


def hash_each(bounds: memoryview, data: memoryview) -> bytes:
    """SHA-256 of data[bounds[i]:bounds[i + 1]] for each i, concatenated."""
    whole = bytes(data[: bounds[-1]])  # slices of bytes are quicker than of memoryview
    sha256 = hashlib.sha256
    return b"".join([sha256(whole[a:b]).digest() for a, b in pairwise(bounds.tolist())])


def leaves(table: pa.Table, salted: Matrix) -> Iterator[tuple[memoryview, memoryview]]:
    """Bounds and bytes of the leaves of rows that have these salts, chunk by chunk."""
    lead = np.zeros((table.num_rows, 1 + SALT_BYTES), np.uint8)  # 0x00 marks a leaf
    lead[:, 1:] = salted
    at = 0
    for batch in chunks(table):
        values = encode_rows(batch, lead[at : at + batch.num_rows])
        bounds = memoryview(values.buffers()[1]).cast("B").cast("i")
        yield bounds[values.offset :][: len(values) + 1], memoryview(values.buffers()[2]).cast("B")
        at += batch.num_rows
