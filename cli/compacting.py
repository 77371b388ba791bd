"""The daemon's index, made anew by itself when enough small commits have gathered behind it.

A configuration enters; a process merges now and then, one at a time, and a thread here listens to it. No
state is kept: how many commits the index lacks stand in the heads, and when it was made last is its head's
time. Commits don't wait for it, and questions and `verify` keep the files that they read.
"""

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scalple.cli.childprocess import ChildProcess
from scalple.cli.config import Config
from scalple.cli.shipping import committed
from scalple.ingest.servicelog import say
from scalple.ingest.statuspage import Collector, CounterMetricFamily, GaugeMetricFamily, Metric
from scalple.store.layout import ACCESS_ORIGIN, OriginLayout, origin_layout

PROGRAM = "scalple.cli.compactor"
LOOK_S = 2.0
APART_S = 600.0
"""Files of the index before the last are removed: a question that still reads one has so long for it."""


@dataclass
class CompactingState:
    """Figures since the start."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    """Of the last one."""
    behind: dict[str, int] = field(default_factory=dict)
    """Origin -> how many commits its index lacks."""


class Compactor:
    """Compacts one origin, and the log of questions, while it is open.

    Args:
        store: the directory.
        origin: whose commits.
        config: of the daemon.
        state: is told what happens.
        apart_s: at least so many seconds lie between two, of one origin.
    """

    def __init__(
        self,
        store: Path,
        origin: str,
        config: Config,
        state: CompactingState,
        apart_s: float = APART_S,
    ) -> None:
        self._store, self._state, self._apart_s = store, state, apart_s
        self._enough, self._rows = config.daemon.compact_commits, config.daemon.compact_rows
        self._keys = {
            origin: ("signing", config.keys.signing_key_file),
            ACCESS_ORIGIN: ("access", config.keys.access_key_file),
        }
        self._tried: dict[str, float] = {}
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._process: ChildProcess | None = None
        self._thread = threading.Thread(target=self._watch, name="compacting", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """End it wherever it is: the index is the old one then."""
        with self._lock:
            self._ending.set()
            if self._process is not None:
                self._process.kill()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ending.wait(LOOK_S):
            for origin in self._keys:
                layout = origin_layout(self._store, origin)
                behind = self._state.behind[origin] = committed(layout) - indexed(layout)
                if behind >= self._enough and self._is_time(layout):
                    self._compact(origin)

    def _is_time(self, layout: OriginLayout) -> bool:
        """Not again at once: neither after one that was made, by whomever, nor after one that failed."""
        tried = self._tried.get(layout.origin)
        if tried is not None and time.monotonic() - tried < self._apart_s:
            return False
        try:
            age = time.time() - layout.index_head.stat().st_mtime
        except OSError:
            return True
        return not 0 <= age < self._apart_s

    def _compact(self, origin: str) -> None:
        begun = self._tried[origin] = time.monotonic()
        why = "the process that compacts has ended"
        try:
            with self._lock:
                if self._ending.is_set():
                    return
                self._process = ChildProcess(PROGRAM, self._job(origin))
            for said in self._process.lines():
                why = said.get("error", "")
                if not why:
                    self._note(origin, said, time.monotonic() - begun)
        except OSError as error:
            why = f"can't start a process: {error.strerror}"
        with self._lock:
            self._process = None
        if why and not self._ending.is_set():
            self._state.failed += 1
            say("not compacted", origin=origin, why=why, again_in_s=round(self._apart_s))

    def _job(self, origin: str) -> dict[str, Any]:
        name, file = self._keys[origin]
        return {
            "store": str(self._store),
            "origin": origin,
            "key_name": name,
            "key_file": file,
            "rows": self._rows,
        }

    def _note(self, origin: str, said: dict[str, Any], seconds: float) -> None:
        self._state.done += 1
        self._state.seconds = seconds
        self._state.behind[origin] = (
            committed(origin_layout(self._store, origin)) - said["manifests"]
        )
        say(
            "compacted",
            origin=origin,
            commits=said["added"],
            runs=said["runs"],
            s=round(seconds, 1),
        )
        for note in said["notes"]:
            say("note", what=note)


def indexed(layout: OriginLayout) -> int:
    """How many commits the index has; 0 without one. No more than a glance: nothing is checked."""
    try:
        text = layout.index_head.read_bytes().split(b"\n", 2)[1]
        return int(json.loads(text)["size"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0


def compacting_counters(state: CompactingState) -> Collector:
    """Its metrics."""
    return _Counters(state)


class _Counters(Collector):
    def __init__(self, state: CompactingState) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        state = self._state
        yield CounterMetricFamily("scalple_compactions", "Times the index was made", state.done)
        yield CounterMetricFamily("scalple_failed_compactions", "Times it wasn't", state.failed)
        yield GaugeMetricFamily("scalple_compaction_seconds", "Of the last one", state.seconds)
        behind = GaugeMetricFamily(
            "scalple_index_behind_commits", "Commits that the index lacks", labels=["origin"]
        )
        for origin, count in dict(state.behind).items():
            behind.add_metric([origin], count)
        yield behind
