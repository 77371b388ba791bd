"""`[s3]`: how buckets are reached, and what is kept of them here. Credentials never stand here."""

from typing import Annotated, Literal

from pydantic import Field

from scalple.cli.places import CACHE_MB
from scalple.cli.section import Section
from scalple.store.bucketsettings import BucketSettings


class S3Section(Section):
    """Everything that AWS's own environment and files don't say."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^/\s]+$")] | None = None
    region: str | None = None
    retain_days: Annotated[int, Field(ge=0, le=36_500, strict=True)] = 0
    retain_mode: Literal["governance", "compliance"] = "governance"
    cache_dir: str | None = None
    cache_mb: Annotated[int, Field(ge=1, le=100_000_000, strict=True)] = CACHE_MB

    def settings(self) -> BucketSettings:
        """As the layers below know them."""
        return BucketSettings(self.endpoint, self.region, self.retain_days, self.retain_mode)
