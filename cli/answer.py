"""The answer to a question, as the JSON contract has it (docs/CLI_JSON.md), before it is written.

Enters: a connection with the store's views, a question, and what may be told. Leaves: an `Answer`.
People's names are settled here: pseudonyms where the answer is for the subject, values of subjects
only for the controller who holds the subject key. Writes nothing (see `written` and `report`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb

from scalple.cli import render
from scalple.cli.disclosure import for_subject
from scalple.correlate.recordcolumns import AUDIT
from scalple.correlate.subjects import reveal
from scalple.ingest.columntypes import BIGINT, TEXT, TEXTS, TIME, UBIGINT, Columns
from scalple.store import query as questions
from scalple.store.activity import activity
from scalple.store.breach import breach
from scalple.store.circumstances import circumstances
from scalple.store.coverage import coverage
from scalple.store.meanwhile import Meanwhile
from scalple.store.possible import possible, possible_groups, possible_times
from scalple.store.question import Question
from scalple.store.quick import Quick

if TYPE_CHECKING:
    import pyarrow as pa

UNITS = (("minute", 2 * 3600), ("hour", 3 * 86400), ("day", 92 * 86400), ("month", None))
"""By what a timeline counts, and the longest period in seconds for which it does."""


POSSIBLE_REASONS = {
    None: "not-read",
    "range": "range",
    "full": "all-rows",
    "aggregate": "aggregate",
    "export": "export",
    "point": "by-another-key",
    "write": "write",
    "none": "not-read",
}
"""Shape -> why a statement isn't known to have left the subject out (docs/CLI_JSON.md)."""
BESIDE = {
    "purpose": TEXT,
    "groups": TEXTS,
    "ticket": TEXT,
    "reason": TEXT,
}
"""What an answer says of a row beside the columns of the record."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What may be told, and how much.

    Attributes:
        keys: the subject keys, the newest first, or nothing; the first one makes pseudonyms.
        names: actors are named, and subjects whose sealed value the key opens.
        identifiers: name -> columns, as declared.
        whole: every possible access.
        grouped: groups of them.
        most: so many groups, the most frequent ones; None: all, and a timeline.
        columns: of direct accesses no others need be told, as SQL; None: all.
    """

    keys: tuple[bytes, ...]
    names: bool
    identifiers: Mapping[str, tuple[str, ...]]
    whole: bool
    grouped: bool
    most: int | None = None
    columns: tuple[str, ...] | None = None


@dataclass(slots=True)
class Answer:
    """What is known.

    Attributes:
        parts: the JSON document.
        rows: makes typed rows, for Parquet.
        groups: possible accesses by template and actor, perhaps not all of them.
        templates: how many groups there are.
        possible: how many accesses were possible.
        times: how many of them in each `unit` of time.
        unit: `minute`, `hour`, `day` or `month`.
        notes: what whoever asks should be told.
    """

    parts: dict[str, Any]
    rows: Callable[[], "pa.Table"]
    groups: list[dict[str, Any]]
    possible: int
    templates: int = 0
    times: list[dict[str, Any]] = field(default_factory=list)
    unit: str = "day"
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many statements the answer tells of."""
        reach = self.parts.get("breach")
        if reach is None:
            return len(self.parts["direct"]) + self.possible
        return int(reach["certain"]["statements"])  # the possible ones are among them


def answer(
    con: duckdb.DuckDBPyConnection, asked: Question, wanted: Wanted, quick: Quick | None = None
) -> Answer:
    """Who touched the subject's data, or what an actor, role or address did, or who used a table."""
    tokens = {token for _, token in asked.tokens}

    def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if wanted.names:
            return rows
        return [for_subject(row, tokens, wanted.keys[0]) for row in rows]

    with Meanwhile(con, lambda: coverage(con, asked.period, quick)) as covered:
        cursor = con.cursor()
        direct = questions.direct(cursor, asked, quick, wanted.columns)
        refused = questions.refused(cursor, asked)
        first = told(direct)
        found_groups = (
            possible_groups(cursor, asked, wanted.most, quick) if wanted.grouped else None
        )
        groups = told(found_groups.rows) if found_groups else []
    known = covered.result()
    rest = told(possible(con, asked)) if wanted.whole else []
    _add_circumstances(con, [*first, *rest], wanted.names, quick)
    for one in (*rest, *groups):
        one["reason"] = POSSIBLE_REASONS[one["access_shape"]]
    parts: dict[str, Any] = {
        "direct": render.plain(first),
        "possible": render.plain(rest),
        "refused": render.plain(told(refused)),
        "coverage": render.plain(known),
    }
    if not asked.tokens:
        done = activity(con, asked)
        done["most_subjects"] = [_subject(one, wanted) for one in done["most_subjects"]]
        parts["activity"] = render.plain(done)
    found = Answer(
        parts,
        lambda: _parts([("direct", first), ("possible", rest)]),
        render.plain(groups),
        found_groups.times if found_groups else len(rest),
        found_groups.groups if found_groups else 0,
    )
    if wanted.grouped and wanted.most is None:
        found.unit = timeline_unit([row["log_time"] for row in first], groups)
        times = possible_times(cursor, asked, found.unit, quick) if groups else None
        found.times = render.plain(times) if times else []
    return found


