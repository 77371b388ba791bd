"""Makes an index again from the log and compares: is what questions read what was committed?

A chain that was read whole enters; checks leave that can be carried out anywhere, of one run each, and
in the end notes and faults, which name the file. Nothing that the index says is believed, but for where
its runs begin and end.
"""

import fcntl
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scalple.correlate.record import KINDS
from scalple.ingest.errors import VerificationError
from scalple.store import durable, resume
from scalple.store.chain import (
    Chain,
    placed,
    read_bytes,
    read_chain,
    read_checkpoint,
    read_own_keys,
)
from scalple.store.commitpool import Part
from scalple.store.index import Index, IndexFile, Run, content_of, open_index
from scalple.store.indexfile import HINT, differences, read_file, without_files
from scalple.store.layout import OriginLayout
from scalple.store.manifest import sha256_hex
from scalple.store.verifyreport import Fault


@dataclass(frozen=True, slots=True)
class HashCheck:
    """Files of an index that have to have the hashes by which the head names them; no more."""

    layout: OriginLayout
    files: Sequence[IndexFile]

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(file.bytes for file in self.files)

    def __call__(self) -> list[Fault]:
        """Those that are missing or others."""
        faults = []
        for file in self.files:
            try:
                read_file(self.layout, file)
            except VerificationError as error:
                faults.append(Fault.of(error, str(self.layout.index)))
        return faults


def is_there(layout: OriginLayout) -> bool:
    """Whether the origin has a directory for one; what else may be called so is `inventory`'s."""
    try:
        return stat.S_ISDIR(layout.index.lstat().st_mode)
    except OSError:
        return False


