"""A mirror that is kept up step by step: a store at every moment, whatever was broken off where.

A local store is written, compacted and given other keys while steps copy it through a network on which
requests and answers are lost.
"""

import contextlib
import itertools
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scalple.ingest.errors import StoreError, VerificationError
from scalple.store import compaction, source
from scalple.store.layout import origin_layout
from scalple.store.manifest import sha256_hex
from scalple.store.mirror import Mirror
from scalple.store.reader import StoreReader
from scalple.store.retained import files_of
from scalple.store.shipping import Shipping, Step
from scalple.store.verified import VerifiedFiles
from scalple.store.verify import verify
from scalple.store.writer import StoreWriter
from tests import s3server
from tests.examples import examples
from tests.s3server import Place, faults
from tests.store.sample import RULES, other_kinds, position, statements

endpoint, impatience = s3server.endpoint, s3server.impatience

KEYS = [Ed25519PrivateKey.generate() for _ in range(3)]
NAMES = map("shipping-{}".format, itertools.count())
MANY = 1000
"""More requests than a step makes."""


class World:
    """A store, the heads that it ever had, and its mirror."""

    def __init__(self, endpoint: str, directory: Path, knows_key: bool = True) -> None:
        self.place = Place(endpoint, next(NAMES), directory / "seen")
        self.store = directory / "store"
        self.key = 0
        self.knows_key = knows_key
        self.heads: list[bytes] = []
        self.shipping: Shipping | None = None
        self.commit()

    @property
    def private(self) -> Ed25519PrivateKey:
        return KEYS[self.key]

    def commit(self, count: int = 1) -> None:
        for _ in range(count):
            with StoreWriter.open(self.store, "db1", self.private, create=True) as writer:
                n = writer.next_seq["evidence"]
                tables = {"audit": statements(writer.next_seq["audit"], 2), **other_kinds(n)}
                writer.commit(tables, [position(100 * n, 100 * n + 100)], {"rules": RULES})
            self._note()

    def rotate(self) -> None:
        if self.key + 1 < len(KEYS):
            with StoreWriter.open(self.store, "db1", self.private, create=True) as writer:
                writer.rotate(KEYS[self.key + 1])
            self.key += 1
            self._note()

    def compact(self) -> None:
        compaction.compact(self.store, "db1", self.private, VerifiedFiles(None))

    def _note(self) -> None:
        self.heads.append((self.store / "db1" / "checkpoint").read_bytes())

    def step(self) -> Step:
        """A step by whom has made the last one, unless that failed."""
        if self.shipping is None:
            mirror = Mirror(self.place.bucket, lambda _: None)
            mirror.prepare()
            private = self.private if self.knows_key else None
            self.shipping = Shipping(mirror, origin_layout(self.store, "db1"), private, 3)
        shipping, self.shipping = self.shipping, None
        done = shipping.step()
        self.shipping = shipping
        return done

    def broken_step(self, at: int, how: str) -> None:
        """A step on whose way the network fails for good."""

        def fault(number: int, _: object) -> str | None:
            return None if number < at else how if number == at else "lost"

        with faults(fault), contextlib.suppress(StoreError, VerificationError):
            self.step()

    def copied(self, first: int, end: int) -> tuple[int, int]:
        """Files that commits bring along, and their bytes; of objects only those that are new."""
        chain = StoreReader.open(self.store).chain("db1")
        layout = origin_layout(self.store, "db1")
        before = files_of(layout, chain.manifests[0]) if first else {}
        named = {path for n in range(first, end) for path in files_of(layout, chain.manifests[n])}
        new = [path for path in named if path not in before]
        return len(new), sum(path.stat().st_size for path in new)

    def look(self) -> int:
        """How many commits the mirror's head covers, which is one that the store once had."""
        head = self.place.bucket.get("db1/checkpoint")
        if head is None:
            return 0
        size = self.heads.index(head) + 1
        try:
            assert StoreReader.open(self.place.see()).chain("db1").tree.size == size
        finally:
            source.unmount()
        return size

    def finish(self) -> None:
        """All of it is copied: both hold the same, and the mirror verifies by itself."""
        while left := (done := self.step()).left:
            if done.size + left == len(self.heads):  # the head covers what is there
                verify(self.place.see(whole=True))
                source.unmount()
        here = {
            path.relative_to(self.store).as_posix(): path.read_bytes()
            for path in self.store.rglob("*")
            if path.is_file() and "index" not in path.parts
        }
        bucket = self.place.bucket
        assert {n: bucket.get(n) for n, _ in bucket.names() if not n.startswith(".")} == here
        assert verify(self.place.see(whole=True)).rows == verify(self.store).rows
        source.unmount()


