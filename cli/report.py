"""The answer to a question as one HTML page that a data-protection officer can read, print and hand over.

Enters: an `Answer`, and what was asked.
Leaves: a page that needs nothing else: no script, no font, no request. Decides nothing about what is shown:
who may see what has been settled before (see `disclosure`).
"""

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from typing import Any

from scalple.cli.answer import Answer
from scalple.cli.expiredlines import expired_lines

GRADES = {
    "proven": "the logs leave nobody else",
    "confirmed": "two independent records agree; a hostile insider could have made it look so",
    "claimed": "the application's own word, checked by nothing",
    "candidates": "one of several people, see the list",
    "pooler": "the connection pooler itself, no person",
    "unattributed": "not known",
}
REASONS = {
    "unidentified-client": "the connection is known, but nobody said who is behind it",
    "no-identity-for-endpoint": "nobody said who is behind the connection",
    "unannounced-client": "a client that isn't announced was connected at the same time",
    "no-replayed-name": "the pooler's log doesn't show whom it served",
    "pooling-unknown": "the pooler's log for that time is missing",
    "identity-conflict": "two records name different people",
    "claims-disagree": "the application names two people",
    "forged-line": "a client made this line up",
    "background-process": "the database's own work, no person",
    "no-client-known": "no connection is known that it could have come from",
    "unidentified-client-alive": "somebody was connected of whom nobody said who it is",
    "too-many-candidates": "too many people come into question",
    "drifted-client": "a client had changed its own label at the same time",
    "pool-not-seen": "the pooler's log for that time is missing in part",
    "replay-not-seen": "the pooler's own mark before it is missing",
    "endpoint-not-alive": "the connection it names had ended",
    "several-clients-at-endpoint": "several connections fit",
}
GAPS = {
    "hole-in-session": "lines of a session are missing in the middle",
    "session-begins-before-log": "a session had begun before the log did",
    "session-ends-unseen": "how a session ended isn't in the log",
    "auditing-changed": "a setting that decides what is logged was changed",
    "pooler-log-silent": "a part of the pooler's log is missing",
    "pooler-log-missing": "the pooler's log for a time is missing",
    "identity-events-silent": "whoever says who is connected fell silent",
    "identity-events-missing": "events that say who was connected are missing",
    "source-truncated": "a log file was cut before all of it was known to be read",
    "source-replaced": "a log file was replaced before all of it was known to be read",
    "source-missing": "a log file was gone before all of it was known to be read",
    "source-damaged": "a compressed log file is damaged",
}
SHAPES = {
    "point": "single rows that the statement names",
    "range": "a selection of rows",
    "full": "all rows",
    "aggregate": "counted or summed up, no single rows",
    "export": "copied out as a whole",
    "write": "written or changed",
    "none": "no rows",
}
_NAMED_BY = {"minute": 16, "hour": 13, "day": 10, "month": 7}
"""How much of a time names a minute, an hour, a day or a month."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page is an answer to."""

    what: str
    """The question in words, e.g. `customer_id = 4711`."""
    about_subject: bool
    for_subject: bool
    """It is for the person whose data it is; otherwise for the controller."""
    since: dt.datetime | None
    until: dt.datetime | None
    as_of: dt.datetime | None
    now: dt.datetime


def page(found: Answer, asked: Asked) -> str:
    """The whole page."""
    from jinja2 import Environment, StrictUndefined  # only pages need it; it takes 20 ms to load

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    text = resources.files("scalple.cli").joinpath("report.html").read_text("utf-8")
    answer = found.parts
    direct, coverage = answer.get("direct", []), answer["coverage"]
    people = coverage["statements"] - coverage["by_grade"].get("pooler", 0)
    return environment.from_string(text).render(
        asked=asked,
        breach=answer.get("breach"),
        activity=answer.get("activity"),
        direct=[_access(row) for row in direct],
        actors=_actors(direct),
        groups=[_group(one) for one in found.groups],
        possible=found.possible,
        refused=[_access(row) for row in answer.get("refused", [])],
        bars=_bars(direct, found),
        coverage=coverage,
        people=people,
        unnamed=people - coverage["attributed"],
        reasons=_worded(coverage["by_reason"], REASONS),
        gaps=_worded(coverage["gaps"], GAPS),
        expired=expired_lines(coverage["expired"]),
        grades=GRADES,
        shapes=SHAPES,
    )


