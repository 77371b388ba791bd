"""Whose the statements of one connection are, as its identity variables come and go.

Enters: segments that have been answered. Leaves: the identity in force. Follows PostgreSQL's rules for
variables: a session's setting is taken back by a rollback, a local one by the end of its transaction.
Where it can't be known, it is nobody's. No I/O.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scalple.ingest.segment import Segment
from scalple.ingest.variables import Parameter, Setting

STATUS_IDLE, STATUS_OPEN, STATUS_FAILED = b"ITE"
"""ReadyForQuery: outside a transaction, inside one, inside one that failed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a connection's statements are."""

    actor: str | None
    email: str | None = None
    actor_kind: str | None = None
    authn: str | None = None
    on_behalf_of: str | None = None
    groups: tuple[str, ...] = ()


NOBODY = Identity(None)


@dataclass(slots=True)
class _Scope:
    """What an open transaction would take back."""

    session: Identity
    """The session's identity before the transaction."""
    local: Identity | None = None
    """Valid in the transaction only."""


class Whose:
    """The identity in force.

    Args:
        base: whose the connection is while no variable says otherwise.
        who_is: the person that a variable names; None for one who isn't admitted.
    """

    def __init__(self, base: Identity, who_is: Callable[[str], Identity | None]) -> None:
        self._base = base
        self._who_is = who_is
        self._session = base
        self._scope: _Scope | None = None
        self._variables: set[str] = set()
        """Variables that have said who it is."""

    @property
    def now(self) -> Identity:
        """Whose the next statement is."""
        if self._scope is not None and self._scope.local is not None:
            return self._scope.local
        return self._session

    @property
    def in_scope(self) -> bool:
        """Whether the end of the transaction will matter."""
        return self._scope is not None

    def settle(self, segment: Segment, status: int) -> bool:
        """A segment was answered, and the server is in that status; False if it names nobody who is
        admitted."""
        ended = frozenset(segment.ended)
        self._completed(status, ended)
        if not segment.settings and not segment.unclear:
            return True
        if segment.failed and not segment.mixed:
            return True
        untold = b"ROLLBACK" in ended or (bool(ended) and status != STATUS_IDLE)
        if segment.unclear or segment.failed or (segment.mixed and untold):
            if ended:
                self._lose(status)
            elif status != STATUS_FAILED:
                self._set(NOBODY, status, local=False)
            return True
        for setting in segment.settings:
            identity = self._named(setting)
            if identity is None:
                return False
            self._set(identity, status, local=setting.local is True)
        return True

    def _named(self, setting: Setting) -> Identity | None:
        assert not isinstance(setting.value, Parameter)
        if setting.value is not None:
            self._variables.add(setting.variable or "")
            return self._who_is(setting.value)
        if setting.variable is None:
            self._variables.clear()
            return self._base
        if setting.variable not in self._variables:
            return self.now  # another variable than the one that says who it is
        # With two of them, whichever is left may say somebody else.
        return self._base if len(self._variables) == 1 else NOBODY

    def _set(self, identity: Identity, status: int, *, local: bool) -> None:
        inside = status != STATUS_IDLE
        if inside and self._scope is None:
            self._scope = _Scope(self._session)
        if not local:
            self._session = identity
            if self._scope is not None:
                self._scope.local = None
        elif inside and self._scope is not None:
            self._scope.local = identity

    def _lose(self, status: int) -> None:
        """What holds can't be told, nor what a rollback would give back."""
        self._session = NOBODY
        self._scope = None if status == STATUS_IDLE else _Scope(NOBODY)

    def _completed(self, status: int, words: frozenset[bytes]) -> None:
        """A segment ended in that status; `words` are the command tags that end transactions."""
        scope = self._scope
        if scope is None or status == STATUS_FAILED:
            return
        if status == STATUS_OPEN:
            if b"ROLLBACK" in words:
                # To a savepoint, or with a chain: which settings it took back can't be told.
                scope.local = NOBODY
                self._session = scope.session if self._session == scope.session else NOBODY
            elif b"COMMIT" in words:
                self._scope = None
            return
        self._scope = None
        if words == {b"ROLLBACK"}:
            self._session = scope.session
        elif words != {b"COMMIT"} and self._session != scope.session:
            self._session = NOBODY
