"""Signed notes, verifier keys and checkpoints: round trips, a published vector, strictness."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from scalple.ingest.errors import VerificationError
from scalple.store import note
from scalple.store.checkpoint import Checkpoint, open_checkpoint
from scalple.store.note import VerifierKey

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
KEY = VerifierKey.of("db1", PRIVATE)

# The example of golang.org/x/mod/sumdb/note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
    "otpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_of_the_reference_implementation_opens() -> None:
    key = VerifierKey.from_text(GO_KEY)

    assert key.to_text() == GO_KEY
    assert note.open_note(GO_NOTE.encode(), [key])[0] == GO_NOTE.partition("\n\n")[0] + "\n"


@given(size=st.integers(0, 1 << 62), root=st.binary(min_size=32, max_size=32))
def test_checkpoint_text_and_note_are_inverses(size: int, root: bytes) -> None:
    checkpoint = Checkpoint("db1", size, root)

    assert Checkpoint.from_text(checkpoint.to_text()) == checkpoint
    assert open_checkpoint(checkpoint.sign(PRIVATE), [KEY]) == (checkpoint, KEY)


def test_every_changed_byte_of_a_checkpoint_is_refused() -> None:
    signed = Checkpoint("db1", 12, b"r" * 32).sign(PRIVATE)
    for at in range(len(signed)):
        for bit in (1, 2, 16, 32, 128):
            changed = bytearray(signed)
            changed[at] ^= bit
            with pytest.raises(VerificationError):
                open_checkpoint(bytes(changed), [KEY])


def test_every_changed_byte_of_a_public_key_is_refused() -> None:
    text = KEY.to_text()
    for at in range(len(text)):
        changed = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
        with pytest.raises(VerificationError):
            VerifierKey.from_text(changed)


def signed(text: str) -> bytes:
    """Whatever the text, signed by the right key."""
    return note.sign(text, "db1", PRIVATE)


ROOT = Checkpoint("db1", 1, b"r" * 32).to_text().split("\n")[2]


@pytest.mark.parametrize(
    "data",
    [
        signed(f"db1\n01\n{ROOT}\n"),
        signed(f"db1\n+1\n{ROOT}\n"),
        signed(f"db1\n-1\n{ROOT}\n"),
        signed(f"db1\n١\n{ROOT}\n"),
        signed(f"db1\n{'9' * 20}\n{ROOT}\n"),
        signed(f"db1\n1\n{ROOT}\nextension\n"),
        signed(f"db1\n1\n{ROOT[:-2]}\n"),
        signed(f"db1\n1\n{ROOT.rstrip('=')}\n"),
        signed(f"db1\n1\n {ROOT}\n"),
        signed(f"\n1\n{ROOT}\n"),
        signed(f"db2\n1\n{ROOT}\n"),
        signed(f"db1\n1\n{ROOT}\n").replace(b"\n", b"\r\n"),
        signed(f"db1\n1\n{ROOT}\n").replace(b"\n\n", b"\n\n\n"),
        signed(f"db1\n1\n{ROOT}\n") + b"\n",
        signed(f"db1\n1\n{ROOT}\n")[:-1],
        signed(f"db1\n1\n{ROOT}\n").replace("— ".encode(), b"- "),
        f"db1\n1\n{ROOT}\n".encode(),
        b"",
        b"\xff\n\n",
    ],
)
def test_what_is_not_canonical_is_refused(data: bytes) -> None:
    with pytest.raises(VerificationError):
        open_checkpoint(data, [KEY])


def test_another_key_is_refused_and_unknown_signatures_are_ignored() -> None:
    mine, theirs = signed("text\n"), note.sign("text\n", "witness", OTHER)
    both = mine + theirs.split(b"\n\n")[1]

    assert note.open_note(both, [KEY]) == ("text\n", KEY)
    with pytest.raises(VerificationError, match="isn't signed by key"):
        note.open_note(theirs, [KEY])
    with pytest.raises(VerificationError, match="isn't signed by key"):
        note.open_note(mine, [VerifierKey.of("db1", OTHER)])


def test_a_wrong_signature_of_the_known_key_condemns_the_note() -> None:
    good, bad = signed("text\n"), signed("other\n")

    with pytest.raises(VerificationError, match="isn't by key"):
        note.open_note(good + bad.split(b"\n\n")[1], [KEY])
