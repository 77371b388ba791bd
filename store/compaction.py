"""Makes an origin's index: what a daemon commits every few seconds, in few large files.

A store, an origin and its signing key enter; files of the index leave, its signed head last, so that
a crash leaves the old index or the new one. The log itself isn't touched, nor locked: a commit that
comes meanwhile simply isn't in it yet. Runs of commits grow by merging with what follows, as long
as that is as much as a quarter of them: a row is merged some few times in its life.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.correlate.record import KINDS
from scalple.ingest.errors import ConfigError, StoreError, VerificationError
from scalple.store import durable, segments
from scalple.store.chain import Chain, placed, read_bytes, read_object, read_own_keys
from scalple.store.digest import read_facts, to_objects
from scalple.store.digestnames import CALLED, FACTS, ROWS, SINCE
from scalple.store.index import (
    MANIFESTS,
    NUMBERING_FACTS,
    NUMBERING_ROWS,
    PARTS,
    POSITIONS,
    Index,
    IndexFile,
    KeyChange,
    Numbering,
    Run,
    content_of,
)
from scalple.store.indexed import Indexed, open_origin
from scalple.store.layout import OriginLayout, origin_layout
from scalple.store.manifest import Manifest, positions_to_bytes, sha256_hex
from scalple.store.merging import RunMaker, Sink
from scalple.store.note import VerifierKey
from scalple.store.source import source_of
from scalple.store.verified import VerifiedFiles, default_cache_file

RUN_ROWS_MAX = 1 << 22
"""A run with so many rows is merged no more, unless another number is asked for."""
GROWTH = 4
"""A run is merged with what follows it unless it is so many times larger."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What was done.

    Attributes:
        origin: the log.
        manifests: how many are in the index now.
        added: how many of them weren't before.
        runs: how many runs there are.
        bytes: of all files of the index.
        notes: what the operator should know.
    """

    origin: str
    manifests: int
    added: int
    runs: int
    bytes: int
    notes: tuple[str, ...] = ()


def compact(
    store_dir: Path,
    origin: str,
    signing_key: Ed25519PrivateKey,
    verified: VerifiedFiles | None = None,
    *,
    run_rows: int | None = None,
) -> Compacted:
    """Brings the index of an origin up to its signed head.

    `run_rows`: a run with so many rows is merged no more; fewer need less memory, and more runs make
    questions slower.

    Raises:
        ConfigError: no such origin, or another signing key.
        StoreError: it is being made already, or can't be written.
        VerificationError: the log isn't what its head says.
    """
    layout = origin_layout(store_dir, origin)
    if not layout.directory.is_dir():
        raise ConfigError(f"no origin {origin!r} in this store", place=str(store_dir))
    refuse_bucket(store_dir)
    key = VerifierKey.of(origin, signing_key)
    if key not in read_own_keys(layout):
        raise _another_key(layout)
    durable.make_directory(layout.index)
    with locked(layout):
        verified = verified or VerifiedFiles(default_cache_file())
        return _compact(layout, signing_key, key, verified, run_rows or RUN_ROWS_MAX)


def refuse_bucket(store_dir: Path) -> None:
    """Raises ConfigError for a store in a bucket: there an index would save nothing."""
    if remote := source_of(store_dir):
        raise ConfigError(
            "a store in a bucket has no index",
            place=remote.url,
            hint="give a directory; `mirror` copies its log and leaves the index out",
        )


def _another_key(layout: OriginLayout) -> ConfigError:
    return ConfigError(
        "the signing key isn't the one that this origin goes on with",
        place=str(layout.public_key),
        hint="name the key that its commits are signed with",
    )


def _compact(
    layout: OriginLayout,
    private: Ed25519PrivateKey,
    key: VerifierKey,
    verified: VerifiedFiles,
    run_rows: int,
) -> Compacted:
    opened = open_origin(layout, verified)
    chain, indexed = opened.chain, opened.indexed
    if chain.key_at(chain.tree.size) != key:
        raise _another_key(layout)
    for path in all_files(layout):  # of one that was killed
        if path.name.endswith(durable.TEMPORARY_SUFFIX):
            durable.remove(path)
    before = indexed.size if indexed else 0
    index = indexed.index if indexed else None
    if chain.tree.size > before:
        index = make_index(layout, chain, indexed, _writing(layout), run_rows)
        durable.replace(layout.index_head, index.sign(private))
        _clear(layout, index, indexed)
    verified.save()
    files = index.files if index else []
    return Compacted(
        layout.origin,
        chain.tree.size,
        chain.tree.size - before,
        len(index.runs) if index else 0,
        sum(one.bytes for one in files),
        opened.notes,
    )


def make_index(
    layout: OriginLayout, chain: Chain, indexed: Indexed | None, sink: Sink, run_rows: int
) -> Index:
    """The index of a chain, which continues that of `indexed`; its files go to the sink."""
    kept = list(indexed.index.runs) if indexed else []
    start = indexed.size if indexed else 0
    count = joined([run.rows for run in kept], _rows(chain, start), run_rows)
    merged = kept[len(kept) - count :]
    del kept[len(kept) - count :]
    runs = [*kept, *_runs(layout, chain, kept, merged, indexed, sink, run_rows)]
    return whole(layout, chain, indexed, runs, sink)


def whole(
    layout: OriginLayout, chain: Chain, indexed: Indexed | None, runs: list[Run], sink: Sink
) -> Index:
    """The index of a chain whose runs are made already; `indexed`: the one before, if any."""
    positions = positions_to_bytes(tuple(chain.positions.values()))
    if chain.last_sha256 is None:
        raise VerificationError("a log without manifests has no index", place=layout.origin)
    return Index(
        origin=layout.origin,
        size=chain.tree.size,
        root=chain.tree.root().hex(),
        nodes=[node.hex() for node in chain.tree.nodes],
        last_sha256=chain.last_sha256,
        rotations=[KeyChange.of(one) for one in chain.rotations],
        positions=_written(sink, POSITIONS, positions),
        numbering=_numbering(layout, chain, indexed, sink),
        runs=runs,
    )


def joined(runs: list[int], more: int, run_rows: int = RUN_ROWS_MAX) -> int:
    """With how many of the last runs (so many rows each) that many more rows are merged."""
    count = 0
    for rows in reversed(runs):
        if rows > GROWTH * more or rows + more > run_rows:
            break
        more += rows
        count += 1
    return count


def _rows(chain: Chain, start: int) -> int:
    records = (one for n in range(start, chain.tree.size) for one in chain.manifests[n].segments)
    return sum(one.rows for one in records)


def _runs(
    layout: OriginLayout,
    chain: Chain,
    kept: list[Run],
    merged: list[Run],
    indexed: Indexed | None,
    sink: Sink,
    run_rows: int,
) -> Iterator[Run]:
    """The runs that follow those that are kept."""
    at = kept[-1].end if kept else 0
    ends = dict(kept[-1].ends) if kept else dict.fromkeys(KINDS, 0)
    maker = RunMaker(at, ends, sink)
    for run in merged:
        if maker.holds_audit and run.begins["audit"] > maker.audit_end:
            done = maker.finish()
            yield done
            maker = RunMaker(at, done.ends, sink)
        if indexed is not None:
            _add_run(maker, indexed, run)
            at = run.end
    while at < chain.tree.size:
        is_hole = maker.holds_audit and chain.manifests.expired.has(at, "audit")
        if maker.rows >= run_rows or (is_hole and _has_audit(chain.manifests[at])):
            done = maker.finish()
            yield done
            maker = RunMaker(at, done.ends, sink)
        add_commit(maker, layout, chain, at)
        at += 1
    yield maker.finish()


def _has_audit(manifest: Manifest) -> bool:
    return any(one.kind == "audit" for one in manifest.segments)


def add_commit(maker: RunMaker, layout: OriginLayout, chain: Chain, n: int) -> None:
    """Gives a run its next commit, read from the log."""
    left = chain.manifests.left(n)
    add_logged(maker, layout, chain.manifests[n], left, chain.leaf_hashes[n])


def add_logged(
    maker: RunMaker, layout: OriginLayout, manifest: Manifest, left: Manifest, leaf: bytes
) -> None:
    """Likewise, of a log that isn't at hand as a chain; `left`: what of the commit hasn't expired."""
    held = _held(layout, left)
    add_manifest(maker, layout, manifest, left, leaf, [one.salt_key for one in held])
    for one in held:
        maker.add_rows(one.kind, one.table)
    for record in manifest.segments:
        maker.skip_to(record.kind, record.first_seq + record.rows)


def add_manifest(
    maker: RunMaker,
    layout: OriginLayout,
    manifest: Manifest,
    left: Manifest,
    leaf: bytes,
    salt_keys: Sequence[bytes],
) -> None:
    """All of the commit but its rows; `salt_keys`: of those segments that are left."""
    named = left.objects.get(CALLED)
    names = read_object(layout, named) if named else None
    maker.add_commit(manifest, leaf, left, salt_keys, names)


def _held(layout: OriginLayout, manifest: Manifest) -> list[segments.Segment]:
    found = []
    for record in manifest.segments:
        path = layout.segments / record.file
        with placed(path):
            data = read_bytes(path)
            if sha256_hex(data) != record.sha256:
                raise VerificationError(
                    f"SHA-256 differs: expected {record.sha256}, found {sha256_hex(data)}"
                )
            found.append(segments.from_parquet(data, coded=False))
    return found


def _add_run(maker: RunMaker, indexed: Indexed, run: Run) -> None:
    manifests = pa.BufferReader(_checked(indexed, run.holding(MANIFESTS)[0]))
    parts = pa.BufferReader(_checked(indexed, run.holding(PARTS)[0]))
    names = [_checked(indexed, file) for file in run.holding(CALLED)]
    maker.add_run(run, pq.read_table(manifests), pq.read_table(parts), names[0] if names else None)
    for kind in KINDS:
        for file in run.holding(kind):
            maker.add_rows(kind, segments.rows_from_parquet(kind, _checked(indexed, file)))
        maker.skip_to(kind, run.ends[kind])


def _checked(indexed: Indexed, file: IndexFile) -> bytes:
    path = indexed.path(file)
    data = read_bytes(path)
    if sha256_hex(data) != file.sha256:
        raise VerificationError("file of the index differs from its hash", place=str(path))
    return data


def _numbering(
    layout: OriginLayout, chain: Chain, indexed: Indexed | None, sink: Sink
) -> Numbering | None:
    """What the newest digest counts in: the writer that made it may go on with it."""
    newest = chain.manifests.newest(ROWS)
    if newest is None or ROWS not in chain.manifests.left(newest.n).objects:
        return None  # what expired was no open writer's
    data = read_object(layout, newest.objects[ROWS])
    since = int((pq.read_metadata(pa.BufferReader(data)).metadata or {})[SINCE])
    facts, begin = [], since
    known = indexed.index.numbering if indexed else None
    if indexed is not None and known is not None and known.since == since:
        file = next(one for one in known.files if one.holds == NUMBERING_FACTS)
        facts.append(read_facts(pa.BufferReader(_checked(indexed, file))))
        begin = indexed.size
    for n in range(begin, chain.tree.size):
        objects = chain.manifests.left(n).objects
        if FACTS in objects:
            facts.append(read_facts(pa.BufferReader(read_object(layout, objects[FACTS]))))
    rows = pq.read_table(pa.BufferReader(data)).slice(0, 0)
    made = to_objects({ROWS: rows, FACTS: pa.concat_tables(facts)}, str(since))
    files = [
        _written(sink, NUMBERING_ROWS, made[ROWS]),
        _written(sink, NUMBERING_FACTS, made[FACTS]),
    ]
    return Numbering(since=since, nonce=newest.nonce, files=files)


def _written(sink: Sink, holds: str, data: bytes) -> IndexFile:
    sink(holds, data, 0, 0)
    return IndexFile(holds=holds, sha256=sha256_hex(data), bytes=len(data))


def _writing(layout: OriginLayout) -> Sink:
    def write(holds: str, data: bytes, _first_seq: int, _rows: int) -> None:
        path = layout.index / f"{holds}-{sha256_hex(data)}"
        try:
            durable.create(path, data)
        except FileExistsError:
            if read_bytes(path) != data:  # damaged, or cut off by a failing disk
                durable.replace(path, data)

    return write


def all_files(layout: OriginLayout) -> list[Path]:
    """Everything of an index, the head first; not what a writer has left (`resume`)."""
    found = [layout.index_head]
    for path in sorted(layout.index.iterdir()):
        unfinished = path.name.endswith(durable.TEMPORARY_SUFFIX)
        writers = path.name.lstrip(".").startswith(layout.resume.name)
        if content_of(path.name) or (unfinished and not writers):
            found.append(path)
    return found


def _clear(layout: OriginLayout, index: Index, before: Indexed | None) -> None:
    """Removes what neither this index nor the one before names: a question may still read that."""
    indexes = [index, *([before.index] if before else [])]
    kept = {layout.index_head.name, *(one.name for named in indexes for one in named.files)}
    for path in all_files(layout):
        if path.name not in kept:
            durable.remove(path)


@contextlib.contextmanager
def locked(layout: OriginLayout) -> Iterator[None]:
    """One compaction of an origin at a time; no writer or reader is kept waiting."""
    try:  # not through a link: files of another directory would go
        descriptor = os.open(layout.index, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise StoreError(
            f"can't be opened as a directory: {error.strerror}",
            place=str(layout.index),
            hint="an index can be made anew: move what is there, and run `compact`",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreError(
            "the index is being made already, or checked",
            place=str(layout.index),
            hint="wait for it",
        ) from error
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"can't be locked: {error.strerror}", place=str(layout.index)) from error
    try:
        yield
    finally:
        os.close(descriptor)
