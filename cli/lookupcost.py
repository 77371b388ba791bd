"""What a question about a person costs: by the rows and commits of a store, or by those to come.

Enters: a store, or the volume that is expected. Leaves: `LookupCost`, and findings about the store. Opens heads
and manifests, no file of rows, and asks nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scalple.cli.findings import ERROR, NOTE, WARNING, Finding, Fix
from scalple.ingest.errors import ScalpleError
from scalple.store.layout import existing_origins
from scalple.store.reader import StoreReader

START_S, PER_STATEMENT_S, PER_COMMIT_S = 0.42, 0.6e-7, 1.4e-3
"""Measured on two idle cores (docs/adr/0015, docs/adr/0019): a question of a small store; what a statement adds;
what a commit that no index holds adds."""
LOOSE_MANY = 1000
YEAR_DAYS = 365


@dataclass(frozen=True, slots=True)
class LookupCost:
    """What `query --subject` has to look at.

    Attributes:
        basis: `store`, or `expected` after a year of the volume that is expected.
        statements: rows of pgAudit's.
        files: with rows; None where there are none yet.
        bytes: of these, read whole the first time to check their hashes.
        loose: commits that no index holds.
        seconds: about so long on two idle cores, files checked before.
    """

    basis: str
    statements: int
    files: int | None
    bytes: int | None
    loose: int
    seconds: float


def seconds(statements: int, loose: int) -> float:
    """About how long a question takes."""
    return round(START_S + statements * PER_STATEMENT_S + loose * PER_COMMIT_S, 2)


def expected(audits_per_day: int) -> LookupCost:
    """After a year, compacted now and then."""
    count = audits_per_day * YEAR_DAYS
    return LookupCost("expected", count, None, None, 0, seconds(count, 0))


def of_store(store: str) -> LookupCost | None:
    """Of a store; None if there is none yet, or it is in a bucket.

    Raises:
        ScalpleError: it can't be opened.
    """
    directory = Path(store)
    if "://" in store or not directory.is_dir() or not existing_origins(directory):
        return None
    reader = StoreReader.open(directory)
    found = [reader.extent(origin) for origin in reader.origins]
    statements, loose = sum(one.statements for one in found), sum(one.loose for one in found)
    return LookupCost(
        "store",
        statements,
        sum(one.files for one in found),
        sum(one.bytes for one in found),
        loose,
        seconds(statements, loose),
    )


def check(store: str) -> tuple[LookupCost | None, list[Finding]]:
    """What a question costs, and what is to be said of the store."""
    try:
        cost = of_store(store)
    except ScalpleError as error:
        fix = Fix(
            error.hint or "run `verify`", commands=(f"scalple-ingest verify --store {store}",)
        )
        return None, [Finding(ERROR, "store-unreadable", error.what, error.place or store, fix)]
    return cost, list(_said(store, cost))


def _said(store: str, cost: LookupCost | None) -> Iterator[Finding]:
    if cost is None:
        if "://" not in store:
            fix = Fix("run `reprocess` or `daemon`: the first one makes it")
            yield Finding(NOTE, "no-store", "there is no store yet", store, fix)
        return
    if cost.loose >= LOOSE_MANY:
        yield Finding(
            WARNING,
            "store-loose",
            f"{cost.loose:,} commits are in no index: a question takes about {cost.seconds:.1f} s instead "
            f"of {seconds(cost.statements, 0):.1f} s",
            store,
            Fix(
                "compact now and then, from cron",
                commands=(f"scalple-ingest compact --store {store}",),
            ),
        )