ACTIONS = st.one_of(
    st.tuples(st.just("commit"), st.integers(1, 7)),
    st.tuples(st.just("step"), st.integers(1, 2)),
    st.tuples(st.sampled_from(["lost", "swallowed", "error"]), st.integers(0, 60)),
    st.tuples(st.sampled_from(["compact", "rotate", "restart"]), st.just(1)),
)


@settings(
    max_examples=examples(2),
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(ACTIONS, min_size=3, max_size=6 if examples(1) == 1 else 12), st.booleans())
def test_whatever_happens_the_mirror_is_a_beginning_of_the_store(
    endpoint: str,
    tmp_path_factory: pytest.TempPathFactory,
    actions: list[tuple[str, int]],
    knows_key: bool,
) -> None:
    world = World(endpoint, tmp_path_factory.mktemp("shipping"), knows_key)
    before = 0
    for what, count in actions:
        if what == "commit":
            world.commit(count)
        elif what == "step":
            for _ in range(count):
                world.step()
        elif what == "restart":
            world.shipping = None
        elif what in ("compact", "rotate"):
            getattr(world, what)()
        else:
            world.broken_step(count, what)
        size = world.look()
        assert size >= before
        before = size
    world.finish()


@pytest.mark.parametrize("knows_key", [True, False])
def test_catching_up_shows_heads_that_the_store_once_had(
    endpoint: str, tmp_path: Path, knows_key: bool
) -> None:
    world = World(endpoint, tmp_path, knows_key)
    world.commit(5)
    world.rotate()
    world.commit(4)  # eleven by now, of which the first six have a key that isn't at hand
    sizes = []
    while (done := world.step()).commits:
        assert done.size == world.look()
        sizes.append((done.size, done.left))
    if knows_key:
        assert sizes == [(0, 8), (0, 5), (9, 2), (11, 0)]
    else:
        assert sizes == [(0, 8), (0, 5), (0, 2), (11, 0)]


def test_a_head_of_before_a_change_of_keys_comes_with_the_keys_of_then(
    endpoint: str, tmp_path: Path
) -> None:
    world = World(endpoint, tmp_path)
    world.step()  # by whom knows the first key
    world.commit(3)
    world.rotate()
    assert world.step() == Step(4, 1, 3, *world.copied(1, 4))
    assert verify(world.place.see(whole=True)).faults == []
    source.unmount()
    world.finish()


def test_what_is_there_already_costs_no_request(endpoint: str, tmp_path: Path) -> None:
    world = World(endpoint, tmp_path)
    world.step()
    with faults(lambda *_: None) as asked:
        assert world.step() == Step(1, 0)
        assert asked == []
        world.commit()
        world.step()
    rules = sha256_hex(RULES)
    assert not any(rules in one for one in asked)  # all commits name the same
    assert not any("list-type" in one for one in asked)


def test_two_that_copy_to_one_place_disturb_each_other_and_nothing_else(
    endpoint: str, tmp_path: Path
) -> None:
    world = World(endpoint, tmp_path)
    world.step()
    first, world.shipping = world.shipping, None
    world.commit()
    world.step()
    world.commit()
    assert first is not None
    with pytest.raises(VerificationError, match="another mirror is being written there"):
        first.step()
    assert world.look() == 2


def test_a_store_that_was_cut_or_is_another_one_is_refused(endpoint: str, tmp_path: Path) -> None:
    world = World(endpoint, tmp_path / "one")
    world.commit(2)
    world.step()
    for name, commits, says in (("cut", 0, "this store only 1"), ("other", 4, "another log")):
        other = World(endpoint, tmp_path / name)
        other.place = world.place
        other.commit(commits)
        with pytest.raises(VerificationError, match=says):
            other.step()
    assert world.look() == 3


def test_a_damaged_segment_isnt_copied(endpoint: str, tmp_path: Path) -> None:
    world = World(endpoint, tmp_path)
    world.step()
    world.commit()
    (path,) = (world.store / "db1" / "segments").glob("*1-audit-*")
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(VerificationError, match="SHA-256 differs"):
        world.step()
    assert world.look() == 1
    path.write_bytes(data)
    world.finish()