def breach_answer(
    con: duckdb.DuckDBPyConnection, asked: Question, wanted: Wanted, quick: Quick | None = None
) -> Answer:
    """How far a breach reaches; the list of whom to notify."""
    reach = breach(con, asked)
    groups = reach.pop("possible")
    if not wanted.names:
        groups = [for_subject(one, set(), wanted.keys[0]) for one in groups]
    for one in groups:
        one["reason"] = POSSIBLE_REASONS[one["access_shape"]]
    notify = []
    for part in ("certain", "uncertain"):
        if reach[part] is not None:
            reach[part]["subjects"] = [_subject(one, wanted) for one in reach[part]["subjects"]]
            notify += [{"part": part, **one} for one in reach[part]["subjects"]]
    parts = {
        "breach": render.plain(reach),
        "possible": render.plain(groups),
        "coverage": render.plain(coverage(con, asked.period, quick)),
    }
    found = Answer(
        parts,
        lambda: _typed(notify, NOTIFY),
        render.plain(groups),
        sum(one["times"] for one in groups),
        len(groups),
    )
    unnamed = sum(one["value"] is None for one in notify)
    if unnamed and wanted.names:
        found.notes.append(
            f"{unnamed:,} subjects are counted, not named: the subject key isn't here or isn't theirs"
        )
    if notify and len(wanted.keys) > 1:
        found.notes.append(
            "subjects of several keys: who is named under two of them is counted and listed twice"
        )
    if notify and not wanted.names:
        found.notes.append("subjects are counted, not named: --disclosure controller names them")
    return found


NOTIFY: Columns = (
    ("part", TEXT),
    ("identifier", TEXT),
    ("value", TEXT),
    ("token", UBIGINT),
    ("statements", BIGINT),
    ("first", TIME),
    ("last", TIME),
    ("columns", TEXTS),
    ("tables", TEXTS),
    ("grades", TEXTS),
)
"""The list of whom to notify."""


def _subject(one: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    """A subject with the identifier that names it, and its value where that may be told."""
    names = [
        name
        for name, columns in wanted.identifiers.items()
        if not set(columns).isdisjoint(one["columns"])
    ]
    name, value = names[0] if names else None, None
    if wanted.names:
        opened = (reveal(key, names, one["sealed"]) for key in wanted.keys)
        name, value = next((told for told in opened if told), (name, None))
    rest = {key: inner for key, inner in one.items() if key != "sealed"}
    return {"identifier": name, "value": value, **rest}


def _add_circumstances(
    con: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]], names: bool, quick: Quick | None
) -> None:
    """Purpose, groups and ticket of the newest event that a row cites; the ticket may name people."""
    ids = {one for row in rows for one in row["attribution_evidence"] or ()}
    said = circumstances(con, ids, quick.load_events()) if quick else circumstances(con, ids)
    for row in rows:
        events = [said[one] for one in row["attribution_evidence"] or () if one in said]
        newest = max(events, key=lambda one: one.ts, default=None)
        row["purpose"] = newest.purpose if newest else None
        row["groups"] = list(newest.groups) if newest and newest.groups else None
        row["ticket"] = newest.ticket if newest and names else None


ROWS: Columns = (("part", TEXT), ("log_id", TEXT), *AUDIT, *BESIDE.items())
"""The rows of an answer."""


def _parts(parts: list[tuple[str, list[dict[str, Any]]]]) -> "pa.Table":
    return _typed([{"part": name, **row} for name, rows in parts for row in rows], ROWS)


def _typed(rows: list[dict[str, Any]], columns: Columns) -> "pa.Table":
    import pyarrow as pa  # only Parquet and CSV need it

    from scalple.correlate.record import schema

    return pa.Table.from_pylist(rows, schema=schema(columns))


def timeline_unit(times: list[Any], groups: list[dict[str, Any]]) -> str:
    """By what a timeline of these counts."""
    every = [*times, *(one[name] for one in groups for name in ("first", "last"))]
    if not every:
        return "day"
    seconds = (max(every) - min(every)).total_seconds()
    return next(unit for unit, most in UNITS if most is None or seconds <= most)
