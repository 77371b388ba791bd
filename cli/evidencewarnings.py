"""What a run has to say of the evidence that it was given: what is missing, and clocks that differ.

Enters: all evidence of a run. Leaves: warnings, each with what to do. Decides nothing about who.
"""

from collections.abc import Iterator
from statistics import median

from scalple.correlate.evidence import Evidence
from scalple.correlate.rules import Rules

CLOCK_SIGNS_MIN = 3
"""So many are no accident."""


def missing_evidence(evidence: Evidence, rules: Rules, expired: int = 0) -> Iterator[str]:
    """What isn't there, as far as that shows; `expired`: rows of evidence that the store had once."""
    if evidence.identity_holes:
        yield (
            f"identity events are missing in {evidence.identity_holes:,} places (`seq` "
            "skips numbers): who was on a connection open then isn't known from there on"
            + (f"; {_of_expiry(expired)}" if expired else "")
        )
    for sidecar, first in evidence.begun_late:
        yield (
            f"the identity events of {sidecar} before its number {first:,} are missing: "
            + (f"{_of_expiry(expired)}; if not, " if expired else "")
            + "give its older files as well (--identity-events 'events/*.jsonl*')"
        )
    if not evidence.covered and rules.pooler.kind != "none":
        yield (
            "there is no pooler's log: whether a session is pooled isn't known, so nobody is more "
            'than `claimed`; give --pgbouncer-log, or kind = "none" under [pooler] if clients '
            "connect straight to PostgreSQL"
        )
    if evidence.covered and not evidence.has_identities:
        yield (
            "there are no identity events: who is behind the pooler's clients isn't known, but "
            "for login names under [actors]; give --identity-events"
        )


def _of_expiry(expired: int) -> str:
    return f"that may be those {expired:,} rows of evidence that have expired (docs/RETENTION.md)"


def differing_clocks(evidence: Evidence, rules: Rules) -> Iterator[str]:
    """What the logs show of clocks that differ, beyond what is declared; once all is attributed."""
    declared = rules.clocks.skew_ms
    for what, found in (
        ("identity events come after the pooler's login", evidence.opens_late_ms),
        ("sessions begin before the pooler opened them", evidence.sessions_early_ms),
    ):
        beyond = [ms for ms in found if ms > declared + 1]
        if len(beyond) >= CLOCK_SIGNS_MIN:
            yield (
                f"clocks differ: {what}, {len(beyond):,} times, by {median(beyond):,.0f} ms "
                f"(median) and up to {max(beyond):,.0f} ms; {declared:,} ms are declared. Say by "
                "how much they may differ: skew_ms under [clocks]"
            )
