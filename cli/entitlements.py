"""`entitlements`: rights that were granted and never used."""

import sys
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from scalple.cli import render
from scalple.cli.accesslog import access_options, logged, question
from scalple.cli.grantsfile import Granted, load_grants
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
from scalple.correlate.unusedrights import NEVER, NOT_JUDGED, PERHAPS, Members, Right, rights
from scalple.ingest.errors import InputError
from scalple.ingest.records import TEXT, TIME
from scalple.store.coverage import coverage
from scalple.store.reader import StoreReader
from scalple.store.usage import knows, uses
from scalple.store.views import connect_reader

_RIGHT = pa.schema(
    [
        ("role", TEXT),
        ("relation", TEXT),
        ("column", TEXT),
        ("privilege", TEXT),
        ("use", TEXT),
        ("statements", pa.int64()),
        ("last", TIME),
        ("logins", pa.list_(TEXT)),
    ]
)
_SHOWN = ("role", "relation", "column", "privilege", "use")


@command("entitlements")
@store_option
@click.option(
    "--snapshot",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Grants and memberships of the database, as JSON.",
)
@since_option
@until_option
@format_option("table", "json", "csv")
@as_of_option
@access_options
@config_option
def entitlements(
    store_dir: str | None,
    snapshot: Path,
    since: str | None,
    until: str | None,
    form: str,
    as_of: str | None,
    access_log: Path | None,
    purpose: str | None,
    config_path: Path | None,
) -> None:
    """Compare rights that were granted with their use, and list those that nobody used.

    A right is `used`, `perhaps` used, `never` used in the period as far as pgAudit logged it, or
    `not-judged` where it logged nothing of that kind. Revoke with care: what isn't logged isn't seen.

    \b
    Example:
      scalple-ingest entitlements --store ./store --snapshot grants.json --since 2026-01-01
    """
    granted = load_grants(snapshot)
    where = places(config_path)
    directory = store_path(store_dir, where)
    reader = StoreReader.open(directory)
    con = connect_reader(reader, moment(as_of, "--as-of"))
    chosen = period(since, until)
    asked = question("entitlements", {"since": since, "until": until, "as_of": as_of}, (), purpose)
    with logged(asked, reader, directory, where, access_log):
        used, statements, classes = uses(con, chosen, granted.database)
        if granted.database is not None and not statements and not knows(con, granted.database):
            raise InputError(
                f"no statement of the database {granted.database!r} is in the store",
                place=str(snapshot),
                hint="nothing can be said about its rights",
            )
    members = Members(granted.memberships)
    wanted = [one for one in granted.grants if not _needs_none(granted, one.role, one.relation)]
    found = _table(rights(wanted, members, used, classes))
    if form == "csv":
        render.write_rows(found, form, sys.stdout)
        return
    answer: dict[str, Any] = {
        "taken_at": granted.taken_at,
        "database": granted.database,
        "rights": render.items(found),
        "roles": _roles(granted, statements),
        "coverage": render.plain(coverage(con, chosen)),
    }
    if form == "json":
        render.write_json(answer, sys.stdout)
    else:
        _write(answer)


def _needs_none(granted: Granted, role: str, relation: str) -> bool:
    return role in granted.superusers or granted.owners.get(relation) == role


def _table(found: list[Right]) -> pa.Table:
    order = (NEVER, PERHAPS, NOT_JUDGED)
    in_order = sorted(
        found,
        key=lambda one: (
            order.index(one.use) if one.use in order else len(order),
            one.grant.role,
            one.grant.relation,
            one.grant.column or "",
            one.grant.privilege,
        ),
    )
    rows = [
        {
            "role": one.grant.role,
            "relation": one.grant.relation,
            "column": one.grant.column,
            "privilege": one.grant.privilege,
            "use": one.use,
            "statements": one.statements,
            "last": one.last,
            "logins": list(one.logins),
        }
        for one in in_order
    ]
    return pa.Table.from_pylist(rows, schema=_RIGHT)


def _roles(granted: Granted, statements: dict[str, int]) -> list[dict[str, Any]]:
    """Every role that may log in, or did, and how much it did."""
    return [
        {
            "role": role,
            "statements": statements.get(role, 0),
            "superuser": role in granted.superusers,
        }
        for role in sorted(granted.logins | statements.keys())
    ]


def _write(answer: dict[str, Any]) -> None:
    """For people: the rights that aren't known to be used."""
    unused = [one for one in answer["rights"] if one["use"] in (NEVER, PERHAPS, NOT_JUDGED)]
    title = "Rights that nobody is known to have used"
    render.write_table(unused, _SHOWN, sys.stdout, title=title, empty="none")
    idle = [one["role"] for one in answer["roles"] if not one["statements"]]
    if idle:
        sys.stdout.write(f"Roles that may log in and ran nothing: {', '.join(idle)}\n")
    count = len(answer["rights"])
    sys.stdout.write(f"{count - len(unused):,} of {count:,} rights were used\n")
    write_coverage(answer["coverage"], sys.stdout)
