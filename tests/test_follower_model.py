"""A log directory and its reader, against a model of all that was written: nothing is lost, doubled or
put in another order, whatever is done to the files, or a gap says so.

What happens between a look and the reads that follow it (a slow disk, a busy host) is played as well, and
reads that fail or give less than was asked for. FOLLOWED_EXAMPLES: so many runs of 50 steps; the number of
steps is printed.
"""

import errno
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from scalple.ingest import sourcefile
from tests.logkinds import KINDS
from tests.tailing import Reader
from tests.tailworld import PACKED, World

EXAMPLES = int(os.environ.get("FOLLOWED_EXAMPLES", "30"))
STEPS = 50
COUNTED: Counter[str] = Counter()
SMALL = st.integers(0, 6)
SCHEMES = ["rename", "date", "listed", "weekday", "copytruncate"]
MEANWHILE = ["write", "begin", "rotate", "crash", "delete", "compress", "empty", "cut", "second"]
"""What the world may do while somebody reads."""


@dataclass
class Disk:
    """Reads that fail, or give less than was asked for."""

    works: int = 0
    """So many reads still succeed."""
    fails: int = 0
    """So many fail then."""
    most: int = 1 << 30
    """A read gives at most so many bytes."""

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        """As `os.pread`."""
        if self.works:
            self.works -= 1
        elif self.fails:
            self.fails -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return _pread(descriptor, min(length, self.most), offset)


_pread = os.pread
DISK = Disk()


