"""`query`: who touched this person's data, what did this actor run, who read this table."""

import datetime as dt
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from scalple.cli import asking, render, subjectkeys
from scalple.cli.accesslog import access_options, begin, logged, question
from scalple.cli.answer import Answer, Wanted, answer, breach_answer
from scalple.cli.disclosure import needed
from scalple.cli.expiredlines import expired_lines
from scalple.cli.options import (
    as_of_option,
    command,
    config_option,
    format_option,
    moment,
    period,
    since_option,
    store_option,
    store_path,
    until_option,
)
from scalple.cli.places import places
from scalple.cli.report import Asked
from scalple.cli.saving import save
from scalple.cli.subjectkeys import Told
from scalple.cli.written import GROUPS_SHOWN, ROW_COLUMNS, written
from scalple.correlate.subjects import subject_token
from scalple.ingest.errors import ConfigError, InputError
from scalple.store import query as questions
from scalple.store.question import Question, filters
from scalple.store.quick import Quick
from scalple.store.reader import StoreReader

PIECE = 1 << 13
"""Characters that are written at once."""


@command("query")
@store_option
@click.option("--subject", "subject", multiple=True, metavar="NAME=VALUE", help="Whose data.")
@click.option("--actor", metavar="ID|EMAIL", help="Who ran it.")
@click.option("--table", "table", metavar="T", help="What was touched: table or schema.table.")
@click.option("--role", metavar="ROLE", help="The database role that it ran under.")
@click.option("--address", metavar="IP", help="Where it came from.")
@since_option
@until_option
@click.option("--breach", is_flag=True, help="How far it reaches: whom to notify.")
@click.option(
    "--disclosure",
    type=click.Choice(["subject", "controller"]),
    default="subject",
    show_default=True,
    help="subject: pseudonymous actors, for the person asking; controller: names.",
)
@format_option(*render.FORMATS, "parquet", "html")
@click.option("--rows", "shown", type=click.IntRange(0), metavar="N", help="So many in a table.")
@click.option("--output", type=click.Path(path_type=Path), help="Write here instead of stdout.")
@click.option(
    "--bundle",
    "bundled",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write answer and proofs here, to be checked offline.",
)
@click.option(
    "--lost-key",
    "lost",
    multiple=True,
    metavar="ID",
    help="Answer without what was made with this subject key.",
)
@as_of_option
@access_options
@config_option
def query(
    store_dir: str | None,
    subject: tuple[str, ...],
    actor: str | None,
    table: str | None,
    role: str | None,
    address: str | None,
    since: str | None,
    until: str | None,
    breach: bool,
    disclosure: str,
    form: str,
    shown: int | None,
    output: Path | None,
    bundled: Path | None,
    lost: tuple[str, ...],
    as_of: str | None,
    access_log: Path | None,
    purpose: str | None,
    config_path: Path | None,
) -> None:
    """Answer who accessed a person's data, with evidence, grade and coverage.

    Repeated --subject options are identifiers of one person; other filters combine with AND.

    \b
    Example:
      scalple-ingest query --store ./store --subject customer_id=4711 \\
        --since 2026-03-01 --until 2026-04-01 --disclosure controller
      scalple-ingest query --store ./store --breach --actor employee_id_2291 \\
        --since 2026-03-01 --disclosure controller --format csv --output notify.csv
    """
    if lost and not subject:
        raise InputError("only a subject is looked up by a key", place="--lost-key")
    _check(bool(subject), any((actor, table, role, address)), breach)
    if form == "parquet" and output is None and sys.stdout.isatty():
        raise InputError("Parquet is nothing for a terminal", hint="give --output FILE")
    for path in (output, bundled):
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigError("no such directory", place=str(path), hint="check --output")
    if bundled is not None and (breach or disclosure == "subject"):
        raise InputError(
            "a proof shows rows as they are stored, names included",
            place="--bundle",
            hint="give --disclosure controller, and no --breach",
        )
    chosen = period(since, until)
    where = places(config_path)
    directory = store_path(store_dir, where)
    reader = StoreReader.open(directory)
    when = moment(as_of, "--as-of")
    begin()
    quick = Quick(reader, when)
    known = asking.known(reader, quick.names)
    rules = known.rules
    identifiers = asking.identified(subject, known.identifiers)
    names = disclosure == "controller"
    if identifiers or names:
        hand = subjectkeys.for_question(
            reader, directory, where, looks_up=bool(identifiers), lost=lost
        )
    else:
        hand = subjectkeys.pseudonym_key(reader, directory, where)
    tokens = tuple(
        (name, subject_token(key, name, value)) for name, value in identifiers for key in hand.keys
    )
    of_whom = [column for name, _ in identifiers for column in rules.identifiers[name]]
    everybody = [column for columns in rules.identifiers.values() for column in columns]
    asked = Question(
        tokens=tokens,
        subject_columns=tuple(sorted(set(of_whom if identifiers else everybody))),
        personal_columns=tuple(sorted(rules.personal_data)),
        carried=known.carried([name for name, _ in identifiers] or rules.identifiers),
        actor=actor,
        table=table,
        role=role,
        address=address,
        period=chosen,
    )
    filters(asked)  # what is no text is refused before it is logged
    options: dict[str, object] = {
        "actor": actor,
        "table": table,
        "role": role,
        "address": address,
        "since": since,
        "until": until,
        "as_of": as_of,
        "disclosure": disclosure,
        "format": form,
        "breach": breach or None,
        "bundle": bundled is not None or None,
        "lost_key": list(lost) or None,
    }
    most = (GROUPS_SHOWN if shown is None else shown) if form == "table" else None
    grouped = form in ("table", "html")
    whole = not grouped or bundled is not None
    columns = None
    if form == "table" and bundled is None:
        columns = ROW_COLUMNS if names else tuple(map(needed, ROW_COLUMNS))
    wanted = Wanted(hand.keys, names, known.identifiers, whole, grouped, most, columns)
    with logged(
        question("query", options, tokens, purpose), reader, directory, where, access_log
    ) as found:
        given = (breach_answer if breach else answer)(quick.con, asked, wanted, quick)
        found.rows = given.size
        if hand.unsearched:
            given.parts["unsearched"] = [one.plain() for one in hand.unsearched]
        proofs = None
        if bundled is not None:
            from scalple.cli.bundle import bundle  # the other questions needn't wait for it

            proofs = bundle(reader, given.parts, when)
    if bundled is not None and proofs is not None:
        save(proofs, bundled)
    _write(
        given,
        _Form(form, shown, output),
        Asked(
            what=_in_words(identifiers, options if names else options | {"actor": _unnamed(actor)})
            + _without(hand.unsearched),
            about_subject=bool(subject),
            for_subject=not names,
            since=chosen.since,
            until=chosen.until,
            as_of=when,
            now=dt.datetime.now(dt.UTC),
        ),
    )
    if form != "table":  # there it stands with the coverage
        given.notes += expired_lines(given.parts["coverage"]["expired"])
    for note in [*given.notes, *(_left_out(one) for one in hand.unsearched)]:
        click.echo(f"note: {note}", err=True)
    if not given.size:
        for what in questions.unknown(quick.con, asked):
            click.echo(f"note: {what}", err=True)


