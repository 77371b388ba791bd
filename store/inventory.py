"""Nothing lies in a store that no manifest names.

A checked chain and the origin's directory enter; notes leave on what a crash or a writer at work
explains, and a fault for anything else. Contents of named files are not looked at here.
"""

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from scalple.ingest.errors import VerificationError
from scalple.store.chain import Chain, referenced_objects
from scalple.store.layout import PREPARED_MAX, OriginLayout, manifest_number, segment_parts
from scalple.store.manifest import Manifest, sha256_hex


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
    records = [record for manifest in chain.manifests for record in manifest.segments]
    committed = {record.sha256 for record in records}
    known = {layout.checkpoint, layout.public_key}
    known |= {layout.manifest(n) for n in range(size)}
    known |= {layout.object(sha256) for sha256 in referenced_objects(chain)}
    known |= {layout.segments / record.file for record in records}
    notes, faults = [], []
    for path, wrong in _entries(layout):
        if wrong is not None:
            faults.append(VerificationError(wrong, place=str(path)))
        elif path in known or (busy and _in_flight(layout, path, size)):
            continue
        elif _is_uncommitted(layout, path, size, committed):
            notes.append(f"{path}: not committed; a crash left it, the next writer removes it")
        else:
            faults.append(VerificationError("no manifest names this file", place=str(path)))
    return notes, faults


def missing(layout: OriginLayout, manifests: Iterable[Manifest]) -> list[VerificationError]:
    """Which files of these manifests aren't there, or not as long as they should be; none is read."""
    faults = []
    for manifest in manifests:
        wanted: list[tuple[Path, int | None]] = [
            (layout.segments / one.file, one.bytes) for one in manifest.segments
        ]
        wanted += [(layout.object(sha256), None) for sha256 in manifest.objects.values()]
        for path, length in wanted:
            try:
                found = path.stat().st_size
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
    return [
        VerificationError("not part of the store", place=str(path))
        for path in sorted(store_dir.iterdir())
        if path not in directories or not stat.S_ISDIR(path.lstat().st_mode)
    ]


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
                is_file = stat.S_ISREG(path.lstat().st_mode)
            except FileNotFoundError:  # a writer at work has renamed it
                continue
            yield path, None if is_file else "no regular file"


def _is_uncommitted(layout: OriginLayout, path: Path, size: int, committed: set[str]) -> bool:
    """A segment prepared for one of the next manifests, whole and found nowhere else."""
    parts = segment_parts(path.name)
    if path.parent != layout.segments or parts is None:
        return False
    n, _, sha256 = parts
    recent = size <= n < size + PREPARED_MAX
    if not recent or sha256 in committed:
        return False
    try:
        return sha256_hex(path.read_bytes()) == sha256
    except OSError:
        return False


def _in_flight(layout: OriginLayout, path: Path, size: int) -> bool:
    """What a writer that is at work may have added since the head was read."""
    if path.parent == layout.manifests:
        number = manifest_number(path.name)
        return number is not None and number >= size
    if path.parent == layout.segments:
        parts = segment_parts(path.name)
        return parts is not None and parts[0] >= size
    return path.parent == layout.objects or path.name == f"{layout.checkpoint.name}.tmp"
