"""`reprocess`: historical logs into a store, once."""

import datetime as dt
import os
import time
from dataclasses import replace
from pathlib import Path

import click
import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.cli import (
    declarations,
    policysection,
    schemafiles,
    schemarecord,
    subjectkeys,
    subjectperiods,
)
from scalple.cli.config import Config
from scalple.cli.options import command, config_option, configured, files, store_option, store_path
from scalple.cli.outcome import Outcome
from scalple.cli.pipeline import Pipeline, Plan, open_plan
from scalple.cli.places import places_of
from scalple.cli.progress import bar
from scalple.cli.storedrows import Stored
from scalple.correlate.proposals import Proposal, as_toml
from scalple.correlate.record import EVIDENCE
from scalple.correlate.rules import Rules
from scalple.ingest.container import ReadOptions
from scalple.ingest.errors import InputError, StoreError
from scalple.store import keys
from scalple.store.keyedrows import SUBJECT_KEY
from scalple.store.layout import existing_origins, origin_layout
from scalple.store.reader import StoreReader
from scalple.store.source import shown as shown_store
from scalple.store.writer import StoreWriter

DEFAULT_ORIGIN = "default"
PROPOSED = 10
"""So many columns are proposed at the end of a run."""
LARGE_BYTES = 64 << 20
"""From so much on, segments will be large."""


@command("reprocess")
@store_option
@click.option("--origin", metavar="NAME", help="Name of the log: one per PostgreSQL cluster.")
@click.option(
    "--postgres-log",
    multiple=True,
    metavar="PATH…",
    help="csvlog, jsonlog or stderr files, compressed or not.",
)
@click.option("--pgbouncer-log", multiple=True, metavar="PATH…", help="PgBouncer's log files.")
@click.option("--identity-events", multiple=True, metavar="PATH…", help="JSON Lines files.")
@config_option
@click.option(
    "--log-line-prefix", multiple=True, metavar="S…", help="Of stderr logs, as in postgresql.conf."
)
@click.option("--timezone", metavar="TZ", help="The servers' log_timezone, e.g. Europe/Berlin.")
@click.option(
    "--schema",
    multiple=True,
    metavar="[TIME=]FILE…",
    help="pg_dump --schema-only output or snapshots, and the times from which they hold.",
)
@click.option("--workers", type=click.IntRange(1, 64), help="Threads for parsing (default: cores).")
@click.option(
    "--revise", is_flag=True, help="Attribute once more what the store has read of these logs."
)
@click.option("--new-origin", is_flag=True, help="Add a further origin to a store that has one.")
def reprocess(
    store_dir: str | None,
    origin: str | None,
    postgres_log: tuple[str, ...],
    pgbouncer_log: tuple[str, ...],
    identity_events: tuple[str, ...],
    config_path: Path | None,
    log_line_prefix: tuple[str, ...],
    timezone: str | None,
    schema: tuple[str, ...],
    workers: int | None,
    revise: bool,
    new_origin: bool,
) -> None:
    """Read logs that were written earlier, attribute every statement, and commit the result.

    What the store has read already is recognised by its content and not read again. If evidence
    comes that is older than statements in the store, those of the logs that are given along are
    attributed once more, and what has changed is appended as revisions.

    \b
    Example:
      scalple-ingest reprocess --store ./store --config config.toml \\
        --postgres-log /var/log/postgresql/*.csv --pgbouncer-log pgbouncer.log \\
        --identity-events events/*.jsonl
    """
    config = configured(config_path)
    directory = store_path(store_dir, config)
    name = origin_of(directory, origin or config.origin, new_origin)
    if workers is not None:
        pa.set_cpu_count(workers)
    options = ReadOptions(timezone, log_line_prefix)
    todo = plan(config, name, postgres_log, pgbouncer_log, identity_events, options, schema)
    if config.policy and todo.schemas and config_path is not None:
        declared = {
            *config.personal_data,
            *(c for many in config.identifiers.values() for c in many),
        }
        catalogs = [one.catalog for one in todo.schemas]
        policysection.check_names(config.policy, config_path, catalogs, declared)
    report(run(replace(todo, revise=revise), directory, config), directory)


