"""Nothing lies in a store that no manifest names.

A checked chain and the origin's directory enter; notes leave on what a crash or a writer at work
explains. Anything else is an error. Contents of named files are not looked at here.
"""

import stat
from collections.abc import Iterator
from pathlib import Path

from scalple.ingest.errors import VerificationError
from scalple.store.chain import Chain, read_bytes, referenced_objects
from scalple.store.layout import OriginLayout, manifest_number, segment_parts
from scalple.store.manifest import sha256_hex
from scalple.store.writer import PREPARED_MAX


def check_origin(layout: OriginLayout, chain: Chain, *, busy: bool) -> list[str]:
    """Notes on segments that wait for their commit.

    Args:
        layout: the origin.
        chain: its manifests up to the signed head.
        busy: a writer is at work and may have added files since the head was read.

    Raises:
        VerificationError: a file that neither a manifest nor an unfinished commit explains.
    """
    size = chain.tree.size
    records = [record for manifest in chain.manifests for record in manifest.segments]
    committed = {record.sha256 for record in records}
    known = {layout.checkpoint, layout.public_key}
    known |= {layout.manifest(n) for n in range(size)}
    known |= {layout.object(sha256) for sha256 in referenced_objects(chain)}
    known |= {layout.segments / record.file for record in records}
    notes = []
    for path in _files(layout):
        if path in known or (busy and _in_flight(layout, path, size)):
            continue
        if not _uncommitted(layout, path, size, committed):
            raise VerificationError("no manifest names this file", place=str(path))
        notes.append(f"{path}: not committed; a crash left it, the next writer removes it")
    return notes


def check_store(store_dir: Path, directories: set[Path]) -> None:
    """Returns when the store's directory holds the origins' directories and nothing else.

    Raises:
        VerificationError: something else is there.
    """
    for path in sorted(store_dir.iterdir()):
        if path not in directories or not stat.S_ISDIR(path.lstat().st_mode):
            raise VerificationError("not part of the store", place=str(path))


def _files(layout: OriginLayout) -> Iterator[Path]:
    inner = [layout.segments, layout.manifests, layout.objects]
    for directory in [layout.directory, *inner]:
        if not stat.S_ISDIR(directory.lstat().st_mode):
            raise VerificationError("no directory", place=str(directory))
    for directory in [layout.directory, *inner]:
        for path in sorted(directory.iterdir()):
            is_index = path == layout.index and stat.S_ISDIR(path.lstat().st_mode)
            if path in inner or is_index:  # the index is `checkindex`'s
                continue
            if not stat.S_ISREG(path.lstat().st_mode):
                raise VerificationError("no regular file", place=str(path))
            yield path


def _uncommitted(layout: OriginLayout, path: Path, size: int, committed: set[str]) -> bool:
    """A segment prepared for one of the next manifests, whole and found nowhere else."""
    parts = segment_parts(path.name)
    if path.parent != layout.segments or parts is None:
        return False
    n, _, sha256 = parts
    recent = size <= n < size + PREPARED_MAX
    return recent and sha256 not in committed and sha256_hex(read_bytes(path)) == sha256


def _in_flight(layout: OriginLayout, path: Path, size: int) -> bool:
    """What a writer that is at work may have added since the head was read."""
    if path.parent == layout.manifests:
        number = manifest_number(path.name)
        return number is not None and number >= size
    if path.parent == layout.segments:
        parts = segment_parts(path.name)
        return parts is not None and parts[0] >= size
    return path.parent == layout.objects or path.name == f"{layout.checkpoint.name}.tmp"
