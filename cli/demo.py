"""`demo`: the recorded sample, from logs to an answer, with words in between."""

import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from scalple.cli import config as configuration
from scalple.cli import query as asking
from scalple.cli import render
from scalple.cli import reprocess as reading
from scalple.cli.options import command
from scalple.cli.verify import write_report
from scalple.ingest.errors import InputError
from scalple.store.verify import verify as verify_store
from scalple.store.views import connect

STATEMENT = "%email, subscription_tier FROM users WHERE region = %"
CUSTOMER = "customer_id=4711"
ROWS_SHOWN = 8
HERE = Path("sample_logs")
INTO = Path("demo", "store")
"""Of a sample that was installed along: nothing is written beside that."""


@command("demo")
@click.option(
    "--samples",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder of the recorded sample. Without it: ./sample_logs, or the one that was installed.",
)
def demo(samples: Path | None) -> None:
    """Reprocess the recorded sample and show what comes out.

    \b
    Example:
      scalple-ingest demo
    """
    path = (samples or _samples()) / "config.toml"
    if not path.exists():
        raise InputError(
            "the recorded sample isn't here",
            place=str(path),
            hint="run this in a checkout of the project, or give --samples DIR",
        )
    config = configuration.load(path)
    assert config.store is not None and config.origin is not None
    store = Path(config.store) if samples or path.parent == HERE else INTO
    out = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 110, highlight=False)
    _say(out, "1. Logs into a store", "PostgreSQL behind PgBouncer, one shared role, nine people.")
    plan = reading.plan(config, config.origin)
    sys.stdout.flush()
    reading.report(reading.run(plan, store, config), store)
    row = _statement(store)
    _say(out, "2. One statement", "What pgAudit alone says, and what is known now.")
    out.print(_side_by_side(row))
    _say(out, "3. Who touched this customer's data?", f"query --subject {CUSTOMER}")
    sys.stdout.flush()
    _ask(store, CUSTOMER)
    _say(out, "4. Is the store intact?", "verify reads every byte again.")
    sys.stdout.flush()
    write_report(verify_store(store, config.origin))
    _say(out, "Next", "")
    shown = _relative(store)
    for line in (
        f"query --store {shown} --actor j.muller@company.com --disclosure controller",
        f'sql --store {shown} "SELECT attribution_grade, count(*) FROM audit GROUP BY 1"',
        f"query --store {shown} --subject {CUSTOMER}   # as the customer may see it",
        f"coverage --store {shown}",
        "reprocess --help   # your own logs",
    ):
        click.echo(f"  {_program()} {line}")


def _samples() -> Path:
    """Where the sample is: here, or where the package was installed."""
    if (HERE / "config.toml").exists():
        return HERE
    for one in distribution("scalple-ingest").files or ():
        if one.parts[-2:] == ("sample_logs", "config.toml"):
            return Path(str(one.locate())).resolve().parent
    return HERE


def _program() -> str:
    """The command as it can be typed here: the virtual environment needn't be active."""
    name = "scalple-ingest"
    return name if shutil.which(name) else _relative(Path(sys.argv[0]))


def _relative(path: Path) -> str:
    resolved = path.resolve()
    here = Path.cwd()
    return str(resolved.relative_to(here)) if resolved.is_relative_to(here) else str(resolved)


def _say(out: Console, title: str, text: str) -> None:
    out.print(f"\n[bold]{title}[/bold]  {text}")


def _statement(store: Path) -> dict[str, Any]:
    con = connect(store)
    found = con.sql(
        "SELECT * FROM audit WHERE query LIKE $pattern AND session_user_id IS NOT NULL "
        "ORDER BY rows_returned DESC NULLS LAST, seq LIMIT 1",
        params={"pattern": STATEMENT},
    ).to_arrow_table()
    if not found.num_rows:
        raise InputError("the sample doesn't hold the statement that is shown", place=str(store))
    return render.items(found)[0]


def _side_by_side(row: dict[str, Any]) -> Table:
    table = Table(header_style="bold")
    table.add_column("")
    table.add_column("pgAudit alone")
    table.add_column("scalple-ingest")
    grade = f"{row['attribution_grade']} ({row['attribution_method']})"
    masked = ", ".join(_mask_example(name) for name in row["masked_fields"] or [])
    evidence = render.text_of(row["attribution_evidence"])
    for name, alone, known in (
        ("person", "?", row["session_user_id"]),
        ("e-mail", "?", row["session_email"]),
        ("role", row["db_role"], row["db_role"]),
        ("how sure", "-", grade),
        ("evidence", "-", evidence),
        ("query", row["query"], row["query"]),
        ("table", row["object_name"] or "-", render.text_of(row["affected_tables"])),
        ("columns", "-", render.text_of(row["columns_accessed"])),
        ("rows", render.text_of(row["rows_returned"]), render.text_of(row["rows_returned"])),
        ("masked fields", "-", masked),
        ("from", f"{row['client_addr']}:{row['client_port']} (the pooler)", _peer(row)),
        ("log id", "-", row["log_id"]),
    ):
        table.add_row(name, render.text_of(alone), render.text_of(known))
    return table


def _mask_example(column: str) -> str:
    return f"{column} → j***@***.com" if column.endswith(".email") else f"{column} → ***"


def _peer(row: dict[str, Any]) -> str:
    return f"{row['peer_addr']}:{row['peer_port']} (the application)"


def _ask(store: Path, subject: str) -> None:
    arguments = ["--store", str(store), "--subject", subject, "--disclosure", "controller"]
    arguments += ["--rows", str(ROWS_SHOWN)]
    asking.query.main(arguments, standalone_mode=False)
