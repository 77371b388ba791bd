"""`sql`: the user's own question to the views."""

import sys
from pathlib import Path

import click

from scalple.cli import render
from scalple.cli.options import (
    as_of_option,
    command,
    config_option,
    configured,
    format_option,
    moment,
    store_option,
    store_path,
)
from scalple.store.query import read_only_sql
from scalple.store.views import connect


@command("sql")
@store_option
@format_option(*render.FORMATS)
@as_of_option
@config_option
@click.argument("text", metavar='"SELECT …"')
def sql(
    store_dir: str | None, form: str, as_of: str | None, config_path: Path | None, text: str
) -> None:
    """Run one SELECT over the views audit, evidence, denied, gaps, unparsed and revisions.

    \b
    Example:
      scalple-ingest sql --store ./store \\
        "SELECT session_user_id, count(*) FROM audit GROUP BY 1 ORDER BY 2 DESC"
    """
    con = connect(store_path(store_dir, configured(config_path)), as_of=moment(as_of, "--as-of"))
    render.write_rows(read_only_sql(con, text), form, sys.stdout)
