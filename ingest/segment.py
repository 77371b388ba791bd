"""What one segment of a client's messages does: to its name, and to the variables that say who it is.

Enters: the messages Query, Parse, Bind, Execute, Close and FunctionCall of one connection, in order.
Leaves: the settings of identity variables that the segment makes, whether anything else runs after
them, whether it may write the pooler's own form of a SET, and whether it may begin a COPY FROM STDIN.
Remembers prepared statements and portals, but only those that matter. Sends nothing.

Whether the server takes a Parse, a Close or a Bind isn't known before the segment's end. Until then,
and wherever a segment failed, a name stands for everything that it may stand for.
"""

import re
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final

from scalple.ingest.boundsettings import bound, has_parameters, typed
from scalple.ingest.pgwire import read_bind, read_parse
from scalple.ingest.variables import NOTHING, Effect, Setting, Variables

REPLAY_FORM: Final = b"SET application_name="
"""How PgBouncer begins the SET that replays a client's name (src/varcache.c)."""
_REMEMBERED_MAX = 4096
NAME_BYTES_MAX: Final = 63
"""PostgreSQL knows statements and portals by so many bytes of their names (NAMEDATALEN - 1)."""
_COMMITS = re.compile(
    rb"\b(?:do(?!\s+(?:nothing|update|instead|also)\b)|call"
    rb"|execute(?!\s+(?:function|procedure|on)\b))\b"
)
"""DO blocks and procedures: they can commit, so that what they set stands in a transaction alone. EXECUTE
may run what another client has prepared on that server connection."""
_LATER = (b"fetch", b"move", b"execute", b"commit", b"end", b"close")
"""Statements that may run what an earlier one has only declared."""
_SET_CONFIG = (2078).to_bytes(4)
"""pg_proc: set_config(text, text, boolean)."""
_EXECUTE = ord("E")
_ANYTHING = Effect(alone=False, unclear=True, ends=True)


class Mark(IntFlag):
    """What a prepared statement or portal may do, as its text says."""

    FORM = 1
    """Write the pooler's form."""
    COPY = 2
    """Ask for data."""
    SETS = 4
    """Set identity variables, or end a transaction."""


