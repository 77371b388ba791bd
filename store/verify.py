"""Reads everything again, from bytes, and believes nothing that isn't signed.

A store directory enters, and what the verifier knows from elsewhere: a public key, a checkpoint
seen earlier. A report leaves, or a VerificationError that names the place. Steps, per origin:

 1. the key: given from outside, or the store's own (then the report says so);
 2. the checkpoint: one signature, canonical, this origin;
 3. every manifest: canonical, signed, chained to the one before, rows dense, positions joined;
 4. the root over the manifests is the checkpoint's;
 5. a checkpoint seen earlier is a beginning of this log;
 6. every object that a manifest names has the hash it is named by;
 7. every segment: length, SHA-256, schema, seq, origin, and the root over its decoded rows;
 8. the digest of a commit, where it has one, is what its audit rows make;
 9. nothing else lies in the store;
10. the index, where there is one, is what the log makes.

It remembers nothing and mends nothing. What only an outside anchor can show (that the newest
commits were cut off together with their checkpoint) it can't show without one: step 5.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from scalple.ingest.errors import ConfigError, VerificationError
from scalple.store import inventory, merkle, recovery, segments
from scalple.store.chain import (
    Chain,
    placed,
    read_bytes,
    read_object,
    read_settled,
    referenced_objects,
)
from scalple.store.checkindex import check_index
from scalple.store.checkpoint import open_checkpoint
from scalple.store.digest import Checker
from scalple.store.digestnames import NAMES
from scalple.store.keys import public_key_beside, read_public_keys
from scalple.store.layout import ACCESS_ORIGIN, OriginLayout, existing_origins, origin_layout
from scalple.store.manifest import Manifest, SegmentRecord, sha256_hex
from scalple.store.note import VerifierKey
from scalple.store.rowtree import row_hashes


@dataclass(slots=True)
class VerifyReport:
    """What was found intact."""

    origins: list[str] = field(default_factory=list)
    manifests: int = 0
    segments: int = 0
    rows: int = 0
    bytes: int = 0
    """Of all segments."""
    notes: list[str] = field(default_factory=list)
    """What the reader of the report must know to judge it."""


def verify(
    store_dir: Path,
    origin: str | None = None,
    public_key: Path | None = None,
    checkpoint: Path | None = None,
) -> VerifyReport:
    """Checks one origin, or the whole store.

    Args:
        store_dir: the store.
        origin: only this one; files outside of it are then not looked at.
        public_key: a file of verifier keys known from elsewhere, one a line.
        checkpoint: a signed checkpoint of an origin, seen earlier and kept elsewhere.

    Raises:
        ConfigError: there is no store, no such origin, or a given file can't be read.
        VerificationError: something isn't intact.
    """
    layouts = _layouts(store_dir, origin)
    outside = {key.name: key for key in read_public_keys(public_key)} if public_key else {}
    if public_key and not outside.keys() & {layout.origin for layout in layouts}:
        raise VerificationError("the public key is of no origin here", place=str(public_key))
    report = VerifyReport()
    heads = {x.origin: _verify_origin(x, outside.get(x.origin), report) for x in layouts}
    if checkpoint is not None:
        report.notes.append(_verify_earlier(checkpoint, heads))
    if origin is None:
        inventory.check_store(store_dir, {layout.directory for layout in layouts})
    return report


def _layouts(store_dir: Path, origin: str | None) -> list[OriginLayout]:
    if origin is not None:
        names = [origin]
    else:
        names = existing_origins(store_dir)
        names += [name for name in [ACCESS_ORIGIN] if (store_dir / name).is_dir()]
    layouts = [origin_layout(store_dir, name) for name in names]
    if not layouts or not all(layout.directory.is_dir() for layout in layouts):
        raise ConfigError("no such store or origin", place=str(store_dir), hint="check --store")
    return layouts


def _verify_origin(
    layout: OriginLayout, outside: VerifierKey | None, report: VerifyReport
) -> tuple[VerifierKey, Chain]:
    busy = recovery.is_locked(layout)
    key = _key(layout, outside)
    if outside is None:
        report.notes.append(f"{layout.origin}: self-signed: no outside key")
    chain, beyond = read_settled(layout, key)
    busy = busy or recovery.is_locked(layout)
    if beyond and not busy:
        raise VerificationError(
            "manifest isn't covered by the signed head",
            place=str(layout.manifest(chain.tree.size)),
            hint="after a crash: the next opening for writing checks and signs it",
        )
    for manifest in chain.manifests:
        with placed(layout.manifest(manifest.n)):
            manifest.check_signature(key)
    for sha256 in sorted(referenced_objects(chain)):
        read_object(layout, sha256)
    checker = Checker()
    for manifest in chain.manifests:
        audit = []
        for record in manifest.segments:
            table = _verify_segment(layout, record)
            if record.kind == "audit":
                audit.append(table)
            report.segments += 1
            report.rows += record.rows
            report.bytes += record.bytes
        with placed(layout.manifest(manifest.n)):
            _verify_digest(layout, manifest, audit, checker)
    report.notes += inventory.check_origin(layout, chain, busy=busy)
    report.notes += check_index(layout, key, chain)
    report.origins.append(layout.origin)
    report.manifests += chain.tree.size
    return key, chain


def _key(layout: OriginLayout, outside: VerifierKey | None) -> VerifierKey:
    """The key to believe; the store's own key files must all say the same."""
    own = layout.public_key
    beside = public_key_beside(layout.store_dir, layout.origin)
    files = [own, beside] if os.access(beside, os.R_OK) else [own]
    if not own.exists():
        raise VerificationError("public key is missing", place=str(own))
    expected = [outside] if outside else read_public_keys(own)
    if len(expected) != 1:
        raise VerificationError("one public key is expected", place=str(own))
    for path in files:
        if read_public_keys(path) != expected:
            raise VerificationError(
                f"public key differs: expected {expected[0].to_text()}", place=str(path)
            )
    return expected[0]


