"""Follows the log files of one kind of source: what can be read now, in the order of writing.

Enters: what the files are called, and the positions that the store has reached. Leaves: generations
with bytes to read, oldest first, and gaps. The reader parses them (`Generation.pieces`), commits, and
says so (`Generation.commit`). After a restart the store's positions say where to go on; nothing else is
kept on disk.

A generation is finished when its name was taken from it, or a newer one has grown, and nothing more came
for a while; a record that is still torn then is given up as a reject. A finished one that grows all the
same is read on.

Doesn't parse, store or wait: see `wakeup`.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scalple.ingest.errors import InputError, reason
from scalple.ingest.generations import Generation, Generations, Known, Unfinished
from scalple.ingest.lognames import LogNames, family
from scalple.ingest.placing import Placing
from scalple.ingest.sourcefile import HEAD_BYTES, SETTLED_SECONDS
from scalple.ingest.sourcegap import SourceGap

QUIET_SECONDS = 5.0
OPEN_MAX = 128
FINISHED_MAX = 10_000
_TIME = re.compile(rb"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,6})?)")
_OF_A_RECORD = re.compile(rb"^(?:\{[^\n]*?)?" + _TIME.pattern, re.MULTILINE)
"""A file may begin with the rest of a record, and with times in it."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the store is behind one file, or all files of a kind."""

    bytes: int
    """Noted at the last scan and not committed."""
    since_growth_s: float | None
    """Seconds since something was last written; None where nothing was ever seen to be."""


