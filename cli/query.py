"""`query`: who touched this person's data, what did this actor run, who read this table."""

import hashlib
import hmac
import io
import os
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
    format_option,
    moment,
    since_option,
    store_option,
    store_path,
    until_option,
)
from scalple.correlate.record import AUDIT
from scalple.correlate.rules import Rules
from scalple.correlate.subjects import subject_token
from scalple.ingest.errors import ConfigError, InputError
from scalple.store import keys
from scalple.store import query as questions
from scalple.store.layout import keys_directory
from scalple.store.query import Period, Question
from scalple.store.reader import StoreReader
from scalple.store.views import connect_reader

TEXT_SHOWN = 200
"""How much of a statement the table for people shows; the other formats have all."""
GROUPS_SHOWN = 20
"""How many templates of possible accesses the table for people shows."""
_HIDDEN_FROM_SUBJECT = (
    "session_email",
    "peer_addr",
    "peer_port",
    "client_addr",
    "client_port",
    "application_name",
    "db_role",  # a personal login role is a name
    "query",  # comments and literals may name staff, and other people
    "parameters",
)
"""The dates, the categories of data and a pseudonym for each actor stay."""
COLUMNS = ("time", "actor", "grade", "rows", "what", "log_id")


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
@format_option(*render.FORMATS)
@click.option("--rows", "shown", type=click.IntRange(0), metavar="N", help="So many in a table.")
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
    shown: int | None,
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
    period = Period(moment(since, "--since"), moment(until, "--until"))
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
        period=period,
    )
    con = connect_reader(reader)
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
        _write(answer, form, bool(subject), shown, sys.stdout)
    else:
        text = io.StringIO()
        _write(answer, form, bool(subject), shown, text)
        _save(text.getvalue(), output)


def _save(text: str, path: Path) -> None:
    """The whole answer or an error; who may read it is the operator's only."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
            out.write(text)
    except OSError as error:
        raise ConfigError(
            f"can't write the answer: {error.strerror}", place=str(path), hint="check --output"
        ) from error


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
    found = path or keys_directory(directory) / "subject.key"
    if not found.exists():
        raise ConfigError(
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

    candidates = row["attribution_candidates"]
    return (
        row
        | dict.fromkeys(_HIDDEN_FROM_SUBJECT)
        | {
            "session_user_id": pseudonym(row["session_user_id"]),
            "on_behalf_of": pseudonym(row["on_behalf_of"]),
            "attribution_candidates": candidates and [pseudonym(one) for one in candidates],
            "subjects": [one for one in row["subjects"] or [] if one["token"] in tokens],
        }
    )


def _write(
    answer: dict[str, Any],
    form: str,
    about_subject: bool,
    shown: int | None,
    out: TextIO,
) -> None:
    if form == "json":
        render.write_json(answer, out)
        return
    rows = [{"part": part, **row} for part in ("direct", "possible") for row in answer[part]]
    if form == "jsonl":
        render.write_jsonl(rows, out)
        return
    if form == "csv":
        columns = list(rows[0]) if rows else ["part", "log_id", *AUDIT.names]
        render.write_csv(rows, columns, out)
        return
    direct, possible = answer["direct"], answer["possible"]
    lines = [_line(row) for row in direct[:shown]]
    title = f"Direct ({len(direct)})"
    render.write_table(lines, COLUMNS, out, title=title, empty="none", folding=["what"])
    if len(lines) < len(direct):
        out.write(f"… and {len(direct) - len(lines)} more; without --rows all of them\n")
    if about_subject:
        _write_possible(possible, GROUPS_SHOWN if shown is None else shown, out)
    write_coverage(answer["coverage"], out)


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """A row as people like to read it: few columns, and seconds."""
    return {
        "time": f"{row['log_time'][:10]}\n{row['log_time'][11:19]}Z",
        "actor": _actor(row),
        "grade": row["attribution_grade"],
        "rows": row["rows_returned"],
        "what": _what(row),
        "log_id": row["log_id"],
    }


def _actor(row: dict[str, Any]) -> str:
    names = [row["session_user_id"], row["session_email"]]
    if row["on_behalf_of"]:
        names.append(f"for {row['on_behalf_of']}")
    return "\n".join(name for name in names if name) or "-"


def _what(row: dict[str, Any]) -> str:
    """The statement, or what it touched where the statement isn't shown."""
    if row["query"] is None:
        touched = row["columns_accessed"] or row["affected_tables"] or []
        return f"{row['command']} {', '.join(touched)}"
    text = " ".join(row["query"].split())
    if row["parameters"]:
        text += f"  [{', '.join('NULL' if one is None else one for one in row['parameters'])}]"
    return text if len(text) <= TEXT_SHOWN else text[: TEXT_SHOWN - 1] + "…"


def _write_possible(rows: list[dict[str, Any]], count: int, out: TextIO) -> None:
    """Grouped by template: how often each could have shown the subject."""
    example = {(row["query_fingerprint"], _actor(row)): row for row in rows}
    groups = Counter((row["query_fingerprint"], _actor(row)) for row in rows)
    lines = [
        {
            "times": times,
            "actor": actor,
            "shape": example[(template, actor)]["access_shape"],
            "one of them": _what(example[(template, actor)]),
            "log_id": example[(template, actor)]["log_id"],
        }
        for (template, actor), times in groups.most_common()
    ]
    title = f"Possible: could have shown this person's data ({len(rows)})"
    columns = ("times", "actor", "shape", "one of them", "log_id")
    shown = lines[:count]
    render.write_table(shown, columns, out, title=title, empty="none", folding=["one of them"])
    if len(lines) > count:
        out.write(f"… and {len(lines) - count} more templates; --format json has all\n")


def write_coverage(coverage: dict[str, Any], out: TextIO) -> None:
    """What the answer rests on, in a few lines."""
    share = coverage["attributed_share"]
    text = "nothing to attribute" if share is None else f"{share:.2%} of people's statements named"
    grades = ", ".join(f"{count:,} {grade}" for grade, count in coverage["by_grade"].items())
    missing = sum(coverage["gaps"].values())
    period = (
        f" from {coverage['first'][:19]}Z to {coverage['last'][:19]}Z" if coverage["first"] else ""
    )
    out.write(
        f"Coverage: {coverage['statements']:,} statements{period}; {text}\n"
        f"  {grades or 'no grades'}\n"
        f"  {missing:,} gaps, {coverage['unparsed']:,} unparsed, {coverage['denied']:,} refused\n"
    )
