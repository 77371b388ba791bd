"""Lets expire what is too old: the log says so first, then the files go.

A store, an origin, its key and a policy enter; an `Outcome` leaves. The expiry is a commit like any
other: chained, signed, and durable before the first file is removed. A crash in between leaves files
that the log says have expired, which nobody reads and the next run removes. It works under the
writer's lock and that of the index, so that nothing is written from rows that go.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import ConfigError, VerificationError
from scalple.store import compaction, durable
from scalple.store.chain import Chain, read_bytes, read_settled
from scalple.store.expiring import Plan, plan
from scalple.store.expiry import EXPIRED, Expiry, Part, SaidLimit
from scalple.store.holds import Holds
from scalple.store.index import open_index
from scalple.store.layout import OriginLayout, origin_layout
from scalple.store.retained import gone_files, inherited_holds, read_expired, read_holds
from scalple.store.retentionage import Limit, Policy
from scalple.store.source import source_of
from scalple.store.verified import VerifiedFiles, default_cache_file
from scalple.store.writer import StoreWriter

SILENT_DAYS_MAX = 31
"""Without a commit for so long, nothing shows that the clock is right."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found, and done.

    Attributes:
        origin: the log.
        plan: what expires, and what stays; None where the policy has no maximum.
        manifest: that says so; None if nothing expired.
        removed: how many files were removed, those of an index and of an interrupted run included;
            in a trial, how many of an interrupted run there are.
        had_index: there was an index, which held the rows as well.
        notes: what opening the origin found and mended.
    """

    origin: str
    plan: Plan | None
    manifest: int | None = None
    removed: int = 0
    had_index: bool = False
    notes: tuple[str, ...] = ()


def try_out(
    store_dir: Path,
    origin: str,
    policy: Policy,
    now: datetime,
    verified: VerifiedFiles | None = None,
    *,
    today: date | None = None,
) -> Outcome:
    """What would expire; nothing is written. Why nothing would, since the clock may be wrong, is a note.

    Raises:
        ConfigError: no such origin, or the store is in a bucket; or `today` is another day.
        VerificationError: the origin isn't what its head says.
    """
    refuse_bucket(store_dir)
    layout = origin_layout(store_dir, origin)
    if not layout.directory.is_dir():
        raise ConfigError(f"no origin {origin!r} in this store", place=str(store_dir))
    chain, holds = _read(layout)
    found = _planned(layout, chain, policy, now, holds, verified)
    left_over = sum(path.exists() for path in gone_files(layout, chain))
    notes = []
    if found and found.parts(holds):
        try:
            check_clock(chain, now, today)
        except ConfigError as error:
            if today is not None:
                raise
            notes.append(f"without --dry-run it would be refused: {error}")
    return Outcome(origin, found, removed=left_over, notes=tuple(notes))


def expire(
    store_dir: Path,
    origin: str,
    signing_key: Ed25519PrivateKey,
    policy: Policy,
    *,
    today: date | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    verified: VerifiedFiles | None = None,
) -> Outcome:
    """Lets expire what the policy says, and removes its files.

    Args:
        store_dir: the store.
        origin: the log.
        signing_key: of the log.
        policy: how long what is kept.
        today: the date, from somebody who knows it; needed where the newest commit is so old that
            nothing else shows that the clock is right.
        clock: the writer's.
        verified: files whose bytes were checked before.

    Raises:
        ConfigError: the store is in a bucket, or has another key; the clock can't be right.
        StoreError: another writer has the origin open, or its index is being made.
        CommitError: the state is unknown; run again.
        VerificationError: the origin isn't what its head says.
    """
    refuse_bucket(store_dir)
    layout = origin_layout(store_dir, origin)
    with StoreWriter.open(store_dir, origin, signing_key, create=False, clock=clock) as writer:
        durable.make_directory(layout.index)
        with compaction.locked(layout):
            chain, holds = _read(layout)
            now = clock()
            found = _planned(layout, chain, policy, now, holds, verified)
            parts = found.parts(holds) if found else []
            manifest = None
            if found and parts:
                check_clock(chain, now, today)
                said = _expiry(chain, policy, found.before, parts, now)
                manifest = writer.commit({}, [], {EXPIRED: said.to_bytes()}).n
                chain, _ = _read(layout)
            had_index = layout.index_head.exists() and _is_outdated(layout, chain)
            removed = remove_expired(layout, chain)
        return Outcome(origin, found, manifest, removed, had_index, writer.notes)


def refuse_bucket(store_dir: Path) -> None:
    """Raises ConfigError for a store in a bucket: what is written there isn't taken away."""
    if remote := source_of(store_dir):
        raise ConfigError(
            "of a store in a bucket nothing expires",
            place=remote.url,
            hint="keep the store in a directory and `mirror` it: the copy follows (docs/RETENTION.md)",
        )


