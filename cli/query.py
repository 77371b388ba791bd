"""`query`: who touched this person's data, what did this actor run, who read this table."""

import datetime as dt
import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from scalple.cli import render
from scalple.cli.answer import write_answer
from scalple.cli.declarations import check_subject_key, recorded
from scalple.cli.disclosure import for_subject
from scalple.cli.options import (
    as_of_option,
    command,
    config_option,
    configured,
    format_option,
    moment,
    period,
    since_option,
    store_option,
    store_path,
    until_option,
)
from scalple.cli.report import Asked, page
from scalple.correlate.rules import Rules
from scalple.correlate.subjects import subject_token
from scalple.ingest.errors import ConfigError, InputError
from scalple.store import keys
from scalple.store import query as questions
from scalple.store.guard import require_utf8
from scalple.store.layout import keys_directory
from scalple.store.query import Question
from scalple.store.reader import StoreReader
from scalple.store.views import connect_reader


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
@format_option(*render.FORMATS, "html")
@click.option("--rows", "shown", type=click.IntRange(0), metavar="N", help="So many in a table.")
@click.option("--output", type=click.Path(path_type=Path), help="Write here instead of stdout.")
@as_of_option
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
    as_of: str | None,
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
    chosen = period(since, until)
    config = configured(config_path)
    directory = store_path(store_dir, config)
    reader = StoreReader.open(directory)
    rules = _rules(reader)
    identifiers = _identifiers(subject, rules)
    key_file = config.keys.subject_key_file
    key = b""
    if identifiers or disclosure == "subject":
        key = _subject_key(directory, Path(key_file) if key_file else None)
        check_subject_key(reader, key)
    question = Question(
        tokens=tuple((name, subject_token(key, name, value)) for name, value in identifiers),
        subject_columns=tuple(
            sorted({one for name, _ in identifiers for one in rules.identifiers[name]})
        ),
        personal_columns=tuple(sorted(rules.personal_data)),
        actor=actor,
        table=table,
        period=chosen,
    )
    con = connect_reader(reader, moment(as_of, "--as-of"))
    answer: dict[str, Any] = {
        "direct": render.items(questions.direct(con, question)),
        "possible": render.items(questions.possible(con, question)),
        "refused": render.items(questions.refused(con, question)),
        "coverage": render.plain(questions.coverage(con, question.period)),
    }
    if disclosure == "subject":
        tokens = {token for _, token in question.tokens}
        for part in ("direct", "possible", "refused"):
            answer[part] = [for_subject(row, tokens, key) for row in answer[part]]
    text = io.StringIO()
    if form == "html":
        named = [f"{name} = {value}" for name, value in identifiers]
        named += [f"statements of {actor}"] if actor else []
        named += [f"table {table}"] if table else []
        asked = Asked(
            what=", ".join(named),
            about_subject=bool(subject),
            for_subject=disclosure == "subject",
            since=chosen.since,
            until=chosen.until,
            as_of=moment(as_of, "--as-of"),
            now=dt.datetime.now(dt.UTC),
        )
        text.write(page(answer, asked))
    else:
        # A table is as wide as the terminal that it is for.
        write_answer(answer, form, bool(subject), shown, sys.stdout if output is None else text)
    if output is not None:
        _save(text.getvalue(), output)
    else:
        sys.stdout.write(text.getvalue())
    if not answer["direct"]:
        for what in questions.unknown(con, question):
            click.echo(f"note: {what}", err=True)


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
        InputError: no such identifier (names the known ones), or the text isn't valid UTF-8.
    """
    found = []
    for text in given:
        require_utf8(text, "--subject")
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
