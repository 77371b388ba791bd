"""Stores and anchors in buckets: from an s3:// URL and the configuration to what the store needs.

Enters: a URL, and the configuration or what of it questions need. Leaves: a bucket, or a directory
that stands for the store in it. boto3 is loaded here at the earliest.
"""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scalple.cli.places import Places, places_of
from scalple.ingest.errors import StoreError
from scalple.store import source
from scalple.store.bucket import Bucket
from scalple.store.cache import Cache
from scalple.store.manifest import sha256_hex
from scalple.store.remote import RemoteStore
from scalple.store.verified import VerifiedFiles

if TYPE_CHECKING:
    from scalple.cli.config import Config


def bucket_of(url: str, config: "Config | Places") -> Bucket:
    """The prefix that a URL names; raises ConfigError if it names none."""
    return Bucket(url, _places(config).s3)


def open_store(url: str, config: "Config | Places", *, fresh: bool) -> Path:
    """A directory that stands for the store in a bucket, as long as the command runs.

    Args:
        url: s3://bucket/prefix.
        config: where the cache is, and how buckets are reached.
        fresh: nothing that was kept here before is believed: for `verify`.

    Raises:
        VerificationError: a head isn't signed, or is older than one that was seen here.
        StoreError, ConfigError: the bucket can't be read, or the cache not written.
    """
    where = _places(config)
    bucket = bucket_of(url, where)
    base = Path(where.cache_dir) if where.cache_dir else _default_cache()
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = _cache_directory(base, bucket)
        if fresh:
            directory = Path(tempfile.mkdtemp(prefix="verify-", dir=base))
        cached = Cache(directory, where.cache_mb * 1_000_000, keeps=not fresh)
    except OSError as error:
        raise StoreError(
            f"the cache can't be written: {error.strerror}",
            place=str(error.filename or base),
            hint="[s3] cache_dir names another directory",
        ) from error
    may_write = where.access_key_file is not None
    verified = VerifiedFiles(None) if fresh else None
    remote = RemoteStore(bucket, cached, whole=fresh, may_write=may_write, verified=verified)
    source.mount(remote.directory, remote)
    remote.open()
    for note in remote.notes:
        click.echo(f"note: {note}", err=True)
    return remote.directory


def _places(config: "Config | Places") -> Places:
    return config if isinstance(config, Places) else places_of(config)


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "scalple" / "s3"


def _cache_directory(base: Path, bucket: Bucket) -> Path:
    """Where a bucket's store is kept here: other servers' buckets of the same name elsewhere."""
    endpoint = bucket.client.meta.endpoint_url
    told = sha256_hex(f"{endpoint}\n{bucket.url}".encode())[:16]
    return base / f"{bucket.name}-{told}"
