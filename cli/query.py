"""`query`: who touched this person's data, what did this actor run, who read this table."""

import hashlib
import hmac
import sys
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

import click

from scalple.cli import render
from scalple.cli.declarations import recorded
from scalple.cli.options import (
    command,
    config_option,
    configured,
    moment,
    since_option,
    store_option,
    store_path,
    until_option,
)
from scalple.correlate.rules import Rules
from scalple.correlate.subjects import subject_token
from scalple.ingest.errors import InputError
from scalple.store import keys
from scalple.store import query as questions
from scalple.store.query import Period, Question
from scalple.store.reader import StoreReader
from scalple.store.views import connect

GROUPS_SHOWN = 20
"""How many templates of possible accesses the table for people shows."""
COLUMNS = (
    "log_time",
    "session_user_id",
    "session_email",
    "attribution_grade",
    "command",
    "affected_tables",
    "query",
    "rows_returned",
    "log_id",
)


@command("query")
@store_option
@click.option("--subject", "subject", multiple=True, metavar="NAME=VALUE", help="Whose data.")
@click.option("--actor", metavar="ID|EMAIL", help="Who ran it.")
@click.option("--table", "table", metavar="T", help="What was touched: table or schema.table.")
@since_option
@until_option
@click.option(
    "--disclosure",
    type=click.Choice(["subject", "controller"]),
    default="subject",
    show_default=True,
    help="subject: pseudonymous actors, for the person asking; controller: names.",
)
@click.option("--format", "form", type=click.Choice(render.FORMATS), default="table")
@click.option("--output", type=click.Path(path_type=Path), help="Write here instead of stdout.")
@config_option
def query(
    store_dir: str | None,
    subject: tuple[str, ...],
    actor: str | None,
    table: str | None,
    since: str | None,
    until: str | None,
    disclosure: str,
    form: str,
    output: Path | None,
    config_path: Path | None,
) -> None:
    """Answer who accessed a person's data, with evidence, grade and coverage.

    Repeated --subject options are identifiers of one person; other filters combine with AND.

    \b
    Example:
      scalple-ingest query --store ./store --subject customer_id=4711 \\
        --since 2026-03-01 --until 2026-04-01 --disclosure controller
    """
    if not (subject or actor or table):
        raise InputError(
            "what is asked?", hint="give --subject NAME=VALUE, --actor ID or --table T"
        )
    config = configured(config_path)
    directory = store_path(store_dir, config)
    reader = StoreReader.open(directory)
    rules = _rules(reader)
    identifiers = _identifiers(subject, rules)
    key_file = config.keys.subject_key_file
    key = b""
    if identifiers or disclosure == "subject":
        key = _subject_key(directory, Path(key_file) if key_file else None)
    question = Question(
        tokens=tuple((name, subject_token(key, name, value)) for name, value in identifiers),
        subject_columns=tuple(
            sorted({one for name, _ in identifiers for one in rules.identifiers[name]})
        ),
        personal_columns=tuple(sorted(rules.personal_data)),
        actor=actor,
        table=table,
        period=Period(moment(since, "--since"), moment(until, "--until")),
    )
    con = connect(directory)
    answer: dict[str, Any] = {
        "direct": render.items(questions.direct(con, question)),
        "possible": render.items(questions.possible(con, question)),
        "coverage": render.plain(questions.coverage(con, question.period)),
    }
    if disclosure == "subject":
        tokens = {token for _, token in question.tokens}
        for part in ("direct", "possible"):
            answer[part] = [_for_subject(row, tokens, key) for row in answer[part]]
    if output is None:
        _write(answer, form, sys.stdout)
    else:
        with output.open("w", encoding="utf-8", newline="") as out:
            _write(answer, form, out)


def _rules(reader: StoreReader) -> Rules:
    """The declarations of all origins together; the questions are asked of all of them."""
    identifiers: dict[str, tuple[str, ...]] = {}
    personal: dict[str, str] = {}
    for origin in reader.origins:
        rules = recorded(reader, origin)
        for name, columns in rules.identifiers.items():
            identifiers[name] = tuple(dict.fromkeys((*identifiers.get(name, ()), *columns)))
        personal |= dict(rules.personal_data)
    return Rules(identifiers=identifiers, personal_data=personal)


