"""What of a log is old enough to go, and what has to stay although it is.

An origin's chain, a moment and the holds in force enter; a `Plan` leaves. Rows go by the files that
hold them: all rows of a kind that were committed together, once the newest of them is older than the
moment. Every file is hashed before what it says counts: nobody may make a row look old to be rid of it.
Nothing is written here.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scalple.ingest.errors import VerificationError
from scalple.store.chain import Chain, read_object
from scalple.store.digest import read_since
from scalple.store.digestnames import ROWS
from scalple.store.expiry import DIGEST, Part
from scalple.store.holds import Hold, Holds
from scalple.store.layout import OriginLayout
from scalple.store.manifest import Manifest, SegmentRecord
from scalple.store.rowid import RowId
from scalple.store.verified import VerifiedFiles

TIMES = {
    "audit": "log_time",
    "denied": "log_time",
    "gaps": "log_time",
    "evidence": "ts",
    "access": "asked_at",
}
"""Kind -> when its rows were; those of other kinds go by rows that they belong to."""
CITING = {
    "audit": "attribution_evidence",
    "denied": "attribution_evidence",
    "revisions": "evidence",
}
"""Kind -> its column of ids in `evidence`."""

EXPIRES = "expires"
YOUNG = "young"
MIXED = "mixed"
"""It holds rows that are old enough, beside others that aren't."""
HELD = "held"
CITED = "cited"
"""Evidence of rows that stay."""


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one kind that one manifest committed.

    Attributes:
        manifest: which, with what is left of it.
        kind: of the rows.
        records: their segments.
        oldest: time of the first one; None where they have none of their own.
        newest: of the last one.
        state: `expires`, or why not.
        hold: which one covers it, if it is held.
    """

    manifest: Manifest
    kind: str
    records: tuple[SegmentRecord, ...]
    oldest: datetime | None = None
    newest: datetime | None = None
    state: str = YOUNG
    hold: str | None = None

    @property
    def rows(self) -> int:
        """How many."""
        return sum(one.rows for one in self.records)

    @property
    def bytes(self) -> int:
        """Of the files."""
        return sum(one.bytes for one in self.records)

    @property
    def stays(self) -> bool:
        """Whether it doesn't expire now."""
        return self.state != EXPIRES


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is of a log, and what would happen to it.

    Attributes:
        before: what is wholly older expires.
        spans: all rows that are left, in order.
        digests: commits whose rows stay and whose digest can't be read any more.
    """

    before: datetime
    spans: tuple[Span, ...]
    digests: tuple[Manifest, ...]

    def parts(self, holds: Holds) -> list[Part]:
        """What expires, as the log says it: neighbours together, unless that would look held."""
        found: list[Part] = []
        going = [one for one in self.spans if not one.stays]
        for _, of_kind in groupby(sorted(going, key=lambda one: one.kind), lambda one: one.kind):
            for span in of_kind:
                _join(found, _part(span), holds)
        for manifest in self.digests:
            _join(found, _digest_part(manifest), holds)
        return found


def plan(
    layout: OriginLayout, chain: Chain, before: datetime, holds: Holds, verified: VerifiedFiles
) -> Plan:
    """What expires if everything does that is wholly older than `before`.

    Raises:
        VerificationError: a file isn't what its manifest says.
    """
    looked = _Looked(layout, chain, before, [one for one in holds if one.in_force], verified)
    spans = looked.spans()
    verified.save()
    return Plan(before, tuple(spans), tuple(_cut_digests(layout, chain, spans)))


class _Looked:
    """Looks at an origin's rows."""

    def __init__(
        self,
        layout: OriginLayout,
        chain: Chain,
        before: datetime,
        holds: Sequence[Hold],
        verified: VerifiedFiles,
    ) -> None:
        self._layout = layout
        self._chain = chain
        self._before = before
        self._holds = holds
        self._verified = verified

    def spans(self) -> list[Span]:
        """All that is left, each with its state."""
        timed: dict[tuple[int, str], Span] = {}
        for span in self._left():
            timed[span.manifest.n, span.kind] = self._timed(span)
        for (n, kind), span in timed.items():
            if kind == "unparsed":
                timed[n, kind] = self._with_its_statements(span, timed.get((n, "audit")))
        staying = [one for one in timed.values() if one.kind == "audit" and one.stays]
        for key, span in timed.items():
            if span.kind == "revisions":
                timed[key] = self._with_what_it_revises(span, staying)
        return self._without_cited(list(timed.values()))

    def _left(self) -> Iterator[Span]:
        for n in range(self._chain.tree.size):
            manifest = self._chain.manifests.left(n)
            for kind in dict.fromkeys(one.kind for one in manifest.segments):
                records = tuple(one for one in manifest.segments if one.kind == kind)
                yield Span(manifest, kind, records)

    def _timed(self, span: Span) -> Span:
        if span.kind not in TIMES:
            return span
        values = self._column(span, TIMES[span.kind])
        known = pc.min_max(values).as_py()
        times = [one for one in (known["min"], known["max"]) if one is not None]
        if values.null_count or not times:  # no later than they were committed
            times.append(datetime.fromisoformat(span.manifest.committed_at))
        return self._judged(replace(span, oldest=min(times), newest=max(times)))

    def _judged(self, span: Span) -> Span:
        """By its own times."""
        assert span.oldest is not None and span.newest is not None
        if span.newest >= self._before:
            return replace(span, state=MIXED if span.oldest < self._before else YOUNG)
        for hold in self._holds:
            if hold.covers(span.oldest, span.newest):
                return replace(span, state=HELD, hold=hold.id)
        return replace(span, state=EXPIRES)

    def _with_its_statements(self, span: Span, audit: Span | None) -> Span:
        """Bytes that are no record have no time: they go with the statements read along with them."""
        if audit is not None:
            return replace(span, state=audit.state, hold=audit.hold)
        if any(one.kind == "audit" for one in self._chain.manifests[span.manifest.n].segments):
            return replace(span, state=EXPIRES)  # those have gone before
        when = datetime.fromisoformat(span.manifest.committed_at)
        return self._judged(replace(span, oldest=when, newest=when))

    def _with_what_it_revises(self, span: Span, staying: Sequence[Span]) -> Span:
        """As long as one of the rows is there that it changes."""
        firsts = [one.records[0].first_seq for one in staying]
        for seq in pc.unique(self._column(span, "audit_seq")).to_pylist():
            at = bisect_right(firsts, seq) - 1
            if at >= 0 and seq < firsts[at] + staying[at].rows:
                return replace(span, state=staying[at].state, hold=staying[at].hold)
        return replace(span, state=EXPIRES)

    def _without_cited(self, spans: list[Span]) -> list[Span]:
        """Evidence stays as long as a row does that cites it."""
        going = [one for one in spans if one.kind == "evidence" and not one.stays]
        if not going:
            return spans
        end = max(one.records[0].first_seq + one.rows for one in going)
        cited = {seq for one in spans if one.stays for seq in self._cited(one) if seq < end}
        kept = {
            one.manifest.n
            for one in going
            if any(one.records[0].first_seq + at in cited for at in range(one.rows))
        }
        return [
            replace(one, state=CITED) if one.kind == "evidence" and one.manifest.n in kept else one
            for one in spans
        ]

    def _cited(self, span: Span) -> Iterator[int]:
        """Numbers of the evidence that rows name."""
        if span.kind not in CITING:
            return
        texts = set(pc.unique(pc.list_flatten(self._column(span, CITING[span.kind]))).to_pylist())
        if span.kind == "revisions":
            for said in self._column(span, "changes").to_pylist():
                changes = json.loads(said) if said else {}
                texts.update(changes.get("attribution_evidence") or ())
        for text in texts:
            row = RowId.parse(text) if text else None
            if row is not None and (row.origin, row.kind) == (self._layout.origin, "evidence"):
                yield row.seq

    def _column(self, span: Span, name: str) -> pa.ChunkedArray:
        tables = [self._read(one, name) for one in span.records]
        return pa.concat_tables(tables)[name]

    def _read(self, record: SegmentRecord, name: str) -> pa.Table:
        path = self._layout.segments / record.file
        self._verified.check(path, record.sha256, record.bytes)
        return _columns(path, name)


