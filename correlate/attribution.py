"""The rules: from what is known of each statement to who ran it, how sure, and why.

Enters: columns with one element per pgAudit record (`Known`). Leaves: grade, method, reason and
the client or session that names the actor, as codes. Precedence and every refusal stand here and
nowhere else; where the facts come from is for `correlator` and `runs`.

A rule never overrides one before it. A grade is withheld as soon as anything contradicts it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

GRADES = ("proven", "confirmed", "claimed", "candidates", "pooler", "unattributed")
PROVEN, CONFIRMED, CLAIMED, CANDIDATES, POOLER, UNATTRIBUTED = range(len(GRADES))

METHODS = (
    "endpoint",
    "external-identity",
    "login-role",
    "application-name-suffix",
    "tag",
    "alive-on-pool",
    "replayed-setting",
    "health-check",
    "reset-query",
    "auth-query",
    "sql-comment",
    "variable",
    "application-name-pattern",
    "link",
)
(
    ENDPOINT,
    EXTERNAL_IDENTITY,
    LOGIN_ROLE,
    SUFFIX,
    TAG,
    ALIVE,
    REPLAYED,
    HEALTH_CHECK,
    RESET_QUERY,
    AUTH_QUERY,
    COMMENT,
    VARIABLE,
    NAME_PATTERN,
    LINK,
) = range(len(METHODS))

REASONS = (
    "forged-line",
    "ambiguous-line",
    "origin-unproven",
    "identity-conflict",
    "several-clients-at-endpoint",
    "no-identity-for-endpoint",
    "unidentified-client",
    "role-names-nobody",
    "pooling-unknown",
    "no-replayed-name",
    "replay-not-seen",
    "no-endpoint-in-name",
    "endpoint-not-alive",
    "name-changed-by-client",
    "reset-on-pool",
    "overlong-name-on-pool",
    "no-client-known",
    "unidentified-client-alive",
    "too-many-candidates",
    "background-process",
    "parallel-worker",
    "unannounced-client",
    "drifted-client",
    "pool-not-seen",
    "log-lacks-fields",
    "claims-disagree",
)
(
    FORGED_LINE,
    AMBIGUOUS_LINE,
    ORIGIN_UNPROVEN,
    CONFLICT,
    SEVERAL_CLIENTS,
    NO_IDENTITY,
    UNIDENTIFIED,
    ROLE_NAMES_NOBODY,
    POOLING_UNKNOWN,
    NO_NAME,
    REPLAY_NOT_SEEN,
    NO_ENDPOINT,
    NOT_ALIVE,
    RENAMED,
    RESET_ON_POOL,
    OVERLONG_ON_POOL,
    NO_CLIENT,
    UNIDENTIFIED_ALIVE,
    TOO_MANY,
    BACKGROUND,
    PARALLEL_WORKER,
    UNANNOUNCED_CLIENT,
    DRIFTED_CLIENT,
    POOL_NOT_SEEN,
    LOG_LACKS_FIELDS,
    CLAIMS_DISAGREE,
) = range(len(REASONS))
NONE = -1


@dataclass(slots=True)
class Known:
    """What is known of each statement."""

    forged: Bools
    """The line carries a context or a statement, which pgAudit's own never do."""
    ambiguous: Bools
    """The line can be read in two ways: a client's name may have made it."""
    unproven: Bools
    """A client may have raised it, and this container wouldn't show it."""
    unpooled: Bools
    """Positive evidence that no pooler stands before the session."""
    pool: Ints
    """The pool of the session; negative if there is none or it isn't known."""
    background: Bools
    """No login role: a parallel worker or another process of the server's own."""
    pooler_method: Ints
    """The method by which the pooler itself wrote it, or NONE."""
    labelled: Bools
    """In an intact run, opened by a replay."""
    has_key: Bools
    """The name (of the run, or the record's own where there is no run) begins with a tag or ends in
    an endpoint."""
    by_tag: Bools
    """It is a tag."""
    pool_open: Ints
    """Why a tag proves nothing on that pool at that time (a reason), or NONE."""
    matches: Ints
    """How many clients of that key and pool lived at that time."""
    client: Ints
    """The last of them, or NONE; where none lived any more, whoever lived there last."""
    client_named: Bools
    client_by_role: Bools
    client_contradicted: Bools
    doubtful: Bools
    unsure_worker: Bools
    """A parallel worker's, and its leader's records don't show that the run is still the same."""
    leaked: Bools
    """After a reset on this pool, and no replay directly before the transaction."""
    overlong: Bools
    """A client whose name is too long to be replayed lives on this pool, and no fresh replay."""
    unnamed: Bools
    """A client whose name nobody knows lives on this pool, and no fresh replay."""
    session_method: Ints
    """How PostgreSQL's own authentication names the session's actor, or NONE."""
    session_contradicted: Bools
    same_actor: Bools
    """The session's actor and the client's are one."""
    told: Bools
    """Whose session it is rests on messages that a client may have raised, unmarked."""
    linked: Ints
    """The client whose transaction the pooler's log says it is, or NONE."""
    link_named: Bools
    """It is known who that is."""
    link_agrees: Bools
    """It is the client whom the run's name says, or the same actor."""
    link_elsewhere: Bools
    """The run's name tells of another living client, at another endpoint."""
    link_held: Bools
    """Session pooling, and the backend was that client's for longer than clocks may differ."""
    claim: Ints
    """Method by which the client itself names somebody, or NONE."""
    claim_agrees: Bools
    """It is the one whom the session or the client's name says."""
    claim_disputed: Bools
    """The client's own words contradict each other."""


