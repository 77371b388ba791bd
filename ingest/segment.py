"""What one segment of a client's messages does: to its name, and to the variables that say who it is.

Enters: the messages Query, Parse, Bind, Execute and Close of one connection, in order. Leaves: the
settings of identity variables that the segment makes, whether anything else runs after them, and
whether it writes the pooler's own form of a SET. Remembers prepared statements and portals, but only
those that matter. Sends nothing.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from scalple.ingest.pgwire import Bind, read_bind, read_parse
from scalple.ingest.variables import NOTHING, Effect, Parameter, Setting, Variables, read_truth

REPLAY_FORM: Final = b"SET application_name="
"""How PgBouncer begins the SET that replays a client's name (src/varcache.c)."""
_REMEMBERED_MAX = 1024
_COMMITS = re.compile(rb"\b(?:do(?!\s+(?:nothing|update|instead|also)\b)|call)\b")
"""DO blocks and procedures: they can commit, so that what they set stands in a transaction alone."""
_SET_CONFIG = (2078).to_bytes(4)
"""pg_proc: set_config(text, text, boolean)."""
_TEXT_TYPES = frozenset({0, 25, 1043})
"""pg_type: unspecified, text, varchar; in both formats their bytes are the text."""


@dataclass(slots=True)
class Segment:
    """One segment, as far as it has been read."""

    begun: bool = False
    """Some of it has gone upstream."""
    scoped: bool = False
    """It begins in a transaction that has an identity of its own."""
    prepared: bool = False
    """It runs under a tag of nobody: nothing more has to be known of it."""
    recorded: bool = False
    """That it writes the pooler's form is on record."""
    settings: list[Setting] = field(default_factory=list)
    mixed: bool = False
    """Something else runs after a setting, or after the end of a transaction that had one."""
    over: bool = False
    """It has ended the transaction that it began in."""
    unclear: bool = False
    formed: bool = False
    """It writes the pooler's form."""
    failed: bool = False
    ended: set[bytes] = field(default_factory=set)
    """Command tags of what ended a transaction in it."""

    def again(self) -> "Segment":
        """The segment before any of it was read."""
        return Segment(scoped=self.scoped, prepared=self.prepared, recorded=self.recorded)

    @property
    def acts(self) -> bool:
        """What runs after this in the segment has to be seen."""
        return bool(self.settings) or self.over

    @property
    def untold(self) -> bool:
        """Whose all of it is can't be told."""
        return (self.mixed or self.unclear) and not self.prepared

    @property
    def unrecorded(self) -> bool:
        """It is about to write what the pooler writes, and nobody has said so."""
        return self.formed and not self.recorded


