"""One commit after the other, read again from bytes: objects, segments, rows, digest.

Enters: the manifests of an origin whose chain and head were checked. Leaves: faults and counts per
commit. Every file is read once and hashed; with `files_only` that is all. Otherwise rows are decoded,
encoded again and hashed into their root, and the digest is made again from them. The result for a
commit depends on its files alone, whoever checks the others (see `commitpool`). What reads rows is loaded
late: hashing files needs neither Parquet nor DuckDB, and is done before these are loaded.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from scalple.ingest.errors import VerificationError
from scalple.store.chain import placed, read_named, read_object
from scalple.store.digestnames import CALLED, FACTS, NAMES, ROWS
from scalple.store.layout import OriginLayout
from scalple.store.manifest import Manifest, SegmentRecord, sha256_hex
from scalple.store.understood import understood
from scalple.store.verifyreport import Fault

if TYPE_CHECKING:
    from scalple.store.digestcheck import Checker


@dataclass(frozen=True, slots=True)
class Task:
    """One commit to check.

    Attributes:
        manifest: what it is.
        objects: hashes of the objects that are checked with it; each is checked with one commit.
    """

    manifest: Manifest
    objects: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of its segments."""
        return sum(record.bytes for record in self.manifest.segments)


@dataclass(slots=True)
class Found:
    """What checking one commit gave; counts are of what is intact."""

    n: int
    segments: int = 0
    rows: int = 0
    bytes: int = 0
    faults: list[Fault] = field(default_factory=list)


