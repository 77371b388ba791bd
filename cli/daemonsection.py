"""The configuration's `[daemon]`, as data."""

from typing import Annotated

from pydantic import AfterValidator, Field

from scalple.cli.section import Section
from scalple.ingest.errors import ConfigError
from scalple.store.bucketsettings import place_of


def _bucket(url: str) -> str:
    try:
        place_of(url)
    except ConfigError as error:
        raise ValueError(f"{error.what}: {error.hint}") from error
    return url


class DaemonSection(Section):
    """How logs are followed."""

    commit_interval_s: Annotated[float, Field(ge=0.2, le=600)] = 5.0
    """At most so often what was read is committed."""
    scan_interval_s: Annotated[float, Field(ge=0.2, le=600)] = 5.0
    """At least so often the files are looked at, where nothing tells that they have changed."""
    revise_interval_s: Annotated[float, Field(ge=0.2, le=86_400)] = 60.0
    """At most so often statements are attributed anew, where evidence keeps coming late."""
    revise_days: Annotated[float, Field(gt=0, le=36_500)] = 7.0
    """Statements that are older than the newest one by more are left as they are."""
    status: str | None = None
    """HOST:PORT of /ready, /live and /metrics."""
    nice: Annotated[int, Field(ge=0, le=19)] = 10
    """How far the database comes first."""
    cpu_share: Annotated[float, Field(gt=0, le=64)] | None = None
    """At most so many processors, on average; without it as many as there are."""
    compact_commits: Annotated[int, Field(ge=0, le=100_000, strict=True)] = 500
    """So many small commits are merged into the index; 0 for never."""
    compact_rows: Annotated[int, Field(ge=1 << 14, le=1 << 22, strict=True)] = 1 << 20
    """A run of the index with so many rows is merged no more: fewer need less memory."""
    mirror: Annotated[str, AfterValidator(_bucket)] | None = None
    """s3://bucket/prefix: where the store is copied to."""
    mirror_interval_s: Annotated[float, Field(ge=0.2, le=3600)] = 10.0
    """At most so often it is looked whether there is something to copy."""
    mirror_drain_s: Annotated[float, Field(ge=0, le=600)] = 20.0
    """For so long the end waits for what isn't copied yet."""
