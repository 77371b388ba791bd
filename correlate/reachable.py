"""What the logs will show -> the best grade that a statement can get, and what withholds a better one.

Enters: `Means`: which evidence settings allow for. Leaves: a `Reach` for each way in which statements come:
through a sidecar, through the pooler alone, straight to PostgreSQL. The rules are those of `attribution`
(docs/ATTRIBUTION.md): what stands here is the best that they give to honest clients, never what a statement has.
Reads no setting itself.
"""

from dataclasses import dataclass, field

from scalple.ingest.records import Lacks

WITH_SIDECAR, WITHOUT_SIDECAR, UNPOOLED = "with_sidecar", "without_sidecar", "unpooled"
NOTHING = "nothing"
"""There is no record of the statement at all."""
ORDER = (NOTHING, "unattributed", "candidates", "claimed", "confirmed", "proven")
"""The worst first."""

_ALL_SAID = Lacks(0)
_CLOSED = Lacks.NAME | Lacks.TRANSACTION | Lacks.LINE | Lacks.MARKS
"""Without these nobody can see that a run wasn't made up (`gathering`)."""
_TOLD_BY_CONNECTIONS = Lacks.USER | Lacks.DATABASE | Lacks.ENDPOINT | Lacks.PORT | Lacks.SESSION


@dataclass(frozen=True, slots=True)
class Means:
    """What there will be to go by.

    Attributes:
        is_audited: pgAudit is loaded and logs reading or writing.
        is_read: into a log of a form that is read.
        lacks: what that form doesn't say.
        has_replays: pgAudit logs SET: the pooler's replayed names.
        has_connections: PostgreSQL logs who connects.
        has_pooler: there is a pooler.
        pooler_is_told: PgBouncer logs logins and server connections to a file.
        pooler_is_local: it reaches PostgreSQL over a unix socket, which has no port.
        has_suffix: PgBouncer puts each client's endpoint into application_name.
        has_links: PgBouncer logs which client is on which server connection.
        has_roles: some login roles belong to one person each.
    """

    is_audited: bool
    is_read: bool
    lacks: Lacks = _ALL_SAID
    has_replays: bool = False
    has_connections: bool = False
    has_pooler: bool = True
    pooler_is_told: bool = False
    pooler_is_local: bool = False
    has_suffix: bool = False
    has_links: bool = False
    has_roles: bool = False


@dataclass(frozen=True, slots=True)
class Reach:
    """The best grade for one way.

    Attributes:
        way: WITH_SIDECAR, WITHOUT_SIDECAR or UNPOOLED.
        grade: one of ORDER.
        limits: what withholds a better one, most important first.
        needs: what it takes besides settings.
    """

    way: str
    grade: str
    limits: tuple[str, ...] = ()
    needs: str | None = None


@dataclass(slots=True)
class _Best:
    """Goes down from a grade by what is missing."""

    grade: str
    limits: list[str] = field(default_factory=list)

    def hold(self, where: bool, grade: str, why: str) -> None:
        if where:
            self.grade = min(self.grade, grade, key=ORDER.index)
            self.limits.append(why)

    def reach(self, way: str, needs: str | None = None) -> Reach:
        return Reach(way, self.grade, tuple(self.limits), needs)


def reachable(means: Means) -> list[Reach]:
    """The best grade for each way that there is."""
    ways = [_unpooled(means)]
    if means.has_pooler:
        ways = [_with_sidecar(means), _without_sidecar(means), *ways]
    return ways


def _begun(means: Means) -> _Best:
    """What holds for every way."""
    best = _Best("proven")
    best.hold(not means.is_audited, NOTHING, "pgAudit logs no statements")
    best.hold(
        not means.is_read,
        NOTHING,
        "the server's log can't be read: not by this account, or not in its form",
    )
    unsaid = bool(means.lacks & _TOLD_BY_CONNECTIONS) and not means.has_connections
    best.hold(
        unsaid, "unattributed", "the log's lines don't say whose session it is (log_connections)"
    )
    return best


def _with_sidecar(means: Means) -> Reach:
    best = _begun(means)
    best.hold(
        not means.pooler_is_told,
        "unattributed",
        "PgBouncer's log doesn't tell of connections, so that nobody knows which are pooled",
    )
    best.hold(not means.has_replays, "confirmed", "replayed names aren't logged (misc_set)")
    best.hold(bool(means.lacks & _CLOSED), "confirmed", "the log's lines lack fields")
    best.hold(
        means.pooler_is_local,
        "confirmed",
        "PgBouncer reaches PostgreSQL over a unix socket: which session it has can't be seen",
    )
    return best.reach(WITH_SIDECAR, "a sidecar before every client of the pool")


def _without_sidecar(means: Means) -> Reach:
    best = _begun(means)
    best.hold(
        not means.pooler_is_told,
        "unattributed",
        "PgBouncer's log doesn't tell of connections, so that nobody knows which are pooled",
    )
    best.hold(True, "confirmed", "a client can set another's name; only a tag proves")
    if not means.has_links:
        best.hold(
            not means.has_suffix,
            "candidates",
            "names don't say whose they are (application_name_add_host)",
        )
        best.hold(
            means.has_suffix and not means.has_replays,
            "claimed",
            "replayed names aren't logged (misc_set)",
        )
    return best.reach(
        WITHOUT_SIDECAR,
        "people who log in to PgBouncer under names of their own, or identity events",
    )


def _unpooled(means: Means) -> Reach:
    best = _begun(means)
    best.hold(
        means.has_pooler and not means.pooler_is_told,
        "unattributed",
        "PgBouncer's log doesn't tell of connections, so that nobody knows which are pooled",
    )
    best.hold(
        bool(means.lacks & _TOLD_BY_CONNECTIONS),
        "claimed",
        "whose session it is rests on messages that a client may raise as well, as far as a stderr log "
        "shows",
    )
    if not means.has_roles:
        terse = bool(means.lacks & Lacks.MARKS)
        best.hold(terse, "claimed", "a terse log doesn't show what clients raise")
        best.hold(
            not means.has_connections,
            "unattributed",
            "how PostgreSQL authenticated isn't logged (log_connections)",
        )
    return best.reach(UNPOOLED, "login roles or certificates of one person each, under [actors]")
