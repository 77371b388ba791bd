"""The power goes at any moment, also while what it left is mended: see `tests/crashmodel`."""

import itertools
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import ConfigError, ScalpleError
from scalple.store import chain, compaction, durable, segments
from scalple.store.layout import ACCESS_ORIGIN, PREPARED_MAX
from scalple.store.reader import StoreReader
from scalple.store.verified import VerifiedFiles
from scalple.store.verify import Options, verify
from scalple.store.writer import Prepared, StoreWriter
from tests.crashmodel import Disk, Event, Recorder, Shelf, Tree, digest, moments, tree_of
from tests.store.sample import (
    NOON,
    RULES,
    make_store,
    other_kinds,
    position,
    signing_key,
    statements,
)

STATES = int(os.environ.get("CRASH_STATES", "60"))
"""So many different trees are opened; `make prove` takes 20,000."""
LONG = "CRASH_STATES" in os.environ
COMMITS = 7 if LONG else 2
"""Commits of batches that are prepared ahead."""
OBJECTS = 8
"""So many of each of these commits are its own."""
AHEAD = PREPARED_MAX - 1
BEFORE = 2
"""Commits that are there before anything is recorded."""
NEW = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@dataclass(frozen=True)
class World:
    """What a writer did, and how to open what is left of it.

    Attributes:
        name: of what was done.
        tree: what was on the disk before.
        streams: the steps, of threads that touch no file or directory in common: any step of one may
            come before or after any of another's, unless one of them waits.
        before: how many manifests the log had.
        origin: the log.
        key: its signing key, at first.
    """

    name: str
    tree: Tree
    streams: tuple[list[Event], ...]
    before: int
    origin: str
    key: Ed25519PrivateKey


@dataclass(frozen=True)
class Left:
    """A tree that a power cut may leave, and how many manifests were promised by then."""

    world: World
    tree: Tree
    promised: int
    level: int
    """How many power cuts there were."""


def open_writer(store: Path, key: Ed25519PrivateKey, origin: str = "db1") -> StoreWriter:
    resumes = origin == ACCESS_ORIGIN
    return StoreWriter.open(store, origin, key, create=True, clock=lambda: NOON, resumes=resumes)


def prepare(writer: StoreWriter, n: int) -> Prepared:
    return writer.prepare({"audit": statements(4 * n, 4), **other_kinds(n)})


def commit(writer: StoreWriter, prepared: Prepared | None = None, objects: int = 1) -> None:
    n = writer.head_size
    where = [position(100 * n, 100 * n + 100)]
    named = {f"object-{at}": b"%d of %d" % (at, n) for at in range(objects)}
    writer.commit(prepared or prepare(writer, n), where, {"rules": RULES, **named})


Does = Callable[[Path, Ed25519PrivateKey, Recorder], Iterator[int]]
"""Does something with a store; yields the number of the thread that does what follows."""


def begins(store: Path, key: Ed25519PrivateKey, recorder: Recorder) -> Iterator[int]:
    """The origin is made, and gets its first rows."""
    yield 0
    with open_writer(store, key) as writer:
        commit(writer)
        recorder.acknowledge()


def goes_on(store: Path, key: Ed25519PrivateKey, recorder: Recorder) -> Iterator[int]:
    """Batches of many segments are prepared while those before them are committed."""
    make_store(store, BEFORE)
    with pytest.MonkeyPatch.context() as patch, open_writer(store, key) as writer:
        patch.setattr(segments, "SEGMENT_ROWS_MAX", 1)
        batches = [prepare(writer, BEFORE)]
        prepared: list[int] = [0]
        committed: list[int] = []
        for n in range(COMMITS):
            yield 0
            if n >= AHEAD:
                recorder.wait(1, committed[n - AHEAD])
            batches.append(prepare(writer, BEFORE + n + 1))
            prepared.append(len(recorder.events))
            yield 1
            recorder.wait(0, prepared[n])
            commit(writer, batches[n], OBJECTS)
            recorder.acknowledge()
            committed.append(len(recorder.events))


def changes_its_key(store: Path, key: Ed25519PrivateKey, recorder: Recorder) -> Iterator[int]:
    """A new signing key, and a commit under it."""
    make_store(store, BEFORE)
    yield 0
    with open_writer(store, key) as writer:
        writer.rotate(NEW)
        recorder.acknowledge()
        writer.commit({}, [], {"rules": RULES})
        recorder.acknowledge()


