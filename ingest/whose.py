"""Whose the statements of one connection are, as its identity variables come and go.

Enters: settings that succeeded, and how transactions ended. Leaves: the identity in force. Follows
PostgreSQL's rules for variables: a session's setting is taken back by a rollback, a local one by the
end of its transaction. Where it can't be known, it is nobody's. No I/O.
"""

from dataclasses import dataclass

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
    """

    __slots__ = ("_scope", "_session", "base")

    def __init__(self, base: Identity) -> None:
        self.base = base
        self._session = base
        self._scope: _Scope | None = None

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

    def set(self, identity: Identity, status: int, *, local: bool) -> None:
        """A variable was set, and the server is in that status afterwards."""
        inside = status != STATUS_IDLE
        if inside and self._scope is None:
            self._scope = _Scope(self._session)
        if not local:
            self._session = identity
            if self._scope is not None:
                self._scope.local = None
        elif inside and self._scope is not None:
            self._scope.local = identity

    def lose(self, status: int) -> None:
        """What holds can't be told, nor what a rollback would give back."""
        self._session = NOBODY
        self._scope = None if status == STATUS_IDLE else _Scope(NOBODY)

    def completed(self, status: int, words: frozenset[bytes]) -> None:
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
