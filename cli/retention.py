"""`retention`: what is too old expires, and the log says so."""

import contextlib
import datetime as dt
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from scalple.cli import render, subjectperiods
from scalple.cli.config import Config
from scalple.cli.options import (
    command,
    config_option,
    configured,
    format_option,
    moment,
    store_option,
    store_path,
)
from scalple.cli.originkeys import origin_key, origins
from scalple.cli.places import places_of
from scalple.ingest.errors import ScalpleError
from scalple.store.compaction import compact
from scalple.store.expire import Outcome, expire, refuse_bucket, try_out
from scalple.store.expiring import CITED, EXPIRES, HELD, MIXED, Span
from scalple.store.layout import OriginLayout, origin_layout
from scalple.store.reader import StoreReader
from scalple.store.retentionage import Limit, Policy

WORDS = {
    EXPIRES: "expires",
    HELD: "held",
    MIXED: "waits: newer rows in it",
    CITED: "stays: rows that stay cite it",
}
"""State -> in words; what is young isn't told of."""


@command("retention")
@store_option
@click.option(
    "--origin",
    metavar="NAME",
    help="Only this origin, and no keys; _access is the log of questions.",
)
@click.option("--dry-run", "trial", is_flag=True, help="Say what would expire; write nothing.")
@click.option(
    "--today",
    metavar="DATE",
    help="The date, from you: needed where the newest commit is over a month old, or later than now, so "
    "that nothing else shows that the clock is right.",
)
@format_option("table", "json")
@config_option
def retention(
    store_dir: str | None,
    origin: str | None,
    trial: bool,
    today: str | None,
    form: str,
    config_path: Path | None,
) -> None:
    """Let rows expire that are older than [retention] says, unless a hold covers them.

    A commit of the log names what expires, and stays with all manifests: what is left, and proofs
    that were made of it, verify as before. Then the files are removed; there is no way back. Subject
    keys of periods of which nothing is left are destroyed. Without [retention] nothing expires.

    \b
    Example:
      scalple-ingest retention --store ./store --config config.toml --dry-run
    """
    config = configured(config_path)
    directory = store_path(store_dir, config)
    refuse_bucket(directory)
    policy = config.retention.policy()
    said = moment(today, "--today")
    names = [origin] if origin is not None else origins(directory)
    if not trial:  # the key of the log of questions may be another account's
        for name in names:
            origin_key(directory, name, places_of(config))
    if origin is None:
        subjectperiods.check_place(directory, places_of(config))
    found: list[dict[str, Any]] = []
    try:
        for name in names:
            with _index_made_anew(origin_layout(directory, name)):
                done = _one(directory, name, policy, config, said.date() if said else None, trial)
                for note in done.notes:
                    click.echo(f"note: {note}", err=True)
                found.append(_plain(done, trial))
                if done.had_index:
                    compact(directory, name, origin_key(directory, name, places_of(config)).private)
        keys = []
        if origin is None:  # no log is being written to, so none is about to use one of them
            reader = StoreReader.open(directory)
            keys = subjectperiods.forget(reader, directory, places_of(config), trial)
    except ScalpleError:
        for one in found:  # it is done, and for good
            click.echo(f"note: {_told(one, trial)}", err=True)
        raise
    answer = {"dry_run": trial, **_policy(policy), "origins": found, "keys_destroyed": keys}
    if form == "json":
        render.write_json(answer, sys.stdout)
    else:
        _write(answer)


@contextlib.contextmanager
def _index_made_anew(layout: OriginLayout) -> Iterator[None]:
    """Whoever breaks off while there is none, or whatever does, leaves a store that is slow to ask."""
    had = layout.index_head.exists()
    try:
        yield
    except BaseException:
        if had and not layout.index_head.exists():
            click.echo(
                f"note: {layout.origin}: the index was removed and isn't made anew, so that questions "
                "take longer: run `compact`",
                err=True,
            )
        raise


