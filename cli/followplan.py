"""A configuration -> its files followed, over its open store.

Enters: a configuration with `[sources]`. Leaves: a `Following` that goes on where the store stands, for as
long as the caller holds it. Makes keys where `reprocess` would.
"""

import glob
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from scalple.cli import declarations, intaking, policysection, reprocess, subjectkeys
from scalple.cli.config import Config
from scalple.cli.following import FOLLOWED, SOURCES, Following
from scalple.cli.lateness import LATE
from scalple.cli.options import store_path
from scalple.cli.revisions import Revisions
from scalple.cli.storedrows import Stored, StoredRows
from scalple.ingest.errors import ConfigError
from scalple.store import keys
from scalple.store.keyedrows import SUBJECT_KEY
from scalple.store.layout import origin_layout
from scalple.store.writer import StoreWriter

Followed = tuple[str, str, tuple[Path, ...]]
"""Kind of source, pattern, and the files that there are now."""


def patterns(config: Config, source: str) -> tuple[str, ...]:
    """What the files of a kind are called; those that arrive from elsewhere are events like others."""
    named: tuple[str, ...] = getattr(config.sources, source)
    return named + (intaking.patterns(config.intake) if source == "identity" else ())


def followed(config: Config) -> list[Followed]:
    """What is to be followed.

    Raises:
        ConfigError: nothing is.
    """
    found: list[Followed] = []
    for source in SOURCES:
        for pattern in patterns(config, source):
            paths = sorted(Path(one) for one in glob.glob(pattern, recursive=True))  # noqa: PTH207
            found.append((source, pattern, tuple(paths)))
    if not any(source == "postgres" for source, _, _ in found):
        raise ConfigError(
            "there is no server log to follow", hint="name it under [sources]: postgres = [...]"
        )
    return found


@contextmanager
def open_following(
    config: Config, between: Callable[[], bool] = lambda: True, *, may_create: bool = True
) -> Iterator[Following]:
    """The files of `[sources]`, followed from where the store stands.

    Without `may_create` there has to be a store: one that vanished under a running daemon (a mount that is
    gone) isn't begun anew beside its other half.

    Raises:
        ScalpleError: the store can't be opened for writing or is in a bucket, or something declared
            can't be used.
    """
    if config.store is not None and "://" in config.store:
        raise ConfigError(
            "the daemon writes to a store on its own host",
            place=config.store,
            hint="give store = a directory, and copy it with `mirror`",
        )
    directory = store_path(None, config)
    origin = reprocess.origin_of(directory, config.origin)
    there = {
        source: tuple(p for s, _, paths in followed(config) if s == source for p in paths)
        for source in SOURCES
    }
    plan = reprocess.plan_of(
        config, origin, there["postgres"], there["pgbouncer"], there["identity"]
    )
    reader = reprocess.reader_of(directory, origin)
    known = reprocess.going_on(plan, reader) if reader is not None else plan
    policysection.check_rights(config.policy, bool(known.rights))
    reprocess.check_writable(origin_layout(directory, origin).directory)
    by_period = config.keys.subject_key_period is not None
    subject_key, signing_key = reprocess.keys_of(directory, config, reader)
    if reader is not None:
        subjectkeys.check_goes_on(reader, subject_key, by_period=by_period)
    with StoreWriter.open(directory, origin, signing_key, create=may_create) as writer:
        store = Stored.open(directory, origin, subject_key, by_period=by_period)
        objects = known.objects | {SUBJECT_KEY: keys.subject_key_id(subject_key).encode()}
        plan = replace(known, subject_key=subject_key, objects=objects)
        state = declarations.newest(store.reader, origin, FOLLOWED)
        following = Following(
            plan,
            {source: patterns(config, source) for source in SOURCES},
            writer,
            list(writer.positions),
            state,
            store.evidence(),
            store.newest,
            StoredRows(origin, plan.rules, store.views, store.names),
            Revisions(
                declarations.newest(store.reader, origin, LATE),
                lambda: Stored.open(directory, origin, subject_key, by_period=by_period),
                config.sources.postgres,
                lambda: [one for one in writer.positions if one.source == "postgres"],
                config.daemon.revise_interval_s,
                config.daemon.revise_days,
                plan.rules.clocks.skew_ms,
            ),
            between,
        )
        store.views.close()  # only what was read before had to be looked up
        with closing(following):
            yield following