def origin_of(directory: Path, wanted: str | None, new_origin: bool = False) -> str:
    """Which log a run belongs to.

    Raises:
        StoreError: the store has another.
    """
    present = existing_origins(directory)
    name = wanted or (present[0] if len(present) == 1 else DEFAULT_ORIGIN)
    if present and name not in present and not new_origin:
        raise StoreError(
            f"holds the origin {', '.join(present)}, not {name}",
            place=shown_store(directory),
            hint=f"give --origin {present[0]}, another --store, or --new-origin to add {name}",
        )
    return name


def plan(
    config: Config,
    origin: str,
    postgres: tuple[str, ...] = (),
    pgbouncer: tuple[str, ...] = (),
    identity: tuple[str, ...] = (),
    options: ReadOptions = ReadOptions(),  # noqa: B008 (immutable)
    schema: tuple[str, ...] = (),
) -> Plan:
    """What to read: options replace the configuration's sources, kind by kind."""
    sources = config.sources
    logs = files(postgres or sources.postgres)
    poolers = files(pgbouncer or sources.pgbouncer)
    events = files(identity or sources.identity)
    if not (logs or poolers or events):
        raise InputError(
            "nothing to read", hint="give --postgres-log PATH, or [sources] in --config FILE"
        )
    return plan_of(config, origin, logs, poolers, events, options, schema)


def plan_of(
    config: Config,
    origin: str,
    logs: tuple[Path, ...],
    poolers: tuple[Path, ...],
    events: tuple[Path, ...],
    options: ReadOptions = ReadOptions(),  # noqa: B008 (immutable)
    schema: tuple[str, ...] = (),
) -> Plan:
    """The plan for these files."""
    sources = config.sources
    named = tuple(schemafiles.option(one) for one in schema) or sources.dated_schemas()
    schemas = schemafiles.read_all(named)
    rules = config.rules()
    return Plan(
        origin=origin,
        rules=rules,
        postgres=logs,
        pgbouncer=poolers,
        identity=events,
        options=ReadOptions(
            options.timezone or sources.timezone,
            options.log_line_prefixes or sources.log_line_prefixes(),
        ),
        schemas=schemafiles.dated(schemas),
        functions_sql=schemafiles.functions_sql(schemas),
        objects=declarations.to_objects(rules, config.access)
        | schemarecord.schema_objects(schemas),
        rights=schemafiles.rights(schemas),
    )


def run(todo: Plan, directory: Path, config: Config) -> Outcome:
    """Check everything that can be checked, then open the store, run the pipeline, close it.

    A run that fails at once leaves no key, no directory, nothing.
    """
    begun = time.monotonic()
    reader = reader_of(directory, todo.origin)
    known = going_on(todo, reader) if reader is not None else todo
    policysection.check_rights(config.policy, bool(known.rights))
    found = open_plan(todo, reader.chain(todo.origin).positions.values() if reader else ())
    check_writable(origin_layout(directory, todo.origin).directory)
    subject_key, signing_key = keys_of(directory, config, reader)
    by_period = config.keys.subject_key_period is not None
    if reader is not None:
        subjectkeys.check_goes_on(reader, subject_key, by_period=by_period)
        todo = known
    with (
        StoreWriter.open(directory, todo.origin, signing_key, create=True) as writer,
        bar("reading", statements=True) as tell,
    ):
        for note in writer.notes:
            _warn(note)
        if sum(file.size - file.end for file in found.fresh) >= LARGE_BYTES:
            writer.expect_large_segments()
        measured = not any(file.is_compressed for file in found.fresh)
        total = sum(file.size - file.end for file in found.fresh) if measured else None
        tell(total=total)

        def advance(length: int, statements: int) -> None:
            tell(advance=length, statements=statements)

        store = Stored.open(directory, todo.origin, subject_key, by_period=by_period)
        evidence = pa.concat_tables([EVIDENCE.empty_table(), *store.evidence()])
        key_id = keys.subject_key_id(subject_key).encode()
        objects = todo.objects | {SUBJECT_KEY: key_id}
        complete = replace(todo, subject_key=subject_key, objects=objects)
        outcome = Pipeline(
            complete, writer, evidence, store.newest, store.views, advance, store.names
        ).run()
    outcome.seconds = time.monotonic() - begun
    return outcome


