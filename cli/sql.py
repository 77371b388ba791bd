"""`sql`: the user's own question to the views."""

import re
import sys
from pathlib import Path

import click

from scalple.cli import render
from scalple.cli.accesslog import access_options, logged, question, without_literals
from scalple.cli.expiredlines import expired_lines
from scalple.cli.options import (
    as_of_option,
    command,
    config_option,
    format_option,
    moment,
    store_option,
    store_path,
)
from scalple.cli.places import places
from scalple.store.coverage import expired_in
from scalple.store.query import read_only_sql
from scalple.store.question import Period
from scalple.store.reader import StoreReader
from scalple.store.utf8 import require_utf8
from scalple.store.views import connect_reader

_ACCESS = re.compile(r"\baccess\b", re.IGNORECASE)
"""Only who asks about questions needs their log."""


@command("sql")
@store_option
@format_option(*render.FORMATS)
@as_of_option
@access_options
@config_option
@click.argument("text", metavar='"SELECT …"')
def sql(
    store_dir: str | None,
    form: str,
    as_of: str | None,
    access_log: Path | None,
    purpose: str | None,
    config_path: Path | None,
    text: str,
) -> None:
    """Run one SELECT over the views audit, evidence, denied, gaps, unparsed, revisions, access
    and expired.

    \b
    Example:
      scalple-ingest sql --store ./store \\
        "SELECT session_user_id, count(*) FROM audit GROUP BY 1 ORDER BY 2 DESC"
    """
    require_utf8(text, "sql")  # what is no text is refused before it is logged
    where = places(config_path)
    directory = store_path(store_dir, where)
    reader = StoreReader.open(directory)
    asks_about_questions = _ACCESS.search(text) is not None
    questions = StoreReader.of_questions(access_log or directory) if asks_about_questions else None
    con = connect_reader(reader, moment(as_of, "--as-of"), questions)
    asked = question("sql", {"sql": without_literals(text), "as_of": as_of}, (), purpose)
    with logged(asked, reader, directory, where, access_log) as found:
        rows = read_only_sql(con, text)
        found.rows = rows.num_rows
        expired = render.plain(expired_in(con, Period()))
    for line in expired_lines(expired):
        click.echo(f"note: {line}", err=True)
    render.write_rows(rows, form, sys.stdout)
