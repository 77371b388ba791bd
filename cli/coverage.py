"""`coverage`: what is known of a period, and what isn't."""

import sys
from pathlib import Path

from scalple.cli import render
from scalple.cli.answer import write_coverage
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
from scalple.store import query as questions
from scalple.store.views import connect


@command("coverage")
@store_option
@since_option
@until_option
@format_option("table", "json")
@as_of_option
@config_option
def coverage(
    store_dir: str | None,
    since: str | None,
    until: str | None,
    form: str,
    as_of: str | None,
    config_path: Path | None,
) -> None:
    """Say how many statements have a name, how sure it is, and why the others have none.

    \b
    Example:
      scalple-ingest coverage --store ./store --since 2026-03-01 --until 2026-04-01
    """
    con = connect(store_path(store_dir, configured(config_path)), as_of=moment(as_of, "--as-of"))
    chosen = period(since, until)
    found = render.plain(questions.coverage(con, chosen))
    if form == "json":
        render.write_json(found, sys.stdout)
        return
    for title, part in _PARTS.items():
        rows = [{title: name, "count": count} for name, count in found[part].items()]
        if rows:
            render.write_table(rows, [title, "count"], sys.stdout)
    write_coverage(found, sys.stdout)


_PARTS = {
    "grade": "by_grade",
    "method": "by_method",
    "reason": "by_reason",
    "finding": "findings",
    "gap": "gaps",
}
