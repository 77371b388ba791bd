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


@dataclass(frozen=True, slots=True)
class _Said:
    """What one variable says."""

    variable: str
    identity: Identity
    local: bool
    """Until the transaction ends."""


@dataclass(frozen=True, slots=True)
class _State:
    """What the variables say, the last that was set last."""

    said: tuple[_Said, ...] = ()
    lost: bool = False
    """Other variables may say anything."""

    def without(self, variable: str) -> tuple[_Said, ...]:
        return tuple(one for one in self.said if one.variable != variable)

    def after_transaction(self) -> "_State":
        return _State(tuple(one for one in self.said if not one.local), self.lost)


_LOST = _State((), lost=True)


@dataclass(slots=True)
class _Scope:
    """What an open transaction would take back."""

    before: _State
    lasting: bool = False
    """It changed what holds beyond it."""


class Whose:
    """The identity in force.

    Args:
        base: whose the connection is while no variable says otherwise.
        who_is: the person that a variable names; None for one who isn't admitted.
    """

    def __init__(self, base: Identity, who_is: Callable[[str], Identity | None]) -> None:
        self._base = base
        self._who_is = who_is
        self._state = _State()
        self._scope: _Scope | None = None

    @property
    def now(self) -> Identity:
        """Whose the next statement is."""
        if self._state.said:
            return self._state.said[-1].identity
        return NOBODY if self._state.lost else self._base

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
                self._change(_LOST, status, lasting=True)
            return True
        return all(self._set(setting, status) for setting in segment.settings)

    def _set(self, setting: Setting, status: int) -> bool:
        """One setting; False if it names nobody who is admitted."""
        assert not isinstance(setting.value, Parameter)
        inside = status != STATUS_IDLE
        local = setting.local is True
        if local and not inside:
            return True  # it was over at once
        state, variable = self._state, setting.variable or ""
        if setting.value is not None:
            identity = self._who_is(setting.value)
            if identity is None:
                return False
            said = _Said(variable, identity, local)
            kept = tuple(
                one for one in state.said if one.variable != variable or (local and not one.local)
            )
            self._change(_State((*kept, said), state.lost), status, lasting=not local)
        elif local:
            # Its default for this transaction: whom another one then names isn't known.
            said = _Said(variable, NOBODY, local=True)
            self._change(_State((*state.said, said), state.lost), status, lasting=False)
        elif setting.variable is None:
            self._change(_State(), status, lasting=True)
        else:
            self._change(_State(state.without(variable), state.lost), status, lasting=True)
        return True

    def _change(self, state: _State, status: int, *, lasting: bool) -> None:
        if status != STATUS_IDLE:
            if self._scope is None:
                self._scope = _Scope(self._state)
            self._scope.lasting |= lasting
        self._state = state

    def _lose(self, status: int) -> None:
        """What holds can't be told, nor what a rollback would give back."""
        self._state = _LOST
        self._scope = None if status == STATUS_IDLE else _Scope(_LOST, lasting=True)

    def _completed(self, status: int, words: frozenset[bytes]) -> None:
        """A segment ended in that status; `words` are the command tags that end transactions."""
        scope = self._scope
        if scope is None or status == STATUS_FAILED:
            return
        if status == STATUS_OPEN:
            if b"ROLLBACK" in words:
                # To a savepoint, or with a chain: which settings it took back can't be told.
                nobody = _Said("", NOBODY, local=True)
                lasting = _LOST if scope.lasting else self._state.after_transaction()
                self._state = _State((*lasting.said, nobody), lasting.lost)
            elif b"COMMIT" in words:
                self._state = self._state.after_transaction()
                self._scope = None
            return
        self._scope = None
        if words == {b"ROLLBACK"}:
            self._state = scope.before
        elif words == {b"COMMIT"} or not scope.lasting:
            self._state = self._state.after_transaction()
        else:
            self._state = _LOST