def _columns(path: Path, name: str) -> pa.Table:
    try:
        return pq.read_table(path, columns=[name])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise VerificationError(f"not a segment: {error}", place=str(path)) from error


def _cut_digests(layout: OriginLayout, chain: Chain, spans: Sequence[Span]) -> Iterator[Manifest]:
    """Commits whose facts are numbered together with those of rows that expire now."""
    audit = [one for one in spans if one.kind == "audit"]
    going = [one.manifest for one in audit if not one.stays]
    openings = {one.nonce for one in going}
    gone = sorted(one.n for one in going)
    for span in audit:
        objects = span.manifest.objects
        if not span.stays or span.manifest.nonce not in openings or ROWS not in objects:
            continue
        since = read_since(pa.BufferReader(read_object(layout, objects[ROWS])))
        if any(since <= n < span.manifest.n for n in gone):
            yield span.manifest


def _part(span: Span) -> Part:
    return Part(
        kind=span.kind,
        first=span.manifest.n,
        end=span.manifest.n + 1,
        first_seq=span.records[0].first_seq,
        rows=span.rows,
        oldest=span.oldest.isoformat() if span.oldest else None,
        newest=span.newest.isoformat() if span.newest else None,
    )


def _digest_part(manifest: Manifest) -> Part:
    records = [one for one in manifest.segments if one.kind == "audit"]
    rows = sum(one.rows for one in records)
    return Part(
        kind=DIGEST,
        first=manifest.n,
        end=manifest.n + 1,
        first_seq=records[0].first_seq,
        rows=rows,
        oldest=None,
        newest=None,
    )


def _join(found: list[Part], part: Part, holds: Holds) -> None:
    """Adds a part, to the last one if nothing lies between them."""
    last = found[-1] if found else None
    if last is None or not _is_next(last, part):
        found.append(part)
        return
    times = [one for one in (last.oldest, part.oldest, last.newest, part.newest) if one]
    moments = sorted(times, key=datetime.fromisoformat)
    if moments and any(
        one.in_force
        and one.covers(datetime.fromisoformat(moments[0]), datetime.fromisoformat(moments[-1]))
        for one in holds
    ):
        found.append(part)
        return
    found[-1] = replace(
        last,
        end=part.end,
        rows=last.rows + part.rows,
        oldest=moments[0] if moments else None,
        newest=moments[-1] if moments else None,
    )


def _is_next(last: Part, part: Part) -> bool:
    """Where seq has no hole, nothing that stays or went earlier lies between them."""
    return (
        last.kind == part.kind
        and (last.oldest is None) == (part.oldest is None)
        and last.first_seq + last.rows == part.first_seq
    )
