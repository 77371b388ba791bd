"""SQL text -> tokens, as PostgreSQL's scanner cuts it (src/backend/parser/scan.l).

Enters: one text. Leaves: its tokens, and its comments; or nothing, where the settings of a session that
isn't known here (`standard_conforming_strings`) decide where a string ends. Knows no grammar.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>[\s]+|--[^\n\r]*)
  | (?P<comment>/\*)
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
  | (?P<string>(?:\b(?P<prefix>[EeBbXxNn]|[Uu]&))?'[^']*+(?>''[^']*+)*+')
  | (?P<coded>\b[Uu]&")
  | (?P<quoted>"[^"]*+(?>""[^"]*+)*+")
  | (?P<parameter>\$\d+)
  | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
  | (?P<number>\d[\w.]*)
  | (?P<cast>::)
  | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NESTED = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Token:
    """One token; words in lower case, strings and quoted names without their quotes."""

    kind: str
    text: str

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these words, unquoted."""
        return self.kind == "word" and self.text in words


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment's text, without its marks."""

    text: str
    is_line: bool
    """`-- …` rather than `/* … */`."""


def read_tokens(text: str) -> list[Token] | None:
    """The text's tokens without comments; None if it can't be cut into tokens for sure."""
    tokens: list[Token] = []
    for kind, said in _scan(text):
        if kind in ("space", "comment"):
            continue
        if kind == "string":
            prefix = said[: said.index("'")].lower()
            if "\\" in said or prefix not in ("", "n", "e"):
                return None
        elif kind == "coded" or (kind == "mark" and said in "'\"") or kind == "open":
            return None
        tokens.append(Token(kind, _plain(kind, said)))
    return tokens


def read_comments(text: str) -> list[Comment] | None:
    """The comments before and behind everything else; None where it can't be told what is one.

    What generates comments puts them there; those in between are the statement's author's.
    """
    found: list[tuple[str, bool, bool]] = []
    seen = False
    for kind, said in _scan(text):
        if kind == "comment":
            found.append((said[2:-2], False, not seen))
        elif kind == "space" and said.startswith("--"):
            found.append((said[2:], True, not seen))
        elif kind == "space" or (kind == "mark" and said == ";"):
            continue
        elif kind == "open" or (kind == "mark" and said in "'\""):
            return None
        elif kind == "string" and "\\'" in said:
            return None  # whether the string ends there is a setting of the session
        else:
            seen = True
            # What stood in between is no longer at the end.
            found = [one for one in found if one[2]]
    return [Comment(body, line) for body, line, _ in found]


def _scan(text: str) -> Iterator[tuple[str, str]]:
    """(kind, text as it stands) of each piece; `open` for what doesn't end."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        assert found is not None  # `mark` matches anything
        begin, at = at, found.end()
        kind = found.lastgroup or "mark"
        if kind == "prefix":
            kind = "string"
        if kind == "comment":
            at = _comment_end(text, at)
        elif kind == "dollar":
            end = text.find(found[0], at)
            at = -1 if end < 0 else end + len(found[0])
        if at < 0:
            yield "open", text[begin:]
            return
        yield kind, text[begin:at]


def _plain(kind: str, said: str) -> str:
    if kind == "word":
        return said.lower()
    if kind == "quoted":
        return said[1:-1].replace('""', '"')
    if kind == "string":
        return said[said.index("'") + 1 : -1].replace("''", "'")
    if kind == "dollar":
        mark = said.index("$", 1) + 1
        return said[mark:-mark]
    return said


def _comment_end(text: str, at: int) -> int:
    """Behind the comment that has begun before `at`; comments nest. -1 if it doesn't end."""
    depth = 1
    for found in _NESTED.finditer(text, at):
        depth += 1 if found[0] == "/*" else -1
        if not depth:
            return found.end()
    return -1
