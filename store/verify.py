"""Reads everything again, from bytes, and believes nothing that isn't signed.

A store directory enters, and what the verifier knows from elsewhere: public keys, a checkpoint seen
earlier. A report leaves, with every fault. Steps, per origin:

 1. the keys: given from outside, or the store's own (then the report says so);
 2. the checkpoint: one signature, canonical, this origin;
 3. every manifest: canonical, signed, chained to the one before, rows dense, positions joined;
 4. the root over the manifests is the checkpoint's, and the key that signed it the one that the
    log says;
 5. a checkpoint seen earlier, and every anchor, is a beginning of this log; of a store in a bucket
    that keeps versions, every older head too;
 6. every object that a manifest names has the hash it is named by;
 7. every segment: length, SHA-256, schema, seq, origin, and the root over its decoded rows;
 8. the digest of a commit, where it has one, is what its audit rows make;
 9. nothing else lies in the store, and nothing is missing but what the log says has expired, no part
    of which was held or younger than it says;
10. the index, where there is one, is what the log makes.

Of steps 6 to 8 and 10 `files_only` does the hashes, and `since` reads only the commits behind a
checkpoint that step 5 has shown to be this log's. It remembers nothing and mends nothing. What only an outside anchor
can show (that the newest commits were cut off together with their checkpoint) it can't show without
one: step 5.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from scalple.ingest.errors import ConfigError, VerificationError
from scalple.store import inventory, lease
from scalple.store.anchors import Anchor
from scalple.store.chain import (
    Chain,
    placed,
    read_own_keys,
    read_settled,
)
from scalple.store.checkindex import IndexCheck, is_there, kept
from scalple.store.commitcheck import digests_of, tasks_of
from scalple.store.commitpool import Work, check_all
from scalple.store.expiry import DIGEST
from scalple.store.expirycheck import check_expiries, told_expired
from scalple.store.keys import public_key_beside, read_public_keys
from scalple.store.layout import ACCESS_ORIGIN, OriginLayout, existing_origins, origin_layout
from scalple.store.note import VerifierKey
from scalple.store.retained import read_expired
from scalple.store.source import source_of
from scalple.store.verifyanchors import OriginState, begin_at, continues, held_against, look_back
from scalple.store.verifyreport import Fault, Head, VerifyReport
from scalple.store.witness import WitnessKey


def _nothing(_count: int) -> None:
    return


@dataclass(frozen=True, slots=True)
class Options:
    """How much is read, and how.

    Attributes:
        since: files of signed checkpoints, or the size of one: commits that they cover are not read
            again.
        files_only: hash files, decode no rows.
        workers: how many at once.
        first_only: one fault is enough.
        anchors: checkpoints that were published elsewhere.
        witnesses: keys of which one must have cosigned each of these; none for no matter.
        start: told how many bytes of segments will be read.
        advance: told how many more have been.
    """

    since: tuple[str, ...] = ()
    files_only: bool = False
    workers: int = 1
    first_only: bool = False
    anchors: tuple[Anchor, ...] = ()
    witnesses: tuple[WitnessKey, ...] = ()
    start: Callable[[int], None] = _nothing
    advance: Callable[[int], None] = _nothing


def verify(
    store_dir: Path,
    origin: str | None = None,
    public_key: Path | None = None,
    checkpoint: Path | None = None,
    options: Options | None = None,
) -> VerifyReport:
    """As `examine`, for who wants nothing but an intact store.

    Raises:
        VerificationError: something isn't intact; the first fault.
        ConfigError: as `examine`.
    """
    chosen = replace(options or Options(), first_only=True)
    report = examine(store_dir, origin, public_key, checkpoint, chosen)
    report.raise_first()
    return report


def examine(
    store_dir: Path,
    origin: str | None = None,
    public_key: Path | None = None,
    checkpoint: Path | None = None,
    options: Options | None = None,
) -> VerifyReport:
    """Checks one origin, or the whole store, and reports every fault.

    An origin whose head or chain is broken has that one fault: what its manifests say can't be
    believed then, so nothing is compared with them.

    Args:
        store_dir: the store.
        origin: only this one; files outside of it are then not looked at.
        public_key: a file of verifier keys known from elsewhere, one a line.
        checkpoint: a signed checkpoint of an origin, seen earlier and kept elsewhere.
        options: how much is read.

    Raises:
        ConfigError: there is no store, no such origin, or a given file can't be read.
        VerificationError: a file that was given isn't what it should be.
    """
    options = options or Options()
    layouts = _layouts(store_dir, origin)
    given = read_public_keys(public_key) if public_key else []
    if public_key and not {key.name for key in given} & {layout.origin for layout in layouts}:
        raise VerificationError("the public key is of no origin here", place=str(public_key))
    report = VerifyReport("files" if options.files_only else "rows")
    origins = [OriginState(x, [key for key in given if key.name == x.origin]) for x in layouts]
    for one in origins:
        try:
            _read(one)
        except VerificationError as error:
            one.faults.append(Fault.of(error, str(one.layout.directory)))
    if checkpoint is not None:
        report.notes += continues(checkpoint, origins)
    for text in options.since:
        begin_at(text, origins)
    if remote := source_of(store_dir):
        report.notes += look_back(remote, origins)
    notes, taken = held_against(options.anchors, options.witnesses, origins, whole=origin is None)
    report.notes += notes
    report.faults += taken
    if not (options.first_only and (taken or any(one.faults for one in origins))):
        _check_all(origins, options, report)
    for one in origins:
        _sum_up(one, report)
    if origin is None:
        come = set(_names(store_dir)) - {one.origin for one in layouts}
        report.notes += [f"{name}: began while the rest was checked: not checked" for name in come]
        known = {layout.directory for layout in layouts}
        known |= {origin_layout(store_dir, name).directory for name in come}
        beside = inventory.check_store(store_dir, known)
        report.faults += [Fault.of(error, str(store_dir)) for error in beside]
    return report


def _layouts(store_dir: Path, origin: str | None) -> list[OriginLayout]:
    names = _names(store_dir) if origin is None else [origin]
    layouts = [origin_layout(store_dir, name) for name in names]
    if not layouts or not all(layout.directory.is_dir() for layout in layouts):
        raise ConfigError("no such store or origin", place=str(store_dir), hint="check --store")
    return layouts


def _names(store_dir: Path) -> list[str]:
    """All that there are now."""
    is_asked = (store_dir / ACCESS_ORIGIN).is_dir()
    return [*existing_origins(store_dir), *([ACCESS_ORIGIN] if is_asked else [])]


def _read(one: OriginState) -> None:
    """Steps 1 to 4."""
    layout = one.layout
    one.busy = lease.is_locked(layout)
    _check_keys(layout, one.outside)
    if not one.outside:
        one.notes.append(f"{layout.origin}: self-signed: no outside key")
    chain, beyond = read_settled(layout)
    chain.manifests.expired = read_expired(layout, chain.manifests)
    one.busy = one.busy or lease.is_locked(layout)
    if beyond and not one.busy:
        raise VerificationError(
            "manifest isn't covered by the signed head",
            place=str(layout.manifest(chain.tree.size)),
            hint="after a crash: the next opening for writing checks and signs it",
        )
    own = read_own_keys(layout)
    if own[: len(chain.keys)] != chain.keys or (len(own) > len(chain.keys) and not one.busy):
        raise VerificationError(
            "public key differs from what the log says",
            place=str(layout.public_key),
            expected=_lines(chain.keys),
            found=_lines(own),
        )
    for manifest in chain.manifests:
        with placed(layout.manifest(manifest.n)):
            manifest.check_signature(chain.key_at(manifest.n))
    one.notes += _clocks(chain)
    one.faults += [
        Fault.of(error, str(layout.directory)) for error in check_expiries(layout, chain)
    ]
    one.notes += told_expired(chain)
    one.chain = chain


def _check_keys(layout: OriginLayout, outside: Sequence[VerifierKey]) -> None:
    """The store's own key files must say the same, and hold every key that is known from elsewhere:
    the log says how each of them follows from the one before."""
    own = layout.public_key
    if not own.exists():
        raise VerificationError("public key is missing", place=str(own))
    keys = read_own_keys(layout)
    for key in outside:
        if key not in keys:
            raise VerificationError(
                "public key differs", place=str(own), expected=key.to_text(), found=_lines(keys)
            )
    beside = public_key_beside(layout.store_dir, layout.origin)
    if os.access(beside, os.R_OK) and read_public_keys(beside) != keys:
        raise VerificationError("public key differs", place=str(beside), expected=_lines(keys))


def _lines(keys: Sequence[VerifierKey]) -> str:
    return ", ".join(key.to_text() for key in keys)


def _clocks(chain: Chain) -> Iterator[str]:
    """Times that go back are no fault, as clocks are set; who reads them should know.

    Raises:
        VerificationError: one is no time.
    """
    before = None
    for manifest in chain.manifests:
        try:
            now = datetime.fromisoformat(manifest.committed_at)
            back = now < (before or now.astimezone(UTC))
        except (ValueError, TypeError) as error:
            raise VerificationError(
                "time of the commit isn't RFC 3339 with an offset",
                place=f"{chain.origin} manifest {manifest.n}",
                found=manifest.committed_at,
            ) from error
        if back:
            yield (
                f"{chain.origin}: manifest {manifest.n} was committed at {manifest.committed_at} by "
                f"the writer's clock, before manifest {manifest.n - 1}"
            )
        before = now


def _check_all(origins: Sequence[OriginState], options: Options, report: VerifyReport) -> None:
    """Steps 6 to 8 and 10, of all origins together."""
    readable = [(one, one.chain) for one in origins if one.chain is not None]
    left = [list(map(chain.manifests.expired.left, chain.manifests)) for _, chain in readable]
    work = [
        Work(one.layout, digests_of(manifests), tasks_of(manifests, one.since))
        for (one, _), manifests in zip(readable, left, strict=True)
    ]
    options.start(sum(task.size for one in work for task in one.tasks))
    with ExitStack() as stack:
        indexes = _indexes(readable, options, stack)
        parts = [(one, part) for one, index in indexes if not one.faults for part in index.begin()]
        found, faults = check_all(
            work,
            [part for _, part in parts],
            files_only=options.files_only,
            workers=options.workers,
            advance=options.advance,
            first_only=options.first_only,
        )
        for (one, _), manifests, commits in zip(readable, left, found, strict=True):
            absent = inventory.missing(one.layout, manifests[: one.since])
            one.faults += [Fault.of(error, str(one.layout.directory)) for error in absent]
            for commit in commits:
                one.faults += commit.faults
                report.segments += commit.segments
                report.rows += commit.rows
                report.bytes += commit.bytes
        for one, index in indexes:
            of_this = [some for (owner, _), some in zip(parts, faults, strict=True) if owner is one]
            _judge(one, index, [fault for some in of_this for fault in some])


def _indexes(
    readable: Sequence[tuple[OriginState, Chain]], options: Options, stack: ExitStack
) -> list[tuple[OriginState, IndexCheck]]:
    """The indexes that there are, kept as they are for as long as the stack is."""
    found = []
    for one, chain in readable:
        if not source_of(one.layout.store_dir) and is_there(one.layout):
            stack.enter_context(kept(one.layout))
            check = IndexCheck(one.layout, chain, since=one.since, files_only=options.files_only)
            found.append((one, check))
    return found


def _judge(one: OriginState, index: IndexCheck, found: Sequence[Fault]) -> None:
    """Step 10. Of a log that isn't intact no index can be made."""
    if one.faults:
        one.notes.append(
            f"{one.layout.origin}: the index wasn't compared with a log that has faults"
        )
        return
    index.finish(found)
    one.notes += index.notes
    one.faults += index.faults


def _sum_up(one: OriginState, report: VerifyReport) -> None:
    """Step 9, and the report."""
    chain = one.chain
    if chain is not None:
        notes, faults = inventory.check_origin(one.layout, chain, busy=one.busy)
        one.notes += notes
        one.faults += [Fault.of(error, str(one.layout.directory)) for error in faults]
        report.manifests += chain.tree.size
        for _, act in chain.manifests.expired.acts:
            report.expired_rows += sum(part.rows for part in act.parts if part.kind != DIGEST)
        head = chain.head
        key = chain.key_at(head.size).to_text()
        report.heads.append(Head(head.origin, head.size, head.root.hex(), key, one.since))
    report.origins.append(one.layout.origin)
    report.notes += one.notes
    report.faults += one.faults
