"""What is lost of generations of a log, put into words: gaps.

Enters: what was noticed of a generation. Leaves: `SourceGap`s. Doesn't look at files.
"""

from dataclasses import dataclass, field
from pathlib import Path

from scalple.ingest.generations import Generation, Inode
from scalple.ingest.heldfile import HeldFile
from scalple.ingest.sourcegap import DAMAGED, MISSING, REPLACED, TRUNCATED, SourceGap

_NO_COPY = "the file was cut, and no copy holds what had been read of it"


@dataclass(slots=True)
class Losses:
    """The gaps that haven't been taken yet."""

    gaps: list[SourceGap] = field(default_factory=list)

    def _say(self, one: Generation, reason: str, bytes_min: int, detail: str) -> None:
        since = one.stamp[1] if one.stamp else None
        detail += f"; {bytes_min:,} bytes that were seen hadn't been read" if bytes_min else ""
        self.gaps.append(SourceGap(reason, one.path, one.end, bytes_min, None, detail, since))

    def shrunk(self, one: Generation, size: int) -> None:
        """What hadn't been read yet became less."""
        self._say(one, TRUNCATED, one.size - size, "the file was cut behind what had been read")

    def copied(self, one: Generation, copy: Path, size: int) -> None:
        """The file was cut after it had been copied, with so many bytes."""
        seen = one.file.size if one.file is not None else 0
        how = (
            f"the file was cut, and what was left is read from {copy}: what was written between "
            "the copy and the cut (copytruncate) is in neither"
        )
        self._say(one, TRUNCATED, max(0, seen - size), how)

    def changed(self, one: Generation, file: HeldFile) -> None:
        """A file begins like it, but is shorter or goes on otherwise."""
        how = (
            f"{file.path} begins like it and was changed behind byte {file.known_until:,}: it is read "
            "from there, and records from before the change may be here twice"
        )
        self._say(one, TRUNCATED if file.path == one.path else REPLACED, 0, how)

    def cut(self, one: Generation) -> None:
        """No copy holds it; no loss if all had been read and the server wrote to another file."""
        unread = one.size - one.end
        if unread or one.file is None or not one.file.is_left:
            self._say(one, TRUNCATED, unread, _NO_COPY + _perhaps(one))

    def missing(self, one: Generation, inode: Inode | None) -> None:
        """No file holds it; `inode` is that of the file which has its name."""
        unread = one.size - one.end
        if inode is None:
            self._say(one, MISSING, unread, "no file holds what was read of it" + _perhaps(one))
        elif one.inode is not None and inode[1] == one.inode[1]:
            self._say(one, TRUNCATED, unread, _NO_COPY + _perhaps(one))
        else:
            how = "another file has its name, and none holds what was read of it"
            self._say(one, REPLACED, unread, how + _perhaps(one))

    def damaged(self, one: Generation, damage: str) -> None:
        """A compressed file can't be read to its end."""
        self._say(one, DAMAGED, 0, f"it breaks off: {damage}")


def _perhaps(one: Generation) -> str:
    """Of a file of which all that was ever seen had been read: what was written after the last look at it is
    lost without having been seen, and nobody can tell whether there was any."""
    if one.size > one.end:
        return ""
    return (
        f"; all {one.end:,} bytes that were seen of it had been read: only what was written after that, "
        "if anything, is lost"
    )
