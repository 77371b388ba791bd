"""Was what expired allowed to? What `verify` can still tell once the rows are gone.

A checked chain enters; faults and notes leave. That each expiry says what the one before was, that it
kept to its own ages, and that no hold in force covered it. How old rows were that are gone, their
writer alone could see: whoever holds the signing key can lie about it (docs/THREAT_MODEL.md).
"""

from datetime import datetime

from scalple.ingest.errors import VerificationError
from scalple.store import holds
from scalple.store.chain import Chain, read_object
from scalple.store.expiry import DIGEST, EXPIRED, Expiry, Part
from scalple.store.holds import HOLDS, Holds
from scalple.store.layout import OriginLayout
from scalple.store.retained import read_expiry
from scalple.store.retentionage import Age

_OF_OTHER_ROWS = ("unparsed", "revisions", DIGEST)
"""What has no times of its own."""


def told_expired(chain: Chain) -> list[str]:
    """What the reader of a report must know."""
    acts = chain.manifests.expired.acts
    if not acts:
        return []
    rows = sum(part.rows for _, act in acts for part in act.parts if part.kind != DIGEST)
    newest = acts[-1][1]
    told = (
        f"{chain.origin}: {rows:,} rows have expired, the last ones on {newest.decided_at[:10]} "
        f"({newest.reason}); they aren't there, and can't be checked"
    )
    return [told]


def check_expiries(layout: OriginLayout, chain: Chain) -> list[VerificationError]:
    """Expiries and holds that couldn't have been made by the rules."""
    faults: list[VerificationError] = []
    last: int | None = None
    known: Holds = ()
    seen: dict[str, list[Part]] = {}
    for manifest in chain.manifests:
        place = str(layout.manifest(manifest.n))
        try:
            if HOLDS in manifest.objects:
                after = holds.from_bytes(read_object(layout, manifest.objects[HOLDS]))
                if not holds.continues(known, after):
                    raise VerificationError("holds of before were changed, or left out")
                known = after
            if EXPIRED in manifest.objects:
                act = read_expiry(layout, manifest)
                if act.previous != last:
                    raise VerificationError("an expiry of before is left out", expected=last)
                last = manifest.n
                _check(chain, act, known, manifest.committed_at, seen)
        except VerificationError as error:
            faults.append(error.at(place))
    return faults


def _check(
    chain: Chain, act: Expiry, known: Holds, committed_at: str, seen: dict[str, list[Part]]
) -> None:
    before, decided = datetime.fromisoformat(act.before), datetime.fromisoformat(act.decided_at)
    if decided > datetime.fromisoformat(committed_at):
        raise VerificationError("an expiry was decided after it was committed")
    for limit in (act.keep_at_most, act.keep_at_least):
        if limit is None:
            continue
        try:
            age = Age.parse(limit.age)
        except ValueError as error:
            raise VerificationError(f"an expiry by no age: {error}") from error
        if before > age.before(decided):
            raise VerificationError(
                f"rows expired before they were as old as {limit.source} says",
                expected=f"before {age.before(decided).isoformat()}",
                found=act.before,
            )
    for part in act.parts:
        _check_part(chain, part, before, known)
        for other in seen.setdefault(part.kind, []):
            if other.first < part.end and part.first < other.end:
                raise VerificationError(f"{part.kind} of manifest {part.first} expired twice")
        seen[part.kind].append(part)


def _check_part(chain: Chain, part: Part, before: datetime, known: Holds) -> None:
    where = f"{part.kind} of manifests {part.first} to {part.end - 1}"
    kind = "audit" if part.kind == DIGEST else part.kind
    records = [
        one
        for n in range(part.first, part.end)
        for one in chain.manifests[n].segments
        if one.kind == kind
    ]
    rows = sum(one.rows for one in records)
    if not records or (records[0].first_seq, rows) != (part.first_seq, part.rows):
        raise VerificationError(f"an expiry counts other rows than the log: {where}")
    if part.oldest is None or part.newest is None:
        if part.kind not in _OF_OTHER_ROWS:
            raise VerificationError(f"an expiry doesn't say how old rows were: {where}")
        return
    oldest, newest = datetime.fromisoformat(part.oldest), datetime.fromisoformat(part.newest)
    if not oldest <= newest < before:
        raise VerificationError(
            f"rows expired that weren't old enough: {where}",
            expected=f"before {before.isoformat()}",
            found=part.newest,
        )
    held = next((one for one in known if one.in_force and one.covers(oldest, newest)), None)
    if held is not None:
        raise VerificationError(f"rows expired that the hold {held.id} covered: {where}")