def _subject_key(directory: Path, path: Path | None) -> bytes:
    """The key that made the tokens; never a new one, which would find nothing."""
    found = path or keys.keys_directory(directory) / "subject.key"
    if not found.exists():
        raise InputError(
            "the subject key isn't there; without it nobody can be looked up",
            place=str(found),
            hint="give --config FILE with [keys] subject_key_file = …",
        )
    return keys.subject_key(directory, found).secret


def _identifiers(given: tuple[str, ...], rules: Rules) -> list[tuple[str, str]]:
    """(identifier, value) of each NAME=VALUE; a column stands for the identifiers it holds.

    Raises:
        InputError: no such identifier; names the known ones.
    """
    found = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise InputError(f"{text!r} is not NAME=VALUE", place="--subject")
        names = (
            [name]
            if name in rules.identifiers
            else [one for one, columns in rules.identifiers.items() if name in columns]
        )
        if not names:
            known = ", ".join(
                f"{one} ({', '.join(columns)})" for one, columns in rules.identifiers.items()
            )
            raise InputError(
                f"unknown identifier {name!r}",
                place="--subject",
                hint=f"known in this store: {known or 'none; declare [identifiers]'}",
            )
        found += [(one, value) for one in names]
    return found


def _for_subject(row: dict[str, Any], tokens: set[int], key: bytes) -> dict[str, Any]:
    """A row as its subject may see it (CJEU C-579/21): no staff by name, nobody else's data."""

    def pseudonym(actor: str | None) -> str | None:
        if actor is None:
            return None
        digest = hmac.digest(key, b"actor\0" + actor.encode(), hashlib.sha256)
        return f"actor-{digest[:6].hex()}"

    hidden = dict.fromkeys(
        ("session_email", "peer_addr", "peer_port", "client_addr", "client_port", "parameters")
    )
    candidates = row["attribution_candidates"]
    return row | hidden | {
        "session_user_id": pseudonym(row["session_user_id"]),
        "on_behalf_of": pseudonym(row["on_behalf_of"]),
        "application_name": None,
        "attribution_candidates": candidates and [pseudonym(one) for one in candidates],
        "subjects": [one for one in row["subjects"] or [] if one["token"] in tokens],
    }


def _write(answer: dict[str, Any], form: str, out: TextIO) -> None:
    if form == "json":
        render.write_json(answer, out)
        return
    rows = [
        {"part": part, **row} for part in ("direct", "possible") for row in answer[part]
    ]
    if form == "jsonl":
        render.write_jsonl(rows, out)
        return
    if form == "csv":
        columns = list(rows[0]) if rows else ["part", *COLUMNS]
        render.write_csv(rows, columns, out)
        return
    shown = [name for name in COLUMNS if any(row[name] is not None for row in answer["direct"])]
    render.write_table(
        answer["direct"], shown, out, title=f"Direct ({len(answer['direct'])})", empty="none"
    )
    _write_possible(answer["possible"], out)
    write_coverage(answer["coverage"], out)


def _write_possible(rows: list[dict[str, Any]], out: TextIO) -> None:
    """Grouped by template: how often each could have shown the subject."""
    groups = Counter((row["query_fingerprint"], row["session_user_id"]) for row in rows)
    example = {(row["query_fingerprint"], row["session_user_id"]): row for row in rows}
    lines = [
        {
            "times": times,
            "actor": actor,
            "access_shape": example[(template, actor)]["access_shape"],
            "one of them": example[(template, actor)]["query"],
            "log_id": example[(template, actor)]["log_id"],
        }
        for (template, actor), times in groups.most_common()
    ]
    title = f"Possible: could have shown this person's data ({len(rows)})"
    if rows:
        render.write_table(lines[:GROUPS_SHOWN], list(lines[0]), out, title=title)
    if len(lines) > GROUPS_SHOWN:
        out.write(f"… and {len(lines) - GROUPS_SHOWN} more templates; --format json has all\n")


def write_coverage(coverage: dict[str, Any], out: TextIO) -> None:
    """What the answer rests on, in a few lines."""
    console = render.terminal(out)
    share = coverage["attributed_share"]
    text = "nothing to attribute" if share is None else f"{share:.2%} of people's statements named"
    grades = ", ".join(f"{count:,} {grade}" for grade, count in coverage["by_grade"].items())
    missing = sum(coverage["gaps"].values())
    console.print(
        f"Coverage: {coverage['statements']:,} statements from {coverage['first']} to "
        f"{coverage['last']}; {text} ({grades}); {missing:,} gaps, "
        f"{coverage['unparsed']:,} unparsed, {coverage['denied']:,} refused.",
        highlight=False,
        markup=False,
    )
