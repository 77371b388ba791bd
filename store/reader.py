"""A store opened for questions: checked heads, checked chains, checked segment files.

A store directory enters; paths of segments leave, each hashed against its manifest before it is
handed out. It answers nothing itself, and reads only what a signed head covers.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from scalple.ingest.errors import ConfigError, StoreError, VerificationError
from scalple.store import source
from scalple.store.chain import Chain, read_bytes, read_object, read_settled, referenced_objects
from scalple.store.checkpoint import open_checkpoint
from scalple.store.digestnames import CALLED, NAMES
from scalple.store.layout import ACCESS_ORIGIN, OriginLayout, existing_origins, origin_layout
from scalple.store.manifest import Manifest, SegmentRecord
from scalple.store.source import Wanted
from scalple.store.verified import VerifiedFiles, default_cache_file


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """A committed segment whose bytes were checked."""

    origin: str
    n: int
    """The manifest that commits it."""
    record: SegmentRecord
    path: Path

    @property
    def first_seq(self) -> int:
        """The seq of its first row."""
        return self.record.first_seq

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return self.record.rows


@dataclass(frozen=True, slots=True)
class AuditCommit:
    """The audit rows of one commit; all its files were checked.

    Attributes:
        origin: the log.
        n: the commit's number in it.
        first_seq: the seq of the first row.
        rows: how many there are, without a hole.
        segments: the files that hold them, in order.
        digest: name -> file (see `digest`); empty where the commit has none.
        names: the file that says under which names the rows were written (see `rownames`), if any
            of their tables or columns had been called otherwise before.
    """

    origin: str
    n: int
    first_seq: int
    rows: int
    segments: tuple[Path, ...]
    digest: Mapping[str, Path]
    names: Path | None = None


class StoreReader:
    """What the signed heads of a store's origins covered when it was opened."""

    def __init__(
        self, layouts: dict[str, OriginLayout], verified: VerifiedFiles | None = None
    ) -> None:
        self.notes: list[str] = []
        """What the operator should know about the state of the store."""
        self._layouts = layouts
        self._verified = verified or VerifiedFiles(default_cache_file())
        self._chains = {origin: self._read(layout) for origin, layout in layouts.items()}

    @classmethod
    def open(
        cls, store_dir: Path, origin: str | None = None, *, verified: VerifiedFiles | None = None
    ) -> Self:
        """Opens one origin, or all of them but the log of questions.

        Raises:
            ConfigError: there is no store, or no such origin in it.
            VerificationError: a head or a chain isn't intact.
            StoreError: it may not be read.
        """
        try:
            return cls._open(store_dir, origin, verified)
        except OSError as error:
            raise StoreError(
                f"can't be read: {error.strerror}",
                place=str(error.filename or store_dir),
                hint="check --store, and who may read it",
            ) from error

    @classmethod
    def _open(cls, store_dir: Path, origin: str | None, verified: VerifiedFiles | None) -> Self:
        origins = existing_origins(store_dir)
        if origin is not None:
            layout = origin_layout(store_dir, origin)
            if not layout.directory.is_dir():
                raise ConfigError(
                    f"no origin {origin!r} in this store",
                    place=str(store_dir),
                    hint=f"it holds {', '.join(origins) or 'none'}",
                )
            return cls({origin: layout}, verified)
        if not origins and (store_dir / ACCESS_ORIGIN).is_dir():
            origins = [ACCESS_ORIGIN]  # made by --access-log
        if not origins:
            raise ConfigError("no store here", place=str(store_dir), hint="check --store")
        return cls({name: origin_layout(store_dir, name) for name in origins}, verified)

    @classmethod
    def of_questions(cls, store_dir: Path) -> Self | None:
        """Opens the log of questions, if one was asked; raises as `open` does."""
        is_there = (store_dir / ACCESS_ORIGIN).is_dir()
        return cls.open(store_dir, ACCESS_ORIGIN) if is_there else None

    @property
    def directory(self) -> Path:
        """The store."""
        return next(iter(self._layouts.values())).store_dir

    @property
    def origins(self) -> list[str]:
        """The origins that were opened."""
        return list(self._layouts)

    @property
    def manifests(self) -> list[Manifest]:
        """All manifests, origin by origin, in order."""
        return [m for chain in self._chains.values() for m in chain.manifests]

    def chain(self, origin: str) -> Chain:
        """The checked chain of one origin."""
        return self._chains[origin]

    def signed_head(self, origin: str) -> str:
        """The checkpoint of one origin as a signed note, as it was when the store was opened.

        Raises:
            VerificationError: a writer has signed another one since; open the store again.
        """
        layout = self._layouts[origin]
        data = read_bytes(layout.checkpoint)
        head, _ = open_checkpoint(data, self._chains[origin].keys)
        if head != self._chains[origin].head:
            raise VerificationError("a commit came in between", place=origin, hint="ask again")
        return data.decode()

    def segments(self, kind: str, until: datetime | None = None) -> list[SegmentRef]:
        """The segments of a kind in all opened origins, in order of seq.

        Args:
            kind: as in `record.KINDS`.
            until: only what was committed by then, by the writer's clock.

        Raises:
            VerificationError: a file is missing or isn't what its manifest says.
        """
        found = [
            SegmentRef(origin, manifest.n, record, self._layouts[origin].segments / record.file)
            for origin, manifest in self._commits(until)
            for record in manifest.segments
            if record.kind == kind
        ]
        self._have((one.path, one.record.sha256, one.record.bytes) for one in found)
        return found

    def _have(self, wanted: Iterable[Wanted]) -> None:
        """Files that are here and have these bytes."""
        if remote := source.source_of(self.directory):
            remote.fetch(wanted)
            return
        for path, sha256, size in wanted:
            self._verified.check(path, sha256, size)
        self._verified.save()

    def audit_commits(self, until: datetime | None = None) -> list[AuditCommit]:
        """The commits that hold audit rows, by origin and seq; `until` and errors as in `segments`."""
        parts: dict[tuple[str, int], list[SegmentRef]] = {}
        for segment in self.segments("audit", until):
            parts.setdefault((segment.origin, segment.n), []).append(segment)
        found = []
        digests: list[Wanted] = []
        for (origin, n), segments in parts.items():
            layout, objects = self._layouts[origin], self._chains[origin].manifests[n].objects
            digest = {name: layout.object(objects[name]) for name in NAMES if name in objects}
            names = layout.object(objects[CALLED]) if CALLED in objects else None
            files = {**digest, CALLED: names} if names else digest
            digests += [(path, objects[name], None) for name, path in files.items()]
            found.append(
                AuditCommit(
                    origin,
                    n,
                    segments[0].first_seq,
                    sum(segment.rows for segment in segments),
                    tuple(segment.path for segment in segments),
                    digest,
                    names,
                )
            )
        self._have(digests)
        return found

    def _commits(self, until: datetime | None) -> Iterator[tuple[str, Manifest]]:
        for origin, chain in sorted(self._chains.items()):
            for manifest in chain.manifests:
                if until is not None and datetime.fromisoformat(manifest.committed_at) > until:
                    break
                yield origin, manifest

    def objects(self, sha256: str) -> bytes:
        """The bytes of an object that some manifest names.

        Raises:
            VerificationError: no opened origin has it, or its bytes aren't what its name says.
        """
        layouts = list(self._layouts.values())
        holders = [x for x in layouts if x.object(sha256).exists()]
        if not holders and source.source_of(self.directory):  # they come when they are asked for
            holders = [x for x in layouts if sha256 in referenced_objects(self._chains[x.origin])]
        return read_object((holders or layouts)[0], sha256)

    def _read(self, layout: OriginLayout) -> Chain:
        with source.steady(layout.store_dir):
            chain, beyond = read_settled(layout)
        if beyond:
            self.notes.append(
                f"{layout.origin}: manifest {chain.tree.size} isn't signed yet and is left out"
            )
        return chain