def _verify_digest(
    layout: OriginLayout, manifest: Manifest, audit: list[pa.Table], checker: Checker
) -> None:
    """Commits of earlier versions have none; a part of one, or one of no rows, is nobody's doing."""
    named = {name: manifest.objects[name] for name in NAMES if name in manifest.objects}
    if not named:
        return
    if len(named) < len(NAMES) or not audit:
        raise VerificationError(f"a digest of nothing, or part of one: {', '.join(named)}")
    objects = {name: read_object(layout, sha256) for name, sha256 in named.items()}
    checker.check(manifest.n, objects, pa.concat_tables(audit))


def _verify_segment(layout: OriginLayout, record: SegmentRecord) -> pa.Table:
    """The rows of a segment that is what its record says."""
    path = layout.segments / record.file
    data = read_bytes(path)
    place = f"{path} (rows {record.first_seq} to {record.first_seq + record.rows - 1})"
    if len(data) != record.bytes or sha256_hex(data) != record.sha256:
        raise VerificationError(
            f"bytes differ: expected {record.bytes} with SHA-256 {record.sha256}, "
            f"found {len(data)} with {sha256_hex(data)}",
            place=place,
        )
    with placed(place):
        segment = segments.from_parquet(data)
        segments.check_rows(segment.kind, segment.table, layout.origin, record.first_seq)
        found = (segment.kind, segment.table.num_rows)
        if found != (record.kind, record.rows):
            raise VerificationError(f"expected {record.rows} rows of {record.kind}, found {found}")
        root = merkle.root(row_hashes(segment.table, segment.salt_key)).hex()
        if root != record.rows_root:
            raise VerificationError(f"row root: expected {record.rows_root}, found {root}")
    return segment.table


def _verify_earlier(path: Path, heads: dict[str, tuple[VerifierKey, Chain]]) -> str:
    data = _given(path)
    name = data.split(b"\n", 1)[0].decode(errors="replace")
    with placed(path):
        if name not in heads:
            raise VerificationError(f"checkpoint of another origin: {name!r}")
        key, chain = heads[name]
        earlier = open_checkpoint(data, key)
        if earlier.size > chain.tree.size:
            raise VerificationError(
                f"log was cut: expected {earlier.size} manifests or more, found {chain.tree.size}"
            )
        found = chain.root_at(earlier.size)
        if found != earlier.root:
            raise VerificationError(
                f"log was rewritten: expected root {earlier.root.hex()} at size {earlier.size}, "
                f"found {found.hex()}"
            )
    return f"{name}: continues the checkpoint of size {earlier.size}"


def _given(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"can't read: {error.strerror}", place=str(path)) from error
