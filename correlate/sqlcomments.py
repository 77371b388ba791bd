"""Who a statement's comments say is behind it.

Enters: one distinct SQL text. Leaves: what its comments claim, or nothing. Read are the comments before
and behind the statement, in the forms that are in use: sqlcommenter (opentelemetry.io), Metabase, Redash,
Looker, Supabase, dbt, and patterns of the operator's own. A comment is what the client says: it proves
nothing, and a prepared statement keeps it for everyone who executes it.

Identifiers that only mean something inside a tool bear the tool's name: `metabase:5`.
"""

import json
import re
from dataclasses import dataclass
from urllib.parse import unquote

from scalple.correlate.rules import Claims
from scalple.ingest.sqltokens import Comment, read_comments, read_tokens

READ_CHARS_MAX = 1 << 20
"""Longer texts aren't looked through."""

_PAIR = r"[^=,'\s]+='(?:[^'\\]|\\.)*'"
_SQLCOMMENTER = re.compile(rf"\s*{_PAIR}(?:\s*,\s*{_PAIR})*\s*")
_KEY_VALUE = re.compile(r"([^=,'\s]+)='((?:[^'\\]|\\.)*)'")
_METABASE = re.compile(r"\s*Metabase:: .*?\buserID: (\d+)\b")
_REDASH = re.compile(r"\s*Username: ([^,]+), .*\bQuery (?:ID|Hash): ")
_REDASH_NOBODY = frozenset({"Scheduled", "None", "Unknown"})
_LOOKER = re.compile(r"\s*Looker Query Context '(\{.*\})'\s*")
_SUPABASE_USER = re.compile(r"\s*user: (\S+)\s*")
_SUPABASE_SOURCE = re.compile(r"\s*source: \S+\s*")


_MARKS = {
    "metabase": "Metabase:: ",
    "redash": "Username: ",
    "looker": "Looker Query Context",
    "supabase": "user: ",
    "dbt": '"dbt"',
}


@dataclass(frozen=True, slots=True)
class Said:
    """What the comments of one text claim."""

    actor: str | None
    """Whom they name; None if they contradict each other."""
    request: str | None = None
    """What is different in every request, where the comment has such a thing (`traceparent`)."""


class CommentReader:
    """Reads texts for the forms of comment that the operator believes in.

    Args:
        claims: which forms, which keys, and patterns of the operator's own.
    """

    def __init__(self, claims: Claims) -> None:
        self._forms = frozenset(claims.comments)
        self._keys = frozenset(key.lower() for key in claims.comment_keys)
        self._patterns = [re.compile(one, re.DOTALL) for one in claims.comment_patterns]
        marks = [_MARKS[one] for one in claims.comments if one in _MARKS]
        marks += [re.escape(f"{one}='") for one in claims.comment_keys]
        self.hint: str | None = None if self._patterns else "(?i)" + "|".join(marks or [r"[^\s\S]"])
        """A regular expression that every text of interest matches; None if that can't be told."""

    def read(self, text: str) -> Said | None:
        """What the text's comments claim; None if they claim nothing."""
        if len(text) > READ_CHARS_MAX or not ("--" in text or "/*" in text):
            return None
        comments = read_comments(text)
        if not comments:
            return None
        named: dict[str, None] = {}
        request = None
        for one in comments:
            actor, same = self._one(one, comments)
            request = request or same
            if actor:
                named.setdefault(actor)
        if not named:
            return None
        return Said(next(iter(named)) if len(named) == 1 else None, request)

    def _one(self, comment: Comment, others: list[Comment]) -> tuple[str | None, str | None]:
        """(actor, what marks the request) of one comment."""
        text = comment.text
        for pattern in self._patterns:
            if found := pattern.search(text):
                return found["actor"], None
        if "sqlcommenter" in self._forms and not comment.is_line and _SQLCOMMENTER.fullmatch(text):
            return self._sqlcommenter(text)
        if "metabase" in self._forms and (found := _METABASE.match(text)):
            return f"metabase:{found[1]}", None
        if "redash" in self._forms and (found := _REDASH.match(text)):
            return None if found[1] in _REDASH_NOBODY else found[1].strip(), None
        if "looker" in self._forms and (found := _LOOKER.fullmatch(text)):
            said = _object(found[1]).get("user_id")
            return (f"looker:{said}" if isinstance(said, int | str) else None), None
        if "dbt" in self._forms and not comment.is_line and text.lstrip().startswith("{"):
            return self._dbt(_object(text)), None
        if "supabase" in self._forms and (found := _SUPABASE_USER.fullmatch(text)):
            beside = any(_SUPABASE_SOURCE.fullmatch(one.text) for one in others)
            return (f"supabase:{found[1]}" if beside else None), None
        return None, None

    def _sqlcommenter(self, text: str) -> tuple[str | None, str | None]:
        pairs = {
            unquote(key).lower(): unquote(re.sub(r"\\(.)", r"\1", value))
            for key, value in _KEY_VALUE.findall(text)
        }
        people = {pairs[key] for key in self._keys & set(pairs) if pairs[key]}
        # Two keys that name two people (an id and a name): which of them is the actor isn't known.
        return (people.pop() if len(people) == 1 else None), pairs.get("traceparent")

    def _dbt(self, said: dict[str, object]) -> str | None:
        if said.get("app") != "dbt":
            return None
        people = {value for key, value in said.items() if key.lower() in self._keys}
        one = people.pop() if len(people) == 1 else None
        return one if isinstance(one, str) else None


def is_prepared(text: str) -> bool:
    """Whether the text is that of a PREPARE: logged again, comment and all, at every EXECUTE."""
    tokens = read_tokens(text) if "repare" in text or "REPARE" in text else None
    return bool(tokens) and tokens is not None and tokens[0].is_word("prepare")


def _object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
