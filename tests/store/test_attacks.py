"""Every attack on every kind of stored file: what `verify` says of it, counted in a table.

The suite flips a sample of the bits, `make prove` every bit of every file, those of an index too
(EVERY_BIT=1). A case counts as detected when `verify --files` refuses the store, which reads a part of what `verify` reads and
compares it in the same way, or else when `verify` does; some cases are shown to the latter as well.
"""

import base64
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import combinations
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import ScalpleError
from scalple.store.chain import read_chain
from scalple.store.checkindex import HashCheck
from scalple.store.commitcheck import CommitChecker, Task, digests_of
from scalple.store.index import IndexFile, content_of
from scalple.store.layout import origin_layout
from scalple.store.manifest import Manifest
from scalple.store.merkle import leaf_hash
from scalple.store.verify import Options, verify
from scalple.store.writer import StoreWriter
from tests.store.sample import (
    NOON,
    files,
    make_store,
    open_writer,
    position,
    signing_key,
    statements,
)
from tests.store.test_compaction import compacted

EVERY_BIT = bool(os.environ.get("EVERY_BIT"))
SAMPLED_BITS = 800
CHECKED_WHOLE = 0.004
"""This share of what `--files` detects is shown to the whole `verify` too."""

KINDS = ("checkpoint", "public-key", "manifests", "segments", "objects")
Change = Callable[[], None]


@dataclass(frozen=True)
class Store:
    """A store of two logs under one key, and what its files held."""

    path: Path
    held: dict[Path, bytes]

    def of(self, kind: str, origin: str = "db1") -> list[Path]:
        """Files of a kind."""
        where = self.path / origin / kind
        return files(where) if where.is_dir() else [where]

    def restore(self) -> None:
        """As it was."""
        for path in files(self.path):
            if path not in self.held:
                path.unlink()
        for path, data in self.held.items():
            if not path.exists() or path.read_bytes() != data:
                path.unlink(missing_ok=True)
                path.write_bytes(data)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("attacked") / "store"
    make_store(path, 2)
    make_store(path, 2, "db2")
    return Store(path, {one: one.read_bytes() for one in files(path)})


