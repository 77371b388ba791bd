"""The words of one DDL statement, one after another.

In: SQL text whose literals are blanked. Out: statements, and a cursor that goes over the words of one.
Knows brackets, names and commas, and nothing of what they mean.
"""

import re

from scalple.correlate.catalog import plain
from scalple.correlate.change import Name

_TOKEN = re.compile(r"\"(?:[^\"]|\"\")+\"|[^\W\d][\w$]*|''|\S")
IS_NAME = re.compile(r'"|[^\W\d]')
_CUT = re.compile(r'"(?:[^"]|"")*"|[();]')


class Strange(Exception):
    """The text isn't what it seemed to be."""


def statements(text: str) -> list[str]:
    """Cut at semicolons outside brackets and quoted names."""
    parts, depth, begin = [], 0, 0
    for token in _CUT.finditer(text):
        if token[0] == ";" and depth <= 0:
            parts.append(text[begin : token.start()])
            begin, depth = token.end(), 0
        else:
            depth += {"(": 1, ")": -1}.get(token[0], 0)
    return [*parts, text[begin:]]


class Cursor:
    """Goes over the tokens of one statement."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = list(_TOKEN.finditer(text))
        self._words = [t[0].upper() if t[0][0] != '"' else t[0] for t in self._tokens]
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self._words[at] if at < len(self._words) else ""

    def accept(self, *words: str) -> bool:
        """Goes on if these words come next."""
        if tuple(self._words[self.at : self.at + len(words)]) != words:
            return False
        self.at += len(words)
        return True

    def any_of(self, *words: str) -> str:
        """Goes over words as long as they are of these; returns them."""
        found = []
        while self.peek() in words:
            found.append(self.peek())
            self.at += 1
        return " ".join(found)

    def identifier(self) -> str:
        if self.at >= len(self._tokens) or not IS_NAME.match(self._tokens[self.at][0]):
            raise Strange
        self.at += 1
        return plain(self._tokens[self.at - 1][0])

    def name(self) -> Name:
        """A perhaps qualified name; ONLY and `*` say nothing here."""
        if self.peek() == "ONLY" and self.peek(1) != ".":
            self.at += 1
        parts = [self.identifier()]
        while self.accept("."):
            parts.append(self.identifier())
        self.accept("*")
        return (parts[-2] if len(parts) > 1 else None, parts[-1])

    def names(self) -> list[Name]:
        found = [self.name()]
        while self.accept(","):
            found.append(self.name())
        return found

    def skip_brackets(self) -> None:
        """Over a bracket and all in it."""
        depth = 0
        while self.at < len(self._words):
            depth += {"(": 1, ")": -1}.get(self.peek(), 0)
            self.at += 1
            if depth <= 0:
                return
        raise Strange

    def items(self) -> list["Cursor"]:
        """What a bracket lists."""
        if self.peek() != "(":
            return []
        begin = self._tokens[self.at].end()
        self.skip_brackets()
        inner = self.text[begin : self._tokens[self.at - 1].start()]
        return [Cursor(part) for part in split(inner)]

    def columns(self) -> tuple[str, ...]:
        """The names in a bracket; empty if something else than names stands there."""
        found = []
        for item in self.items():
            found.append(item.identifier() if item.peek() not in ("(", "") else "")
            if item.peek() == "(":
                found.append("")
        return tuple(found) if all(found) else ()

    def until(self, *words: str) -> bool:
        """Goes to the first of these words outside brackets."""
        while self.at < len(self._words):
            if self.peek() in words:
                return True
            if self.peek() == "(":
                self.skip_brackets()
            else:
                self.at += 1
        return False

    def rest(self) -> str:
        return self.text[self.offset() :]

    def offset(self) -> int:
        """Where the next token stands."""
        return self._tokens[self.at].start() if self.at < len(self._tokens) else len(self.text)


def split(text: str) -> list[str]:
    """Cut at commas outside brackets and quoted names."""
    parts, depth, begin = [], 0, 0
    for token in re.finditer(r'"(?:[^"]|"")*"|[(),]', text):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if token[0] == "," and depth <= 0:
            parts.append(text[begin : token.start()])
            begin = token.end()
    return [*parts, text[begin:]] if text.strip() else []
