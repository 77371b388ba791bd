"""The daemon's copy in S3: a process that copies, started again whenever it has ended.

A configuration enters; commits appear in a bucket, some seconds after they were made. The queue is the store
itself: what is left to copy is what the bucket's head doesn't cover, so there is nothing to bound and
nothing to lose. Following doesn't wait for any of it.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scalple.cli.childprocess import ChildProcess
from scalple.cli.config import Config
from scalple.ingest.servicelog import say
from scalple.ingest.statuspage import Collector, CounterMetricFamily, GaugeMetricFamily, Metric
from scalple.store.layout import ACCESS_ORIGIN, OriginLayout, origin_layout

PROGRAM = "scalple.cli.shipper"
RETRY_S = (2.0, 300.0)
"""After an error it is tried again in about so many seconds, twice as many each time."""


@dataclass
class ShippingState:
    """What is known of the copy; written by the thread that listens, read by others."""

    sizes: dict[str, int] = field(default_factory=dict)
    """Origin -> how many commits the bucket's head covers; none before it was asked."""
    done: Counter[str] = field(default_factory=Counter)
    """`commits`, `files`, `bytes`: copied since the start."""
    failed: int = 0
    failures: int = 0
    """Errors since the last step that went well."""
    failing: str | None = None

    def note(self, said: dict[str, Any]) -> None:
        """A step went well."""
        for name in ("commits", "files", "bytes"):
            self.done[name] += said[name]
        self.sizes[said["origin"]] = said["size"]
        self.failures, self.failing = 0, None

    def fail(self, why: str) -> float:
        """A try went wrong; seconds until the next one."""
        self.failed += 1
        self.failures += 1
        self.failing = why
        first, most = RETRY_S
        return min(most, first * 2.0 ** min(self.failures - 1, 16)) * random.uniform(0.5, 1.0)


class Shipper:
    """Copies one origin, and the log of questions, while it is open.

    Args:
        store: the directory.
        origin: whose commits.
        config: with `[daemon] mirror`.
        state: is told what happens.
    """

    def __init__(self, store: Path, origin: str, config: Config, state: ShippingState) -> None:
        assert config.daemon.mirror is not None
        self._job = {
            "store": str(store),
            "to": config.daemon.mirror,
            "s3": asdict(config.s3.settings()),
            "keys": {
                origin: config.keys.signing_key_file,
                ACCESS_ORIGIN: config.keys.access_key_file,
            },
            "interval_s": config.daemon.mirror_interval_s,
        }
        self._state = state
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._process: ChildProcess | None = None
        self._thread = threading.Thread(target=self._supervise, name="shipping", daemon=True)
        self._thread.start()

    def finish(self, seconds: float) -> None:
        """Copy what is left, for at most so long."""
        with self._lock:
            self._ending.set()
            process = self._process
        if process is not None:
            process.drain()
            self._thread.join(seconds)
            if self._thread.is_alive():
                process.kill()
        self._thread.join()

    def _supervise(self) -> None:
        while not self._ending.is_set():
            why = self._copy()
            if self._ending.is_set():
                return
            pause = self._state.fail(why)
            say("not copied", why=why, again_in_s=round(pause, 1))
            self._ending.wait(pause)

    def _copy(self) -> str:
        """One process's life; why it ended."""
        with self._lock:
            if self._ending.is_set():
                return "ended"
            try:
                self._process = process = ChildProcess(PROGRAM, self._job)
            except OSError as error:
                return f"can't start a process: {error.strerror}"
        why = "the process that copies has ended"
        for said in process.lines():
            if "error" in said:
                why = said["error"]
            elif "note" in said:
                say("note", what=said["note"])
            else:
                if self._state.failing is not None:
                    say("copied again", left=said["left"])
                self._state.note(said)
        with self._lock:
            self._process = None
        return why


def shipping_counters(state: ShippingState, store: Path) -> Collector:
    """Its metrics."""
    return _Counters(state, store)


class _Counters(Collector):
    def __init__(self, state: ShippingState, store: Path) -> None:
        self._state, self._store = state, store

    def collect(self) -> Iterable[Metric]:
        """All of them. How much is waiting isn't known before the bucket was asked once."""
        state = self._state
        for name, text in (
            ("commits", "Commits"),
            ("files", "Segments and objects"),
            ("bytes", "Bytes of segments and objects"),
        ):
            yield CounterMetricFamily(
                f"scalple_s3_shipped_{name}", f"{text} copied", state.done[name]
            )
        yield CounterMetricFamily("scalple_s3_failures", "Tries that failed", state.failed)
        is_up = bool(state.sizes) and state.failing is None
        yield GaugeMetricFamily("scalple_s3_up", "Whether the last try went well", int(is_up))
        for name, text, measure in _QUEUE:
            family = GaugeMetricFamily(f"scalple_s3_queue_{name}", text, labels=["origin"])
            for origin, size in dict(state.sizes).items():
                family.add_metric([origin], measure(origin_layout(self._store, origin), size))
            yield family


def committed(layout: OriginLayout) -> int:
    """How many commits the head covers; 0 where there is none. No more than a glance: nothing is checked."""
    try:
        lines = layout.checkpoint.read_bytes().split(b"\n", 2)
        return int(lines[1])
    except (OSError, ValueError, IndexError):
        return 0


def _waiting(layout: OriginLayout, size: int) -> float:
    return max(0, committed(layout) - size)


def _oldest(layout: OriginLayout, size: int) -> float:
    """For how long the first commit has been waiting that isn't there."""
    if not _waiting(layout, size):
        return 0.0
    try:
        return max(0.0, time.time() - layout.manifest(size).stat().st_mtime)
    except OSError:
        return 0.0


_Measure = Callable[[OriginLayout, int], float]
_QUEUE: tuple[tuple[str, str, _Measure], ...] = (
    ("commits", "Commits that aren't in the bucket yet", _waiting),
    ("seconds", "Age of the oldest of them", _oldest),
)