def going_on(todo: Plan, reader: StoreReader) -> Plan:
    """The plan with what earlier runs knew of the schema: the files, unless others are given now,
    and what the logs have told since."""
    if not todo.schemas:
        known = schemarecord.recorded_schemas(reader, todo.origin)
        objects = todo.objects | schemarecord.schema_objects(known)
        todo = replace(
            todo,
            schemas=schemafiles.dated(known),
            functions_sql=schemafiles.functions_sql(known),
            objects=objects,
            rights=schemafiles.rights(known),
        )
    return replace(
        todo,
        schema_changes=schemarecord.recorded_schema_changes(reader, todo.origin),
        rights_changes=schemarecord.recorded_rights_changes(reader, todo.origin),
    )


def reader_of(directory: Path, origin: str) -> StoreReader | None:
    """The origin as it is, or None before its first run."""
    if not origin_layout(directory, origin).checkpoint.exists():
        return None
    return StoreReader.open(directory, origin)


def check_writable(directory: Path) -> None:
    """Raises StoreError if nothing can be written there."""
    present = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not present.is_dir() or not os.access(present, os.W_OK | os.X_OK):
        raise StoreError(
            "the store can't be written here",
            place=str(present),
            hint="give --store a directory that you may write to",
        )


def keys_of(
    directory: Path, config: Config, reader: StoreReader | None
) -> tuple[bytes, Ed25519PrivateKey]:
    """The configured keys are looked at first: none is made for a run that lacks one of them."""
    subject_file, signing_file = (
        Path(name) if name else None
        for name in (config.keys.subject_key_file, config.keys.signing_key_file)
    )
    # A store that was begun has its keys; new ones would not fit it.
    fresh = not existing_origins(directory)
    signing = keys.signing_key(directory, signing_file) if signing_file else None
    of_now = subjectperiods.present(reader, directory, places_of(config), dt.datetime.now(dt.UTC))
    subject = keys.subject_key(directory, of_now or subject_file, may_create=fresh)
    signing = signing or keys.signing_key(directory, None, may_create=fresh)
    for warning in subject.warnings + signing.warnings:
        _warn(warning)
    return subject.secret, signing.private


def _warn(what: str, hint: str | None = None) -> None:
    click.echo(f"warning: {what}" + (f"\n  hint: {hint}" if hint else ""), err=True)


def report(outcome: Outcome, directory: Path) -> None:
    """Say what was done, on stderr: stdout is for data."""
    for warning in outcome.warnings:
        _warn(warning)
    if outcome.files_known:
        click.echo(f"{outcome.files_known} file(s) hold nothing that isn't in the store", err=True)
        if not outcome.files_read and not outcome.logs_revised:
            click.echo(
                "  a changed configuration, or evidence that came after its server logs, takes effect "
                "with --revise",
                err=True,
            )
    rows = ", ".join(f"{count:,} {kind}" for kind, count in outcome.rows.items() if count)
    click.echo(
        f"{shown_store(directory)}: committed {rows or 'nothing new'}; {outcome.files_read} file(s), "
        f"{outcome.bytes_read / 1e6:,.1f} MB in {outcome.seconds:,.1f} s",
        err=True,
    )
    if outcome.late_events and not outcome.logs_revised:
        _warn(
            f"{outcome.late_events:,} new events are older than statements that were in the store "
            "before; rows committed earlier are not revised and keep their attribution",
            "run again with --revise and the server logs that they speak of: what the store has "
            "read of them isn't read twice, but attributed once more",
        )
    if outcome.proposals:
        _propose(outcome.proposals, directory)
    unparsed = outcome.rows.get("unparsed", 0)
    if unparsed:
        why = "; ".join(f"{n:,} × {what}" for what, n in outcome.unparsed.most_common(3))
        question = '"SELECT source_file, source_offset, reason FROM unparsed"'
        _warn(
            f"{unparsed:,} piece(s) of the logs are no well-formed record and kept as bytes: {why}",
            f"scalple-ingest sql --store {shown_store(directory)} {question}",
        )


def _propose(proposals: list[Proposal], directory: Path) -> None:
    """Entries for the configuration, ready to be pasted."""
    shown = as_toml([replace(one, identifier=None) for one in proposals[:PROPOSED]], Rules())
    rest = f"and {len(proposals) - PROPOSED:,} more; " if len(proposals) > PROPOSED else ""
    _warn(
        f"{len(proposals):,} column(s) that aren't declared seem to hold personal data; their values "
        f'are masked; declare them, or say "none" of those that hold none:\n{shown}',
        f"{rest}scalple-ingest detect --store {shown_store(directory)} shows all, also those of the schema",
    )