def _worded(counts: dict[str, int], words: dict[str, str]) -> list[tuple[str, str, int]]:
    return [(name, words.get(name, ""), count) for name, count in counts.items()]


def _when(row: dict[str, Any]) -> str:
    return _time(row["log_time"])


def _time(text: str) -> str:
    """A time in seconds."""
    return f"{text[:10]} {text[11:19]}"


def _who(row: dict[str, Any]) -> str:
    name = row["session_user_id"] or row["session_email"]
    if name is None:
        candidates = row["attribution_candidates"]
        return f"one of {', '.join(candidates)}" if candidates else "not known"
    return f"{name} for {row['on_behalf_of']}" if row["on_behalf_of"] else str(name)


def _access(row: dict[str, Any]) -> dict[str, Any]:
    """One access, as the page shows it."""
    return {
        "when": _when(row),
        "who": _who(row),
        "email": row["session_email"],
        "grade": row["attribution_grade"] or "unattributed",
        "reason": row["attribution_reason"],
        "what": _data(row),
        "purpose": row.get("purpose"),
        "groups": ", ".join(row.get("groups") or ()),
        "query": row["query"],
        "rows": row.get("rows_returned"),
        "shape": row.get("access_shape"),
        "outcome": row["sqlstate"],
        "id": row.get("log_id") or row["id"],
    }


def _data(row: dict[str, Any]) -> str:
    """Which data it was: columns where they are known, else tables."""
    return ", ".join(row.get("columns_accessed") or row.get("affected_tables") or [])


def _actors(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who, how often, from when to when, and which data; most first."""
    by_actor: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_actor.setdefault(_who(row), []).append(row)
    found = [
        {
            "who": who,
            "times": len(mine),
            "first": _when(min(mine, key=lambda row: str(row["log_time"]))),
            "last": _when(max(mine, key=lambda row: str(row["log_time"]))),
            "data": sorted({one for row in mine for one in row["columns_accessed"] or []}),
        }
        for who, mine in by_actor.items()
    ]
    return sorted(found, key=lambda one: (-int(str(one["times"])), str(one["who"])))


def _group(one: dict[str, Any]) -> dict[str, Any]:
    """Possible accesses of one template and actor."""
    return {
        "times": one["times"],
        "who": _who(one),
        "shape": one["access_shape"] or "unknown",
        "what": _data(one),
        "query": one["query"],
        "rows": one["rows"],
        "first": _time(one["first"]),
        "last": _time(one["last"]),
        "id": one["log_id"],
    }


def _bars(direct: list[dict[str, Any]], found: Answer) -> list[dict[str, Any]]:
    """The timeline: how many accesses in each minute, hour, day or month, those without any included."""
    length = _NAMED_BY[found.unit]
    counts = (
        Counter(row["log_time"][:length] for row in direct),
        Counter({one["time"][:length]: one["times"] for one in found.times}),
    )
    seen = [*counts[0], *counts[1]]
    if not seen:
        return []
    labels = _labels(min(seen), max(seen), found.unit)
    most = max(sum(one[label] for one in counts) for label in labels)
    return [
        {
            "label": label.replace("T", " "),
            "direct": counts[0][label],
            "possible": counts[1][label],
            "direct_height": 100 * counts[0][label] / most,
            "possible_height": 100 * counts[1][label] / most,
        }
        for label in labels
    ]


def _labels(first: str, last: str, unit: str) -> list[str]:
    """The names of all units from one to another."""
    if unit == "month":
        begin, end = (12 * int(one[:4]) + int(one[5:7]) - 1 for one in (first, last))
        return [f"{n // 12:04d}-{n % 12 + 1:02d}" for n in range(begin, end + 1)]
    step = {
        "minute": dt.timedelta(minutes=1),
        "hour": dt.timedelta(hours=1),
        "day": dt.timedelta(days=1),
    }[unit]
    begin_at, end_at = (dt.datetime.fromisoformat(one) for one in (first, last))
    length = _NAMED_BY[unit]
    return [
        (begin_at + n * step).isoformat()[:length] for n in range((end_at - begin_at) // step + 1)
    ]
