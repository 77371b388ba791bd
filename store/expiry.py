"""What a log says has expired: the object of a commit that takes rows away, and all of them together.

JSON enters, an `Expiry` leaves, and back (docs/FORMAT.md, "Expiry"). The manifests of what expired
stay, and with them their leaves; the files they name are gone. Who opens a store learns from `Expired`
what isn't there any more. Decides nothing: that is `expiring`'s.
"""

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated

from scalple.correlate.recordcolumns import KINDS
from scalple.ingest.errors import VerificationError
from scalple.store import strict
from scalple.store.digestnames import CALLED, NAMES
from scalple.store.manifest import Count, Manifest, canonical_json

EXPIRED = "expired"
"""What a manifest calls the object that says what expired with it."""
DIGEST = "digest"
"""In the place of a kind: the digests of commits whose rows stay."""
WHATS = (*KINDS, DIGEST)


def _is_moment(text: str) -> bool:
    return datetime.fromisoformat(text).tzinfo is not None


Moment = Annotated[str, _is_moment]
"""A time with an offset, RFC 3339."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows of one kind in manifests that follow each other.

    In none of these manifests are rows of the kind left; those without any may lie between.
    """

    kind: Annotated[str, WHATS.__contains__]
    first: Count
    end: Count
    """The manifests first … end-1."""
    first_seq: Count
    rows: Annotated[int, lambda n: n > 0]
    """Rows from `first_seq` on; of a digest, the audit rows that it was about."""
    oldest: Moment | None
    newest: Moment | None
    """Times of these rows; null where they have none of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidLimit:
    """An age, and who asks for it."""

    age: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """What one commit lets expire, and why."""

    v: Annotated[int, lambda n: n == 1] = 1
    origin: str
    previous: Count | None
    """The manifest with the expiry before this one."""
    decided_at: Moment
    """The writer's clock."""
    before: Moment
    """Everything in it is older."""
    profiles: list[str]
    keep_at_least: SaidLimit | None
    keep_at_most: SaidLimit
    parts: Annotated[list[Part], len]

    def to_bytes(self) -> bytes:
        """The object."""
        return canonical_json(strict.plain(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Expiry":
        """The inverse of `to_bytes`.

        Raises:
            VerificationError: it is none, or not in canonical form.
        """
        try:
            found = strict.from_json(cls, data)
        except ValueError as error:
            raise VerificationError(f"not an expiry: {error}") from error
        if found.to_bytes() != data:
            raise VerificationError("an expiry isn't in canonical form")
        return found

    @property
    def reason(self) -> str:
        """In words."""
        return f"kept at most {self.keep_at_most.age}: {self.keep_at_most.source}"


@dataclass(slots=True)
class Expired:
    """All that expired of one log.

    Attributes:
        acts: (manifest that says it, what it says), the oldest first.
    """

    acts: list[tuple[int, Expiry]] = field(default_factory=list)
    _parts: dict[str, tuple[list[int], list[Part]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what in WHATS:
            parts = sorted(
                (part for _, act in self.acts for part in act.parts if part.kind == what),
                key=lambda part: part.first,
            )
            self._parts[what] = ([part.first for part in parts], parts)

    @property
    def last(self) -> int | None:
        """The newest manifest that lets something expire."""
        return self.acts[-1][0] if self.acts else None

    def has(self, n: int, kind: str) -> bool:
        """Whether rows of a kind of manifest `n` have expired; or its digest."""
        firsts, parts = self._parts[kind]
        at = bisect_right(firsts, n) - 1
        return at >= 0 and n < parts[at].end

    def of_row(self, kind: str, seq: int) -> Expiry | None:
        """By which act a row expired, if it did."""
        for _, act in self.acts:
            for part in act.parts:
                if part.kind == kind and part.first_seq <= seq < part.first_seq + part.rows:
                    return act
        return None

    def left(self, manifest: Manifest) -> Manifest:
        """The manifest with those segments and objects alone that haven't expired.

        Not a manifest of the log: its bytes are others.
        """
        if not self.acts:
            return manifest
        n = manifest.n
        kinds = {one.kind for one in manifest.segments}
        gone = {kind for kind in kinds if self.has(n, kind)}
        names = set(NAMES) if "audit" in gone or self.has(n, DIGEST) else set()
        if "audit" in gone:
            names.add(CALLED)
        if not gone and names.isdisjoint(manifest.objects):
            return manifest
        return replace(
            manifest,
            segments=tuple(one for one in manifest.segments if one.kind not in gone),
            objects={k: v for k, v in manifest.objects.items() if k not in names},
        )


def meets(
    oldest: datetime, newest: datetime, since: datetime | None, until: datetime | None
) -> bool:
    """Whether times lie in, or on both sides of, a period; `until` is exclusive."""
    return (until is None or oldest < until) and (since is None or newest >= since)
