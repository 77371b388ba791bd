"""`coverage`: what is known of a period, and what isn't."""

import sys
from pathlib import Path
from typing import Any

from scalple.cli import render
from scalple.cli.accesslog import access_options, logged, question
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
from scalple.cli.written import write_coverage
from scalple.store.coverage import coverage_in_detail
from scalple.store.reader import StoreReader
from scalple.store.views import connect_reader


@command("coverage")
@store_option
@since_option
@until_option
@format_option("table", "json")
@as_of_option
@access_options
@config_option
def coverage(
    store_dir: str | None,
    since: str | None,
    until: str | None,
    form: str,
    as_of: str | None,
    access_log: Path | None,
    purpose: str | None,
    config_path: Path | None,
) -> None:
    """Say how many statements have a name, how sure it is, and why the others have none.

    \b
    Example:
      scalple-ingest coverage --store ./store --since 2026-03-01 --until 2026-04-01
    """
    where = places(config_path)
    chosen = period(since, until)
    directory = store_path(store_dir, where)
    reader = StoreReader.open(directory)
    con = connect_reader(reader, moment(as_of, "--as-of"))
    options = {"since": since, "until": until, "as_of": as_of}
    with logged(question("coverage", options, (), purpose), reader, directory, where, access_log):
        found = render.plain(coverage_in_detail(con, chosen))
    if form == "json":
        render.write_json(found, sys.stdout)
        return
    for title, part in _PARTS.items():
        rows = [{title: name, "count": count} for name, count in found[part].items()]
        if rows:
            render.write_table(rows, [title, "count"], sys.stdout)
    for name in ("days", "poolers"):
        if found[name]:
            render.write_table(found[name], list(found[name][0]), sys.stdout)
    write_coverage(found, sys.stdout)
    _write_unnamed(found)


def _write_unnamed(found: dict[str, Any]) -> None:
    """The sentence that is asked for: of how many it can't be said who, and why."""
    people = found["statements"] - found["by_grade"].get("pooler", 0)
    unnamed = sum(found["unnamed"].values())
    if not people:
        return
    why = ", ".join(f"{count:,} {reason}" for reason, count in found["unnamed"].items())
    sys.stdout.write(
        f"For {unnamed:,} of {people:,} statements ({unnamed / people:.2%}) it can't be said who ran "
        f"them{': ' + why if why else ''}\n"
    )


_PARTS = {
    "grade": "by_grade",
    "method": "by_method",
    "reason": "by_reason",
    "finding": "findings",
    "gap": "gaps",
    "actor": "by_actor",
    "database": "by_database",
}
