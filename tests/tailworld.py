"""A server's log directory: what is written, rotated, compressed, copied, cut and deleted there.

Knows every record that was written, in which file it lies, and what a reader can have lost without being
at fault. A second process may write to the same log, whole records, and is late to notice a rotation.
"""

import bz2
import gzip
import io
import lzma
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from tests.logkinds import LogKind

DAYS = ("Mon", "Tue", "Wed", "Thu")


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return bytes(sink.getvalue())


PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": _zstd,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@dataclass
class World:
    """One log, written by one process.

    Args:
        kind: what it writes.
        folder: where.
        scheme: how it is rotated: `rename`, `date`, `weekday`, `copytruncate`, or `listed`: by date, and
            named in `current_logfiles`.
    """

    kind: LogKind
    folder: Path
    scheme: str
    written: list[int] = field(default_factory=list)
    by_second: set[int] = field(default_factory=set)
    """Those that the second process wrote."""
    torn: dict[int, bytes] = field(default_factory=dict)
    """Records that were never finished, or lie in two files: what was written of them first."""
    swallowed: set[int] = field(default_factory=set)
    may_lose: set[int] = field(default_factory=set)
    """Records of which a reader can be unable to read every copy."""
    may_double: set[int] = field(default_factory=set)
    """Records that stood before a place at which their file was cut."""
    unseen: set[int] = field(default_factory=set)
    """Those among them of whose file no reader can have known."""
    harm: int = 0
    """How often something was done that may make a gap."""
    harmed: list[set[int]] = field(default_factory=list)
    """What lay in each file that was cut or deleted."""
    copies: dict[int, int] = field(default_factory=dict)
    """Inodes of copies that somebody made -> those of what they are copies of."""
    inside: dict[int, set[int]] = field(default_factory=dict)
    """inode -> the records whose beginning lies there."""
    is_open: Callable[[int], bool] = lambda _: False
    """Whether the reader has that inode open."""
    seen_size: Callable[[int], int] = lambda _: 0
    """How large the reader has seen that inode."""
    scans: Callable[[], int] = lambda: 0
    """How often it has looked."""
    cut_at: dict[int, int] = field(default_factory=dict)
    ends: dict[int, dict[int, int]] = field(default_factory=dict)
    """inode -> where each record that was written whole to it ends."""
    is_known: Callable[[set[int]], bool] = lambda _: False
    """Whether any of these records is in the store."""
    _next: int = 1
    _half: tuple[int, bytes, bytes] | None = None
    _turn: int = 0
    _file: io.FileIO = field(init=False)
    _second: io.FileIO = field(init=False)

    def __post_init__(self) -> None:
        self._open("wb")
        self._second = io.FileIO(self.live, "ab")

    def is_held(self, inode: int) -> bool:
        """Whether the reader has it open, and what lies there is what it has seen."""
        return self.is_open(inode) and self.cut_at.get(inode) != self.scans()

    # -- writing --------------------------------------------------------------------------------

    @property
    def live(self) -> Path:
        """The name of the file that is written now."""
        if self.scheme in ("date", "listed"):
            return self.folder / f"app-2026-11-23_{self._turn:06}.log"
        if self.scheme == "weekday":
            return self.folder / f"app-{DAYS[self._turn % len(DAYS)]}.log"
        return self.folder / "app.log"

    def _open(self, mode: str) -> None:
        if mode == "wb":
            self.live.write_bytes(b"")
        self._file = io.FileIO(self.live, "ab")
        if not self.live.stat().st_size:  # its inode may have been another file's
            self.inside[self._inode()] = set()
            self.ends.pop(self._inode(), None)
            self.copies.pop(self._inode(), None)
        if self.scheme == "listed":
            self.listing.write_text(f"csvlog {self.live.name}\n")

    @property
    def listing(self) -> Path:
        """Where the server names the file that it writes."""
        return self.folder / "current_logfiles"

    def _inode(self) -> int:
        return os.fstat(self._file.fileno()).st_ino

    def _put(self, data: bytes, number: int | None = None) -> None:
        self._file.write(data)
        if number is not None:
            self.inside.setdefault(self._inode(), set()).add(number)

    def _note_end(self, number: int) -> None:
        status = os.fstat(self._file.fileno())
        self.ends.setdefault(status.st_ino, {})[number] = status.st_size

    def write_second(self, count: int) -> None:
        """So many whole records of the second process, into the file that it has open.

        Not into an old one that is empty still: that would begin later than what came after it.
        """
        if not os.fstat(self._second.fileno()).st_size:
            self.reopen_second()
        found = os.fstat(self._second.fileno())
        with Path(f"/proc/self/fd/{self._second.fileno()}").open("rb") as file:
            file.seek(max(0, found.st_size - 1))
            if file.read() not in (b"", b"\n"):
                return  # behind half a record nothing could be read
        for _ in range(count):
            self._second.write(self.kind.write(self._next))
            self.inside.setdefault(found.st_ino, set()).add(self._next)
            self.written.append(self._next)
            self.by_second.add(self._next)
            self._next += 1

    def reopen_second(self) -> None:
        """The second process notices that the log was rotated."""
        self._second.close()
        self._second = io.FileIO(self.live, "ab")

    def _is_gone(self, inode: int) -> None:
        """What the second process wrote to a file without a name nobody could read."""
        if os.fstat(self._second.fileno()).st_ino == inode:
            self.reopen_second()

    def write(self, count: int) -> None:
        """So many whole records, behind the rest of one that was begun."""
        if self._half is not None:
            number, _first, rest = self._half
            self._put(rest)
            self._half = None
            if number not in self.torn:
                self.written.append(number)
            count -= 1
        for _ in range(count):
            self._put(self.kind.write(self._next), self._next)
            self._note_end(self._next)
            self.written.append(self._next)
            self._next += 1

    def begin(self, share: float) -> None:
        """A part of the next record reaches the disk."""
        if self._half is not None:
            return
        data = self.kind.write(self._next)
        cut = max(1, min(len(data) - 1, int(share * len(data))))
        while cut > 1 and data[cut - 1 : cut] == b"\n":
            cut -= 1  # a writer isn't interrupted between two lines of a message
        self._half = (self._next, data[:cut], data[cut:])
        self._put(data[:cut], self._next)
        self._next += 1

    def _tear(self) -> None:
        if self._half is not None:
            self.torn[self._half[0]] = self._half[1]
            self._half = None

    def power_cut(self, zeros: int) -> None:
        """What was being written is lost, space that was given to the file holds zero bytes."""
        self._tear()
        self._put(bytes(zeros))

    def crash(self) -> None:
        """The server goes down in the middle of a record, and writes to a new file afterwards."""
        self._tear()
        self.rotate(0)

    # -- rotation -------------------------------------------------------------------------------

    def rotate(self, late: int) -> None:
        """As the scheme says; `late`: records that go to the old file, or are lost between."""
        if self.scheme == "copytruncate":
            self._copytruncate(late)
            return
        if self.scheme == "rename":
            self._shift()
            self.live.rename(self.folder / "app.log.1")
            self.write(late)
        if self._half is not None:
            self.write(1)
        self._file.close()
        self._turn += 1
        if self.scheme == "weekday" and self.live.exists():
            self._is_cut(self.live)
            self._is_written_anew(self.live.stat().st_ino)
        self._open("wb" if self.scheme == "weekday" else "ab")

    def _shift(self) -> None:
        for path in sorted(self.folder.glob("app.log.[0-9]*"), key=_number, reverse=True):
            rest = path.name.split(".", 3)[3:]
            name = ".".join(["app.log", str(_number(path) + 1), *rest])
            path.rename(self.folder / name)

    def _copytruncate(self, late: int) -> None:
        self._shift()
        copy = self.folder / "app.log.1"
        shutil.copy(self.live, copy)
        inode = self._inode()
        copied = set(self.inside.get(inode, ()))
        self.inside[copy.stat().st_ino] = copied
        if self._half is not None:
            self.torn[self._half[0]] = self._half[1]
            # What follows of it lies in the other file.
        half, self._half = self._half, None
        before = self.is_held(inode) or self.is_known(copied)
        self.write(late)
        lost = self.inside.get(inode, set()) - copied
        self.may_lose |= lost
        self.harm += 1
        self.harmed.append(copied | lost)
        if not before:
            self.unseen |= lost
        self._is_written_anew(inode)
        self.copies = {
            one: copy.stat().st_ino if source == inode else source
            for one, source in self.copies.items()
        }
        os.truncate(self._file.fileno(), 0)
        self._half = half

    def empty(self) -> None:
        """Somebody empties the file that is written now (`: > app.log`), and it is written on."""
        self._is_cut(self.live)
        self._is_written_anew(self._inode())
        half, self._half = self._half, None
        if half is not None:  # its rest comes behind the cut
            self.torn[half[0]] = half[1]
        os.truncate(self._file.fileno(), 0)
        self._half = half

    def cut(self, share: float) -> None:
        """The file that is written now is cut behind one of its records, and written on."""
        inode = self._inode()
        ends = self.ends.get(inode, {})
        if self._half is not None or not ends:
            return
        kept = dict(sorted(ends.items())[: int(share * len(ends))])
        if not kept:
            self.empty()
            return
        inside = self.inside[inode]
        end = max(kept.values())
        gone = {number for number in inside if number > max(kept)}
        self.harm += 2  # one cut before may be told of again
        self.may_lose |= gone
        self.may_double |= inside - gone
        self.harmed.append(gone)
        self._delete_copies(inode)
        if not self.is_known(gone):  # what has grown past that place again shows nothing
            self.unseen |= gone
        self.inside[inode] = inside - gone
        self.ends[inode] = kept
        self.cut_at[inode] = self.scans()
        os.truncate(self._file.fileno(), end)

    def _is_written_anew(self, inode: int) -> None:
        self.inside[inode] = set()
        self.ends.pop(inode, None)
        self.cut_at[inode] = self.scans()

    def _is_cut(self, path: Path) -> None:
        """Whatever lies there is gone now."""
        inode = path.stat().st_ino
        inside = self.inside.get(inode, set())
        self.harm += 1
        self.may_lose |= inside
        self.harmed.append(inside)
        self._delete_copies(inode)
        if self.is_held(inode):
            return
        if not self.is_known(inside):
            self.unseen |= inside
        elif not self.seen_size(inode):  # it was over, as far as could be seen
            self.unseen |= inside & self.by_second

    def _delete_copies(self, inode: int) -> None:
        """Of a file that is gone: what a copy of its beginning is can't be told any more."""
        for copy in [copy for copy, source in self.copies.items() if source == inode]:
            if self.copies.pop(copy, None) is None:
                continue
            self._delete_copies(copy)
            for path in self.folder.iterdir():
                if path.stat().st_ino == copy:
                    path.unlink()

    def reader_crashed(self) -> None:
        """What it hadn't committed of files that are gone it can't know of any more."""
        for inside in self.harmed:
            self.may_lose |= inside
            if not self.is_known(inside):
                self.unseen |= inside

    def reader_replaced(self) -> None:
        """What one had noticed of files and not committed, the next one can't know."""
        self.reader_crashed()
        for inside in self.harmed:
            self.unseen |= inside

    # -- what becomes of old files --------------------------------------------------------------

    def old(self) -> list[Path]:
        """Files that aren't written any more, the oldest last."""
        live = self.live
        found = [one for one in self.folder.glob("app*") if one != live]
        return sorted(found, key=lambda one: (one.stat().st_mtime_ns, one.name), reverse=True)

    def delete(self, which: int) -> None:
        """One of the old files."""
        old = self.old()
        if not old:
            return
        path = old[which % len(old)]
        inode = path.stat().st_ino
        if path.stat().st_nlink == 1:
            self.harm += 1
            self.harmed.append(self.inside.get(inode, set()))
            if not self.is_held(inode):
                self._is_cut(path)
            self._delete_copies(inode)
            self.inside.pop(inode, None)
            self.copies.pop(inode, None)
            self._is_gone(inode)
        path.unlink(missing_ok=True)

    def compress(self, which: int, suffix: str, half: bool) -> None:
        """One of the old files, or a part of it while the file still stands."""
        old = [one for one in self.old() if one.suffix not in PACKED]
        if not old:
            return
        path = old[which % len(old)]
        packed = path.with_name(path.name + suffix)
        if packed.exists() and packed.stat().st_ino not in self.copies:
            return  # of another week; no program writes over it unasked
        whole = PACKED[suffix](path.read_bytes())
        if half:
            packed.write_bytes(whole[: len(whole) // 2])
            self.copies[packed.stat().st_ino] = path.stat().st_ino
            self.harm += 1
            return
        self.harm += 1  # its inode may become another file's, which then seems to have been cut
        late = self.inside.get(path.stat().st_ino, set()) & self.by_second
        if not self.seen_size(path.stat().st_ino):  # it was over, and what came then is compressed
            self.may_lose |= late
            self.unseen |= late
        packed.write_bytes(whole)
        self.copies.pop(packed.stat().st_ino, None)
        shutil.copystat(path, packed)
        self.inside[packed.stat().st_ino] = set(self.inside.get(path.stat().st_ino, ()))
        before, after = path.stat().st_ino, packed.stat().st_ino
        if path.stat().st_nlink == 1:
            self.copies = {
                after if copy == before else copy: after if source == before else source
                for copy, source in self.copies.items()
            }
            self.inside.pop(before, None)
            self.copies.pop(before, None)
            self._is_gone(before)
        else:  # the file stays, and this is a copy of it
            self.copies[after] = before
        path.unlink()

    def copy(self, which: int, share: float) -> None:
        """A copy of any file, or the beginning of one in the making."""
        files = [self.live, *self.old()]
        path = files[which % len(files)]
        if path.suffix in PACKED or path.suffix == ".bak":
            return
        data = path.read_bytes()
        copy = path.with_name(path.name + ".bak")
        copy.write_bytes(data[: int(share * len(data))] if share < 1 else data)
        self.copies[copy.stat().st_ino] = path.stat().st_ino

    def link(self, which: int) -> None:
        """A second name for any file."""
        files = [self.live, *self.old()]
        path = files[which % len(files)]
        other = path.with_name(path.name + ".orig")
        if not other.exists():
            os.link(path, other)

    def touch(self, which: int) -> None:
        """Its times change, and nothing else."""
        files = [self.live, *self.old()]
        os.utime(files[which % len(files)])

    def finish(self) -> None:
        """Write what was begun, and one record more: the live file shows that older ones are over."""
        self.write(2)
        self._file.close()
        self._second.close()


def _number(path: Path) -> int:
    return int(path.name.split(".")[2])
