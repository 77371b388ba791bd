"""The process that merges a daemon's small commits, run as a program by `cli/compacting.py`.

A job enters on stdin; what was done leaves on stdout. It takes one processor at the lowest priority,
and gives memory back as soon as it can: it runs beside a database. It may end at any moment, since the
new index counts once its head is there.
"""

import contextlib
import os
import threading
from pathlib import Path
from typing import Any

from scalple.cli.childprocess import say, serve

LOWEST = 19


def merge(job: dict[str, Any], _draining: threading.Event) -> None:
    """Makes the index of one origin.

    Raises:
        ScalpleError, OSError: it can't be made now.
    """
    os.nice(LOWEST)
    with contextlib.suppress(
        OSError
    ):  # if memory runs out, this goes, and neither daemon nor database
        Path("/proc/self/oom_score_adj").write_text("1000")
    os.environ["MIMALLOC_PURGE_DELAY"] = "0"  # Arrow's allocator: before it is loaded
    import pyarrow as pa

    from scalple.store import keys
    from scalple.store.compaction import compact

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    store, key_file = Path(job["store"]), job["key_file"]
    key = keys.signing_key(
        store, Path(key_file) if key_file else None, name=job["key_name"], may_create=False
    )
    done = compact(store, job["origin"], key.private, run_rows=job["rows"])
    say(manifests=done.manifests, added=done.added, runs=done.runs, notes=list(done.notes))


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    serve(merge)