@dataclass(slots=True)
class Attribution:
    """The answer for each statement, as codes into GRADES, METHODS and REASONS."""

    grade: Ints
    method: Ints
    reason: Ints
    by_client: Bools
    """The client names the actor."""
    by_link: Bools
    """The client whom the pooler's log shows names the actor."""
    by_session: Bools
    """The session names the actor."""
    by_claim: Bools
    """The client's own words name the actor."""
    conflict: Bools
    """Two top grades disagree: both are candidates."""
    disputed: Bools
    """Two claims disagree: both are candidates."""


class _Decision:
    """Rules in order; the first that fits a statement decides it."""

    def __init__(self, n: int) -> None:
        self.grade = np.full(n, UNATTRIBUTED, np.int64)
        self.method = np.full(n, NONE, np.int64)
        self.reason = np.full(n, NONE, np.int64)
        self.open = np.ones(n, bool)

    def rule(
        self, fits: Bools, grade: int, method: int | Ints = NONE, reason: int | Ints = NONE
    ) -> Bools:
        """Decide the open statements that fit; returns which those were."""
        here = fits & self.open
        self.grade[here] = grade
        self.method[here] = method[here] if isinstance(method, np.ndarray) else method
        self.reason[here] = reason[here] if isinstance(reason, np.ndarray) else reason
        self.open &= ~here
        return here


def attribute(known: Known) -> Attribution:
    """Apply the rules. Candidates still lack their list of people: see `candidates`."""
    n = len(known.forged)
    decision = _Decision(n)
    rule = decision.rule
    one_client = known.matches == 1
    named = one_client & known.client_named
    by_session_possible = known.session_method != NONE

    rule(known.ambiguous, UNATTRIBUTED, reason=AMBIGUOUS_LINE)
    rule(known.forged, UNATTRIBUTED, reason=FORGED_LINE)
    rule(known.unproven, UNATTRIBUTED, reason=ORIGIN_UNPROVEN)
    rule(known.background, UNATTRIBUTED, reason=BACKGROUND)
    rule(known.pooler_method != NONE, POOLER, known.pooler_method)

    # No pooler in between: the session is the client's own.
    direct = known.unpooled
    disagree = direct & by_session_possible & named & ~known.same_actor
    conflict = rule(disagree | (direct & known.session_contradicted), CANDIDATES, reason=CONFLICT)
    direct_client = rule(direct & named & ~known.told, PROVEN, ENDPOINT)
    direct_client |= rule(direct & named, CLAIMED, ENDPOINT, ORIGIN_UNPROVEN)
    by_session = direct & by_session_possible
    direct_session = rule(by_session & ~known.told, PROVEN, known.session_method)
    direct_session |= rule(by_session, CLAIMED, known.session_method, ORIGIN_UNPROVEN)
    rule(direct & (known.matches > 1), UNATTRIBUTED, reason=SEVERAL_CLIENTS)
    rule(direct & one_client, UNATTRIBUTED, reason=UNIDENTIFIED)
    rule(direct, UNATTRIBUTED, reason=NO_IDENTITY)

    rule(known.pool < 0, UNATTRIBUTED, reason=POOLING_UNKNOWN)

    # Behind the pooler: what the replayed name says, unless anything casts doubt on it.
    run = known.labelled
    rule(run & known.doubtful, CANDIDATES, ALIVE, RENAMED)
    rule(run & known.unsure_worker, CANDIDATES, ALIVE, PARALLEL_WORKER)
    rule(run & known.leaked, CANDIDATES, ALIVE, RESET_ON_POOL)
    rule(run & known.overlong, CANDIDATES, ALIVE, OVERLONG_ON_POOL)
    rule(run & known.unnamed, CANDIDATES, ALIVE, UNANNOUNCED_CLIENT)
    rule(run & ~known.has_key, CANDIDATES, ALIVE, NO_ENDPOINT)
    rule(run & (known.matches == 0), CANDIDATES, ALIVE, NOT_ALIVE)
    rule(run & (known.matches > 1), CANDIDATES, ALIVE, SEVERAL_CLIENTS)
    conflict |= rule(run & known.client_contradicted, CANDIDATES, reason=CONFLICT)
    tagged = run & named & known.by_tag
    by_name = rule(tagged & (known.pool_open == NONE), PROVEN, TAG)
    by_name |= rule(tagged, CONFIRMED, TAG, known.pool_open)
    by_name |= rule(run & named, CONFIRMED, SUFFIX)
    rule(run, UNATTRIBUTED, np.where(known.by_tag, TAG, SUFFIX), UNIDENTIFIED)

    # No replay was seen: the name is only what somebody set at some time.
    says = known.has_key & named & ~known.client_contradicted
    sure = (known.pool >= 0) & (known.pool_open == NONE)
    sure &= ~known.leaked & ~known.overlong & ~known.unnamed
    by_name |= rule(says & known.by_tag & sure, CONFIRMED, TAG, REPLAY_NOT_SEEN)
    by_name |= rule(says, CLAIMED, np.where(known.by_tag, TAG, SUFFIX), REPLAY_NOT_SEEN)
    rule(np.ones(n, bool), CANDIDATES, ALIVE, NO_NAME)
    by_link, against, nobody = _links(known, decision, by_name)
    conflict |= against
    by_client = (direct_client | by_name) & ~(by_link | against | nobody)
    by_claim, disputed = _claims(known, decision, conflict)
    over = by_claim | disputed
    return Attribution(
        decision.grade,
        decision.method,
        decision.reason,
        by_client=by_client & ~over,
        by_link=by_link & ~over,
        by_session=direct_session & ~over,
        by_claim=by_claim,
        conflict=conflict,
        disputed=disputed,
    )


