"""The one write path of an origin: prepare segments, commit a manifest, sign the head.

Arrow tables, source positions and objects enter; a manifest leaves once everything it names is
durable. The commit point is the manifest's link: before it a crash leaves files that nothing
names (removed at the next opening), after it the next opening signs the head. One writer per
origin, which holds a `lease`; one that finds that another has written since stops for good.
It doesn't decide what a batch is, and never deletes or rewrites what a manifest names.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.correlate.record import KINDS
from scalple.ingest.errors import CommitError, RaceError, StoreError
from scalple.store import durable, fence, lease, recovery, resume, segments, source
from scalple.store.chain import Chain, read_bytes
from scalple.store.checkpoint import Checkpoint
from scalple.store.digest import Numbering
from scalple.store.keyhistory import SIGNING_KEY, Rotation
from scalple.store.keys import public_key_beside, write_public_keys
from scalple.store.layout import PREPARED_MAX, OriginLayout, keys_directory, origin_layout
from scalple.store.manifest import (
    MANIFEST_BYTES_MAX,
    Manifest,
    Position,
    SegmentRecord,
    positions_to_bytes,
    sha256_hex,
)
from scalple.store.note import VerifierKey
from scalple.store.sealing import Sealer
from scalple.store.software import software


@dataclass(frozen=True, slots=True)
class Prepared:
    """Segments that are durable and wait for the manifest that commits them."""

    n: int
    segments: tuple[SegmentRecord, ...]
    digest: Mapping[str, bytes]
    """Objects made of the audit rows (see `digest`)."""


class StoreWriter:
    """Appends to one origin. After an error in a write it is unusable: open it again.

    `prepare` may run in another thread than `commit`; each of them in one thread at a time.
    """

    def __init__(
        self,
        layout: OriginLayout,
        private: Ed25519PrivateKey,
        chain: Chain,
        held: lease.Lease,
        clock: Callable[[], datetime],
    ) -> None:
        self.notes: tuple[str, ...] = ()
        """What opening found and mended, for the operator."""
        self._layout = layout
        self._private = private
        self._chain = chain
        self._lease = held
        self._clock = clock
        self._nonce = secrets.token_hex(16)
        self._next_seq = dict(chain.next_seq)
        self._next_n = chain.tree.size
        self._usable = True
        self._sealer = Sealer()
        self._numbering: Numbering | None = None
        self._month = (0, 0)
        """Of the newest row when numbers began."""
        self._resumes = False
        self._signed = read_bytes(layout.checkpoint)
        """The head as this writer knows it: only that one is replaced."""

    @classmethod
    def open(
        cls,
        store_dir: Path,
        origin: str,
        signing_key: Ed25519PrivateKey,
        *,
        create: bool,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        lock_seconds: float = lease.LOCK_SECONDS,
        resumes: bool = False,
    ) -> Self:
        """Opens an origin for writing, after mending what a crash left; waits for another writer
        no longer than `lock_seconds`.

        `resumes`: for a log that is opened often. Closing leaves behind where the log ends, and
        the next opening checks that instead of the whole log (see `resume`).

        Raises:
            ConfigError: the origin doesn't exist and `create` is False; or another signing key.
            StoreError: another writer has it open; or nothing there keeps another from writing.
            VerificationError: the origin isn't what its head says.
        """
        layout = origin_layout(store_dir, origin)
        remote = source.source_of(store_dir)
        if remote:
            remote.prepare_writing(origin)
        if create:
            durable.make_directory(layout.directory)
        held = lease.acquire(layout, lock_seconds)
        try:
            if remote:
                remote.refresh(origin)
            if create and not layout.checkpoint.exists():
                recovery.create(layout, signing_key, held.guard)
            notes: tuple[str, ...] = ()
            chain = None if remote else resume.take(layout, signing_key)
            if chain is None or not resumes:
                chain, notes = recovery.recover(layout, signing_key, held.guard)
            if keys_directory(store_dir).is_dir():
                write_public_keys(public_key_beside(store_dir, origin), chain.keys)
            writer = cls(layout, signing_key, chain, held, clock)
        except OSError as error:
            held.release()
            place = str(error.filename or layout.directory)
            raise StoreError(f"can't be opened: {error.strerror}", place=place) from error
        except BaseException:
            held.release()
            raise
        writer.notes = notes
        writer._resumes = resumes and not remote
        return writer

    def expect_large_segments(self) -> None:
        """Saves the first of them the time that sealing them takes to get ready."""
        self._sealer.start()

    def close(self) -> None:
        """Gives the lock back. What was prepared and not committed is gone at the next opening."""
        is_done = self._usable and self._next_n == self._chain.tree.size
        self._usable = False
        try:
            if self._resumes and is_done and self._lease.is_in_place():
                resume.leave(self._layout, self._chain, self._private)
        finally:
            self._sealer.close()
            self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def next_seq(self) -> dict[str, int]:
        """The seq that the next row of each kind must have; prepared rows are counted."""
        return dict(self._next_seq)

    @property
    def positions(self) -> list[Position]:
        """The latest committed position of each source generation."""
        return list(self._chain.positions.values())

    @property
    def head(self) -> Checkpoint:
        """The signed head."""
        return self._chain.head

    @property
    def head_size(self) -> int:
        """How many manifests are committed."""
        return self._chain.tree.size

    def prepare(self, tables: Mapping[str, pa.Table]) -> Prepared:
        """Encodes, hashes and durably writes the rows; nothing is committed by it.

        Raises:
            VerificationError: columns, origin or seq aren't as they must be; nothing was written.
            StoreError: unknown kind, too many batches wait for their commit, or a failed write.
            RaceError: another has the origin by now.
        """
        self._check_usable()
        if self._next_n - self._chain.tree.size >= PREPARED_MAX:
            raise StoreError(f"more than {PREPARED_MAX} batches wait for their commit")
        for kind, table in tables.items():
            if kind not in KINDS:
                raise StoreError(f"there is no kind {kind!r}", hint=f"one of {', '.join(KINDS)}")
            segments.check_rows(kind, table, self._layout.origin, self._next_seq[kind])
        with self._unusable_after_error():
            digest = self._digest(tables.get("audit"))
            records = tuple(
                record
                for kind in KINDS
                if kind in tables
                for part in segments.split(tables[kind])
                for record in self._write(kind, part)
            )
        for record in records:
            self._next_seq[record.kind] += record.rows
        self._next_n += 1
        return Prepared(self._next_n - 1, records, digest)

    def commit(
        self,
        batch: Mapping[str, pa.Table] | Prepared,
        positions: Sequence[Position],
        objects: Mapping[str, bytes],
    ) -> Manifest:
        """Commits rows, positions and objects in one act; on return all of it is durable.

        Positions that don't advance are left out. `objects` (rules, schema, …) are stored once
        per content; give them with every batch that they shaped. The digest of audit rows is
        added to them.

        Raises:
            StoreError: batches committed out of order, or too much for one manifest.
            RaceError: another writer has written since; this batch isn't in the store, or the head
                was signed by the other. This writer stops.
            VerificationError: a position doesn't begin where the last one ended.
            CommitError: the state is unknown; open the store again.
        """
        if SIGNING_KEY in objects:
            raise StoreError(f"an object can't be called {SIGNING_KEY}")
        return self._commit(batch, positions, objects, None)

    def rotate(self, new: Ed25519PrivateKey) -> Manifest:
        """Goes on under a new signing key; the old one signs the manifest that says so.

        No batch may wait for its commit.

        Raises:
            StoreError: it is the key in force, or one of before.
            CommitError: the state is unknown; open the store again, with the new key.
        """
        old = VerifierKey.of(self._layout.origin, self._private)
        key = VerifierKey.of(self._layout.origin, new)
        if {key.key_id, key.public} & {x for k in self._chain.keys for x in (k.key_id, k.public)}:
            raise StoreError(
                f"key {key.key_id.hex()} is or was this log's already",
                place=str(self._layout.directory),
                hint="make a new one with `keygen signing`",
            )
        rotation = Rotation(self._chain.tree.size, old, key)
        objects = {SIGNING_KEY: rotation.to_bytes()}
        manifest = self._commit({}, [], objects, rotation, new)
        if keys_directory(self._layout.store_dir).is_dir():
            beside = public_key_beside(self._layout.store_dir, self._layout.origin)
            write_public_keys(beside, self._chain.keys)
        return manifest

    def _commit(
        self,
        batch: Mapping[str, pa.Table] | Prepared,
        positions: Sequence[Position],
        objects: Mapping[str, bytes],
        rotation: Rotation | None,
        new: Ed25519PrivateKey | None = None,
    ) -> Manifest:
        prepared = batch if isinstance(batch, Prepared) else self.prepare(batch)
        self._check_usable()
        if prepared.n != self._chain.tree.size:
            raise StoreError(f"batch {prepared.n} before batch {self._chain.tree.size}")
        advanced = tuple(p for p in positions if p.begin != p.end)
        with self._unusable_after_error():
            manifest = self._manifest(prepared, advanced, {**objects, **prepared.digest})
            data = manifest.to_bytes()
            self._chain.append(manifest, data, advanced, rotation)
            self._publish(manifest, data)
            if new is not None:
                self._private = new
                self._lease.check()
                recovery.write_own_keys(self._layout, self._chain.keys)
            head = self._chain.head.sign(self._private)
            source.replace(self._layout.store_dir, self._layout.checkpoint, head, self._guard_head)
            self._signed = head
        return manifest

    def _publish(self, manifest: Manifest, data: bytes) -> None:
        """The commit point: whoever creates this manifest has the number, and nobody else ever."""
        path = self._layout.manifest(manifest.n)
        try:
            source.create(self._layout.store_dir, path, data, self._guard_commit(manifest))
        except RaceError:
            fence.take_back(self._layout, self._lease, manifest)
            raise
        except FileExistsError as error:
            if fence.is_same(
                path, data
            ):  # a network's lost answer: whether it is durable isn't known
                raise CommitError(
                    "can't tell whether the manifest is durable",
                    place=str(path),
                    hint="open the store again: it recovers by itself",
                ) from error
            fence.take_back(self._layout, self._lease, manifest)
            raise fence.lost(self._layout, manifest.n) from error

    def _guard_commit(self, manifest: Manifest) -> durable.Guard:
        """Asked right before the manifest gets its name: all that it names is still there."""

        def guard(path: Path, directory: int) -> None:
            self._lease.guard(path, directory)
            fence.check_there(self._layout, manifest)

        return guard

    def _guard_head(self, path: Path, directory: int) -> None:
        """Asked right before the head is replaced: it is the one that this writer knows."""
        self._lease.guard(path, directory)
        fence.check_head(self._layout, self._signed)

    def _manifest(
        self, prepared: Prepared, positions: tuple[Position, ...], objects: Mapping[str, bytes]
    ) -> Manifest:
        manifest = Manifest(
            origin=self._layout.origin,
            n=prepared.n,
            previous=self._chain.last_sha256,
            segments=prepared.segments,
            positions=positions,
            objects={name: self._write_object(data) for name, data in objects.items()},
            committed_at=self._clock().isoformat(timespec="microseconds"),
            nonce=self._nonce,
            software=software(),
        ).signed(self._private)
        if len(manifest.to_bytes()) > MANIFEST_BYTES_MAX:
            sha256 = self._write_object(positions_to_bytes(positions))
            moved = replace(manifest, positions=(), positions_object=sha256, signature="")
            manifest = moved.signed(self._private)
        if len(manifest.to_bytes()) > MANIFEST_BYTES_MAX:
            raise StoreError("too many segments for one manifest", hint="commit smaller batches")
        return manifest

    def _digest(self, audit: pa.Table | None) -> Mapping[str, bytes]:
        if audit is None or not audit.num_rows:
            return {}
        newest = pc.max(audit["log_time"]).as_py()
        month = (newest.year, newest.month) if newest else self._month
        if self._numbering is None or month > self._month:  # facts last no longer than their rows
            self._numbering, self._month = Numbering(), month
        return self._numbering.digest(self._next_n, audit)

    def _write(self, kind: str, table: pa.Table) -> Iterator[SegmentRecord]:
        """Writes one segment, or several when one would be too large."""
        sealed = self._sealer.seal(kind, table)
        data = sealed.data
        if len(data) > segments.SEGMENT_BYTES_MAX:
            if table.num_rows == 1:
                raise StoreError(f"a single row of {kind} is larger than a segment may be")
            half = table.num_rows // 2
            yield from self._write(kind, table.slice(0, half))
            yield from self._write(kind, table.slice(half))
            return
        sha256 = sha256_hex(data)
        path = self._layout.segment(self._next_n, kind, sha256)
        source.create(self._layout.store_dir, path, data, self._lease.guard)
        if sha256_hex(read_bytes(path)) != sha256:
            raise CommitError("segment reads back otherwise than written", place=str(path))
        yield SegmentRecord(
            kind=kind,
            file=path.name,
            first_seq=table["seq"][0].as_py(),
            rows=table.num_rows,
            rows_root=sealed.rows_root.hex(),
            sha256=sha256,
            bytes=len(data),
        )

    def _write_object(self, data: bytes) -> str:
        sha256 = sha256_hex(data)
        path = self._layout.object(sha256)
        if not path.exists():
            try:
                source.create(self._layout.store_dir, path, data, self._lease.guard)
            except FileExistsError as error:
                if not fence.is_same(path, data):
                    raise StoreError("has other bytes than its name", place=str(path)) from error
        return sha256

    def _check_usable(self) -> None:
        if not self._usable:
            raise CommitError(
                "this writer is closed, or a write failed", hint="open the store again"
            )
        with self._unusable_after_error():
            self._lease.check()

    @contextmanager
    def _unusable_after_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._usable = False
            raise
