"""How buckets are reached and written, as far as a configuration says. Nothing is sent from here."""

from dataclasses import dataclass
from typing import Literal

Retention = Literal["governance", "compliance"]


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Where AWS's own environment and files don't say it.

    Attributes:
        endpoint: URL of an S3-compatible server.
        region: of the bucket.
        retain_days: Object Lock on everything that is written, so many days; 0 for none.
        retain_mode: who may end it earlier: `governance` privileged users, `compliance` nobody.
    """

    endpoint: str | None = None
    region: str | None = None
    retain_days: int = 0
    retain_mode: Retention = "governance"


def is_url(place: str) -> bool:
    """Whether a place is meant to be in a bucket."""
    return place.startswith("s3://")