def check_clock(chain: Chain, now: datetime, today: date | None) -> None:
    """Returns when the clock can be right: not before the newest commit, and not long after it; or
    somebody says the same date.

    Raises:
        ConfigError: it can't.
    """
    newest = max(datetime.fromisoformat(one.committed_at) for one in chain.manifests)
    if today is None and now < newest:
        raise ConfigError(
            f"the clock says {now.isoformat(timespec='seconds')}, and the newest commit of "
            f"{chain.origin} was made at {newest.isoformat(timespec='seconds')}",
            hint="set the clock, by which ages are counted; if it is right, say the date: --today "
            "YYYY-MM-DD",
        )
    if today is not None and today != now.date():
        raise ConfigError(
            f"the clock says {now.date()}, and you say {today}",
            place="--today",
            hint="set the clock",
        )
    if today is None and now - newest > timedelta(days=SILENT_DAYS_MAX):
        raise ConfigError(
            f"nothing was committed to {chain.origin} since {newest.date()}: that the clock is right "
            "isn't shown by anything, and what expires is gone for good",
            hint="if it is, say the date: --today YYYY-MM-DD",
        )


def remove_expired(layout: OriginLayout, chain: Chain) -> int:
    """Removes the files of what the log says has expired, those of an index made before included; under
    both locks. How many there were."""
    index = []
    if _is_outdated(layout, chain):
        # The head goes first: without it nobody reads the others.
        index = [path for path in compaction.all_files(layout) if path.exists()]
    files = [*index, *sorted(path for path in gone_files(layout, chain) if path.exists())]
    durable.remove_all(files)
    return len(files)


def _is_outdated(layout: OriginLayout, chain: Chain) -> bool:
    """Whether there may be files of an index made before the newest expiry."""
    last = chain.manifests.expired.last
    if last is None or not layout.index.is_dir():
        return False
    try:
        index, _ = open_index(read_bytes(layout.index_head), chain.keys)
    except VerificationError:  # what can't be read may as well go
        return True
    return index.size <= last


def _read(layout: OriginLayout) -> tuple[Chain, Holds]:
    chain, _ = read_settled(layout)
    chain.manifests.expired = read_expired(layout, chain.manifests)
    return chain, (*read_holds(layout, chain.manifests), *inherited_holds(layout, chain))


def _planned(
    layout: OriginLayout,
    chain: Chain,
    policy: Policy,
    now: datetime,
    holds: Holds,
    verified: VerifiedFiles | None,
) -> Plan | None:
    before = policy.before(now)
    if before is None:
        return None
    return plan(layout, chain, before, holds, verified or VerifiedFiles(default_cache_file()))


def _expiry(
    chain: Chain, policy: Policy, before: datetime, parts: list[Part], now: datetime
) -> Expiry:
    assert policy.at_most is not None
    return Expiry(
        origin=chain.origin,
        previous=chain.manifests.expired.last,
        decided_at=now.isoformat(),
        before=before.isoformat(),
        profiles=list(policy.profiles),
        keep_at_least=_said(policy.at_least) if policy.at_least else None,
        keep_at_most=_said(policy.at_most),
        parts=parts,
    )


def _said(limit: Limit) -> SaidLimit:
    return SaidLimit(age=str(limit.age), source=limit.source)