class Reader:
    """Reads a connection's messages.

    Args:
        variables: which settings count.
    """

    __slots__ = (
        "_form_portals",
        "_forms",
        "_harmless",
        "_portals",
        "_set_once",
        "_statements",
        "_too_many",
        "used",
        "variables",
    )

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.used = False
        """The client has set an identity variable before."""
        self._statements: dict[bytes, Effect] = {}
        """Prepared statements that set variables or end transactions."""
        self._set_once: set[bytes] = set()
        """Names of such statements, also of those that seem to be gone."""
        self._forms: set[bytes] = set()
        """Names of statements that may write the pooler's form."""
        self._form_portals: set[bytes] = set()
        self._harmless: set[bytes] = set()
        """Names that this segment gives to other statements, if it succeeds."""
        self._too_many = False
        self._portals: dict[bytes, Effect] = {}

    @property
    def watches(self) -> bool:
        """Whether Bind, Execute and Close have to be read."""
        return bool(self._set_once or self._portals or self._forms or self._form_portals)

    def query(self, segment: Segment, text: bytes) -> None:
        """A simple query."""
        segment.formed |= self._may_form(text)
        if not self.variables.may_matter(text):
            return
        effect = self.variables.read(text)
        if effect is not NOTHING:
            self._execute(segment, effect)
            acts = bool(effect.settings) or effect.unclear or segment.over
            segment.mixed |= acts and not effect.alone
            # A simple query has no bind parameters.
            segment.unclear |= any(_parameters(one) for one in effect.settings)

    def parse(self, body: bytes) -> None:
        """A Parse message."""
        parse = read_parse(body)
        if parse is None:
            return
        if self._may_form(parse.text):
            # Never forgotten: whether the server takes a later Parse or Close of that name isn't
            # known before it has answered.
            self._forms.add(parse.statement)
            self._harmless.discard(parse.statement)
        else:
            self._harmless.add(parse.statement)
        self._statements.pop(parse.statement, None)
        if self.variables.may_matter(parse.text):
            effect = self.variables.read(parse.text)
            if effect is not NOTHING:
                self._statements[parse.statement] = _typed(effect, parse.types)
                self._set_once.add(parse.statement)
                self._harmless.discard(parse.statement)
        if len(self._forms) + len(self._set_once) > _REMEMBERED_MAX:
            self._too_many = True

    def bind(self, segment: Segment, body: bytes) -> None:
        """A Bind message."""
        bind = read_bind(body)
        if bind is None:
            return
        if not bind.portal:  # a named one isn't replaced, it is an error
            self._portals.pop(bind.portal, None)
        if self._too_many or bind.statement in self._forms:
            segment.formed = True
            self._form_portals.add(bind.portal)
        if bind.statement in self._statements:
            self._portals[bind.portal] = self._bound(self._statements[bind.statement], bind)
        elif (bind.statement and bind.statement in self._set_once) or self._too_many:
            # It once set a variable, and still does if the server refused what came after.
            self._portals[bind.portal] = Effect(alone=False, unclear=True, ends=True)

    def execute(self, segment: Segment, body: bytes) -> None:
        """An Execute message."""
        portal = body.partition(b"\0")[0]
        segment.formed |= portal in self._form_portals
        effect = self._portals.get(portal, NOTHING)
        # What runs after a setting in one segment runs before a new tag can be set.
        segment.mixed |= bool(segment.settings) or segment.over
        self._execute(segment, effect)

    def _execute(self, segment: Segment, effect: Effect) -> None:
        segment.over |= effect.ends and segment.scoped
        if effect.settings or effect.unclear:
            self.used = True
            segment.settings += effect.settings
            segment.unclear |= effect.unclear

    def function_call(self, segment: Segment, body: bytes) -> None:
        """A FunctionCall message."""
        if self.variables.names and body[:4] == _SET_CONFIG:
            segment.unclear = True

    def close(self, body: bytes) -> None:
        """A Close message."""
        forget = self._statements if body[:1] == b"S" else self._portals
        name = body[1:].partition(b"\0")[0]
        forget.pop(name, None)
        if body[:1] == b"S":
            self._harmless.add(name)

    def ended(self, *, failed: bool) -> None:
        """A segment has been answered: only one that succeeded has replaced statements for sure."""
        if not failed and self._harmless:
            self._forms -= self._harmless
            self._set_once -= self._harmless
        self._harmless.clear()

    @staticmethod
    def _may_form(text: bytes) -> bool:
        """Whether it may write what the pooler writes: in so many words, or by code that commits."""
        if REPLAY_FORM in text:
            return True
        lower = text.lower()
        return (b"do" in lower or b"call" in lower) and _COMMITS.search(lower) is not None

    def transaction_over(self) -> None:
        """Portals end with their transaction."""
        self._portals.clear()
        self._form_portals.clear()

    def _bound(self, effect: Effect, bind: Bind) -> Effect:
        """The effect with its bind values filled in."""
        settings: list[Setting] = []
        unclear = effect.unclear
        for setting in effect.settings:
            if setting.name is not None:
                name = _text_of(setting.name, bind)
                if name is not None and not self.variables.knows(name):
                    continue
                unclear |= name is None
            local = setting.local
            if isinstance(local, Parameter):
                truth = None
                if local.index < len(bind.values):
                    binary = bind.format_of(local.index) == 1
                    truth = read_truth(bind.values[local.index], binary)
                unclear |= truth is None
                local = bool(truth)
            value = setting.value
            if isinstance(value, Parameter):
                said = _text_of(value, bind)
                is_null = value.index < len(bind.values) and bind.values[value.index] is None
                unclear |= said is None and not is_null
                value = said or None
            variable = setting.variable
            if setting.name is not None:
                variable = (_text_of(setting.name, bind) or "").lower() or None
            settings.append(Setting(value, local, variable=variable))
        if not settings and not unclear and not effect.ends:
            return NOTHING
        return Effect(tuple(settings), alone=effect.alone, unclear=unclear, ends=effect.ends)


def _parameters(setting: Setting) -> bool:
    said = (setting.value, setting.local, setting.name)
    return any(isinstance(one, Parameter) for one in said)


def _text_of(parameter: Parameter, bind: Bind) -> str | None:
    if parameter.index >= len(bind.values) or bind.format_of(parameter.index) not in (0, 1):
        return None
    value = bind.values[parameter.index]
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _typed(effect: Effect, types: tuple[int, ...]) -> Effect:
    """Unclear where a parameter is declared as something else than text."""
    asked = [one for setting in effect.settings for one in (setting.value, setting.name)]
    for one in asked:
        if isinstance(one, Parameter) and not _TEXT_TYPES.issuperset(types[one.index :][:1]):
            return Effect(effect.settings, alone=False, unclear=True)
    return effect