class FollowedLog(RuleBasedStateMachine):
    """Rules are what a server, an administrator and a reader do."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="followed"))
        self.failing_since: float | None = None
        self.may_disorder = False

    @initialize(
        kind=st.sampled_from(KINDS),
        scheme=st.sampled_from(SCHEMES),
        open_max=st.sampled_from([1, 3, 128]),
    )
    def begin(self, kind, scheme, open_max) -> None:  # type: ignore[no-untyped-def]
        self.world = World(kind, self.folder, scheme)
        pattern = "current_logfiles" if scheme == "listed" else "app*"
        self.reader = Reader(kind, [str(self.folder / pattern)], open_max=open_max)
        self.world.is_open = self._is_open
        self.world.seen_size = self._seen_size
        self.world.scans = lambda: self.reader.scans
        self.reader.on_crash = self.world.reader_crashed
        self.world.is_known = lambda numbers: bool(numbers & set(self.reader.store.numbers))

    def _is_open(self, inode: int) -> bool:
        return any(
            one.inode is not None
            and one.inode[1] == inode
            and one.file is not None
            and one.file.is_open
            and (one.end or len(one.file.seen) >= 64)
            for one in self.reader.follower.following
        )

    def _seen_size(self, inode: int) -> int:
        following = self.reader.follower.following
        return max(
            (one.size for one in following if one.inode and one.inode[1] == inode), default=0
        )

    # -- the server -----------------------------------------------------------------------------

    @rule(count=st.integers(1, 12))
    def write(self, count: int) -> None:
        COUNTED["write"] += 1
        self.world.write(count)

    @rule(share=st.floats(0, 1))
    def begin_a_record(self, share: float) -> None:
        COUNTED["part of a record"] += 1
        self.world.begin(share)

    @rule(late=st.integers(0, 3))
    def rotate(self, late: int) -> None:
        COUNTED["rotate " + self.world.scheme] += 1
        self.world.rotate(late)

    @rule()
    def crash_of_the_server(self) -> None:
        COUNTED["server crash"] += 1
        self.world.crash()

    @rule(zeros=st.integers(1, 6000))
    def power_cut(self, zeros: int) -> None:
        COUNTED["power cut"] += 1
        self.world.power_cut(zeros)

    @rule(count=st.integers(1, 5))
    def second_writer_writes(self, count: int) -> None:
        COUNTED["second writer"] += 1
        self.world.write_second(count)

    @rule()
    def second_writer_reopens(self) -> None:
        COUNTED["second writer reopens"] += 1
        self.world.reopen_second()

    # -- the administrator ----------------------------------------------------------------------

    @rule()
    def truncate_to_nothing(self) -> None:
        COUNTED["truncate"] += 1
        self.world.empty()

    @rule(share=st.floats(0, 1))
    def truncate(self, share: float) -> None:
        COUNTED["truncate behind a record"] += 1
        self.world.cut(share)

    @rule(which=SMALL)
    def delete(self, which: int) -> None:
        COUNTED["delete"] += 1
        self.world.delete(which)

    @rule(which=SMALL, suffix=st.sampled_from(sorted(PACKED)), half=st.booleans())
    def compress(self, which: int, suffix: str, half: bool) -> None:
        COUNTED["compress"] += 1
        self.world.compress(which, suffix, half)

    @rule(which=SMALL, share=st.sampled_from([0.3, 0.9, 1.0]))
    def copy(self, which: int, share: float) -> None:
        COUNTED["copy"] += 1
        self.world.copy(which, share)

    @rule(which=SMALL)
    def link(self, which: int) -> None:
        COUNTED["link"] += 1
        self.world.link(which)

    @rule(which=SMALL)
    def touch(self, which: int) -> None:
        COUNTED["touch"] += 1
        self.world.touch(which)

    # -- the reader -----------------------------------------------------------------------------

    @rule()
    def scan(self) -> None:
        COUNTED["scan"] += 1
        self.reader.scan()

    @rule(pieces=st.integers(1, 3))
    def scan_and_read_a_part(self, pieces: int) -> None:
        COUNTED["read a part"] += 1
        self.reader.scan(pieces=pieces)

    @rule(commits=st.integers(0, 3))
    def crash_between_reading_and_commit(self, commits: int) -> None:
        COUNTED["crash between"] += 1
        self.reader.scan(commits=commits)

    @rule()
    def restart(self) -> None:
        COUNTED["restart"] += 1
        self.reader.crash()

    @rule()
    def a_second_reader_takes_the_store(self) -> None:
        COUNTED["second reader"] += 1
        other = Reader(self.reader.kind, self.reader.patterns, self.reader.store, self.reader.clock)
        other.scan()
        other.follower.close()
        self.world.reader_replaced()

    @rule(acts=st.lists(st.sampled_from(MEANWHILE), min_size=1, max_size=5), which=SMALL)
    def scan_of_a_slow_disk(self, acts: list[str], which: int) -> None:
        COUNTED["slow disk"] += 1
        left = list(acts)
        self.reader.scan(meanwhile=lambda: self._act(left.pop(), which) if left else None)

    def _act(self, name: str, which: int) -> None:
        world = self.world
        acts: dict[str, Callable[[], None]] = {
            "write": lambda: world.write(which + 1),
            "begin": lambda: world.begin(0.5),
            "rotate": lambda: world.rotate(which % 3),
            "crash": world.crash,
            "delete": lambda: world.delete(which),
            "compress": lambda: world.compress(which, ".gz", False),
            "empty": world.empty,
            "cut": lambda: world.cut(which / 6),
            "second": lambda: world.write_second(which + 1),
        }
        self.reader.clock.now += 0.3
        acts[name]()

    @rule(works=st.integers(0, 40), fails=st.integers(1, 5))
    def scan_of_a_failing_disk(self, works: int, fails: int) -> None:
        COUNTED["failing disk"] += 1
        DISK.works, DISK.fails = works, fails
        self.reader.scan()
        DISK.works = DISK.fails = 0
        now = self.reader.clock.now
        if not self.reader.follower.problems:
            self.failing_since = None
        elif self.failing_since is None:
            self.failing_since = now
        # A file that can't be read for so long is read after newer ones (docs/SOURCES.md, "Order").
        self.may_disorder |= self.failing_since is not None and now - self.failing_since >= 5

    @rule(most=st.sampled_from([1, 60, 1000]))
    def scan_with_short_reads(self, most: int) -> None:
        COUNTED["short reads"] += 1
        DISK.most = most
        self.reader.scan()
        DISK.most = Disk.most

    @rule(seconds=st.sampled_from([0.2, 1.5, 6.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        COUNTED["time passes"] += 1
        self.reader.clock.now += seconds

    # -- the end --------------------------------------------------------------------------------

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()
            self.reader.settle(scans=24, seconds=2.0)
            self.reader.follower.close()
            self.check()
        shutil.rmtree(self.folder)

    def check(self) -> None:
        """Every record once, in order; or it is said that something is missing."""
        world, store = self.world, self.reader.store
        found = Counter(store.numbers)
        lost = {n for n in world.written if not found[n]}
        assert lost <= world.may_lose, f"lost: {sorted(lost - world.may_lose)}"
        if lost - world.unseen:
            assert store.gaps, f"nothing says that {sorted(lost)} are missing"
        assert len(store.gaps) <= world.harm, store.gaps
        doubled = {n for n, times in found.items() if times > 1}
        assert doubled <= world.may_double, f"doubled: {sorted(doubled - world.may_double)}"
        assert store.gaps or not doubled, f"nothing says that {sorted(doubled)} are there twice"
        is_damaged = any(gap.reason == "source-damaged" for gap in store.gaps)
        whole = [n for n in dict.fromkeys(store.numbers) if n not in world.torn]
        for writer in (
            [n for n in whole if n not in world.by_second],
            [n for n in whole if n in world.by_second],
        ):
            # What breaks off is read once it stays so.
            is_excused = is_damaged or self.may_disorder
            assert writer == sorted(writer) or is_excused, f"order: {store.numbers}"
        kept = b"\n".join(store.rejects)
        for number, begun in world.torn.items():
            if len(begun) < 64:
                continue  # all files begin so, as far as can be told
            assert (
                number in found
                or number in world.may_lose
                or begun.rstrip().split(b"\n")[-1] in kept
            )


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files of several blocks."""
    monkeypatch.setattr(sourcefile, "BLOCK_BYTES", 1500)
    monkeypatch.setattr(os, "pread", lambda *asked: DISK.pread(*asked))
    yield


def test_nothing_is_lost_doubled_or_reordered() -> None:
    COUNTED.clear()
    run_state_machine_as_test(
        FollowedLog,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{sum(COUNTED.values()):,} steps: {dict(COUNTED)}")
    assert sum(COUNTED.values()) >= (20_000 if EXAMPLES >= 900 else EXAMPLES * STEPS / 4)
