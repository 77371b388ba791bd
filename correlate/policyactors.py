"""Whether somebody is one of those whom a rule is about.

Enters: a rule and what is known of whoever ran a statement. Leaves: yes, no or unknown. A name of a
lower grade than the rule trusts is no name: neither does it clear anybody nor accuse anybody.
"""

from dataclasses import dataclass

from scalple.correlate.circumstances import Circumstances
from scalple.correlate.policyrules import TRUST, Policy
from scalple.correlate.policyterms import (
    NO,
    UNKNOWN,
    YES,
    all_of,
    any_of,
    fits,
    fits_one,
    is_so,
    negated,
)
from scalple.correlate.tenures import Tenure

ANYBODY, UNATTRIBUTED, UNLISTED = "*", "unattributed", "unlisted"
KINDS_OF_TERM = ("actor", "group", "role", "kind")


@dataclass(frozen=True, slots=True)
class Someone:
    """Whoever ran a statement, as far as it is known."""

    actor: str | None
    kind: str | None
    grade: str | None
    authn: str | None
    role: str | None
    """The login role."""
    said: Circumstances | None
    """What the cited identity event says; None where none is cited."""
    tenure: Tenure | None
    """What the list of people says of the actor at that time."""


def actor_answer(policy: Policy, one: Someone) -> int:
    """Whether the rule is about them, and nothing that they gave excuses them."""
    named = is_named(policy, one)
    answers = [
        any_of(_term(term, one, named) for term in policy.actors),
        negated(any_of(_term(term, one, named) for term in policy.unless_actors)),
    ]
    given = one.said
    if policy.unless_ticket:
        answers.append(_without(policy.unless_ticket, given.ticket if given else None, named))
    if policy.unless_purpose:
        answers.append(_without(policy.unless_purpose, given.purpose if given else None, named))
    return all_of(answers)


def is_named(policy: Policy, one: Someone) -> bool:
    """Whether they have a name that the rule trusts."""
    if one.actor is None or one.grade not in TRUST[: TRUST.index(policy.trust) + 1]:
        return False
    return not policy.authn or fits_one(policy.authn, one.authn or "")


def _without(excuses: tuple[str, ...], given: str | None, named: bool) -> int:
    """Of whoever isn't named isn't known what they may have given either."""
    if not named:
        return UNKNOWN
    return is_so(given is None or not fits_one(excuses, given))


def _term(term: str, one: Someone, named: bool) -> int:
    if term == ANYBODY:
        return YES
    if term == UNATTRIBUTED:
        return is_so(not named)
    kind, _, pattern = term.partition(":")
    if kind == "role":
        return UNKNOWN if one.role is None else is_so(fits(pattern, one.role))
    if not named or one.actor is None:
        return UNKNOWN
    if term == UNLISTED:
        return is_so(one.tenure is None or not one.tenure.is_listed)
    if kind == "actor":
        return is_so(fits(pattern, one.actor))
    if kind == "kind":
        told = one.kind or (one.tenure.kind if one.tenure else None)
        return UNKNOWN if told is None else is_so(told == pattern)
    return _group(pattern, one)


def groups_of(one: Someone) -> tuple[str, ...] | None:
    """Their groups at that time; None where nobody says them.

    The list of people goes before what an event says: it isn't the client's word.
    """
    listed = one.tenure.groups if one.tenure else None
    return listed if listed is not None else one.said.groups if one.said else None


def _group(pattern: str, one: Someone) -> int:
    groups = groups_of(one)
    if groups is None:
        return UNKNOWN
    return YES if any(fits(pattern, group) for group in groups) else NO
