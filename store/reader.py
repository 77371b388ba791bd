"""A store opened for questions: checked heads, checked chains, checked segment files.

A store directory enters; paths of segments leave, each hashed against its manifest before it is
handed out. It answers nothing itself, and reads only what a signed head covers.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from scalple.ingest.errors import ConfigError, StoreError
from scalple.store import source
from scalple.store.chain import Chain, read_bytes, read_object, referenced_objects
from scalple.store.digestnames import CALLED, FACTS, NAMES, ROWS
from scalple.store.expiry import Expired
from scalple.store.index import NUMBERING_FACTS, NUMBERING_ROWS, Numbering, Run
from scalple.store.indexed import Indexed, open_origin
from scalple.store.layout import ACCESS_ORIGIN, OriginLayout, existing_origins, origin_layout
from scalple.store.manifest import Manifest
from scalple.store.retained import gone_files
from scalple.store.source import Wanted
from scalple.store.verified import VerifiedFiles, default_cache_file

if TYPE_CHECKING:  # questions do without what takes rows out of segments
    import pyarrow as pa

    from scalple.store.parts import Part


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """Committed rows of a kind in a file whose bytes were checked: a segment, or many merged.

    Attributes:
        origin: the log.
        kind: as in `record.KINDS`.
        first_seq: the seq of its first row.
        rows: how many there are, without a hole, in whatever order.
        path: the file.
    """

    origin: str
    kind: str
    first_seq: int
    rows: int
    path: Path

    def table(self) -> "pa.Table":
        """Its rows in the order of seq."""
        from scalple.store.segments import rows_from_parquet

        return rows_from_parquet(self.kind, read_bytes(self.path))


@dataclass(slots=True)
class Extent:
    """What an origin holds.

    Attributes:
        statements: rows of pgAudit's.
        files: with rows, of the log or of its index.
        bytes: of these files.
        loose: commits that no index holds.
    """

    statements: int = 0
    files: int = 0
    bytes: int = 0
    loose: int = 0


@dataclass(frozen=True, slots=True)
class AuditCommit:
    """The audit rows of one commit, or of many that were merged; all files were checked.

    Attributes:
        origin: the log.
        numbering: what its digest says facts are numbered since, if a numbering begins with it.
        first_seq: the seq of the first row.
        rows: how many there are, without a hole; the files may hold later ones.
        is_cut: they do.
        segments: the files that hold them.
        digest: name -> file (see `digest`); empty where there is none.
        names: the file that says under which names the rows were written (see `rownames`), if any
            of their tables or columns had been called otherwise before.
    """

    origin: str
    numbering: str
    first_seq: int
    rows: int
    is_cut: bool
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
        self._indexed: dict[str, Indexed] = {}
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

    def extent(self, origin: str) -> "Extent":
        """How much a question has to look at, without opening any file of rows."""
        indexed, found = self._indexed.get(origin), Extent()
        for run in indexed.index.runs if indexed else ():
            found.statements += run.ends["audit"] - run.begins["audit"]
            found.files += len(run.files)
            found.bytes += sum(file.bytes for file in run.files)
        for manifest in self._commits(origin, None):
            found.loose += 1
            found.files += len(manifest.segments)
            for record in manifest.segments:
                found.bytes += record.bytes
                found.statements += record.rows if record.kind == "audit" else 0
        return found

    def signed_head(self, origin: str) -> str:
        """The checkpoint of one origin as a signed note, as it was when the store was opened."""
        return self._chains[origin].signed.decode()

    def segments(self, kind: str, until: datetime | None = None) -> list[SegmentRef]:
        """The files with rows of a kind in all opened origins, in order of seq.

        Args:
            kind: as in `record.KINDS`.
            until: only what was committed by then, by the writer's clock; a file that was merged
                may hold rows that weren't (see `ends`).

        Raises:
            VerificationError: a file is missing or isn't what its manifest says.
        """
        found = []
        wanted: list[Wanted] = []
        for origin in sorted(self._chains):
            layout, indexed = self._layouts[origin], self._indexed.get(origin)
            for run, ends in self._runs(origin, until):
                for file in run.holding(kind):
                    if indexed is not None and file.first_seq < ends[kind]:
                        place = indexed.path(file)
                        found.append(SegmentRef(origin, kind, file.first_seq, file.rows, place))
            for manifest in self._commits(origin, until):
                for record in manifest.segments:
                    if record.kind == kind:
                        path = layout.segments / record.file
                        wanted.append((path, record.sha256, record.bytes))
                        one = SegmentRef(origin, kind, record.first_seq, record.rows, path)
                        found.append(one)
        self._have(wanted)
        return found

    def _have(self, wanted: Iterable[Wanted]) -> None:
        """Files that are here and have these bytes."""
        if remote := source.source_of(self.directory):
            remote.fetch(wanted)
            return
        for path, sha256, size in wanted:
            self._verified.check(path, sha256, size)
        self._verified.save()

    def ends(self, kind: str, until: datetime | None) -> dict[str, int]:
        """Where files of `segments` hold later rows: origin -> the first seq not committed by then."""
        found = {}
        for origin in self._chains:
            for run, ends in self._runs(origin, until):
                if ends[kind] < run.ends[kind]:
                    found[origin] = ends[kind]
        return found

    def audit_commits(self, until: datetime | None = None) -> list[AuditCommit]:
        """The commits that hold audit rows, by origin and seq; `until` and errors as in `segments`."""
        found: list[AuditCommit] = []
        wanted: list[Wanted] = []
        for origin in sorted(self._chains):
            found += self._merged(origin, until)
            for manifest in self._commits(origin, until):
                found += self._committed(origin, manifest, wanted)
        self._have(wanted)
        return found

    def _merged(self, origin: str, until: datetime | None) -> Iterator[AuditCommit]:
        """The runs of an index, and what later commits need of it."""
        indexed = self._indexed.get(origin)
        if indexed is None:
            return
        for run, ends in self._runs(origin, until):
            begin, end = run.begins["audit"], ends["audit"]
            if begin < end:
                segments = tuple(
                    indexed.path(file) for file in run.holding("audit") if file.first_seq < end
                )
                digest = {name: indexed.path(run.holding(name)[0]) for name in NAMES}
                is_cut = end < run.ends["audit"]
                names = next(map(indexed.path, run.holding(CALLED)), None)
                yield AuditCommit(
                    origin, run.numbering, begin, end - begin, is_cut, segments, digest, names
                )
        following = next(self._commits(origin, until), None)
        numbering = indexed.index.numbering
        if numbering and following and following.nonce == numbering.nonce:
            yield _numbered_before(indexed, numbering)

    def _committed(
        self, origin: str, manifest: Manifest, wanted: list[Wanted]
    ) -> Iterator[AuditCommit]:
        """One that isn't in an index; its files are wanted."""
        layout, objects = self._layouts[origin], manifest.objects
        records = [one for one in manifest.segments if one.kind == "audit"]
        if not records:
            return
        digest = {name: layout.object(objects[name]) for name in NAMES if name in objects}
        names = layout.object(objects[CALLED]) if CALLED in objects else None
        files = {**digest, CALLED: names} if names else digest
        wanted += [(path, objects[name], None) for name, path in files.items()]
        wanted += [(layout.segments / one.file, one.sha256, one.bytes) for one in records]
        yield AuditCommit(
            origin,
            str(manifest.n),
            records[0].first_seq,
            sum(one.rows for one in records),
            False,
            tuple(layout.segments / one.file for one in records),
            digest,
            names,
        )

    def _runs(self, origin: str, until: datetime | None) -> Iterator[tuple[Run, dict[str, int]]]:
        """The runs of an index, and per kind where the rows end that were committed by then."""
        indexed = self._indexed.get(origin)
        for run in indexed.index.runs if indexed else ():
            end, ends = indexed.ends(run, until) if indexed else (0, {})
            yield run, ends
            if end < run.end:
                return

    def _commits(self, origin: str, until: datetime | None) -> Iterator[Manifest]:
        """What isn't in the index."""
        indexed, chain = self._indexed.get(origin), self._chains[origin]
        if indexed and any(indexed.ends(run, until)[0] < run.end for run in indexed.index.runs):
            return
        for manifest in chain.manifests[indexed.size if indexed else 0 :]:
            if until is not None and datetime.fromisoformat(manifest.committed_at) > until:
                break
            yield chain.manifests.expired.left(manifest)

    def part(self, origin: str, kind: str, seq: int) -> "Part | None":
        """The segment that holds a row, as it was committed; None also of one that expired."""
        from scalple.store.parts import Part, indexed_part

        chain, indexed = self._chains.get(origin), self._indexed.get(origin)
        if chain is None:
            return None
        for run in indexed.index.runs if indexed else ():
            if indexed and run.begins[kind] <= seq < run.ends[kind]:
                return indexed_part(indexed, run, kind, seq)
        for manifest in map(chain.manifests.expired.left, chain.manifests.since):
            for record in manifest.segments:
                if record.kind == kind and record.first_seq <= seq < record.first_seq + record.rows:
                    return Part(self._layouts[origin], manifest.n, record)
        return None

    def expired(self, origin: str) -> Expired:
        """What isn't there any more of one origin."""
        return self._chains[origin].manifests.expired

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
            opened = open_origin(layout, self._verified)
        if opened.indexed is not None:
            self._indexed[layout.origin] = opened.indexed
        if source.source_of(layout.store_dir):
            source.forget(layout.store_dir, gone_files(layout, opened.chain))
        self.notes += opened.notes
        if opened.beyond:
            self.notes.append(
                f"{layout.origin}: manifest {opened.chain.tree.size} isn't signed yet and is left out"
            )
        return opened.chain


def _numbered_before(indexed: Indexed, numbering: Numbering) -> AuditCommit:
    """No rows, and the facts that a commit behind the index may go on to count."""
    of = {FACTS: NUMBERING_FACTS, ROWS: NUMBERING_ROWS}
    files = {one.holds: indexed.path(one) for one in numbering.files}
    digest = {name: files[held] for name, held in of.items()}
    end = indexed.index.runs[-1].ends["audit"]
    return AuditCommit(indexed.index.origin, str(numbering.since), end, 0, False, (), digest)