def is_asked(store: Path, key: Ed25519PrivateKey, recorder: Recorder) -> Iterator[int]:
    """Questions are logged, each in an opening of its own that leaves where it ended."""
    yield 0
    for n in range(3):
        with open_writer(store, key, ACCESS_ORIGIN) as writer:
            writer.commit({"gaps": other_kinds(n, ACCESS_ORIGIN)["gaps"]}, [], {})
            recorder.acknowledge()


def is_compacted(store: Path, key: Ed25519PrivateKey, recorder: Recorder) -> Iterator[int]:
    """The index is made, a commit comes, and the index is made again."""
    make_store(store, BEFORE)
    yield 0
    compaction.compact(store, "db1", key, VerifiedFiles(None))
    with open_writer(store, key) as writer:
        commit(writer)
        recorder.acknowledge()
    compaction.compact(store, "db1", key, VerifiedFiles(None))


def without_unnamed_files(store: Path, key: Ed25519PrivateKey, recorder: Recorder) -> Iterator[int]:
    """A commit on a file system that has no files without names."""
    make_store(store, BEFORE)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(os, "O_TMPFILE")
        yield 0
        with open_writer(store, key) as writer:
            commit(writer)
            recorder.acknowledge()


WORLDS = [begins, goes_on, changes_its_key, is_asked, is_compacted, without_unnamed_files]


def record(directory: Path, does: Does) -> World:
    """What is really done, step by step."""
    base = directory / does.__name__
    base.mkdir()
    store = base / "store"
    key = signing_key(store)
    recorder = Recorder(base)
    steps = does(store, key, recorder)
    streams: list[list[Event]] = []
    tree: Tree = {}
    with pytest.MonkeyPatch.context() as patch:
        for thread in steps:
            tree = tree or tree_of(base)
            streams += [[]] * (thread >= len(streams))
            recorder.events = streams[thread]
            patch.setattr(durable, "os", recorder)
    before = sum("manifests/" in path for path in tree)
    origin = ACCESS_ORIGIN if does is is_asked else "db1"
    return World(does.__name__, tree, tuple(streams), before, origin, key)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a writer that isn't there."""
    monkeypatch.setattr(chain, "SETTLE_TRIES", 1)
    monkeypatch.setattr(chain, "SETTLE_SECONDS", 0)


def cut(world: World, points: tuple[int, ...]) -> Iterator[Left]:
    """What may be left if the power goes when each thread has done so many steps."""
    disk = Disk(world.tree)
    done = [disk.happens(events[:at]) for events, at in zip(world.streams, points, strict=True)]
    for tree in disk.kept():
        yield Left(world, tree, world.before + sum(done), 1)


