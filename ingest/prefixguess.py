"""Which log_line_prefix a file has: recognised among the common ones, or described.

Enters: the first lines of a file. Leaves: the prefixes that match, best first; or, for a message,
what an unknown prefix seems to be. A described prefix is a proposal to the operator and is never
read with: which of two names is the role and which the database can't be told from a line.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from scalple.ingest.fields import PORT
from scalple.ingest.lineprefix import LinePrefix, read_prefix
from scalple.ingest.localised import LABEL_OF, SEVERITY_OF
from scalple.ingest.logtime import ZONE

KNOWN = (
    # PostgreSQL's default since 10, Debian's, Docker's, and what is often put behind them.
    "%m [%p] ",
    "%m [%p] %q%u@%d ",
    "%m [%p] %u@%d ",
    "%m [%p] %q%u@%d/%a ",
    "%m [%p] %q%u@%d %a ",
    "%m [%p] %q%u@%d %r %a ",
    "%m [%p] %q%a %u@%d ",
    "%m [%p] %u@%d %h ",
    "%m [%p] %q%u@%d %h ",
    "%m [%p] %q%u@%d %r ",
    "%m [%p] %b ",
    "%m [%p] %l %q%u@%d ",
    "%m [%p]: ",
    "%m [%p]: [%l-1] ",
    "%m [%p]: [%l] ",
    "%m [%p]: [%l-1] db=%d,user=%u ",
    "%m [%p]: [%l-1] user=%u,db=%d ",
    "%m [%p]: [%l-1] user=%u,db=%d,app=%a ",
    "%m [%p]: [%l-1] db=%d,user=%u,app=%a,client=%h ",
    "%m [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ",
    "%m [%p]: [%l-1] user=%u,db=%d,app=%a,client=%r ",
    "%m [%p]: [%l-1] app=%a,db=%d,client=%h,user=%u ",
    "%m [%p] user=%u,db=%d ",
    "%m [%p] db=%d,user=%u ",
    "%m [%p] user=%u,db=%d,app=%a ",
    "%m [%p] user=%u,db=%d,app=%a,client=%h ",
    "%m [%p] user=%u,db=%d,app=%a,client=%r ",
    "%m [%p] db=%d,user=%u,app=%a,client=%h ",
    "%m [%p] %quser=%u,db=%d,app=%a ",
    "%m [%p] %quser=%u,db=%d,app=%a,client=%h ",
    "%m [%p] %quser=%u,db=%d,app=%a,client=%r ",
    "%m [%p] %q[user=%u,db=%d,app=%a] ",
    "%m [%p] %q[user=%u,db=%d,app=%a,client=%h] ",
    "%m [%p] %q[user=%u,db=%d,app=%a,client=%r] ",
    "%m - %l - %p - %h - %u@%d - %x",
    "%m ",
    # Red Hat's packages up to 9.6 and 10, and pgBadger's documentation.
    "< %m > ",
    "< %t > ",
    "%t ",
    "%t [%p] ",
    "%t [%p]: ",
    "%t [%p]: [%l-1] ",
    "%t [%p]: [%l] ",
    "%t [%p-%l] ",
    "%t [%p-%l] %q%u@%d ",
    "%t [%p] %q%u@%d ",
    "%t [%p] %u@%d ",
    "%t [%p] %q%u@%d %a ",
    "%t [%p]: user=%u,db=%d ",
    "%t [%p]: user=%u,db=%d,app=%a ",
    "%t [%p]: db=%d,user=%u ",
    "%t [%p]: [%l-1] db=%d,user=%u ",
    "%t [%p]: [%l-1] user=%u,db=%d ",
    "%t [%p]: [%l-1] user=%u,db=%d,app=%a ",
    "%t [%p]: user=%u,db=%d,app=%a,client=%h ",
    "%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ",
    "%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%r ",
    "%t [%p]: [%l-1] db=%d,user=%u,app=%a,client=%h ",
    "%t [%p]: [%l-1] db=%d,user=%u,app=%a,client=%r ",
    "%t [%p]: db=%d,user=%u,app=%a,client=%h ",
    "%t [%p]: user=%u,db=%d,app=%a,client=%r ",
    "%t [%p]: [%l-1] %q%u@%d ",
    # RDS and Aurora.
    "%t:%r:%u@%d:[%p]:",
    "%t:%h:%u@%d:[%p]:",
    "%m:%r:%u@%d:[%p]:%l:%e:%s:%v:%x:%c:%q%a",
    "%m:%r:%u@%d:[%p]:%l:%e:%s:%v:%x:%c:%q%a:",
    # Azure: single server, flexible server.
    "%t-%c-",
    "%t:%r:%u@%d:[%p]:%a:%e",
    # Cloud SQL, AlloyDB.
    "%m [%p]: [%l-1] db=%d,user=%u,host=%h ",
    # Aiven, DigitalOcean.
    "pid=%p,user=%u,db=%d,app=%a,client=%h ",
    "%m pid=%p,user=%u,db=%d,app=%a,client=%h ",
    "%t pid=%p,user=%u,db=%d,app=%a,client=%h ",
    # Others seen in the wild.
    "%m %c %l ",
    "%m [%p] %c %l %v %x %e %q%u@%d %r %a ",
)
"""Settings in use, as documentation, packages and services give them."""

_WORDS = "|".join(sorted({re.escape(word) for word in (*SEVERITY_OF, *LABEL_OF)}, key=len))
_END = re.compile(rf"(?P<before>.*?)(?P<word>{_WORDS})\s?: {{1,2}}")
SEVERITY = rf"(?:{_WORDS})"
"""Any word that ends a prefix, as a pattern."""


_ADDRESS = r"(?!\[local\]|\d{1,3}(?:\.\d{1,3}){3}(?:\(\d+\))? |[0-9a-f]*:[0-9a-f:]+)"
_TYPED = frozenset("rhclvepQxnsP")
"""Escapes whose values can't be taken for anything else."""