def _one(
    directory: Path,
    origin: str,
    policy: Policy,
    config: Config,
    today: dt.date | None,
    trial: bool,
) -> Outcome:
    if trial:
        return try_out(directory, origin, policy, dt.datetime.now(dt.UTC), today=today)
    key = origin_key(directory, origin, places_of(config)).private
    return expire(directory, origin, key, policy, today=today)


def _policy(policy: Policy) -> dict[str, Any]:
    def told(limit: Limit | None) -> dict[str, str] | None:
        return {"age": str(limit.age), "source": limit.source} if limit else None

    return {
        "profiles": list(policy.profiles),
        "keep_at_least": told(policy.at_least),
        "keep_at_most": told(policy.at_most),
    }


def _plain(done: Outcome, trial: bool) -> dict[str, Any]:
    """What was found of one origin, and done."""
    plan = done.plan
    spans = [one for one in plan.spans if one.state in WORDS] if plan else []
    return {
        "origin": done.origin,
        "before": plan.before if plan else None,
        "manifest": done.manifest,
        "files_removed": 0 if trial else done.removed,
        "files_left_over": done.removed if trial else 0,
        "rows": list(_grouped(spans)),
    }


def _grouped(spans: list[Span]) -> Iterator[dict[str, Any]]:
    """Neighbours of one kind and fate as one; what waits stands alone, with its files."""
    current: dict[str, Any] | None = None
    for span in sorted(spans, key=lambda one: one.kind):
        same = current is not None and span.state != MIXED
        same = same and (span.kind, span.state, span.hold) == (
            current and (current["kind"], current["state"], current["hold"])
        )
        if current is None or not same:
            if current is not None:
                yield current
            current = _empty(span)
        current["last_manifest"] = span.manifest.n
        current["rows"] += span.rows
        current["bytes"] += span.bytes
        if span.state == MIXED:
            current["files"] = [one.file for one in span.records]
        for name, choose in (("oldest", min), ("newest", max)):
            times = [one for one in (current[name], getattr(span, name)) if one is not None]
            current[name] = choose(times) if times else None
    if current is not None:
        yield current


def _empty(span: Span) -> dict[str, Any]:
    return {
        "kind": span.kind,
        "state": span.state,
        "hold": span.hold,
        "first_manifest": span.manifest.n,
        "last_manifest": span.manifest.n,
        "rows": 0,
        "bytes": 0,
        "oldest": None,
        "newest": None,
        "files": [],
    }


def _write(answer: dict[str, Any]) -> None:
    trial = answer["dry_run"]
    most = answer["keep_at_most"]
    if most is None:
        click.echo("nothing expires: [retention] names no maximum age (docs/RETENTION.md)")
    else:
        click.echo(f"kept at most {most['age']}: {most['source']}")
    for one in answer["origins"]:
        rows = [
            {
                "rows": row["kind"],
                "what": WORDS[row["state"]] + (f" ({row['hold']})" if row["hold"] else ""),
                "count": row["rows"],
                "from": _day(row["oldest"]),
                "to": _day(row["newest"]),
                "commits": f"{row['first_manifest']} to {row['last_manifest']}",
            }
            for row in one["rows"]
        ]
        if rows:
            render.write_table(rows, list(rows[0]), sys.stdout, title=one["origin"])
        click.echo(_told(one, trial))
    for key in answer["keys_destroyed"]:
        would = "would be destroyed" if trial else "destroyed"
        click.echo(
            f"subject key {key['key']} ({key['file']}): {would}; nothing of its time is left"
        )


def _told(one: dict[str, Any], trial: bool) -> str:
    gone = sum(row["rows"] for row in one["rows"] if row["state"] == EXPIRES)
    left = one["files_left_over"]
    if trial:
        text = f"{one['origin']}: {gone:,} rows would expire"
        return text + (f"; {left:,} files of rows that have are still there" if left else "")
    if one["manifest"] is None:
        text = f"{one['origin']}: nothing expired"
    else:
        text = f"{one['origin']}: {gone:,} rows expired with manifest {one['manifest']}"
    return text + (f"; {one['files_removed']:,} files removed" if one["files_removed"] else "")


def _day(when: dt.datetime | None) -> str | None:
    return when.date().isoformat() if when else None