class CommitChecker:
    """Checks commits of one origin, in order of their numbers; some may be left out.

    Args:
        layout: the origin.
        digests: of every commit, its objects that are a digest's.
        files_only: hash files, decode nothing.
    """

    def __init__(
        self, layout: OriginLayout, digests: Sequence[Mapping[str, str]], *, files_only: bool
    ) -> None:
        self._layout = layout
        self._digests = digests
        self._files_only = files_only
        self._next = 0
        self._known: Checker | None = None

    def check_all(self, tasks: Sequence[Task]) -> Iterator[Found]:
        """As `check` of each; small commits together, as long as nothing is wrong with them."""
        at = 0
        if self._files_only:
            yield from map(self.check, tasks)
            return
        from scalple.store.rowcheck import groups

        for count in groups([one.manifest for one in tasks]):
            some = tasks[at : at + count]
            yield from self._intact(some) or map(self.check, some)
            at += count

    def _intact(self, tasks: Sequence[Task]) -> list[Found]:
        """What is found where there is no fault; nothing if there is one: `check` says which."""
        if len(tasks) < 2:
            return []
        first, last = tasks[0].manifest, tasks[-1].manifest
        self._catch_up(first.n)
        self._next = first.n
        facts = self._facts()
        before = facts.known
        try:
            with understood():
                self._check_together(tasks, facts)
        except VerificationError:
            facts.known = before
            return []
        self._next = last.n + 1
        return [_intact(task.manifest) for task in tasks]

    def _check_together(self, tasks: Sequence[Task], facts: "Checker") -> None:
        from scalple.store.namesobject import check as check_names
        from scalple.store.rowcheck import rows_of_many

        objects = {one: read_object(self._layout, one) for task in tasks for one in task.objects}
        manifests = [task.manifest for task in tasks]
        rows = rows_of_many(self._layout, [one for m in manifests for one in m.segments])
        commits = []
        for manifest in manifests:
            count, named = _audit_rows(manifest), self._digests[manifest.n]
            if CALLED in manifest.objects:
                said = self._object(manifest.objects[CALLED], objects)
                check_names(pa.BufferReader(said), count)
            if named and (len(named) < len(NAMES) or not count):
                raise VerificationError("a digest of nothing, or part of one")
            if named:
                data = {name: self._object(sha256, objects) for name, sha256 in named.items()}
                commits.append((manifest.n, data, count))
        if not commits:
            return
        if sum(count for _, _, count in commits) != sum(map(_audit_rows, manifests)):
            raise VerificationError("some of these commits have no digest")
        facts.check_together(commits, rows["audit"])

    def check(self, task: Task) -> Found:
        """Reads everything that belongs to the commit."""
        found = Found(task.manifest.n)
        objects: dict[str, bytes] = {}
        for sha256 in task.objects:
            try:
                objects[sha256] = read_object(self._layout, sha256)
            except VerificationError as error:
                found.faults.append(Fault.of(error, str(self._layout.object(sha256))))
        audit = []
        for record in task.manifest.segments:
            place = f"{self._layout.segments / record.file} ({_rows_of(record)})"
            try:
                table = self._segment(record, place)
            except VerificationError as error:
                found.faults.append(Fault.of(error, place))
                continue
            if record.kind == "audit" and table is not None:
                audit.append(table)
            found.segments += 1
            found.rows += record.rows
            found.bytes += record.bytes
        if not self._files_only:
            self._digest(task.manifest, audit, found, objects)
            self._names(task.manifest, found, objects)
        return found

    def _names(self, manifest: Manifest, found: Found, objects: Mapping[str, bytes]) -> None:
        """The object says something of each row of its commit; what it says can't be made again."""
        if CALLED not in manifest.objects:
            return
        from scalple.store.namesobject import check as check_names

        place = str(self._layout.manifest(manifest.n))
        rows = _audit_rows(manifest)
        try:
            said = self._object(manifest.objects[CALLED], objects)
            with understood():
                check_names(pa.BufferReader(said), rows)
        except VerificationError as error:
            fault = Fault.of(error, place)
            if fault.place not in {one.place for one in found.faults} or fault.place == place:
                found.faults.append(fault)

    def _segment(self, record: SegmentRecord, place: str) -> pa.Table | None:
        """The rows of a segment that is what its record says; None if files are all that counts."""
        data = read_named(self._layout, self._layout.segments / record.file, record.sha256)
        told = (len(data), sha256_hex(data))
        if told != (record.bytes, record.sha256):
            raise VerificationError(
                "bytes differ",
                place=place,
                expected=f"{record.bytes} with SHA-256 {record.sha256}",
                found=f"{told[0]} with {told[1]}",
            )
        if self._files_only:
            return None
        from scalple.store.rowcheck import rows_of

        with placed(place), understood():
            return rows_of(self._layout, record, data)

    def _digest(
        self, manifest: Manifest, audit: list[pa.Table], found: Found, objects: dict[str, bytes]
    ) -> None:
        """A digest is compared where all rows that it speaks of are intact."""
        self._catch_up(manifest.n)
        self._next = manifest.n + 1
        named = self._digests[manifest.n]
        if not named:
            return
        place = str(self._layout.manifest(manifest.n))
        parts = [record for record in manifest.segments if record.kind == "audit"]
        try:
            self._learn(manifest.n, objects)
            if not parts:
                raise VerificationError(f"a digest of nothing, or part of one: {', '.join(named)}")
            if len(audit) == len(parts):
                data = {name: self._object(sha256, objects) for name, sha256 in named.items()}
                with understood():
                    self._facts().compare(data, pa.concat_tables(audit))
        except VerificationError as error:
            fault = Fault.of(error, place)
            if fault.place not in {one.place for one in found.faults}:
                found.faults.append(fault)

    def _catch_up(self, n: int) -> None:
        """Learns from the commits that were left out, whose own faults aren't this one's."""
        for skipped in range(self._next, n):
            if self._digests[skipped]:
                with suppress(VerificationError):
                    self._learn(skipped, {})

    def _learn(self, n: int, objects: Mapping[str, bytes]) -> None:
        """What can't be learned leaves nothing known: until numbers begin anew, no later digest can
        be checked, and each of them is a fault."""
        facts, self._known = self._facts(), None
        named = self._digests[n]
        if len(named) < len(NAMES):
            raise VerificationError(f"a digest of nothing, or part of one: {', '.join(named)}")
        data = {name: self._object(named[name], objects) for name in (ROWS, FACTS)}
        with understood():
            facts.learn(n, data)
        self._known = facts

    def _facts(self) -> "Checker":
        """Those known so far."""
        from scalple.store.digestcheck import Checker

        self._known = self._known or Checker()
        return self._known

    def _object(self, sha256: str, known: Mapping[str, bytes]) -> bytes:
        return known[sha256] if sha256 in known else read_object(self._layout, sha256)


def _audit_rows(manifest: Manifest) -> int:
    return sum(record.rows for record in manifest.segments if record.kind == "audit")


def _intact(manifest: Manifest) -> Found:
    records = manifest.segments
    rows, size = sum(one.rows for one in records), sum(one.bytes for one in records)
    return Found(manifest.n, len(records), rows, size)


def _rows_of(record: SegmentRecord) -> str:
    return f"rows {record.first_seq} to {record.first_seq + record.rows - 1}"


def digests_of(manifests: Sequence[Manifest]) -> list[dict[str, str]]:
    """Of every manifest the objects that are its digest's."""
    return [{name: m.objects[name] for name in NAMES if name in m.objects} for m in manifests]


def tasks_of(manifests: Sequence[Manifest], since: int) -> list[Task]:
    """Commits from `since` on, each with the objects that no commit before it in this list names."""
    seen: set[str] = set()
    tasks = []
    for manifest in manifests[since:]:
        named = [*manifest.objects.values(), manifest.positions_object]
        fresh = [one for one in dict.fromkeys(named) if one is not None and one not in seen]
        seen.update(fresh)
        tasks.append(Task(manifest, tuple(fresh)))
    return tasks