class Opener:
    """Opens what is left as its users do. What was looked at before, byte by byte, isn't again."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._read: set[bytes] = set()
        """Logs that were opened to read, whatever lies beside them."""
        self._verified: set[bytes] = set()
        """Whole trees after they were mended."""
        self._decoded: set[bytes] = set()
        """Roots of logs whose rows were decoded; after that their files are only hashed."""

    def mended(self, left: Left) -> tuple[int, list[Event]]:
        """How many manifests it has when it was opened to write, and the steps that mended it.

        Raises:
            AssertionError: something that was promised is missing, twice or changed.
            ScalpleError: it can't be opened.
        """
        store, world = self._shelf.put(left.tree) / "store", left.world
        self._opens_to_read(store, left)
        recorder = Recorder(self._shelf.base)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(durable, "os", recorder)
            try:
                writer = open_writer(store, world.key, world.origin)
            except ConfigError:
                writer = open_writer(store, NEW, world.origin)  # the change was committed
            size, root = writer.head_size, writer.head.root
            writer.close()
        assert size in (left.promised, left.promised + 1)
        self._verifies(store, world, size, root)
        return size, recorder.events

    def _opens_to_read(self, store: Path, left: Left) -> None:
        beside = (
            ("/segments/",) if left.world.name == "changes_its_key" else ("/segments/", "/objects/")
        )
        log = digest(left.tree, beside) + bytes([left.promised])
        if left.promised and log not in self._read:
            reader = StoreReader.open(store, left.world.origin, verified=VerifiedFiles(None))
            size = reader.chain(left.world.origin).tree.size
            assert size in (left.promised, left.promised + 1)
            self._read.add(log)

    def _verifies(self, store: Path, world: World, size: int, root: bytes) -> None:
        tree = self._shelf.signature()
        if tree in self._verified:
            return
        report = verify(store, options=Options(files_only=root in self._decoded))
        assert report.manifests == size
        assert not [note for note in report.notes if not re.search("no outside key|index", note)]
        if root not in self._decoded:
            check_rows(world, store, size)
            self._decoded.add(root)
        self._verified.add(tree)


def check_rows(world: World, store: Path, size: int) -> None:
    """Every committed row is there once, and as it was given."""
    kind, each = ("gaps", 1) if world.origin == ACCESS_ORIGIN else ("audit", 4)
    with_rows = min(size, BEFORE) if world.name == "changes_its_key" else size
    reader = StoreReader.open(store, world.origin, verified=VerifiedFiles(None))
    found = [row for ref in reader.segments(kind) for row in ref.table().to_pylist()]
    rows = sorted(found, key=lambda row: int(row["seq"]))  # an index has them in another order
    assert [row["seq"] for row in rows] == list(range(each * with_rows))
    if kind == "audit":
        assert [row["query"] for row in rows] == [
            f"SELECT * FROM users WHERE id = {at}" for at in range(each * with_rows)
        ]


class Search:
    """Opens different trees, up to a number, and remembers what mending each of them did."""

    def __init__(self, shelf: Shelf) -> None:
        self.opened: Counter[tuple[str, int]] = Counter()
        self._opener = Opener(shelf)
        self._seen: set[bytes] = set()
        self._mended: list[tuple[Left, int, list[Event]]] = []

    def look(self, left: Left) -> None:
        """Opens it, if there was none like it."""
        key = digest(left.tree) + bytes([left.promised])
        if key in self._seen:
            return
        self._seen.add(key)
        size, events = self._opener.mended(left)
        self.opened[left.world.name, left.level] += 1
        if events:
            self._mended.append((left, size, events))

    def power_goes_again(self, states: int, randomness: random.Random) -> None:
        """While it is mended; and again, until there were so many trees."""
        while self._mended and self.opened.total() < states:
            at = randomness.randrange(len(self._mended))
            left, size, events = self._mended[at]
            self._mended[at] = self._mended[-1]
            self._mended.pop()
            steps = range(1, len(events) + 1)
            for count in randomness.sample(steps, len(steps) if LONG else min(len(steps), 6)):
                disk = Disk(left.tree)
                disk.happens(events[:count])
                promised = size if count == len(events) else left.promised
                for tree in disk.kept():
                    self.look(Left(left.world, tree, promised, left.level + 1))
                    if self.opened.total() >= states:
                        return


def test_whatever_a_power_cut_leaves_holds_all_that_was_promised(
    memory: Path,
) -> None:
    randomness = random.Random(11)
    search = Search(Shelf(memory))
    points = []
    for world in (record(memory, does) for does in WORLDS):
        every = list(moments(world.streams))
        points.append([(world, at) for at in randomness.sample(every, len(every))])
    for taken in itertools.zip_longest(*points):  # in turns
        for world, at in filter(None, taken):
            for left in cut(world, at):
                search.look(left)
        if search.opened.total() >= 3 * STATES // 4:
            break
    search.power_goes_again(STATES, randomness)
    total = search.opened.total()
    for (name, level), count in sorted(search.opened.items()):
        print(f"{name}, after {level} power cut(s): {count:,} different trees")
    print(f"{total:,} different trees, all of them whole")
    assert total >= STATES


@pytest.mark.parametrize("does", [begins, without_unnamed_files])
@pytest.mark.parametrize("forgets", ["sync", "sync names"])
def test_the_model_finds_what_is_lost_if_nothing_is_fsynced(
    memory: Path, does: Does, forgets: str
) -> None:
    world = record(memory, does)
    (events,) = world.streams
    careless = World(
        world.name,
        world.tree,
        ([event for event in events if event[0] != forgets],),
        world.before,
        world.origin,
        world.key,
    )
    opener = Opener(Shelf(memory))
    last = (len(careless.streams[0]),)
    some = itertools.islice(cut(careless, last), 40)
    with pytest.raises((AssertionError, ScalpleError)):
        for left in some:
            opener.mended(left)
