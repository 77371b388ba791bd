"""A log that only grew can show it between any two of its checkpoints; any other log can't.

The suite tries some of the pairs of 1,000 checkpoints, `make prove` all (EVERY_PAIR=1).
"""

import os
import random
from itertools import combinations_with_replacement
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import VerificationError
from scalple.store import consistency, merkle
from scalple.store.checkpoint import Checkpoint, open_checkpoint
from scalple.store.note import VerifierKey
from scalple.store.reader import StoreReader
from tests.commandline import scalple
from tests.store.sample import make_store, signing_key
from tests.store.test_merkle import mth, subproof

CHECKPOINTS = 1_000
SAMPLED_PAIRS = 20_000


def test_any_two_of_a_thousand_checkpoints() -> None:
    private = Ed25519PrivateKey.generate()
    key = VerifierKey.of("db1", private)
    tree = merkle.Tree(b"".join(merkle.leaf_hash(b"%d" % n) for n in range(CHECKPOINTS)))
    notes = [Checkpoint("db1", n, tree.root(n)).sign(private) for n in range(1, CHECKPOINTS + 1)]
    heads = [open_checkpoint(note, [key])[0] for note in notes]
    pairs = list(combinations_with_replacement(range(CHECKPOINTS), 2))
    if not os.environ.get("EVERY_PAIR"):
        pairs = random.Random(5).sample(pairs, SAMPLED_PAIRS)
    for one, two in pairs:
        old, new = heads[one], heads[two]
        path = tree.consistency_proof(old.size, new.size)
        merkle.verify_consistency(old.size, new.size, path, old.root, new.root)
    print(f"{len(pairs):,} pairs of {CHECKPOINTS:,} checkpoints")


def test_a_tree_gives_the_proofs_of_every_size_it_had() -> None:
    leaves = [bytes([n]) for n in range(20)]
    tree = merkle.Tree(b"".join(map(merkle.leaf_hash, leaves)))
    for size in range(1, 21):
        assert tree.root(size) == mth(leaves[:size])
        for old in range(1, size + 1):
            assert tree.consistency_proof(old, size) == subproof(old, leaves[:size], True)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A store, and its checkpoint after each commit."""
    directory = tmp_path_factory.mktemp("grown")
    store, kept = directory / "store", []
    for n in range(6):
        make_store(store, 1 if n else 0)
        kept.append(directory / f"checkpoint.{n}")
        kept[-1].write_bytes((store / "db1" / "checkpoint").read_bytes())
    return store, kept


def test_the_command_shows_it_and_the_key_alone_checks_it(
    log: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    store, kept = log
    path, key = tmp_path / "grown.proof", store / "db1" / "public-key"
    for one, two in combinations_with_replacement(kept, 2):
        said = scalple("consistency", one, two, "--store", store, "--output", path)
        assert said.code == 0, said.err
        checked = scalple("check-proof", path, "--public-key", key, "--checkpoint", one)
        assert checked.code == 0, checked.err
    assert scalple("consistency", kept[2], "--store", store, "--output", path).code == 0
    checked = scalple("check-proof", path, "--public-key", key, "--checkpoint", kept[2])
    assert "only grew from 2 manifests" in checked.out
    assert f"to 5, root {StoreReader.open(store).chain('db1').head.root.hex()}" in checked.out
    assert scalple("check-proof", path, "--public-key", key).code == 3
    for wrong in (kept[1], kept[3]):
        assert scalple("check-proof", path, "--public-key", key, "--checkpoint", wrong).code == 7
    assert scalple("consistency", kept[3], kept[2], "--store", store, "--output", path).code == 3


def test_every_changed_byte_of_it_is_refused(log: tuple[Path, list[Path]]) -> None:
    store, kept = log
    chain = StoreReader.open(store).chain("db1")
    older = kept[3].read_bytes()
    old, _ = open_checkpoint(older, chain.keys)
    data = consistency.make(chain, old, kept[5].read_bytes())
    assert [one.size for one in consistency.check(data, older, chain.keys)] == [3, 5]
    for at, byte in enumerate(data):
        for new in (bytes([byte ^ 1 << at % 8]), b"\n" if byte != 10 else b" ", b""):
            with pytest.raises(VerificationError):
                consistency.check(data[:at] + new + data[at + 1 :], older, chain.keys)


def test_a_fork_can_show_nothing(log: tuple[Path, list[Path]], tmp_path: Path) -> None:
    store, kept = log
    private = signing_key(store)
    fork = tmp_path / "fork"
    fork.write_bytes(Checkpoint("db1", 3, b"f" * 32).sign(private))
    output = tmp_path / "x.proof"
    said = scalple("consistency", fork, "--store", store, "--output", output)
    assert (said.code, "rewritten" in said.err, output.exists()) == (7, True, False)
    fork.write_bytes(Checkpoint("db1", 9, b"f" * 32).sign(private))
    said = scalple("consistency", kept[1], fork, "--store", store, "--output", output)
    assert (said.code, "log was cut" in said.err) == (7, True)
    fork.write_bytes(Checkpoint("db2", 1, b"f" * 32).sign(private))
    said = scalple("consistency", fork, "--store", store, "--output", output)
    assert (said.code, "another origin" in said.err) == (7, True)
