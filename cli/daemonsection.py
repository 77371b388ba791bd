"""The configuration's `[daemon]`, as data."""

from typing import Annotated

from pydantic import Field

from scalple.cli.section import Section


class DaemonSection(Section):
    """How logs are followed."""

    commit_interval_s: Annotated[float, Field(ge=0.2, le=600)] = 5.0
    """At most so often what was read is committed."""
    scan_interval_s: Annotated[float, Field(ge=0.2, le=600)] = 5.0
    """At least so often the files are looked at, where nothing tells that they have changed."""
    status: str | None = None
    """HOST:PORT of /ready, /live and /metrics."""
    nice: Annotated[int, Field(ge=0, le=19)] = 10
    """How far the database comes first."""
    cpu_share: Annotated[float, Field(gt=0, le=64)] | None = None
    """At most so many processors, on average; without it as many as there are."""
