"""The process that copies a daemon's store to a bucket, run as a program by `cli/shipping.py`.

A job enters on stdin; what was copied leaves on stdout. It goes on until the first error, and doesn't try
again: who started it does that, with a new process, new credentials and nothing remembered.
"""

import os
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scalple.cli.childprocess import say, serve
from scalple.ingest.errors import ConfigError
from scalple.store import keys
from scalple.store.bucket import Bucket
from scalple.store.bucketsettings import BucketSettings
from scalple.store.layout import ACCESS_ORIGIN, origin_layout
from scalple.store.mirror import Mirror
from scalple.store.shipping import Shipping

PAUSES = (0.2, 0.5, 1.0)
"""Seconds between one request and the next try of it; longer pauses are those between processes."""


def ship(job: dict[str, Any], draining: threading.Event) -> None:
    """Copies until it is told to do what is left and end.

    Raises:
        ScalpleError, OSError: something keeps it from copying.
    """
    bucket = Bucket(job["to"], BucketSettings(**job["s3"]), PAUSES)
    mirror = Mirror(bucket, lambda what: say(note=what))
    mirror.prepare()
    at_work: dict[str, Shipping] = {}
    while True:
        is_last = draining.is_set()  # what was committed by now is to be copied
        for origin, key_file in job["keys"].items():
            if origin not in at_work and not _is_there(job, origin):
                continue  # no question was asked yet
            if origin not in at_work:
                at_work[origin] = _begin(mirror, job, origin, key_file)
            _catch_up(at_work[origin], origin)
        if is_last:
            return
        draining.wait(job["interval_s"])


def _catch_up(shipping: Shipping, origin: str) -> None:
    left = 1
    while left:
        done = shipping.step()
        left = done.left
        say(origin=origin, **asdict(done))


def _is_there(job: dict[str, Any], origin: str) -> bool:
    return origin_layout(Path(job["store"]), origin).checkpoint.exists()


def _begin(mirror: Mirror, job: dict[str, Any], origin: str, key_file: str | None) -> Shipping:
    directory = Path(job["store"])
    name = "access" if origin == ACCESS_ORIGIN else "signing"
    try:
        named = Path(key_file) if key_file else None
        private = keys.signing_key(directory, named, name=name, may_create=False).private
    except ConfigError:  # it may be another account's
        private = None
    return Shipping(mirror, origin_layout(directory, origin), private)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    serve(ship)