@contextmanager
def kept(layout: OriginLayout) -> Iterator[None]:
    """No compaction removes files of the index meanwhile."""
    descriptor = os.open(layout.index, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


class IndexCheck:
    """The index of one origin, while it is `kept`; `begin` is the first call, `finish` the last one.

    Args:
        layout: the origin.
        chain: its manifests up to the signed head.
        since: runs that end before this manifest aren't made again, but for the hashes of files.
        files_only: no run is.
    """

    def __init__(
        self, layout: OriginLayout, chain: Chain, *, since: int = 0, files_only: bool = False
    ) -> None:
        self.notes: list[str] = []
        self.faults: list[Fault] = []
        self._is_newer = False
        """An index was made while the rest was looked at."""
        self._layout = layout
        self._chain = chain
        self._since = chain.tree.size if files_only else since
        self._named: set[str] = set()
        self._compared: Callable[[], None] | None = None
        """What is left to do once the runs are known to be right."""

    def begin(self) -> list[Part]:
        """Looks at the head; what has to be checked then, in any order and any process."""
        layout, parts = self._layout, list[Part]()
        with self._faulty():
            self.notes += resume.check(layout, self._chain)
        if layout.index_head.exists():
            with self._faulty(), placed(layout.index_head):
                parts += self._parts()
        return parts

    def finish(self, found: Iterable[Fault]) -> None:
        """Takes what the parts have found, and looks at the rest."""
        self.faults += found
        if self._compared is not None:
            with self._faulty(), placed(self._layout.index_head):
                self._compared()
        if not self._is_newer:
            self._check_names()

    @contextmanager
    def _faulty(self) -> Iterator[None]:
        """What goes wrong in it is a fault; the rest is looked at all the same."""
        try:
            yield
        except VerificationError as error:
            self.faults.append(Fault.of(error, str(self._layout.index)))

    def _parts(self) -> Iterator[Part]:
        """The head, and what it names.

        Raises:
            VerificationError: it isn't this log's.
        """
        layout, size = self._layout, self._chain.tree.size
        keys = read_own_keys(layout)  # one more than the chain has, if it was changed meanwhile
        index, signer = open_index(read_bytes(layout.index_head), keys)
        self._named = {one.name for one in index.files}
        if size < index.size <= read_checkpoint(layout, keys)[0].size:
            self._is_newer = True
            self.notes.append(f"{layout.origin}: an index was made meanwhile, not checked")
            return
        if index.size > size:
            raise VerificationError(
                f"log was cut: the index holds {index.size} manifests, found {size}"
            )
        if signer != self._chain.key_at(size):
            self.notes.append(
                f"{layout.origin}: the index is signed by a key that the log had before, and isn't "
                "used; `compact` makes it anew"
            )
        if (last := self._chain.manifests.expired.last) is not None and last >= index.size:
            self.notes.append(
                f"{layout.origin}: the index was made before rows expired, still holds them, and isn't "
                "used: `retention` removes it, `compact` makes it anew"
            )
            return
        if index.size < size:
            self.notes.append(
                f"{layout.origin}: the index holds the first {index.size} manifests of {size}"
            )
        if index.root != self._chain.root_at(index.size).hex():
            raise VerificationError(f"index: it isn't this log's: root {index.root}", hint=HINT)
        yield from self._runs(index)

    def _runs(self, index: Index) -> Iterator[Part]:
        begins, hashed = dict.fromkeys(KINDS, 0), 0
        for run in index.runs:
            if run.end > self._since:
                from scalple.store.runcheck import RunCheck  # late: it brings DuckDB

                manifests = self._chain.manifests[run.first : run.end]
                left = [self._chain.manifests.expired.left(one) for one in manifests]
                yield RunCheck(self._layout, run, manifests, left, begins)
            else:
                hashed = run.end
                yield from (HashCheck(self._layout, [file]) for file in run.files)
            begins = _ends(self._chain, run, begins)
            self._expect(f"manifests before {run.end}", {"ends": run.ends}, {"ends": begins})
        of_runs = {one.name for run in index.runs for one in run.files}
        others = [one for one in index.files if one.name not in of_runs]
        if index.size <= self._since:
            yield from (HashCheck(self._layout, [file]) for file in others)
        else:
            self._compared = lambda: self._compare(index, others)
        if hashed:
            self.notes.append(
                f"{self._layout.origin}: of the index of the first {hashed} manifests files were "
                "hashed, not compared with the log"
            )

    def _compare(self, index: Index, others: list[IndexFile]) -> None:
        """What the head says of all of them together, and the files that hold that."""
        from scalple.store import compaction
        from scalple.store.indexcompare import Comparison

        layout, prefix = self._layout, self._chain
        if index.size < prefix.tree.size:
            prefix = read_chain(layout, index.size, prefix.first_key)
            prefix.manifests.expired = self._chain.manifests.expired
            if prefix.tree.root().hex() != index.root:
                raise VerificationError("the log changed while it was read")
        faults: list[VerificationError] = []
        compare = Comparison(layout, others, faults)
        made = compaction.whole(layout, prefix, None, index.runs, compare)
        compare.finish()
        self.faults += [Fault.of(error, str(layout.index)) for error in faults]
        self._expect("head", without_files(index), without_files(made))

    def _expect(self, what: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
        found_so = differences(self._layout, what, found, expected)
        self.faults += [Fault.of(error, str(self._layout.index)) for error in found_so]

    def _check_names(self) -> None:
        """Files of the last index, or left by a crash, are harmless; anything else isn't ours."""
        layout, left = self._layout, 0
        for path in sorted(layout.index.iterdir()):
            with self._faulty():
                if not stat.S_ISREG(path.lstat().st_mode):
                    raise VerificationError("no regular file", place=str(path))
                content = content_of(path.name)
                unfinished = path.name.endswith(durable.TEMPORARY_SUFFIX)
                if path in (layout.index_head, layout.resume) or path.name in self._named:
                    continue
                is_ours = unfinished or (content and sha256_hex(read_bytes(path)) == content[1])
                if not is_ours:
                    raise VerificationError("not part of the index", place=str(path), hint=HINT)
                left += 1
        if left:
            self.notes.append(f"{layout.index}: {left} files of an earlier index")


def _ends(chain: Chain, run: Run, begins: dict[str, int]) -> dict[str, int]:
    """Where the rows of a run end."""
    ends = dict(begins)
    for n in range(run.first, run.end):
        for record in chain.manifests[n].segments:
            ends[record.kind] += record.rows
    return ends
