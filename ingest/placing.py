"""Which file holds which generation of a log, at one moment.

Enters: the files that there are. Leaves: each generation with the file that holds it, new generations,
and gaps where what was read of one is in no file any more. A descriptor that is held can't become another
file's; a file that was only seen before is recognised by its anchors. Files that haven't changed since
they were looked at aren't opened.

Decides neither in which order generations are read nor when one has ended: see `follower`.
"""

from pathlib import Path

from scalple.ingest.beginnings import Beginnings
from scalple.ingest.candidate import (
    Candidate,
    continues,
    is_packed_copy,
    may_be_copy_of_another,
    may_be_hidden,
    preference,
    was_cut_meanwhile,
)
from scalple.ingest.errors import InputError, reason
from scalple.ingest.generations import Generation, Generations, Inode
from scalple.ingest.heldfile import WEAK_BYTES, HeldFile, is_weak, stamp_of
from scalple.ingest.lognames import LogNames
from scalple.ingest.losses import Losses
from scalple.ingest.present import Found, present_files
from scalple.ingest.sourcefile import BLOCK_BYTES, SETTLED_SECONDS
from scalple.ingest.unchanged import Unchanged


class Placing:
    """The files of one kind of source, and what they hold.

    Args:
        names: what they are called.
        generations: those that are known.
        quiet_s: so long what is missing may turn up again, and copies are waited for.
        open_max: so many files that are looked at are held open meanwhile.
    """

    def __init__(
        self, names: LogNames, generations: Generations, quiet_s: float, open_max: int
    ) -> None:
        self._names = names
        self._generations = generations
        self._quiet_s, self._open_max = quiet_s, open_max
        self._passed: dict[Inode, tuple[tuple[int, int, int], Generation | None]] = {}
        """Files that hold nothing new, as long as they stay what they were; and whose bytes they hold."""
        self._unchanged = Unchanged(quiet_s)
        self._beginnings = Beginnings()
        self.present: dict[Inode, Found] = {}
        """What there was at the last look."""
        self.active: list[Generation] = []
        """Generations that aren't finished and that some file holds, or held."""
        self.losses = Losses()
        self._failing: dict[Path, float] = {}
        """Since when files can't be read."""
        self.problems: dict[Path, str] = {}
        """Files that can't be read now, and why."""

    def place(self, now: float) -> list[Generation]:
        """Look at what there is; returns the generations that are read from now on.

        Args:
            now: on the follower's clock, in seconds.
        """
        self._failing = {path: self._failing.get(path, now) for path in self.problems}
        self.problems = {}
        present = self._look()
        if any(g.inode and g.names and g.inode not in present for g in self.active):
            present = self._look() | present  # a file that is renamed may be missed by a listing
        self.present = present
        claimed = self._look_at_held(present, now)
        freed = self._forget_passed(present)
        begun, rest = self._adopt(self._candidates(present, claimed, now), present, now)
        for candidate in () if self.is_waiting(now) else rest:
            if candidate.found.inode in freed:  # it can't be read on, but all it holds is known
                self._passed[candidate.found.inode] = freed[candidate.found.inode]
                candidate.file.close()
                continue
            try:
                with candidate.file.at_hand():
                    begun += self._unknown(candidate, now)
            except (OSError, InputError) as error:  # gone meanwhile: the next scan will see
                self.problems[candidate.file.path] = reason(error)
        if not self.is_waiting(now):
            self._say_lost(present, now)
        self.active = [one for one in self.active if not one.is_finished]
        self._beginnings.trim(len(self.active) + len(self._passed))
        return [one for one in begun if not one.is_finished]

    def is_waiting(self, now: float) -> bool:
        """Whether some file can't be read that could be a moment ago: it may hold what comes first."""
        for path in self.problems:
            self._failing.setdefault(path, now)
        return any(now - self._failing[path] < self._quiet_s for path in self.problems)

    # -- what there is --------------------------------------------------------------------------

    def _look(self) -> dict[Inode, Found]:
        self.problems |= self._names.unlisted()
        return present_files(self._names.paths(), self.problems)

    def _look_at_held(self, present: dict[Inode, Found], now: float) -> set[Inode]:
        """Inodes whose generation is certain."""
        claimed: set[Inode] = set()
        for generation in self.active:
            if generation.is_open:
                is_placed = self._is_held_whole(generation, present, now)
            else:
                found = present.get(generation.inode) if generation.inode else None
                # The stamp of one that was cut is that of what is left of it.
                is_same = found is not None and stamp_of(found.stat) == generation.stamp
                is_placed = is_same and not generation.is_cut
                self._name(generation, found if is_placed else None)
            if is_placed and generation.inode:
                claimed.add(generation.inode)
        return claimed

    def _is_held_whole(
        self, generation: Generation, present: dict[Inode, Found], now: float
    ) -> bool:
        """Whether the open file still holds what was read of it."""
        file = generation.file
        assert file is not None
        try:
            status = file.stat()
            if stamp_of(status) != generation.stamp:
                file.is_whole = file.is_whole and file.is_continued()
                if file.is_whole and status.st_size < file.size and not file.is_compressed:
                    self.losses.shrunk(generation, status.st_size)
                generation.stamp, generation.grown_at = stamp_of(status), now
                generation.quiet_scans = 0
        except (OSError, InputError) as error:  # a server of files has forgotten it: look anew
            self.problems[generation.path] = reason(error)
            file.close()
            self._name(generation, None)
            return False
        self._name(generation, present.get((status.st_dev, status.st_ino)))
        if file.is_whole:
            return True
        generation.is_cut = True
        file.close()
        self._name(generation, None)
        return False

    @staticmethod
    def _name(generation: Generation, found: Found | None) -> None:
        generation.names = tuple(found.paths) if found is not None else ()
        if generation.names and generation.path not in generation.names:
            generation.path = generation.names[0]
            if generation.file is not None:
                generation.file.path = generation.path

    def _forget_passed(
        self, present: dict[Inode, Found]
    ) -> dict[Inode, tuple[tuple[int, int, int], Generation | None]]:
        """Look anew at files that have changed, and at copies of a file that was cut, which it returns."""
        freed = {}
        for inode, (stamp, generation) in list(self._passed.items()):
            found = present.get(inode)
            own = generation is not None and generation.inode == inode
            if found is None or stamp_of(found.stat) != stamp:
                del self._passed[inode]
                if own and generation is not None and generation.is_finished:
                    generation.names = ()
            elif generation is not None and generation.is_cut:
                freed[inode] = self._passed.pop(inode)
            elif own and generation is not None:
                generation.names = tuple(found.paths)
        self._unchanged.forget_others(present)
        return freed

    # -- who is it ------------------------------------------------------------------------------

    def _candidates(
        self, present: dict[Inode, Found], claimed: set[Inode], now: float
    ) -> list[Candidate]:
        candidates = []
        for inode, found in present.items():
            if inode in claimed or inode in self._passed or not found.stat.st_size:
                continue
            try:
                file = HeldFile(found.paths[0])
                status = file.stat()
                if (status.st_dev, status.st_ino) != inode:
                    continue  # another one has its name by now: the next scan will see
                found.stat = status
                candidate = Candidate(found, file, self._generations.beginning_like(file.begins))
                if self._is_ready(candidate, present, now):
                    candidates.append(candidate)
                if len(candidates) > self._open_max:
                    file.close()
            except FileNotFoundError:
                continue
            except (OSError, InputError) as error:
                self.problems[found.paths[0]] = reason(error)
        return [one for one in candidates if not may_be_copy_of_another(one, candidates)]

    def _is_ready(self, candidate: Candidate, present: dict[Inode, Found], now: float) -> bool:
        """Whether it can be said what it is: not while it may be a copy in the making."""
        file, found = candidate.file, candidate.found
        since = self._unchanged.since(found, now)
        if file.is_compressed:
            if any(is_packed_copy(candidate, one) for one in candidate.like):
                return True
            file.measure()
            if file.damage is None:
                return True
            is_made = any(file.path.with_suffix("") in one.paths for one in present.values())
            return not is_made and now - since >= self._quiet_s
        return (
            file.size >= WEAK_BYTES
            or now - since >= SETTLED_SECONDS
            or not self._beginnings.like(file.seen)
        )

    def _adopt(
        self, candidates: list[Candidate], present: dict[Inode, Found], now: float
    ) -> tuple[list[Generation], list[Candidate]]:
        """Give generations that no file holds the files that do; and the files that are left."""
        unread = [one for one in self.active if one.anchors is None and one.is_loose]
        pairs: list[tuple[Generation, Candidate]] = []
        legible: list[Candidate] = []
        for candidate in candidates:
            loose = [*(one for one in candidate.like if one.is_loose), *unread]
            try:
                with candidate.file.at_hand():
                    held = [one for one in loose if continues(candidate, one)]
            except (OSError, InputError) as error:  # it may be one of them: the next scan will see
                self.problems[candidate.file.path] = reason(error)
                continue
            pairs += [(one, candidate) for one in held]
            legible.append(candidate)
        if self.is_waiting(now):  # the others may be copies of what can't be read now
            return [], []
        pairs.sort(key=preference)
        begun: dict[int, Generation] = {}
        taken: set[int] = set()
        for generation, candidate in pairs:
            if id(generation) not in begun and id(candidate) not in taken:
                taken.add(id(candidate))
                try:
                    with candidate.file.at_hand():
                        self._go_on(generation, candidate, present, now)
                except (OSError, InputError) as error:
                    self.problems[candidate.file.path] = reason(error)
                    continue
                begun[id(generation)] = generation
        return list(begun.values()), [one for one in legible if id(one) not in taken]

    def _go_on(
        self,
        generation: Generation,
        candidate: Candidate,
        present: dict[Inode, Found],
        now: float,
    ) -> None:
        """From now on that file is read for it."""
        file = candidate.file
        is_old = is_packed_copy(candidate, generation)
        is_copy = generation.is_cut or was_cut_meanwhile(generation, candidate, present)
        # All that may fail comes first.
        begins, size = file.begins, file.measure() if is_copy else 0
        seen = generation.size if generation.inode == candidate.found.inode else 0
        if not is_old:
            self._read_on(generation, file)
        if file.size < seen and not file.is_compressed:
            self.losses.shrunk(generation, file.size)
        if is_copy:
            self.losses.copied(generation, file.path, size)
        self._hold(generation, candidate, begins, now)
        if is_old or (generation.is_finished and file.size <= file.end):
            self.pass_over(generation)
        else:
            self._revive(generation)

    @staticmethod
    def _read_on(generation: Generation, file: HeldFile) -> None:
        if generation.file is not None:
            file.take_over(generation.file)
        elif generation.rungs:
            file.go_on(generation.rungs[-1])

    def _revive(self, generation: Generation) -> None:
        generation.is_finished = generation.is_damaged = False
        if generation not in self.active:
            self.active.append(generation)

    def _hold(
        self, generation: Generation, candidate: Candidate, begins: bytes, now: float
    ) -> None:
        generation.file, generation.is_cut = candidate.file, False
        generation.missing_since, generation.quiet_scans = None, 0
        generation.inode = candidate.found.inode
        generation.stamp = stamp_of(candidate.found.stat)
        generation.grown_at = self._unchanged.since(candidate.found, now)
        self._unchanged.forget(candidate.found.inode)
        self._name(generation, candidate.found)
        self._beginnings.add(begins, generation)

    def pass_over(self, generation: Generation) -> None:
        """Nothing is to be read of it as long as its file stays what it is."""
        if generation.file is not None:
            generation.file.close()
        generation.file = None
        if not generation.names:
            self._take_copy(generation)
        if generation.inode is not None and generation.stamp is not None and generation.names:
            self._passed[generation.inode] = (generation.stamp, generation)
        self.active = [one for one in self.active if one is not generation]

    def _take_copy(self, generation: Generation) -> None:
        """Its file is gone: a copy that was passed over shows from now on what it held."""
        for inode, (stamp, of) in self._passed.items():
            found = self.present.get(inode)
            if of is not generation or found is None or generation.anchors is None:
                continue
            try:
                with HeldFile(found.paths[0]).at_hand() as file:
                    is_whole = file.inode == inode and file.holds(generation.anchors)
            except (OSError, InputError):
                continue
            if is_whole:
                generation.inode, generation.stamp = inode, stamp
                self._name(generation, found)
                return

    def _unknown(self, candidate: Candidate, now: float) -> list[Generation]:
        """A file that continues nothing: a copy, one that was cut, or a new one."""
        file, found, begins = candidate.file, candidate.found, candidate.file.begins
        original = self._copied_from(candidate, now)
        if original is not None:
            generation, is_longer = original
            if not is_longer:
                self._passed[found.inode] = (stamp_of(found.stat), generation)
                file.close()
                return []
            was_read = generation.file  # what was read so far was the copy
            self._read_on(generation, file)
            if was_read is not None:
                was_read.close()
            self._hold(generation, candidate, begins, now)
            self._revive(generation)
            return [generation]
        generation = Generation(found.paths[0], found.paths[0], numbers=self._generations)
        lost = [one for one in candidate.like if one.is_loose and one.end >= WEAK_BYTES]
        if lost:
            self._read_anew(max(lost, key=lambda one: (not one.is_finished, one.end)), file)
        self._hold(generation, candidate, begins, now)
        self.active.append(generation)
        return [generation]

    def _copied_from(self, candidate: Candidate, now: float) -> tuple[Generation, bool] | None:
        """The generation of which it holds the bytes, or their beginning; and whether more follows.

        Raises:
            OSError, InputError: one of the two can't be read now.
        """
        file = candidate.file
        for one in candidate.like:
            if one.names and is_packed_copy(candidate, one):
                return one, False
        for generation in self._beginnings.like(file.begins):
            if generation.is_loose:
                continue
            with (generation.file or HeldFile(generation.path)).at_hand() as theirs:
                theirs.note(now)
                if theirs.inode != generation.inode or not theirs.is_whole:
                    raise InputError("changes while it is looked at", place=str(theirs.path))
                same, is_longer = file.agrees(theirs), file.measure() > theirs.measure()
                if is_longer and generation.end and is_weak(file.read(0, min(same, BLOCK_BYTES))):
                    continue  # a few bytes that were read by themselves may be any file's
                if same >= min(file.measure(), theirs.measure()):
                    return generation, is_longer
        return None

    def _read_anew(self, lost: Generation, file: HeldFile) -> None:
        """A file that begins like one that was read, but is shorter or goes on otherwise."""
        rungs = [one for one in lost.rungs if one.end >= WEAK_BYTES and file.holds(one)]
        file.known_until = rungs[-1].end if rungs else 0
        if file.size > file.known_until or not lost.is_finished:
            self.losses.changed(lost, file)
        lost.is_finished = True

    def _say_lost(self, present: dict[Inode, Found], now: float) -> None:
        for generation in [*self.active, *self._generations]:
            if generation.is_finished or not generation.is_loose:
                continue
            if generation.is_cut:
                generation.is_finished, generation.is_cut = True, False
                self.losses.cut(generation)
            elif may_be_hidden(generation, self.problems):
                generation.missing_since = None
            elif generation.missing_since is None:
                generation.missing_since = now
            elif now - generation.missing_since >= self._quiet_s:
                generation.is_finished = True
                paths = {path: found.inode for found in present.values() for path in found.paths}
                self.losses.missing(generation, paths.get(generation.path))
