"""The files that there are, each once: of two names for one file neither is a second file.

Enters: paths. Leaves: inodes with what is known of them. Opens nothing.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scalple.ingest.errors import reason
from scalple.ingest.generations import Inode


@dataclass(slots=True)
class Found:
    """A file that there is."""

    inode: Inode
    stat: os.stat_result
    paths: list[Path]


def present_files(paths: Iterable[Path], problems: dict[Path, str]) -> dict[Inode, Found]:
    """Every regular file among them, once, with all its names.

    Args:
        paths: what may be there.
        problems: takes those that can't be looked at, and why.
    """
    found: dict[Inode, Found] = {}
    for path in paths:
        if (name := os.fsencode(path)) != str(path).encode("utf-8", "replace"):
            # A position is recorded under its name, and records are text.
            problems[Path(name.decode("utf-8", "backslashreplace"))] = "its name isn't UTF-8"
            continue
        try:
            status = os.stat(path)  # noqa: PTH116 (a thousand files at every scan)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems[path] = reason(error)
            continue
        if stat.S_ISREG(status.st_mode):
            inode = (status.st_dev, status.st_ino)
            found.setdefault(inode, Found(inode, status, [])).paths.append(path)
    return found
