"""`hold`: what must not expire, placed and released in the log itself."""

import datetime as dt
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from scalple.cli import render
from scalple.cli.accesslog import user
from scalple.cli.options import (
    command,
    config_option,
    format_option,
    period,
    since_option,
    store_option,
    store_path,
    until_option,
)
from scalple.cli.originkeys import origin_key, origins
from scalple.cli.places import places
from scalple.ingest.errors import InputError
from scalple.store import holds, strict
from scalple.store.holds import HOLDS, Hold, Holds
from scalple.store.layout import origin_layout
from scalple.store.reader import StoreReader
from scalple.store.retained import read_holds
from scalple.store.writer import StoreWriter


@command("hold")
@click.argument("what", type=click.Choice(["add", "release", "list"]))
@click.argument("hold_id", metavar="[ID]", required=False)
@store_option
@click.option("--origin", metavar="NAME", help="Only this origin; _access is the log of questions.")
@since_option
@until_option
@click.option("--reason", metavar="TEXT", help="Why it is placed, or released.")
@click.option("--ticket", metavar="TEXT", help="The matter's number.")
@format_option("table", "json")
@config_option
def hold(
    what: str,
    hold_id: str | None,
    store_dir: str | None,
    origin: str | None,
    since: str | None,
    until: str | None,
    reason: str | None,
    ticket: str | None,
    form: str,
    config_path: Path | None,
) -> None:
    """Keep what was logged in a period, whatever its age, until the hold is released.

    Each log states its holds, signed, and who placed them: the account, and the host. Without
    --since and --until all of the log is held, also what is still to come.

    \b
    Example:
      scalple-ingest hold add case-17 --store ./store --since 2026-01-01 --until 2026-04-01 \\
        --reason "court order" --ticket LEGAL-17
      scalple-ingest hold release case-17 --store ./store --reason "case closed"
    """
    where = places(config_path)
    directory = store_path(store_dir, where)
    names = [origin] if origin is not None else origins(directory)
    if what == "list":
        _list(directory, names, form)
        return
    if hold_id is None or not reason:
        raise InputError(f"which hold, and why? hold {what}", hint="give ID and --reason TEXT")
    now = dt.datetime.now(dt.UTC).isoformat()
    change: Callable[[Holds], Holds]
    if what == "add":
        placed = _placed(hold_id, reason, ticket, since, until, now)

        def change(known: Holds) -> Holds:
            return holds.placed(known, placed)
    else:
        if since or until or ticket:
            raise InputError("a hold is released as a whole", hint="give ID and --reason alone")

        def change(known: Holds) -> Holds:
            return holds.released(known, hold_id, now, _who(), reason)

    todo = _changed(directory, names, change, hold_id if what == "release" else None)
    signing = {name: origin_key(directory, name, where).private for name in todo}
    for name, after in todo.items():
        if after == _known(directory, name):
            click.echo(f"{name}: has it already")
            continue
        with StoreWriter.open(directory, name, signing[name], create=False) as writer:
            for note in writer.notes:
                click.echo(f"note: {note}", err=True)
            # Nobody may have come in between unseen: the list is the log's as it is now.
            current = change(_known(directory, name))
            manifest = writer.commit({}, [], {HOLDS: holds.to_bytes(current)})
        one = next(one for one in after if one.id == hold_id)
        click.echo(f"{name}: manifest {manifest.n}: {hold_id} holds {one.period}: {_state(one)}")


def _changed(
    directory: Path, names: list[str], change: Callable[[Holds], Holds], released: str | None
) -> dict[str, Holds]:
    """What each log will say; nothing is written before all of them can. A hold is released where it is
    in force: it may have been placed in some logs only, or a run was interrupted.

    Raises:
        InputError: it can't be placed, or is in force nowhere.
    """
    found = {name: _known(directory, name) for name in names}
    if released is not None:
        there = {
            name: known
            for name, known in found.items()
            if any(one.id == released and one.in_force for one in known)
        }
        found = there or dict(list(found.items())[:1])
    return {name: change(known) for name, known in found.items()}


def _known(directory: Path, origin: str) -> Holds:
    reader = StoreReader.open(directory, origin)
    return read_holds(origin_layout(directory, origin), reader.chain(origin).manifests)


def _placed(
    hold_id: str, reason: str, ticket: str | None, since: str | None, until: str | None, now: str
) -> Hold:
    chosen = period(since, until)
    said = {
        "id": hold_id,
        "reason": reason,
        "ticket": ticket,
        "since": chosen.since.isoformat() if chosen.since else None,
        "until": chosen.until.isoformat() if chosen.until else None,
        "placed_at": now,
        "placed_by": _who(),
        "released_at": None,
        "released_by": None,
        "released_why": None,
    }
    try:
        return holds.checked(said)
    except ValueError as error:
        raise InputError(
            str(error),
            hint="an id has letters, digits, '.', '_', '-'; texts have at most 1,000 characters",
        ) from error


def _who() -> str:
    """As far as the operating system knows."""
    return f"{user()} on {socket.gethostname()}"


def _state(one: Hold) -> str:
    return "in force" if one.in_force else f"released at {one.released_at}"


def _list(directory: Path, names: list[str], form: str) -> None:
    rows: list[dict[str, Any]] = [
        {"origin": name, **strict.plain(one)} for name in names for one in _known(directory, name)
    ]
    if form == "json":
        render.write_json({"holds": rows}, sys.stdout)
        return
    columns = ["origin", "id", "reason", "ticket", "since", "until", "placed_by", "released_at"]
    render.write_table(rows, columns, sys.stdout, empty="no holds")