def known_prefixes() -> list[LinePrefix]:
    """The common prefixes, in their strict form."""
    return [read_prefix(text, strict=True) for text in KNOWN]


def ranked(lines: Sequence[str], prefixes: Iterable[LinePrefix]) -> list[LinePrefix]:
    """Those that match any line, best first: of equals the one of which more is to be seen."""
    counted = [(*_seen(lines, prefix), prefix) for prefix in prefixes]
    counted.sort(key=lambda one: one[:-1], reverse=True)
    return [one[-1] for one in counted if one[0]]


def share(lines: Sequence[str], prefix: LinePrefix) -> float:
    """Part of the lines that begin with the prefix and a severity."""
    return _seen(lines, prefix)[0] / max(len(lines), 1)


def _seen(lines: Sequence[str], prefix: LinePrefix) -> tuple[int, int, int, int]:
    """Lines that match; escapes that some of them show, typed ones and all; none too many."""
    matches = [found for found in map(_line_pattern(prefix).match, lines) if found]
    shown = {
        name.removeprefix("f_")
        for found in matches
        for name, value in found.groupdict().items()
        if value is not None
    }
    return len(matches), len(_TYPED & shown), len(shown), -len(prefix.escapes)


@lru_cache(maxsize=256)
def _line_pattern(prefix: LinePrefix) -> re.Pattern[str]:
    # An application's name that looks like an address is one: another escape stands there.
    pattern = prefix.pattern.replace("(?P<f_a>", f"(?P<f_a>{_ADDRESS}")
    return re.compile(rf"{pattern}(?:{SEVERITY}\s?: {{1,2}}|AUDIT: (?:SESSION|OBJECT),)")


def describe(lines: Iterable[str]) -> str | None:
    """What prefix lines seem to have; None where no severity stands in any."""
    seen: dict[str, int] = {}
    for line in lines:
        found = _END.match(line)
        if found and found["before"].strip():
            text = _described(found["before"])
            seen[text] = seen.get(text, 0) + 1
    likely = (text for text in seen if read_prefix(text).has_time)
    return max(likely, key=lambda text: (seen[text], "%u" in text), default=None)


_KEYED = {
    **dict.fromkeys(("user", "usr", "u", "username"), "u"),
    **dict.fromkeys(("db", "database", "dbname", "d"), "d"),
    **dict.fromkeys(("app", "application", "application_name", "appname", "a"), "a"),
    **dict.fromkeys(("pid", "p"), "p"),
    **dict.fromkeys(("session", "sid", "sess", "c"), "c"),
    **dict.fromkeys(("vxid", "virtual", "v"), "v"),
    **dict.fromkeys(("xid", "txid", "trx", "x"), "x"),
    **dict.fromkeys(("line", "l"), "l"),
    **dict.fromkeys(("state", "sqlstate", "err", "error", "e"), "e"),
    **dict.fromkeys(("cmd", "command", "tag"), "i"),
    **dict.fromkeys(("queryid", "query_id", "qid"), "Q"),
    **dict.fromkeys(("backend", "type", "backend_type"), "b"),
    **dict.fromkeys(("client", "host", "remote", "h", "r", "ip"), "h"),
}
_KEYED_VALUE = re.compile(
    r"\b(?P<key>[A-Za-z_]+)=(?P<value>\[[^\]]*\]|.*?)(?=[ ,;|]+[A-Za-z_]+=|[,;|\]]|:? *$)"
)
_STEPS: tuple[tuple[str, str], ...] = (
    (rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} (?:{ZONE})", "m"),
    (rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d (?:{ZONE})", "t"),
    (r"\b\d{10}\.\d{3}\b", "n"),
    (rf"(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}|[0-9a-f]*:[0-9a-f:]+|[\w.-]+)\({PORT}\)", "r"),
    (r"\[local\]|\b\d{1,3}(?:\.\d{1,3}){3}\b", "h"),
    (r"\b[0-9a-f]{7,10}\.[0-9a-f]{1,8}\b", "c"),
    (r"\b\d+/\d+\b", "v"),
    (r"(?<=\[)\d+(?=-1\])", "l"),
    (r"(?<=\[)\d+(?=\])", "p"),
    (r"(?:\[unknown\]|[\w.-]+)(?=@)", "u"),
    (r"(?<=@)(?:\[unknown\]|[\w.-]+)", "d"),
    (r"\b[0-9A-Z]{2}[0-9]{3}\b", "e"),
    (r"(?<![\w.-])\d+(?![\w.])", "p"),
)
_MARKS = {escape: chr(0xE000 + at) for at, escape in enumerate("abcdefhilmnpqrstuvxLPQ")}
"""Characters of no script stand for escapes, so that no step takes one for a value."""


def _described(text: str) -> str:
    """One line's prefix with what looks like a value put back to its escape."""
    text = _KEYED_VALUE.sub(_keyed, text)
    for pattern, escape in _STEPS:
        if escape in ("p", "t") and _MARKS[escape] in text:
            escape = {"p": "l", "t": "s"}[escape]
        elif escape == "t" and _MARKS["m"] in text:
            escape = "s"
        text = re.sub(pattern, _MARKS[escape], text)
    text = text.replace("%", "%%")
    for escape, mark in _MARKS.items():
        text = text.replace(mark, f"%{escape}")
    return text


def _keyed(found: re.Match[str]) -> str:
    escape = _KEYED.get(found["key"].lower())
    if escape == "h" and found["value"].endswith(")"):
        escape = "r"
    return f"{found['key']}={_MARKS[escape]}" if escape else found[0]
