"""A service's own log: one line of JSON on stderr for each thing that happened, without anybody's data."""

import contextlib
import json
import sys
from datetime import UTC, datetime


def say(event: str, **fields: object) -> None:
    """What happened."""
    head = {"ts": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
    with contextlib.suppress(OSError):  # whoever reads the log must not stop the service
        print(json.dumps(head | fields, default=str), file=sys.stderr, flush=True)