def _links(known: Known, decision: _Decision, by_name: Bools) -> tuple[Bools, Bools, Bools]:
    """What the pooler's own log says of who was served: (names the actor, contradicts the name, is
    somebody of whom nothing is known)."""
    linked = (known.linked != NONE) & ~known.unpooled & (decision.grade != POOLER)
    linked &= ~np.isin(decision.reason, _NOT_A_STATEMENT)
    top = by_name & (decision.grade <= CONFIRMED)
    elsewhere = known.link_elsewhere & known.link_named
    against = linked & (top | elsewhere) & ~known.link_agrees
    decision.grade[against] = CANDIDATES
    decision.method[against] = NONE
    decision.reason[against] = CONFLICT
    # Lines may be missing without a trace: what proves is confirmed by the name.
    held = linked & known.link_named & known.link_held & known.link_agrees & ~against
    named = linked & known.link_named & ~top
    # The same from two sources: the more specific one names the method.
    named |= linked & top & ~against & (decision.grade == CONFIRMED) & known.link_named
    named |= held
    decision.grade[named] = np.where(held, PROVEN, CONFIRMED)[named]
    decision.method[named] = LINK
    decision.reason[named] = NONE
    nobody = linked & ~known.link_named & ~top
    decision.grade[nobody] = UNATTRIBUTED
    decision.method[nobody] = LINK
    decision.reason[nobody] = UNIDENTIFIED
    return named, against, nobody


_NOT_A_STATEMENT = (AMBIGUOUS_LINE, FORGED_LINE, ORIGIN_UNPROVEN, BACKGROUND)


def _claims(known: Known, decision: _Decision, conflict: Bools) -> tuple[Bools, Bools]:
    """What the client's own words decide where nothing better does: (named, disputed).

    The reason why a better grade was withheld stays.
    """
    lower = np.isin(decision.grade, (CANDIDATES, UNATTRIBUTED))
    lower &= ~conflict & ~np.isin(decision.reason, _NOT_A_STATEMENT)
    already = decision.grade == CLAIMED
    said = known.claim != NONE
    disputed = (lower | already) & known.claim_disputed
    disputed |= already & said & ~known.claim_agrees
    named = lower & said & ~disputed
    decision.grade[named] = CLAIMED
    decision.method[named | (already & said & ~disputed)] = known.claim[
        named | (already & said & ~disputed)
    ]
    decision.grade[disputed] = CANDIDATES
    decision.method[disputed] = NONE
    decision.reason[disputed] = CLAIMS_DISAGREE
    return named, disputed
