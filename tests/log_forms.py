"""A csvlog as the same server would have written it to stderr, or as jsonlog.

Enters: a csvlog file. Leaves: a file of the other form (src/backend/utils/error/elog.c, jsonlog.c),
byte by byte as the server prints it; test_containers_stack.py holds that against a real one. Does
not: use the project's parsers, or know `%b`'s absent fields of old servers.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

STDERR_PREFIX = "%m [%p] %P %l %c %v %e %q%u@%d %r %a "

_NAMES = (
    *("log_time", "user", "database", "pid", "from", "session", "line", "tag", "start", "vxid"),
    *("xid", "severity", "state", "message", "detail", "hint", "internal_query", "internal_pos"),
    *("context", "query", "query_pos", "location", "application", "backend", "leader", "query_id"),
)
_LABELS = (
    *(("DETAIL", "detail"), ("HINT", "hint"), ("QUERY", "internal_query"), ("CONTEXT", "context")),
    ("STATEMENT", "query"),
)
_KEYS = {
    "log_time": "timestamp",
    "user": "user",
    "database": "dbname",
    "pid": "pid",
    "from": "",
    "session": "session_id",
    "line": "line_num",
    "tag": "ps",
    "start": "session_start",
    "vxid": "vxid",
    "xid": "txid",
    "severity": "error_severity",
    "state": "state_code",
    "message": "message",
    "detail": "detail",
    "hint": "hint",
    "internal_query": "internal_query",
    "internal_pos": "internal_position",
    "context": "context",
    "query": "statement",
    "query_pos": "cursor_position",
    "application": "application_name",
    "backend": "backend_type",
    "leader": "leader_pid",
    "query_id": "query_id",
}
_NUMBERS = {"pid", "line", "xid", "internal_pos", "query_pos", "leader", "query_id"}
_ESCAPES: dict[str, Callable[[dict[str, str]], str]] = {
    "m": lambda row: row["log_time"],
    "t": lambda row: re.sub(r"\.\d{3}", "", row["log_time"]),
    "p": lambda row: row["pid"],
    "c": lambda row: row["session"],
    "s": lambda row: row["start"],
    "v": lambda row: row["vxid"],
    "x": lambda row: row["xid"],
    "e": lambda row: row["state"],
    "i": lambda row: row["tag"],
    "b": lambda row: row.get("backend", ""),
    "P": lambda row: row.get("leader", ""),
    "Q": lambda row: row.get("query_id", "0"),
    "u": lambda row: row["user"] or "[unknown]",
    "d": lambda row: row["database"] or "[unknown]",
    "a": lambda row: row["application"] or "[unknown]",
    "r": lambda row: re.sub(r":(\d+)$", r"(\1)", row["from"]),
}


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    """The records of a csvlog."""
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for fields in csv.reader(file, strict=True):
            yield dict(zip(_NAMES, fields, strict=False))


def to_stderr(csvlog: Path, target: Path, prefix: str = STDERR_PREFIX) -> Path:
    """Write it as stderr, under a prefix of escapes without widths."""
    numbers: dict[str, int] = {}
    with target.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as out:
        for row in rows_of(csvlog):
            out.writelines(_lines(row, prefix, numbers))
    return target


def _lines(row: dict[str, str], prefix: str, numbers: dict[str, int]) -> Iterator[str]:
    message = row["message"]
    if row["query_pos"] and row["severity"] in ("ERROR", "FATAL", "PANIC"):
        message += f" at character {row['query_pos']}"
    parts = [(row["severity"], message)]
    parts += [(label, row[name]) for label, name in _LABELS if row[name]]
    for word, text in parts:
        numbers[row["session"]] = number = numbers.get(row["session"], 0) + 1
        # A process that serves a client has an address, or "[local]".
        shown = prefix if row["from"] else prefix.split("%q", 1)[0]
        head = re.sub(
            "%(.)",
            lambda found: (
                str(number)  # noqa: B023
                if found[1] == "l"
                else ""
                if found[1] == "q"
                else _ESCAPES[found[1]](row)
            ),
            shown,
        )
        tabbed = text.replace("\n", "\n\t")
        yield f"{head}{word}:  {tabbed}\n"


def to_jsonlog(csvlog: Path, target: Path) -> Path:
    """Write it as jsonlog."""
    with target.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as out:
        for row in rows_of(csvlog):
            out.write(json.dumps(_object(row), separators=(",", ":"), ensure_ascii=False) + "\n")
    return target


def _object(row: dict[str, str]) -> dict[str, str | int]:
    made: dict[str, str | int] = {}
    for name, key in _KEYS.items():
        text = row.get(name, "")
        if name == "from" and text:
            host, colon, port = text.rpartition(":")
            made["remote_host"] = host if colon else text
            if colon:
                made["remote_port"] = int(port)
        elif name == "state" and text == "00000":
            continue
        elif text and name != "from":
            made[key] = int(text) if name in _NUMBERS else text
    return made
