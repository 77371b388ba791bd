"""Nothing lies in a store that no manifest names.

A checked chain and the origin's directory enter; notes leave on what a crash or a writer at work
explains, and a fault for anything else. Contents of named files are not looked at here.
"""

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scalple.ingest.errors import VerificationError
from scalple.store.chain import Chain
from scalple.store.layout import PREPARED_MAX, OriginLayout, manifest_number, segment_parts
from scalple.store.manifest import Manifest, sha256_hex
from scalple.store.retained import files_of, gone_files
from scalple.store.source import Source, source_of

_SHA256 = re.compile("[0-9a-f]{64}")


def check_origin(
    layout: OriginLayout, chain: Chain, *, busy: bool
) -> tuple[list[str], list[VerificationError]]:
    """Notes on segments that wait for their commit, and what doesn't belong here.

    Args:
        layout: the origin.
        chain: its manifests up to the signed head.
        busy: a writer is at work and may have added files since the head was read.
    """
    size = chain.tree.size
    expired = gone_files(layout, chain)
    committed = {one.sha256 for manifest in chain.manifests for one in manifest.segments}
    known = {layout.checkpoint, layout.public_key}
    known |= {layout.manifest(n) for n in range(size)}
    known |= {path for m in chain.manifests for path in files_of(layout, m)} - expired.keys()
    if remote := source_of(layout.store_dir):
        return _orphans(layout, remote, known, expired, committed, size)
    notes, faults, still = [], [], 0
    for path, wrong in _entries(layout):
        if wrong is not None:
            faults.append(VerificationError(wrong, place=str(path)))
        elif path in expired and _is_whole(path, expired[path]):
            still += 1
        elif path in known or (busy and _in_flight(layout, path, size)):
            continue
        elif _is_uncommitted(layout, path, size, committed):
            notes.append(f"{path}: not committed; a crash left it, the next writer removes it")
        else:
            faults.append(VerificationError("no manifest names this file", place=str(path)))
    if still:
        notes.append(
            f"{layout.origin}: {still} file(s) of what has expired are still there: the next `retention` "
            "removes them"
        )
    return notes, faults


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return sha256_hex(path.read_bytes()) == sha256
    except OSError:
        return False


def missing(layout: OriginLayout, manifests: Sequence[Manifest]) -> list[VerificationError]:
    """Which files of these manifests aren't there, or not as long as they should be; none is read."""
    remote = source_of(layout.store_dir)
    there = dict(remote.names()) if remote and manifests else None
    faults = []
    for manifest in manifests:
        wanted: list[tuple[Path, int | None]] = [
            (layout.segments / one.file, one.bytes) for one in manifest.segments
        ]
        named = [*manifest.objects.values(), manifest.positions_object]
        wanted += [(layout.object(sha256), None) for sha256 in named if sha256]
        for path, length in wanted:
            try:
                found = path.stat().st_size if there is None else there[path]
            except KeyError:
                faults.append(VerificationError("missing", place=str(path)))
            except OSError as error:
                faults.append(VerificationError(f"can't read: {error.strerror}", place=str(path)))
            else:
                if length not in (None, found):
                    faults.append(
                        VerificationError(
                            "length differs", place=str(path), expected=length, found=found
                        )
                    )
    return faults


def check_store(store_dir: Path, directories: set[Path]) -> list[VerificationError]:
    """What lies in the store's directory beside the origins' directories."""
    if remote := source_of(store_dir):
        strange = [
            path
            for path, _ in remote.names()
            if store_dir / path.relative_to(store_dir).parts[0] not in directories
        ]
    else:
        strange = [
            path
            for path in sorted(store_dir.iterdir())
            if path not in directories or not stat.S_ISDIR(path.lstat().st_mode)
        ]
    return [VerificationError("not part of the store", place=str(path)) for path in strange]


def _entries(layout: OriginLayout) -> Iterator[tuple[Path, str | None]]:
    """Every file of an origin, and what is wrong with what is none."""
    inner = [layout.segments, layout.manifests, layout.objects]
    for directory in [layout.directory, *inner]:
        try:
            if not stat.S_ISDIR(directory.lstat().st_mode):
                yield directory, "no directory"
                continue
            entries = sorted(directory.iterdir())
        except OSError as error:
            yield directory, f"can't read: {error.strerror}"
            continue
        for path in entries:
            if path in inner:
                continue
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:  # a writer at work has renamed it
                continue
            if path == layout.index and stat.S_ISDIR(mode):  # `checkindex`'s
                continue
            yield path, None if stat.S_ISREG(mode) else "no regular file"


def _is_uncommitted(layout: OriginLayout, path: Path, size: int, committed: set[str]) -> bool:
    """A segment prepared for one of the next manifests, whole and found nowhere else."""
    parts = segment_parts(path.name)
    if path.parent != layout.segments or parts is None:
        return False
    n, _, sha256 = parts
    recent = size <= n < size + PREPARED_MAX
    if not recent or sha256 in committed:
        return False
    return _is_whole(path, sha256)


def _orphans(
    layout: OriginLayout,
    remote: Source,
    known: set[Path],
    expired: Mapping[Path, str],
    committed: set[str],
    size: int,
) -> tuple[list[str], list[VerificationError]]:
    """What writers that lost a race, or stopped, have left in a bucket, where nobody removes it; and
    what was committed since the head was read. A file that isn't what its name says is a fault.
    """
    found = newer = index = still = 0
    faults = []
    for path, _ in remote.names():
        if path in known or not path.is_relative_to(layout.directory):
            continue
        if path in expired:
            still += 1
            continue
        if path.is_relative_to(layout.index):
            index += 1
            continue
        if path.parent == layout.manifests and (manifest_number(path.name) or 0) >= size:
            newer += 1
            continue
        parts = segment_parts(path.name)
        is_object = path.parent == layout.objects and _SHA256.fullmatch(path.name)
        is_segment = path.parent == layout.segments and parts and parts[2] not in committed
        if not (is_object or is_segment):
            faults.append(VerificationError("no manifest names this file", place=str(path)))
            continue
        try:
            remote.read(path, path.name if is_object or parts is None else parts[2])
            found += 1
        except VerificationError as error:
            faults.append(error)
    notes = []
    if still:
        notes.append(
            f"{layout.origin}: {still} file(s) of what has expired are still in the bucket"
        )
    if index:
        notes.append(f"{layout.origin}: {index} file(s) of an index, which isn't used in a bucket")
    if newer:
        notes.append(f"{layout.origin}: {newer} manifest(s) came while this was read, not checked")
    if found:
        notes.append(f"{layout.origin}: {found} file(s) of commits that never came, or not yet")
    return notes, faults


def _in_flight(layout: OriginLayout, path: Path, size: int) -> bool:
    """What a writer that is at work may have added since the head was read."""
    if path.parent == layout.manifests:
        number = manifest_number(path.name)
        return number is not None and number >= size
    if path.parent == layout.segments:
        parts = segment_parts(path.name)
        return parts is not None and parts[0] >= size
    return path.parent == layout.objects or path.name == f"{layout.checkpoint.name}.tmp"
