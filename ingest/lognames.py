"""Which files patterns name now, and which names belong to one log.

Enters: globs, paths, and the path of PostgreSQL's `current_logfiles`. Leaves: paths. Names that differ
in numbers, names of days or months, or in what rotation and compression append are of one family.
Names alone decide nothing about content: see `generations`.
"""

import functools
import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from scalple.ingest.errors import reason

CURRENT_LOGFILES = "current_logfiles"
"""PostgreSQL names there, a line each, the files that it writes now: `csvlog log/postgresql.csv`."""
_FORMS = ("csvlog", "jsonlog", "stderr")
"""The best first: a server that writes several writes every record several times."""
_PACKED = re.compile(r"\.(?:gz|zst|zstd|bz2|xz)$")
_APPENDED = re.compile(
    r"(?:\.\d{1,4}|\.(?:old|bak|orig|save)|[-.]\d{4}-?\d\d-?\d\d(?:[-_T.]?\d+)*)$"
)
_NUMBERS = re.compile(r"\d+")
_WORDS = re.compile(
    r"(?<![A-Za-z])(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?|jan(?:uary)?"
    r"|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:tember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)(?![A-Za-z])",
    re.IGNORECASE,
)


@functools.lru_cache(maxsize=1 << 14)
def family(path: Path) -> tuple[str, str]:
    """(folder, name without what changes when a log is rotated)."""
    name = path.name
    while (shorter := _APPENDED.sub("", _PACKED.sub("", name))) not in ("", name):
        name = shorter
    return str(path.parent), _WORDS.sub("@", _NUMBERS.sub("#", name))


class LogNames:
    """The files that some patterns name, at any time.

    Args:
        patterns: paths or globs; one that ends in `current_logfiles` stands for the files named
            there, and for all others that have been or will be of the same names but for their dates.
    """

    def __init__(self, patterns: Iterable[str | Path]) -> None:
        self._patterns = [str(one) for one in patterns]
        self._families: dict[tuple[str, str], None] = {}
        """Of the files that the server has named so far."""

    def paths(self) -> list[Path]:
        """What there is now, each path once, in the order of the patterns."""
        found: dict[str, None] = {}
        for pattern in self._patterns:
            if Path(pattern).name == CURRENT_LOGFILES:
                found |= dict.fromkeys(map(str, self._of_the_server(Path(pattern))))
            elif glob.has_magic(pattern) and not os.path.exists(pattern):  # noqa: PTH110 (never raises)
                matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 (absolute patterns)
                found |= dict.fromkeys(sorted(matches))
            else:
                found[pattern] = None
        return [_path(name) for name in found]

    def unlisted(self) -> dict[Path, str]:
        """Folders whose files can't be seen, and why; those that aren't there are empty."""
        found = {}
        for folder in self._searched():
            if os.access(folder, os.R_OK | os.X_OK):
                continue
            try:
                os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                found[folder] = f"its files can't be listed: {reason(error)}"
        return found

    @property
    def folders(self) -> list[Path]:
        """Where files may appear."""
        found = {Path(pattern).parent for pattern in self._patterns}
        parents = [Path(one) for one in sorted(map(str, found))]
        parents = [p for one in parents for p in (_expanded(one))]
        return list(dict.fromkeys([*parents, *(Path(folder) for folder, _ in self._families)]))

    def _searched(self) -> Iterator[Path]:
        """Folders whose files have to be listed to find those that are meant."""
        for pattern in filter(glob.has_magic, self._patterns):
            folder = Path(pattern).parent
            yield from _expanded(folder)
            while glob.has_magic(str(folder)):
                folder = folder.parent
                yield folder
        yield from (Path(folder) for folder, _ in self._families)

    def _of_the_server(self, listing: Path) -> list[Path]:
        """The files of the best form that it names, and those that it has named or would have.

        It names the newest alone: what was rotated while nobody looked is found by its name.
        """
        named: dict[str, Path] = {}
        try:
            for line in listing.read_text("utf-8", "surrogateescape").split("\n"):
                form, blank, name = line.partition(" ")
                if blank and name and form in _FORMS:
                    named[form] = listing.parent / name
        except OSError:
            pass  # the server is down, or hasn't started: those that it named before stay
        best = next((named[form] for form in _FORMS if form in named), None)
        if best is not None:
            self._families[family(best)] = None
        return sorted(
            path
            for folder in {folder for folder, _ in self._families}
            for path in _files(Path(folder))
            if family(path) in self._families
        )


@functools.lru_cache(maxsize=1 << 14)
def _path(name: str) -> Path:
    return Path(name)  # of a thousand names at every scan, the same as before


def _expanded(folder: Path) -> list[Path]:
    if not glob.has_magic(str(folder)):
        return [folder]
    return sorted(Path(one) for one in glob.glob(str(folder)))  # noqa: PTH207 (absolute patterns)


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
