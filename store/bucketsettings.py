"""How buckets are reached and written, as far as a configuration says. Nothing is sent from here."""

import importlib.util
import re
from dataclasses import dataclass
from typing import Literal

from scalple.ingest.errors import ConfigError

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


_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")
_KEY = re.compile(r"(?:(?!\.\.?(?:/|$))[A-Za-z0-9!_.*'()=+@ -]+(?:/|$))*")


def place_of(url: str) -> tuple[str, str]:
    """The bucket and the prefix that a URL names.

    Raises:
        ConfigError: it names none.
    """
    found = _URL.fullmatch(url)
    prefix = (found[2] or "").strip("/") if found else ""
    if not found or not _KEY.fullmatch(prefix):
        raise ConfigError(
            "can't be a place in S3", place=url, hint="s3://bucket/prefix, without .. or //"
        )
    return found[1], prefix


def check_installed() -> None:
    """Returns when there is what speaks to buckets; raises ConfigError otherwise."""
    if importlib.util.find_spec("boto3") is None:
        raise ConfigError(
            "places in S3 need boto3", hint="install it: pipx install 'scalple-ingest[s3]'"
        )
