"""`policy`: what the rules find in a store, and what other rules would find, without writing anything."""

import re
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from scalple.cli import render
from scalple.cli.accesslog import access_options, logged, question
from scalple.cli.declarations import recorded_policies
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
from scalple.cli.places import places_of
from scalple.cli.policyrights import RightsFound
from scalple.cli.policysection import check_rights
from scalple.cli.schemarecord import recorded_rights
from scalple.cli.written import write_coverage
from scalple.correlate.answers import ROLLED_BACK
from scalple.correlate.policies import AFTER, BEFORE, BROKEN, UNTOLD, Policies
from scalple.correlate.rightstimeline import RightsTimeline
from scalple.correlate.rules import Rules
from scalple.ingest.errors import ConfigError
from scalple.store import policies as stored
from scalple.store.coverage import coverage
from scalple.store.question import Period
from scalple.store.reader import StoreReader
from scalple.store.rownames import RowNames
from scalple.store.views import connect_reader

_TABLES = (
    ("Findings", "findings", ("finding", "found", "stored", "actors", "first", "last")),
    ("By actor", "actors", ("finding", "actor", "db_role", "found", "stored")),
)
_OF_RIGHTS = (
    (
        "Rights that were missing",
        "missing",
        ("finding", "actor", "roles", "privilege", "relation", "columns", "snapshot", "found"),
    ),
    ("Rights that can't be judged", "unjudged", ("finding", "why", "found")),
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


@command("policy")
@store_option
@since_option
@until_option
@format_option("table", "json", "csv")
@as_of_option
@access_options
@config_option
def policy(
    store_dir: str | None,
    since: str | None,
    until: str | None,
    form: str,
    as_of: str | None,
    access_log: Path | None,
    purpose: str | None,
    config_path: Path | None,
) -> None:
    """Say which rules were broken, by whom and when; try other rules on what is stored.

    Without --config the rules are those that were in force when the store was last written; with it,
    those of the file. `found` is what they find in the statements as they are attributed now, `stored`
    what stands on the rows: they differ where rules have changed. Nothing is written; `reprocess
    --revise` with the logs writes it.

    \b
    Example:
      scalple-ingest policy --store ./store --config changed.toml --since 2026-03-01
    """
    config = configured(config_path)
    directory = store_path(store_dir, config)
    reader = StoreReader.open(directory)
    when = moment(as_of, "--as-of")
    con = connect_reader(reader, when)
    names = RowNames(reader.audit_commits(when))
    names.register(con)
    chosen = period(since, until)
    given = config.rules() if config_path is not None else None
    if given is not None:
        has_rights = any(recorded_rights(reader, origin) for origin in reader.origins)
        check_rights(given.policies, has_rights)
    rights = RightsFound()
    options = {"since": since, "until": until, "as_of": as_of}
    with logged(
        question("policy", options, (), purpose), reader, directory, places_of(config), access_log
    ):
        counts = [
            _counts(
                con,
                names,
                origin,
                given or recorded_policies(reader, origin),
                chosen,
                recorded_rights(reader, origin),
                rights,
            )
            for origin in reader.origins
        ]
    if not any(one.policies or one.people for one in _rules(reader, given)) and not any(
        part.num_rows for part in counts
    ):
        raise ConfigError(
            "there are no rules", hint="write [[policy]] into a file, and give it with --config"
        )
    totals = stored.total(pa.concat_tables(counts))
    if form == "csv":
        render.write_rows(totals["days"], form, sys.stdout)
        return
    answer: dict[str, Any] = {name: render.items(table) for name, table in totals.items()}
    answer |= {
        "missing": render.items(rights.missing()),
        "unjudged": render.items(rights.unjudged()),
    }
    named = {one["finding"] for one in answer["findings"]}
    rules = {one.name for part in _rules(reader, given) for one in part.policies}
    answer["silent"] = sorted(one for one in rules if not {BROKEN + one, UNTOLD + one} & named)
    answer["coverage"] = render.plain(coverage(con, chosen))
    if form == "json":
        render.write_json(answer, sys.stdout)
    else:
        _write(answer)


def _rules(reader: StoreReader, given: Rules | None) -> list[Rules]:
    if given is not None:
        return [given]
    return [recorded_policies(reader, origin) for origin in reader.origins]


def _counts(
    con: duckdb.DuckDBPyConnection,
    names: RowNames,
    origin: str,
    rules: Rules,
    chosen: Period,
    timeline: RightsTimeline,
    rights: RightsFound,
) -> pa.Table:
    """What was found and what stands on the rows, per day, actor and role; adds to `rights`."""
    policies = Policies(rules, stored.events(con, origin), timeline)
    parts = [stored.EMPTY]
    for rows in stored.batches(con, origin, chosen, names, for_rights=policies.asks_rights):
        found = policies.findings(rows, ROLLED_BACK) if policies.in_force else None
        parts.append(stored.counts(rows, found, (BROKEN, UNTOLD), (AFTER, BEFORE)))
        if policies.asks_rights:
            rights.add(policies, timeline, rows)
    return pa.concat_tables(parts)


def _short(value: Any) -> Any:
    """Times to the second."""
    return f"{value[:19]}Z" if isinstance(value, str) and _TIME.fullmatch(value) else value


def _write(answer: dict[str, Any]) -> None:
    """For people."""
    for title, part, columns in _TABLES:
        shown = [{name: _short(row[name]) for name in columns} for row in answer[part]]
        folding = ["finding"]
        render.write_table(shown, columns, sys.stdout, title=title, empty="none", folding=folding)
    for title, part, names in _OF_RIGHTS:
        if answer[part]:
            shown = [{name: _short(row[name]) for name in names} for row in answer[part]]
            render.write_table(shown, names, sys.stdout, title=title, folding=["finding"])
    if answer["silent"]:
        sys.stdout.write(f"Rules that found nothing: {', '.join(answer['silent'])}\n")
    write_coverage(answer["coverage"], sys.stdout)