def flips(store: Store) -> Iterator[tuple[str, Change]]:
    """Single bits, a sample of them."""
    every = [(kind, path) for kind in KINDS for path in store.of(kind)]
    bits = [(kind, path, bit) for kind, path in every for bit in range(8 * len(store.held[path]))]
    chance = random.Random(7)
    small = [one for one in bits if one[0] in ("checkpoint", "public-key")]
    bits = chance.sample(small, SAMPLED_BITS // 3) + chance.sample(bits, SAMPLED_BITS)
    for kind, path, bit in bits:
        new = flipped(store.held[path], bit)
        yield kind, lambda path=path, new=new: put(path, new)  # type: ignore[misc]


def flipped(data: bytes, bit: int) -> bytes:
    """The same bytes but for one bit."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def put(path: Path, data: bytes) -> None:
    """Other bytes in a file."""
    path.write_bytes(data)


def drops(store: Store) -> Iterator[tuple[str, Change]]:
    """Each file is gone."""
    for kind in KINDS:
        for path in store.of(kind):
            yield kind, path.unlink


def cuts(store: Store) -> Iterator[tuple[str, Change]]:
    """Each file ends early, or has more."""
    for kind in KINDS:
        for path in store.of(kind):
            data = store.held[path]
            lengths = {0, 1, len(data) // 2, len(data) - 1}
            for new in [*(data[:n] for n in lengths), data + b"\n", data + b"\0", data + data]:
                yield kind, lambda path=path, new=new: put(path, new)  # type: ignore[misc]


def swaps(store: Store) -> Iterator[tuple[str, Change]]:
    """Any two files of a kind change places."""
    for kind in KINDS:
        for one, other in combinations(store.of(kind), 2):

            def swap(one: Path = one, other: Path = other) -> None:
                put(one, store.held[other])
                put(other, store.held[one])

            yield kind, swap


def copies(store: Store) -> Iterator[tuple[str, Change]]:
    """The same bytes once more, under another name that looks right."""
    for kind in KINDS:
        for path in store.of(kind):
            data = store.held[path]
            number, rest = path.name[:20], path.name[20:]
            names = [
                f"{path.name}.copy",
                path.name.upper() if kind == "objects" else f"_{path.name}",
            ]
            if kind in ("manifests", "segments"):
                names += [f"{n:020d}{rest}" for n in (0, 1, 2, 3, 9) if f"{n:020d}" != number]
            for name in names:
                new = path.with_name(name)
                if new not in store.held:
                    yield kind, lambda new=new, data=data: put(new, data)  # type: ignore[misc]


def splices(store: Store) -> Iterator[tuple[str, Change]]:
    """Each file is replaced by each one of the same kind from another log with the same key."""
    for kind in KINDS:
        for path in store.of(kind):
            for donor in store.of(kind, "db2"):
                data = store.held[donor]
                if data != store.held[path]:
                    yield kind, lambda path=path, data=data: put(path, data)  # type: ignore[misc]


def replays(store: Store) -> Iterator[tuple[str, Change]]:
    """What the log's own key signed at another time: an older head, a manifest of a fork."""
    layout, private = origin_layout(store.path, "db1"), signing_key(store.path)
    for size in (0, 1):
        older = read_chain(layout, size).head.sign(private)
        yield "checkpoint", lambda older=older: put(layout.checkpoint, older)  # type: ignore[misc]
    fork = store.path.with_name("fork") / "store"
    if not fork.exists():
        shutil.copytree(store.path.with_name("store.keys"), fork.with_name("store.keys"))
        make_store(fork, 2)
    for n in (0, 1):
        data = origin_layout(fork, "db1").manifest(n).read_bytes()
        yield "manifests", lambda n=n, data=data: put(layout.manifest(n), data)  # type: ignore[misc]
    other = origin_layout(fork, "db1").checkpoint.read_bytes()
    yield "checkpoint", lambda: put(layout.checkpoint, other)
    for path in files(origin_layout(fork, "db1").segments):
        kind = path.name.split("-")[1]
        twin = next(
            one
            for one in store.of("segments")
            if one.name[:20] == path.name[:20] and one.name.split("-")[1] == kind
        )
        data = path.read_bytes()
        yield "segments", lambda twin=twin, data=data: put(twin, data)  # type: ignore[misc]


def forgeries(store: Store) -> Iterator[tuple[str, Change]]:
    """Signed by a key that isn't the log's, or by none; the head follows where it can."""
    layout = origin_layout(store.path, "db1")
    strange, own = Ed25519PrivateKey.generate(), signing_key(store.path)
    for n in (0, 1):
        honest = Manifest.from_bytes(store.held[layout.manifest(n)])
        for lie in (
            replace(honest, software="forged"),
            replace(honest, software="forged").signed(strange),
            honest.signed(strange),
            replace(honest, signature=""),
        ):
            for key in (None, strange):

                def forge(
                    n: int = n, lie: Manifest = lie, key: Ed25519PrivateKey | None = key
                ) -> None:
                    put(layout.manifest(n), lie.to_bytes())
                    if key is not None and n == 1:
                        tree = read_chain(layout, 1).tree.append(leaf_hash(lie.to_bytes()))
                        head = type(read_chain(layout, 1).head)("db1", 2, tree.root())
                        put(layout.checkpoint, head.sign(key))

                yield "manifests", forge
    head = read_chain(layout, 2).head
    for data in (
        head.sign(strange),
        type(head)("db1", 2, bytes(32)).sign(strange),
        type(head)("db1", 3, head.root).sign(own),
        type(head)("db2", 2, head.root).sign(own),
        head.sign(own) + head.sign(strange).split(b"\n\n")[1],
    ):
        yield "checkpoint", lambda data=data: put(layout.checkpoint, data)  # type: ignore[misc]


def spellings(store: Store) -> Iterator[tuple[str, Change]]:
    """The same said otherwise: line ends, leading zeros, base64 with other last bits, blank lines."""
    for kind in ("checkpoint", "public-key", "manifests"):
        for path in store.of(kind):
            data = store.held[path]
            root = data.split(b"\n")[2] if kind == "checkpoint" else b"="
            loose = root[:-2] + bytes([root[-2] + 1]) + b"=" if kind == "checkpoint" else root
            for new in (
                data.replace(b"\n", b"\r\n"),
                data.replace(b"\n2\n", b"\n02\n"),
                data.replace(b"\n2\n", b"\n+2\n"),
                data.replace(b"\n\n", b"\n\n\n"),
                data.replace(b"\n\n", b"\n \n"),
                data.replace(root, loose),
                data.replace(b"=\n", b"\n"),
                data.replace(b"\n", b"\n\n", 1),
                b"\xef\xbb\xbf" + data,
                data.replace(b",", b", "),
                data.replace(b'"n":', b'"n":0'),
                data.replace(b"db1", b"db\\u0031", 1),
                data.replace(b"db1", b"DB1"),
                data.replace(b'{"', b'{"n":0,"', 1),
                base64.b64encode(data),
            ):
                if new != data:
                    yield kind, lambda path=path, new=new: put(path, new)  # type: ignore[misc]


ATTACKS = (flips, drops, cuts, swaps, copies, splices, replays, forgeries, spellings)


def is_detected(store: Path, *, files_only: bool) -> bool:
    """Whether `verify` refuses the store."""
    try:
        verify(store, "db1", options=Options(files_only=files_only))
    except ScalpleError:
        return True
    return False


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_on_every_kind_of_file_is_detected(
    store: Store, attack: Callable[[Store], Iterator[tuple[str, Change]]]
) -> None:
    cases: Counter[str] = Counter()
    undetected: Counter[str] = Counter()
    chance = random.Random(11)
    for kind, change in attack(store):
        before = files(store.path)
        change()
        cases[kind] += 1
        by_files = is_detected(store.path, files_only=True)
        if not by_files or chance.random() < CHECKED_WHOLE:
            undetected[kind] += not is_detected(store.path, files_only=False)
        store.restore()
        assert files(store.path) == before
    verify(store.path)
    print(f"{attack.__name__:>10}", *(f"{kind} {cases[kind]:,}" for kind in KINDS if cases[kind]))
    assert cases.total() > 0
    assert not undetected.total(), undetected


@pytest.fixture
def indexed(tmp_path: Path) -> Store:
    path = make_store(tmp_path / "store", 2)
    compacted(path, "db1", signing_key(path))
    return Store(path, {one: one.read_bytes() for one in files(path)})


def covering(store: Store, kind: str, path: Path) -> Callable[[], bool]:
    """What of `verify --files` looks at a file, and whether it finds a fault. Of a segment or a file of
    the index that is the check of this one file, which `verify` makes for each that is named."""
    layout = origin_layout(store.path, "db1")
    manifests = list(read_chain(layout, 2).manifests)
    if kind == "segments":
        (record,) = (one for m in manifests for one in m.segments if one.file == path.name)
        alone = replace(manifests[int(path.name[:20])], segments=(record,))
        checker = CommitChecker(layout, digests_of(manifests), files_only=True)
        return lambda: bool(checker.check(Task(alone, ())).faults)
    if kind == "index" and (content := content_of(path.name)):
        file = IndexFile(holds=content[0], sha256=content[1], bytes=0)
        return lambda: bool(HashCheck(layout, [file])())
    return lambda: is_detected(store.path, files_only=True)


@pytest.mark.skipif(not EVERY_BIT, reason="takes minutes: make prove")
def test_every_single_bit_of_every_file_is_detected(indexed: Store) -> None:
    chance, shown = random.Random(13), 0
    for kind in (*KINDS, "index"):
        cases, undetected = 0, []
        for path in indexed.of(kind):
            is_seen = covering(indexed, kind, path)
            assert not is_seen()
            for bit in range(8 * len(indexed.held[path])):
                path.write_bytes(flipped(indexed.held[path], bit))
                cases += 1
                seen = is_seen()
                if seen and chance.random() < CHECKED_WHOLE / 4:
                    seen = is_detected(indexed.path, files_only=False)
                    shown += 1
                if not seen:
                    undetected.append((path, bit))
            path.write_bytes(indexed.held[path])
        print(f"{kind:>10}: {cases:,} bits of {len(indexed.of(kind))} files", flush=True)
        assert not undetected
    assert {path for kind in (*KINDS, "index") for path in indexed.of(kind)} == set(indexed.held)
    verify(indexed.path)
    print(f"{shown:,} of them shown to the whole `verify`")


def test_a_cut_tail_is_the_one_thing_that_needs_a_checkpoint_kept_elsewhere(
    store: Store, tmp_path: Path
) -> None:
    """All files of the newest commits go, and the head of then comes back; or another future."""
    layout = origin_layout(store.path, "db1")
    older = layout.checkpoint.read_bytes()
    kept = tmp_path / "kept"
    with open_writer(store.path) as writer:
        writer.commit({"audit": statements(8, 1)}, [position(200, 300)], {})
    kept.write_bytes(layout.checkpoint.read_bytes())
    store.restore()
    assert layout.checkpoint.read_bytes() == older
    assert not is_detected(store.path, files_only=False)
    with pytest.raises(ScalpleError, match="log was cut"):
        verify(store.path, checkpoint=kept)
    with open_writer(store.path) as writer:  # a fork: two heads of one size, both signed
        writer.commit({"audit": statements(8, 2)}, [position(200, 300)], {})
    assert not is_detected(store.path, files_only=False)
    with pytest.raises(ScalpleError, match="log was rewritten"):
        verify(store.path, checkpoint=kept)
    store.restore()


def test_a_clock_that_goes_back_is_told(tmp_path: Path) -> None:
    path = tmp_path / "store"
    times = iter([NOON, NOON - timedelta(hours=1)])
    private = signing_key(path)
    with StoreWriter.open(path, "db1", private, create=True, clock=lambda: next(times)) as writer:
        writer.commit({"audit": statements(0, 1)}, [], {})
        writer.commit({"audit": statements(1, 1)}, [], {})
    told = [note for note in verify(path).notes if "clock" in note]
    assert len(told) == 1
    assert "manifest 1 was committed at 2026-03-14T11:00" in told[0]