def _left_out(one: Told) -> str:
    return (
        f"not searched, as key {one.id} is lost: {one.rows:,} statements of {one.origin}, committed "
        f"from {one.first[:19]} to {one.last[:19]}"
    )


def _without(unsearched: tuple[Told, ...]) -> str:
    """In the heading of what is handed over."""
    return "".join(f" ({_left_out(one)})" for one in unsearched)


def _unnamed(actor: str | None) -> str | None:
    """In a page without names, the question has none either."""
    return None if actor is None else "one member of staff"


def _check(has_subject: bool, has_others: bool, breach: bool) -> None:
    if not (has_subject or has_others):
        raise InputError(
            "what is asked?",
            hint="give --subject NAME=VALUE, --actor ID, --table T, --role ROLE or --address IP",
        )
    if breach and has_subject:
        raise InputError(
            "--breach asks whose data was reached; --subject says it",
            hint="leave one of them out",
        )


def _in_words(identifiers: list[tuple[str, str]], options: dict[str, object]) -> str:
    """The question, as a heading says it."""
    named = [f"{name} = {value}" for name, value in identifiers]
    words = {"actor": "statements of", "table": "table", "role": "role", "address": "from"}
    named += [f"{word} {options[name]}" for name, word in words.items() if options[name]]
    return ", ".join(named)


@dataclass(frozen=True, slots=True)
class _Form:
    """How and where the answer is written."""

    form: str
    shown: int | None
    output: Path | None


def _write(given: Answer, how: _Form, asked: Asked) -> None:
    # A table is as wide as the terminal that it is for.
    terminal = sys.stdout if how.output is None else None
    made = written(given, how.form, how.shown, asked, terminal)
    if how.output is not None:
        save(made.encode() if isinstance(made, str) else made, how.output)
    elif isinstance(made, str):
        # In pieces: of a write that is cut short an unbuffered stdout doesn't tell.
        for at in range(0, len(made), PIECE):
            sys.stdout.write(made[at : at + PIECE])
    else:
        sys.stdout.buffer.write(made)