_EVERY = Mark.FORM | Mark.COPY | Mark.SETS
_NO = Mark(0)


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
    copies: bool = False
    """It may begin a COPY FROM STDIN."""
    executed: int = 0
    """Execute messages."""
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
        private: nobody else's statements can be meant by the names that this client uses. Without
            that they are another client's as soon as the transaction is over, and with it, in
            transaction pooling, the server connection.
    """

    def __init__(self, variables: Variables, *, private: bool = False) -> None:
        self.variables = variables
        self._private = private
        self.reads_utf8 = True
        """The client's texts are UTF-8."""
        self.used = False
        """The client has set an identity variable before."""
        self._deferred = False
        """A cursor, or a statement prepared by SQL, may set a variable when it is run."""
        self._known: set[bytes] = set()
        """Names that the client has given to statements: others are another client's, who had the
        server connection before."""
        self._effects: dict[bytes, Effect] = {}
        """What prepared statements do to variables and transactions."""
        self._marks: dict[bytes, Mark] = {}
        """What prepared statements may do."""
        self._harmless: set[bytes] = set()
        """Names that this segment gives to other statements, if it succeeds."""
        self._portals: dict[bytes, Effect] = {}
        self._portal_marks: dict[bytes, Mark] = {}
        self._rebound: set[bytes] = set()
        """Portals that this segment binds anew, if it succeeds."""
        self._blind = False
        """A message wasn't read, or there are too many names: any may be anything."""

    def does_nothing(self, kind: int, data: bytes, at: int) -> bool:
        """Whether a Bind or Execute, whose body begins there, is known without being read to change
        nothing: it is of the unnamed statement and portal, and these are harmless."""
        if self._blind or b"" in self._portals:
            return False
        if kind == _EXECUTE:
            return data[at : at + 1] == b"\0" and b"" not in self._portal_marks
        plain = b"" in self._known and b"" not in self._marks and b"" not in self._effects
        return plain and data[at : at + 2] == b"\0\0"

    def query(self, segment: Segment, text: bytes) -> None:
        """A simple query."""
        segment.formed |= Mark.FORM in _marks_of(text)
        self._later(segment, text)
        if not self.variables.may_matter(text):
            return
        effect = self.variables.read(text)
        if effect is not NOTHING:
            self._execute(segment, effect)
            acts = bool(effect.settings) or effect.unclear or segment.over
            segment.mixed |= acts and not effect.alone
            self._deferred |= effect.unclear and _declares(text)
            # A simple query has no bind parameters.
            segment.unclear |= any(has_parameters(one) for one in effect.settings)

    def parse(self, body: bytes) -> None:
        """A Parse message."""
        parse = read_parse(body)
        if parse is None:
            return
        if self._blind:
            return
        marks, name = _marks_of(parse.text), parse.statement[:NAME_BYTES_MAX]
        # The server refuses a name that is taken: then the old statement stays.
        taken = name in self._known and name != b""
        self._known.add(name)
        before = self._effects.pop(name, NOTHING)
        if self.variables.may_matter(parse.text):
            effect = self.variables.read(parse.text)
            if effect is not NOTHING:
                self._effects[name] = typed(effect, parse.types)
                marks |= Mark.SETS
                self._deferred |= effect.unclear and _declares(parse.text)
        if self._deferred and _runs_later(parse.text):
            self._effects[name] = _ANYTHING
            marks |= Mark.SETS
        if taken and (before is not NOTHING or name in self._effects):
            self._effects[name] = _ANYTHING
            marks |= Mark.SETS
        if marks:
            self._marks[name] = self._marks.get(name, _NO) | marks
            self._harmless.discard(name)
        elif name in self._marks:
            self._harmless.add(name)
        if len(self._known) > _REMEMBERED_MAX:
            self.forget()

    def bind(self, body: bytes) -> None:
        """A Bind message."""
        if self._blind:
            return
        # Nearly all bind what does nothing to variables: then their values needn't be read.
        names = body.split(b"\0", 2)
        if len(names) < 3:
            return  # malformed: the server will say so
        portal, name = names[0][:NAME_BYTES_MAX], names[1][:NAME_BYTES_MAX]
        # What another client has prepared there may be anything.
        foreign = name not in self._known
        marks = _EVERY if foreign else self._marks.get(name, _NO)
        if marks:
            self._portal_marks[portal] = self._portal_marks.get(portal, _NO) | marks
        if portal in self._portals:
            self._rebound.add(portal)
            if not portal:  # a named one isn't replaced, that is an error
                del self._portals[portal]
        effect = self._effects.get(name)
        # A portal with a name can be fetched from by SQL, whenever.
        self._deferred |= bool(portal) and (effect is not None or foreign)
        bind = read_bind(body) if effect is not None else None
        if effect is not None and bind is not None:
            self._portals[portal] = bound(effect, bind, self.variables)
        elif foreign or (name and Mark.SETS in marks):
            # It once set a variable, and still does if the server refused what came after.
            self._portals[portal] = _ANYTHING
        if len(self._portals) + len(self._portal_marks) > _REMEMBERED_MAX:
            self.forget()

    def execute(self, segment: Segment, body: bytes) -> None:
        """An Execute message."""
        portal = body.partition(b"\0")[0][:NAME_BYTES_MAX]
        marks = _EVERY if self._blind else self._portal_marks.get(portal, _NO)
        segment.formed |= Mark.FORM in marks
        segment.copies |= Mark.COPY in marks
        # What runs after a setting in one segment runs before a new tag can be set.
        segment.mixed |= segment.acts
        self._execute(segment, _ANYTHING if self._blind else self._portals.get(portal, NOTHING))

    def _execute(self, segment: Segment, effect: Effect) -> None:
        segment.over |= effect.ends and segment.scoped
        if effect.settings or effect.unclear:
            self.used = True
            segment.settings += effect.settings
            segment.unclear |= effect.unclear
            if not self.reads_utf8:
                # Whom these bytes name is known to the server only.
                said = (one.value for one in effect.settings)
                segment.unclear |= any(isinstance(one, str) and not one.isascii() for one in said)

    def function_call(self, segment: Segment, body: bytes) -> None:
        """A FunctionCall message."""
        if self.variables.names and body[:4] == _SET_CONFIG:
            segment.unclear = True

    def close(self, body: bytes) -> None:
        """A Close message."""
        name = body[1:].partition(b"\0")[0][:NAME_BYTES_MAX]
        if body[:1] == b"S" and name in self._marks:
            self._harmless.add(name)
        elif body[:1] == b"P" and name in self._portals:
            self._rebound.add(name)

    def unread(self, segment: Segment) -> None:
        """A message too large to be read: it may do anything."""
        self.forget()
        segment.mixed = segment.formed = True
        segment.unclear |= self.used

    def forget(self) -> None:
        """From here on any name may be anything."""
        self._blind = True
        for names in (self._known, self._harmless, self._rebound):
            names.clear()
        for known in (self._effects, self._marks, self._portals, self._portal_marks):
            known.clear()

    def _later(self, segment: Segment, text: bytes) -> None:
        """A simple query that may run what was only declared before."""
        if self._deferred and _runs_later(text):
            self._execute(segment, _ANYTHING)

    def answered(self, *, failed: bool, idle: bool) -> None:
        """A segment has been answered: only one that succeeded has replaced names for sure."""
        if not failed:
            for name in self._harmless:
                self._marks.pop(name, None)
                self._effects.pop(name, None)
        else:
            for name in self._rebound:
                self._portals[name] = _ANYTHING
        self._harmless.clear()
        self._rebound.clear()
        if idle:  # portals end with their transaction
            self._portals.clear()
            self._portal_marks.clear()
            if not self._private:
                self._known.clear()
                self._effects.clear()
                self._marks.clear()


def _declares(text: bytes) -> bool:
    """Whether a text may only declare what another runs."""
    lower = text.lower()
    return b"declare" in lower or b"prepare" in lower


def _runs_later(text: bytes) -> bool:
    lower = text.lower()
    return any(word in lower for word in _LATER)


def _marks_of(text: bytes) -> Mark:
    """What a text may do, by the words in it."""
    lower = text.lower()
    marks = _NO
    if REPLAY_FORM in text or (
        (b"do" in lower or b"call" in lower or b"execute" in lower)
        and _COMMITS.search(lower) is not None
    ):
        marks |= Mark.FORM
    if b"copy" in lower and b"stdin" in lower:
        marks |= Mark.COPY
    return marks
