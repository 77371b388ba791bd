"""`minimisation`: which personal columns came back though no statement named them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scalple.cli import asking, render
from scalple.cli.accesslog import access_options, logged, question
from scalple.cli.declarations import recorded_policies
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
from scalple.cli.written import TEXT_SHOWN, write_coverage
from scalple.correlate.tenures import Tenures
from scalple.ingest.errors import ConfigError
from scalple.store.coverage import coverage
from scalple.store.minimisation import minimisation as ask
from scalple.store.reader import StoreReader
from scalple.store.rownames import RowNames
from scalple.store.views import connect_reader

_TEMPLATE = ("statements", "rows", "actor", "role", "columns", "one of them")
_ACTOR = ("actor", "role", "column", "by name", "by *", "rows")


@command("minimisation")
@store_option
@since_option
@until_option
@format_option("table", "json", "csv")
@as_of_option
@access_options
@config_option
def minimisation(
    store_dir: str | None,
    since: str | None,
    until: str | None,
    form: str,
    as_of: str | None,
    access_log: Path | None,
    purpose: str | None,
    config_path: Path | None,
) -> None:
    """Say which personal columns were read through SELECT * alone, and by whom.

    The personal columns are those that were declared when the store was last written. Columns that
    no statement names could perhaps have been left out; whether they were used, no log says.

    \b
    Example:
      scalple-ingest minimisation --store ./store --since 2026-03-01
    """
    where = places(config_path)
    directory = store_path(store_dir, where)
    reader = StoreReader.open(directory)
    moment_asked = moment(as_of, "--as-of")
    names = RowNames(reader.audit_commits(moment_asked))
    known = asking.known(reader, names)
    personal = known.personal_or_identifiers
    if not personal:
        raise ConfigError(
            "no personal columns were declared when this store was written",
            hint="declare them under [personal_data], and run reprocess --revise with the logs",
        )
    con = connect_reader(reader, moment_asked)
    names.register(con)
    chosen = period(since, until)
    asked = question("minimisation", {"since": since, "until": until, "as_of": as_of}, (), purpose)
    with logged(asked, reader, directory, where, access_log):
        found = ask(con, personal, chosen, known.carried_personal)
    if form == "csv":
        render.write_rows(found["templates"], form, sys.stdout)
        return
    tenures = Tenures(
        tuple(one for o in reader.origins for one in recorded_policies(reader, o).people)
    )
    answer: dict[str, Any] = {
        "templates": _with_groups(found["templates"], tenures),
        "actors": _with_groups(found["actors"], tenures),
        "unknown": found["unknown"],
        "coverage": render.plain(coverage(con, chosen)),
    }
    if form == "json":
        render.write_json(answer, sys.stdout)
    else:
        _write(answer)


def _with_groups(found: pa.Table, tenures: Tenures) -> list[dict[str, Any]]:
    """Rows with the groups that the list of people gives the actor at the time of the last statement."""
    last = tenures.epochs(np.asarray(found.column("last").cast(pa.int64()).to_numpy(), np.int64))
    groups = [
        None if actor is None else tenures.at(actor, epoch).groups
        for actor, epoch in zip(found.column("actor").to_pylist(), last.tolist(), strict=True)
    ]
    return [
        one | {"groups": None if many is None else list(many)}
        for one, many in zip(render.items(found), groups, strict=True)
    ]


def _who(one: dict[str, Any]) -> str:
    return "\n".join([one["actor"] or "-", *(f"({group})" for group in one["groups"] or ())])


def _write(answer: dict[str, Any]) -> None:
    """For people."""
    templates = [
        {
            "statements": one["statements"],
            "rows": one["rows_returned"],
            "actor": _who(one),
            "role": one["db_role"],
            "columns": "\n".join(one["columns"]),
            "one of them": " ".join((one["query"] or "").split())[:TEXT_SHOWN],
        }
        for one in answer["templates"]
    ]
    title = "Personal columns that came through * alone, and could perhaps have been left out"
    folding = ["one of them"]
    render.write_table(templates, _TEMPLATE, sys.stdout, title=title, empty="none", folding=folding)
    actors = [
        {
            "actor": _who(one),
            "role": one["db_role"],
            "column": one["column"],
            "by name": one["by_name"],
            "by *": one["by_star"],
            "rows": one["rows_returned"],
        }
        for one in answer["actors"]
    ]
    title = "Statements that read personal columns"
    render.write_table(actors, _ACTOR, sys.stdout, title=title, empty="none")
    if answer["unknown"]:
        sys.stdout.write(
            f"Of {answer['unknown']:,} further reads it isn't known which columns they read; with a "
            "schema (--schema) fewer\n"
        )
    write_coverage(answer["coverage"], sys.stdout)