class Follower:
    """The log files of one kind of source.

    Args:
        patterns: paths, globs, or the path of PostgreSQL's `current_logfiles`.
        known: positions of the store of this kind: the newest of each generation, and as many older
            ones as are at hand.
        state: what `state` gave when the newest of them was committed. Without it a file that is gone
            counts as one that wasn't read to its end.
        first_time: when the first record in a file's first bytes was written, in microseconds, for the
            order in which files found at once are read; by default by the first time that stands there.
        clock: seconds that never go back.
        quiet_s: nothing more will come to a file that has lost its name and didn't change for so long.
        open_max: so many files are held open, besides those that have lost their name.
        finished_max: so many generations are remembered whose files are gone.

    Raises:
        InputError: `state` isn't one.
    """

    def __init__(
        self,
        patterns: Iterable[str | Path],
        known: Iterable[Known] = (),
        *,
        state: bytes | None = None,
        first_time: Callable[[bytes], int | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        quiet_s: float = QUIET_SECONDS,
        open_max: int = OPEN_MAX,
        finished_max: int = FINISHED_MAX,
    ) -> None:
        self._names = LogNames(patterns)
        self._generations = Generations(known, state, finished_max)
        self._placing = Placing(self._names, self._generations, quiet_s, open_max)
        self._first_time = first_time or _first_time
        self._clock = clock
        self._quiet_s = quiet_s
        self._open_max = open_max
        self._order: list[Generation] = []
        self._scanned_at = 0.0
        self._scans = 0
        """Those after which something could be read."""

    def scan(self) -> list[Generation]:
        """Look at the files as they are now.

        Returns:
            Generations with bytes that can be read now, oldest first: at most so many as can be open.
            What is written from now on is left to the next scan.
        """
        now = self._scanned_at = self._clock()
        begun = self._placing.place(now)
        everything = {id(one): one for one in (*self._order, *begun) if not one.is_finished}
        self._order = sorted(everything.values(), key=self._rank)
        self._note_sizes(now)
        self._close_finished(now)
        self._generations.forget()
        ready = self._open_those_with_news()
        if self._placing.is_waiting(now):
            return []
        self._scans += 1
        return ready

    def take_gaps(self) -> list[SourceGap]:
        """The gaps found since they were last taken; to be committed with `state`."""
        found, self._placing.losses.gaps = self._placing.losses.gaps, []
        return found

    def state(self) -> bytes:
        """What to keep with the positions of each commit when it has changed: at most some kilobytes.

        It says which generations aren't finished, so that a file which is gone later isn't taken for a
        loss, or a loss for a file that was read to its end.
        """
        return self._generations.state()

    def unfinished(self) -> Iterator[Unfinished]:
        """What `state` says, for whoever has a form of his own for it."""
        return self._generations.unfinished()

    @property
    def problems(self) -> dict[Path, str]:
        """Files that couldn't be read at the last scan, and why."""
        return dict(self._placing.problems)

    @property
    def files(self) -> int:
        """So many files there were at the last scan, read to their ends or not."""
        return len(self._placing.present)

    @property
    def folders(self) -> list[Path]:
        """Where files may appear: to be watched."""
        return self._names.folders

    @property
    def following(self) -> list[Generation]:
        """The generations that aren't finished, oldest first."""
        return list(self._order)

    def lag(self, generation: Generation | None = None) -> Lag:
        """How far the store is behind one generation, or all of them; as of the last scan."""
        ones = self._order if generation is None else [generation]
        grown = [one.grown_at for one in ones if one.stamp is not None]
        behind = sum(max(0, _bytes_of(one) - one.committed) for one in ones)
        return Lag(behind, self._scanned_at - max(grown) if grown else None)

    def close(self) -> None:
        """Let go of all descriptors."""
        for one in self._order:
            if one.file is not None:
                one.file.close()

    # -- order and ends -------------------------------------------------------------------------

    def _rank(self, one: Generation) -> tuple[bool, int, int, int, str]:
        """What was seen first comes first; of what was found at once, what was written first."""
        assert one.file is not None and one.stamp is not None
        if one.rank is None and not one.is_loose:
            try:
                with one.file.at_hand() as file:
                    file.note(self._scanned_at)
                    text = file.written
            except (OSError, InputError) as error:  # the next scan will see
                self._placing.problems[one.path] = reason(error)
                text = b""
            first = self._first_time(text)
            if first is None and len(text) == HEAD_BYTES:  # no times of that form in this log
                first = one.stamp[1] // 1000
            if first is not None:
                one.rank = (self._scans, first, one.stamp[1])
        return (one.rank is None, *(one.rank or (0, 0, 0)), str(one.path))

    def _note_sizes(self, now: float) -> None:
        """The newest first: what is read of it was written when the writer had left the older ones."""
        written = {one.family: one.stamp[1] for one in self._order if one.rank and one.stamp}
        grown_families: set[tuple[str, str]] = set()
        grown_names: set[Path] = set()
        for one in reversed(self._order):
            file = one.file
            assert file is not None
            if one.is_loose:
                continue
            try:
                if file.is_open:
                    file.note(now)
            except (OSError, InputError) as error:
                self._placing.problems[one.path] = reason(error)
                if one.stamp:  # its size isn't known: it is looked at again, open or not
                    one.stamp = (-1, *one.stamp[1:])
                continue
            by_name = one.home in grown_names
            file.is_left = by_name or one.family in grown_families
            if one.rank is None and one.stamp:  # too little of it to say when it began
                file.is_left |= one.stamp[1] < written.get(one.family, 0)
            file.is_settled = file.is_compressed or now - one.grown_at >= SETTLED_SECONDS
            self._judge(one, now, by_name=by_name)
            if one.rank is not None:
                grown_families |= {one.family, family(one.path)}
                grown_names |= {one.path, *one.names}

    def _judge(self, one: Generation, now: float, *, by_name: bool) -> None:
        """Whether anything will follow."""
        file = one.file
        assert file is not None
        is_quiet = now - one.grown_at >= self._quiet_s
        if file.is_compressed:
            file.is_over = file.damage is None  # what is damaged may come whole one day
            one.quiet_scans += is_quiet
            return
        drained = file.end == file.size or (one.handed and one.handed[0] == file.size)
        if not drained or (one.stamp and one.stamp[0] != file.size):
            one.quiet_scans, file.is_over = 0, False
            return
        one.quiet_scans += 1
        left = one.home not in one.names or file.is_left
        file.is_over = one.quiet_scans >= 2 and (by_name or (left and is_quiet))

    def _close_finished(self, now: float) -> None:
        for one in self._order:
            file = one.file
            assert file is not None
            is_over = file.is_over or (file.damage is not None and one.quiet_scans > 0)
            if one.is_loose or not is_over or one.has_news or one.committed < one.end:
                continue
            if one.is_set_aside and one.names:
                continue
            if file.end < file.size and one.handed != one.offered:
                continue
            one.is_damaged = file.damage is not None
            if file.damage is not None:
                self._placing.losses.damaged(one, file.damage)
            one.is_finished = True
            self._placing.pass_over(one)
        self._order = [one for one in self._order if not one.is_finished]

    # -- descriptors ----------------------------------------------------------------------------

    def _open_those_with_news(self) -> list[Generation]:
        """Those to be read, opened again where needed; others are closed if too many are open."""
        ready: list[Generation] = []
        for one in self._order:
            is_wanted = len(ready) < self._open_max and not one.is_loose and one.has_news
            if is_wanted and self._is_open(one):
                ready.append(one)
        reading = set(map(id, ready))
        spare = [
            one
            for one in self._order
            if one.file is not None and one.file.is_open and one.names and id(one) not in reading
        ]
        spare.sort(key=lambda one: one.grown_at, reverse=True)
        for one in spare[max(0, self._open_max - len(ready)) :]:
            assert one.file is not None
            one.file.close()
        return ready

    def _is_open(self, one: Generation) -> bool:
        """Whether it can be read; if its file has changed meanwhile, the next scan finds it anew."""
        file = one.file
        assert file is not None
        if not file.is_open:
            try:
                file.reopen(one.path)
                file.note(self._scanned_at)
            except (OSError, InputError) as error:
                self._placing.problems[one.path] = reason(error)
                return False
        return file.is_whole


def _bytes_of(one: Generation) -> int:
    """Of a compressed file what was read: its size isn't known before."""
    file = one.file
    is_known = file is not None and file.measured is not None
    return one.size if is_known else one.end


def _first_time(head: bytes) -> int | None:
    """The first time that stands there, read as if it were UTC, in microseconds: at the beginning of a line
    or of a JSON object, if one does."""
    found = _OF_A_RECORD.search(head) or _TIME.search(head)
    if found is None:
        return None
    try:
        moment = datetime.fromisoformat(found[1].decode()).replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp() * 1_000_000)
